"""How often the quickstart measures: T_r from 10 to 50, the weights' step the same."""

from ml_collections import ConfigDict

from configs import quickstart
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_ETA = 5.0  # of an update every 10 steps


def get_config(argument: str | None = None) -> ConfigDict:
    """The quickstart itself; η in proportion to T_r."""
    config = quickstart.get_config()
    config.log.update(every=10, console=100)
    spread = {
        f"every-{n}": {"mixer.interval": n, "mixer.eta": _ETA * n / 10}
        for n in (10, 20, 30, 50)
    }
    config.experiment = Experiment(
        question="How often does the quickstart need an update?",
        axes={
            "seed": seeds(3),
            "mixer": {
                "uniform": {"mixer.name": "static"},
                "natural": {"mixer.name": "static", "mixer.weights": "natural"},
                **spread,
            },
        },
        baseline={"mixer": "uniform"},
        figure=Figure("forest", lines="mixer"),
        answer=(
            "Seldom: with η in proportion an update every 50 steps, as it has now,"
            " ends 0.29 nats (0.25 to 0.33) below uniform weights, one every 10 steps"
            " 0.27 (0.21 to 0.32), and every 50 reaches their loss with 0.56 of the"
            " FLOPs, not 0.73, probes counted. Between 10 and 50 nothing speaks for"
            " more updates (every 20: 0.27, every 30: 0.20)."
        ),
        shows_not=(
            "Three seeds, one target, 300 steps, in which text hardly repeats: a"
            " mixture that has to leave text in time needs more updates (`interval`)."
        ),
        data="`sample/`: eight domains, and the documentation of Python as the target.",
    )
    return apply_argument(config, argument)
