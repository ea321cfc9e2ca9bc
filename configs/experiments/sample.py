"""What anybody can run: the text that comes with the code, in 256 clusters."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument


def mixers_of_one_target() -> dict[str, dict[str, object]]:
    """Those of the headline, where the store has one target, which has no name."""
    mixers = headline.mixers()
    del mixers["dga-own"], mixers["random"]  # no others; seen in the headline
    names = ("held", "dga-begun")
    begun = proxy_clusters.begin(proxy_clusters.SHARE)
    one = {"mixer.weights": begun.replace("target/{target}", "target")}
    return mixers | {name: mixers[name] | one for name in names}


def get_config(argument: str | None = None) -> ConfigDict:
    """Towards the documentation of Python, with all text and with little."""
    config = proxy_clusters.get_config()
    config.data.store = "sample-clusters"
    config.experiment = Experiment(
        question="Does steering help on the text that comes with the code?",
        axes={
            "seed": seeds(5),
            "tokens": proxy_clusters.LITTLE_AND_ALL,
            "mixer": mixers_of_one_target(),
        },
        baseline={"mixer": "natural"},
        also=("dga-begun", "held"),
        tables=(("tokens", "mixer"),),
        figure=Figure("forest", lines="mixer", panels="tokens"),
        answer=(
            "With little text, yes: with 2,500 tokens of each cluster DGA over a"
            " basis ends 0.22 nats (0.17 to 0.27) below the natural mixture from even"
            " weights, with every seed, at 0.08 on the corpus as it is and with 0.65"
            " of the FLOPs, probes counted; a fixed mixture, half of it the target's"
            " histogram, gains 0.05, and importance sampling repeats a cluster 54"
            " times, learns it by heart and ends 0.47 above. With all text DGA gains"
            " 0.27 from even weights and 0.29 from half the histogram, but that half"
            " held fixed gains as much or more, 0.36, without a gradient; importance"
            " sampling gains 0.31 and loses 1.4 nats on the corpus."
        ),
        shows_not=(
            "One target, whose nearest relative, the source code of Python, is in the"
            " corpus. Five seeds, 200 steps of a tiny model."
        ),
        data=(
            "`sample/` in 16 clusters of 16 clusters each, 4.6 million tokens; the"
            " target is the documentation of Python. Nothing was chosen on it."
        ),
    )
    return apply_argument(config, argument)
