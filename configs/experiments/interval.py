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
            "seed": seeds(5),
            "target": proxy_clusters.target_axis(("python_docs", "sotu_modern")),
            "interval": {
                "natural": proxy_clusters.NATURAL,
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
        answer=(
            "At T_r = 10 DGA ends 0.32 nats (0.25 to 0.39) below the natural mixture"
            " and at T_r = 20 0.30 (0.21 to 0.38), and T_r = 20 needs the fewest FLOPs"
            " to reach its loss (0.62 of its, probes counted, against 0.84). Every 5"
            " steps is no better (0.29) and costs more than it saves (1.21); every 50"
            " gains less (0.23), as four updates are all that there are."
        ),
        shows_not=(
            "A run of 200 steps with 2,500 tokens of each cluster: in a longer one, or"
            " where less repeats, updates may be rarer. η is in proportion to T_r; with"
            " one η for all, more updates would also be further ones. Intervals"
            " overlap: the order of 5, 10 and 20 is not sure."
        ),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
