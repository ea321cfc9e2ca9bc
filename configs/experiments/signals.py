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
            "tokens": proxy_clusters.LITTLE_AND_ALL,
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
        answer=(
            "It is the alignments. With steps as large as DGA's, from the same even"
            " weights, the order of the domains' losses gains nothing (+0.04), that"
            " of their gradients' norms costs 0.36 to 0.41 nats of the target, that"
            " of their Fisher information 0.25 to 0.28, and random directions 0.05 to"
            " 0.07; DGA gains 0.24 with little text and 0.25 with all (0.18 to 0.33,"
            " and 0.15 to 0.35)."
        ),
        shows_not=(
            "Two targets and three seeds. Only the order of a signal is used; by their"
            " own sizes these signals would make other steps, as in the rules of other"
            " papers that read them (`mixers`). A high loss, or norm, says which text"
            " is hard, here often a language or code that no target has."
        ),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
