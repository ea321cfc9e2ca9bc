"""Which options of DGA would make better defaults, on the targets for choosing."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import tune
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

# What each adds to DGA over the basis from even weights, η 20, β .3, T_r 20.
_OPTIONS = {
    "kl.1": {"mixer.kl": 0.1},
    "kl.5": {"mixer.kl": 0.5},
    "shrink": {"mixer.shrink": True},
    "debias": {"mixer.debias": True},
    "adapt": {"mixer.adapt": True},
    "precondition": {"mixer.precondition": True},
    "by-error": {"mixer.probe_by_error": True},
    "head": {"mixer.head": True},
    "systematic": {"data.systematic": True},
    "every-10": {"mixer.interval": 10, "mixer.eta": 10.0},
    "every-40": {"mixer.interval": 40, "mixer.eta": 40.0},
    "beta.1": {"mixer.beta": 0.1, "mixer.eta": 60.0},
    "beta1": {"mixer.beta": 1.0, "mixer.eta": 6.0},
}


def get_config(argument: str | None = None) -> ConfigDict:
    """2,500 tokens of each of 256 clusters, where steering pays."""
    config = proxy_clusters.get_config()
    config.data.update(store="stores/tune", tokens_per_domain=2500)
    even = {"mixer.name": "dga", "mixer.basis": proxy_clusters.BASIS}
    config.experiment = Experiment(
        question="Which options of DGA would make better defaults?",
        axes={
            "seed": seeds(3),
            "target": proxy_clusters.target_axis(tune.TARGETS),
            "option": {
                "natural": proxy_clusters.NATURAL,
                "dga": even,
                **{name: even | fields for name, fields in _OPTIONS.items()},
            },
        },
        baseline={"option": "dga"},
        loss="target/{target}",
        over=("seed", "target"),
        figure=Figure("forest", lines="option"),
        answer=(
            "None that three seeds of two targets could tell: no option's interval is"
            " off zero, so no default changes. Nearest to it are rows drawn with less"
            " chance (`data.systematic`, -0.06, from -0.16 to 0.03) and alignments of"
            " the unembedding alone (`mixer.head`, -0.05, from -0.16 to 0.05); a step"
            " of 0.5 in KL is the same as η 20 (0.00), one of 0.1 ends 0.04 above it"
            " (-0.04 to 0.12). Steering at all is 0.13 (0.04 to 0.17)."
        ),
        shows_not=(
            "2,500 tokens of each cluster, 200 steps, and only these two targets, on"
            " which things are chosen; where text is plenty a beginning at the target's"
            " histogram gains more than any of it (`tune`). What an interval of ±0.1"
            " cannot show."
        ),
        data="The store `stores/tune` of docs/evidence; all of it may be looked at.",
    )
    return apply_argument(config, argument)
