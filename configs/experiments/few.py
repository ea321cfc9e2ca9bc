"""Few documents of the target: from 4 to 256."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_DOCUMENTS = (4, 16, 64, 256)
_MIXERS = ("natural", "importance", "dga-own", "dga-begun")


def get_config(argument: str | None = None) -> ConfigDict:
    """A store by number of documents, all else as in the headline."""
    config = proxy_clusters.get_config()
    mixers = headline.mixers()
    config.experiment = Experiment(
        question="How many documents of the target does steering need?",
        axes={
            "seed": seeds(3),
            "target": proxy_clusters.target_axis(("python_docs", "sotu_modern")),
            "tokens": proxy_clusters.LITTLE_AND_ALL,
            "documents": {
                str(count): {"data.store": f"stores/few{count}"} for count in _DOCUMENTS
            },
            "mixer": {name: mixers[name] for name in _MIXERS},
        },
        baseline={"mixer": "natural"},
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("tokens", "documents", "mixer"),),
        figure=Figure("lines", x="documents", lines="mixer", panels="tokens"),
        answer=(
            "Four were enough. With 2,500 tokens of each cluster DGA from even"
            " weights ends 0.31 nats (0.22 to 0.43) below the natural mixture with"
            " four documents and 0.26 (0.11 to 0.38) with 256, importance sampling"
            " 0.33 and 0.60 above it. With text in plenty importance sampling gains"
            " 0.41 with four and 0.42 with 256, DGA 0.28 from even weights with"
            " either, and 0.27 and 0.35 if it begins half at the target's histogram,"
            " which says more with more documents."
        ),
        shows_not=(
            "Two targets and three seeds. Documents of about 6,000 characters, chosen"
            " at random; four short ones, or four of one kind, may do worse."
        ),
        data=(
            "`stores/few4` to `stores/few256`, made as the [index](../README.md) says:"
            " the corpora of `stores/report`, and of each target as many documents,"
            " chosen at random. What they are evaluated on is the same for all."
        ),
    )
    return apply_argument(config, argument)
