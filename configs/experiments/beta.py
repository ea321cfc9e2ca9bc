"""The moving average: β from .03 to 1, where text is scarce."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument


def get_config(argument: str | None = None) -> ConfigDict:
    """DGA begun at the target's histogram, an update every 5 steps."""
    config = proxy_clusters.get_config()
    config.data.tokens_per_domain = 2500
    config.mixer.interval = 5
    begun = headline.mixers()["dga-begun"]
    betas = {f"{beta:g}": begun | {"mixer.beta": beta} for beta in (0.03, 0.1, 0.3, 1)}
    config.experiment = Experiment(
        question="What does the moving average of the weights do?",
        axes={
            "seed": seeds(2),
            "target": proxy_clusters.target_axis(("python_docs", "sotu_modern")),
            "beta": {
                "natural": {"mixer.name": "static", "mixer.weights": "natural"},
                **betas,
            },
        },
        baseline={"beta": "natural"},
        loss="target/{target}",
        over=("seed", "target"),
        figure=Figure("curves", lines="beta", panels="target"),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
