"""The headline at four times the steps, and with a larger model."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_MIXERS = ("natural", "importance", "held", "dga-own", "dga-begun")
_LONG = {"train.steps": 800, "eval.every": 100}
_LARGE = {"model.num_layers": 3, "model.d_model": 128, "model.num_heads": 4}
_LARGE |= {"model.d_ff": 0, "optimizer.learning_rate": 3e-3}  # as the quickstart has


def get_config(argument: str | None = None) -> ConfigDict:
    """Nothing else is changed: T_r stays 20, so there are more updates."""
    config = proxy_clusters.get_config()
    mixers = headline.mixers()
    config.experiment = Experiment(
        question="Does the order hold in longer runs, and with a larger model?",
        axes={
            "seed": seeds(1),
            "target": proxy_clusters.target_axis(headline.TARGETS),
            "size": {"200-steps": {}, "800-steps": _LONG, "larger": _LONG | _LARGE},
            "mixer": {name: mixers[name] for name in _MIXERS},
        },
        baseline={"mixer": "natural"},
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("size", "mixer"), ("target", "size", "mixer")),
        figure=Figure("lines", x="size", lines="mixer", panels="target"),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
