"""Little text of every kind: the target's loss over the tokens of each cluster."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_MIXERS = ("uniform", "natural", "importance", "dga-even", "dga-begun")


def get_config(argument: str | None = None) -> ConfigDict:
    """From 2,500 tokens of each of 256 clusters to all there are."""
    config = proxy_clusters.get_config()
    mixers = headline.mixers()
    config.experiment = Experiment(
        question="Does steering pay where there is little text of every kind?",
        axes={
            "seed": seeds(2),
            "target": proxy_clusters.target_axis(("python_docs", "sotu_modern")),
            "tokens": {
                f"{count}": {"data.tokens_per_domain": count}
                for count in (2500, 10_000)
            }
            | {"all": {"data.tokens_per_domain": 0}},
            "mixer": {name: mixers[name] for name in _MIXERS},
        },
        baseline={"mixer": "natural"},
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("tokens", "mixer"),),
        figure=Figure("lines", x="tokens", lines="mixer", panels="target"),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
