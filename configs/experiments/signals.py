"""DGA's updates by other signals than alignments, the sizes of the steps the same."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_SIGNALS = ("dga", "by_loss", "by_norm", "by_fisher", "random")


def get_config(argument: str | None = None) -> ConfigDict:
    """From even weights over the basis, so that nothing is known but the signal."""
    config = proxy_clusters.get_config()
    mixers = headline.mixers()
    even = mixers["dga-even"]
    config.experiment = Experiment(
        question="Is it the alignments that help, or any signal?",
        axes={
            "seed": seeds(3),
            "target": proxy_clusters.target_axis(("python_docs", "sotu_modern")),
            "tokens": {
                "2500": {"data.tokens_per_domain": 2500},
                "all": {"data.tokens_per_domain": 0},
            },
            "signal": {
                "natural": mixers["natural"],
                **{name: even | {"mixer.name": name} for name in _SIGNALS},
            },
        },
        baseline={"signal": "natural"},
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("tokens", "signal"),),
        figure=Figure("forest", lines="signal", panels="tokens"),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
