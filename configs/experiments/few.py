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
            "seed": seeds(1),
            "target": proxy_clusters.target_axis(("python_docs",)),
            "documents": {
                str(count): {"data.store": f"stores/few{count}"} for count in _DOCUMENTS
            },
            "mixer": {name: mixers[name] for name in _MIXERS},
        },
        baseline={"mixer": "natural"},
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("documents", "mixer"),),
        figure=Figure("lines", x="documents", lines="mixer"),
        answer=(
            "Four documents were enough, where text is plenty: importance sampling"
            " gains 0.46 nats with four and 0.52 with 256, DGA from even weights 0.18"
            " and 0.14. DGA that begins half at the target's histogram gains more with"
            " more documents (0.18 with four, 0.31 with 256), as the histogram says"
            " more."
        ),
        shows_not=(
            "One target and one seed: differences below 0.1 mean nothing, and there is"
            " no interval. Documents of about 6,000 characters, chosen at random; four"
            " short ones, or four of one kind, may do worse. Not tried with little text"
            " of each kind, where importance sampling fails (`limited`)."
        ),
        data=(
            "`stores/few4` to `stores/few256`, made as the [index](../README.md) says:"
            " the corpora of `stores/report`, and of each target as many documents,"
            " chosen at random. What they are evaluated on is the same for all."
        ),
    )
    return apply_argument(config, argument)
