"""The headline at four times the steps."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_MIXERS = ("natural", "importance", "held", "dga-own", "dga-begun")
_LONG = {"train.steps": 800, "eval.every": 100}


def get_config(argument: str | None = None) -> ConfigDict:
    """Nothing else is changed: T_r stays 20, so there are more updates."""
    config = proxy_clusters.get_config()
    mixers = headline.mixers()
    config.experiment = Experiment(
        question="Does the order hold in longer runs?",
        axes={
            "seed": seeds(1),
            "target": proxy_clusters.target_axis(("python_docs",)),
            "size": {"200-steps": {}, "800-steps": _LONG},
            "mixer": {name: mixers[name] for name in _MIXERS},
        },
        baseline={"mixer": "natural"},
        also=("dga-begun", "held"),
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("size", "mixer"),),
        figure=Figure("forest", lines="mixer", panels="size"),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
