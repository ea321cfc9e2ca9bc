"""The rules of other papers beside DGA, in one harness."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_OVER_BASIS = ("dga", "doge", "rb", "fastmix", "grape", "random")


def get_config(argument: str | None = None) -> ConfigDict:
    """Over a basis where they can be, else over the clusters themselves."""
    config = proxy_clusters.get_config()
    begun = headline.mixers()["dga-begun"]
    config.experiment = Experiment(
        question="How do the rules of other papers compare?",
        axes={
            "seed": seeds(1),
            "target": proxy_clusters.target_axis(("python_docs",)),
            "mixer": {
                **{x: headline.mixers()[x] for x in ("uniform", "natural", "held")},
                **{name: begun | {"mixer.name": name} for name in _OVER_BASIS},
                "dga-direct": {"mixer.name": "dga", "mixer.probe_domains": 20},
                "odm": {"mixer.name": "odm"},
                "ado": {"mixer.name": "ado"},
            },
        },
        baseline={"mixer": "natural"},
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("mixer",),),
        figure=Figure("front", lines="mixer"),
        answer=(
            "With text in plenty and 200 steps none is better than the mixture that"
            " they begin from: held fixed it gains 0.31 nats, FastMix 0.32, DGA 0.31,"
            " DoGE 0.29, GRAPE 0.23, random steps 0.20, R&B, which keeps nothing of its"
            " beginning, 0.08. ODM and ADO, which have no target, do not leave even"
            " weights over 256 clusters in ten updates; DGA over the clusters"
            " themselves, 20 of them measured at a time, gains 0.12 and is the best of"
            " all on the corpus as it is (0.08 below the natural mixture)."
        ),
        shows_not=(
            "One target and one seed: differences below 0.1 mean nothing. The settings"
            " are those of the papers where they could be read, tuned for none; with"
            " little text of each kind only DGA was run (`limited`). Left out:"
            " `doremi`, `sheared` and `velocitune`, which need the losses of an earlier"
            " run; `skill_it`, which needs a graph; `pike` and `doge_universal`, which"
            " have no target and take a gradient for each row; `odm_exp3`, a form of"
            " ODM; `importance`, which is in `headline`."
        ),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
