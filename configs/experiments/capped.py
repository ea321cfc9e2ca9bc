"""Little text: would a bound on how often it is read do what steering does?"""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_BOUNDS = (4, 16)  # epochs
_FIXED = {"importance": "importance", "half": "held", "most": "held-most"}


def get_config(argument: str | None = None) -> ConfigDict:
    """2,500 tokens of each of 256 clusters; what is used up is not drawn any more."""
    config = proxy_clusters.get_config()
    config.data.tokens_per_domain = 2500
    mixers = headline.mixers() | headline.most()
    bounded = {
        f"{short}-{bound}": mixers[name] | {"data.max_epochs": bound}
        for short, name in (_FIXED | {"dga": "dga-begun"}).items()
        for bound in _BOUNDS
    }
    config.experiment = Experiment(
        question="Would a bound on repetition do as well?",
        axes={
            "seed": seeds(3),
            "target": proxy_clusters.target_axis(headline.TARGETS),
            "mixer": {
                name: mixers[name] for name in ("natural", "dga-even", "dga-begun")
            }
            | bounded,
        },
        baseline={"mixer": "natural"},
        also=tuple(
            name
            for fixed in _FIXED
            for bound in _BOUNDS
            for name in ("dga-begun", f"{fixed}-{bound}")
        ),
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("mixer",), ("target", "mixer")),
        figure=Figure("forest", lines="mixer"),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
