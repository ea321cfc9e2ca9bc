"""How often to update: T_r from 5 to 50, the step of the weights kept the same."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_ETA = 20.0  # of an update every 20 steps


def get_config(argument: str | None = None) -> ConfigDict:
    """η in proportion to T_r: the weights go as far in as many steps."""
    config = proxy_clusters.get_config()
    config.data.tokens_per_domain = 2500
    begun = headline.mixers()["dga-begun"]
    config.experiment = Experiment(
        question="How often do the weights need an update?",
        axes={
            "seed": seeds(2),
            "target": proxy_clusters.target_axis(("python_docs", "sotu_modern")),
            "interval": {
                "natural": {"mixer.name": "static", "mixer.weights": "natural"},
                **{
                    str(n): begun | {"mixer.interval": n, "mixer.eta": _ETA * n / 20}
                    for n in (5, 10, 20, 50)
                },
            },
        },
        baseline={"interval": "natural"},
        loss="target/{target}",
        over=("seed", "target"),
        figure=Figure("front", x="", lines="interval", panels="target"),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
