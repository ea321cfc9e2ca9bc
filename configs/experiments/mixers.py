"""The rules of other papers beside DGA, in one harness."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_FROM_HEADLINE = ("uniform", "natural", "held", "dga-even")
_OVER_BASIS = ("dga", "doge", "rb", "fastmix", "grape", "random")


def get_config(argument: str | None = None) -> ConfigDict:
    """Over a basis where they can be, else over the clusters themselves."""
    config = proxy_clusters.get_config()
    mixers = headline.mixers()
    begun = mixers["dga-begun"]
    config.experiment = Experiment(
        question="How do the rules of other papers compare?",
        axes={
            "seed": seeds(3),
            "target": proxy_clusters.target_axis(("python_docs", "sotu_modern")),
            "tokens": proxy_clusters.LITTLE_AND_ALL,
            "mixer": {
                **{name: mixers[name] for name in _FROM_HEADLINE},
                **{name: begun | {"mixer.name": name} for name in _OVER_BASIS},
                "dga-direct": {"mixer.name": "dga", "mixer.probe_domains": 20},
                "odm": {"mixer.name": "odm"},
                "ado": {"mixer.name": "ado"},
            },
        },
        baseline={"mixer": "natural"},
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("tokens", "mixer"),),
        figure=Figure("forest", lines="mixer", panels="tokens"),
        answer=(
            "With little text of each kind DGA alone gains more than where it begins:"
            " it ends 0.26 nats below the natural mixture (0.13 to 0.37; from even"
            " weights 0.24), that beginning held fixed 0.12, and DoGE, FastMix, GRAPE"
            " and random steps, which begin there too, 0.10 to 0.13. With text in"
            " plenty most are alike: DGA 0.35, FastMix 0.30, DoGE 0.28, GRAPE 0.27,"
            " held fixed 0.29; random steps gain 0.02, and R&B, which keeps nothing"
            " of its beginning, loses 0.02. ODM and ADO, which have no target, do not"
            " leave even weights over 256 clusters in ten updates."
        ),
        shows_not=(
            "Two targets and three seeds. The settings of the others are those of"
            " their papers where they could be read and tuned for none, while DGA's η"
            " and where it begins were chosen on two other targets (`tune`). Left"
            " out: `doremi`, `sheared` and `velocitune`, which need the losses of an"
            " earlier run; `skill_it`, which needs a graph; `pike` and"
            " `doge_universal`, which have no target and take a gradient for each"
            " row; `odm_exp3`, a form of ODM; `importance`, which is in `headline`."
        ),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
