"""The rules of other papers beside DGA, in one harness."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_OVER_BASIS = ("dga", "doge", "rb", "fastmix", "grape", "random")


def get_config(argument: str | None = None) -> ConfigDict:
    """Over a basis where they can be, else over the clusters themselves."""
    config = proxy_clusters.get_config()
    begun = headline.mixers()["dga-begun"]
    config.experiment = Experiment(
        question="How do the rules of other papers compare?",
        axes={
            "seed": seeds(1),
            "target": proxy_clusters.target_axis(("python_docs",)),
            "mixer": {
                "natural": {"mixer.name": "static", "mixer.weights": "natural"},
                **{name: begun | {"mixer.name": name} for name in _OVER_BASIS},
                "dga-direct": {"mixer.name": "dga", "mixer.probe_domains": 20},
                "odm": {"mixer.name": "odm"},
                "ado": {"mixer.name": "ado"},
            },
        },
        baseline={"mixer": "natural"},
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("mixer",),),
        figure=Figure("front", lines="mixer"),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
