"""A short run at a tiny learning rate, where another paper finds that DGA ties."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_RATES = {"6e-3": 6e-3, "6e-4": 6e-4, "6e-5": 6e-5}


def get_config(argument: str | None = None) -> ConfigDict:
    """Three learning rates, all else as in the headline."""
    config = proxy_clusters.get_config()
    mixers = headline.mixers()
    config.experiment = Experiment(
        question="Why does DGA tie with even sampling at a tiny learning rate?",
        axes={
            "seed": seeds(2),
            "target": proxy_clusters.target_axis(("python_docs", "sotu_modern")),
            "rate": {n: {"optimizer.learning_rate": x} for n, x in _RATES.items()},
            "mixer": {n: mixers[n] for n in ("uniform", "natural", "dga-even")},
        },
        baseline={"mixer": "natural"},
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("rate", "mixer"),),
        figure=Figure("forest", lines="mixer", panels="rate"),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
