"""Little text of every kind, beside all there is."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_MIXERS = (
    "uniform",
    "natural",
    "importance",
    "held",
    "dga-even",
    "dga-own",
    "dga-begun",
)


def get_config(argument: str | None = None) -> ConfigDict:
    """2,500 tokens of each of 256 clusters, and all there are."""
    config = proxy_clusters.get_config()
    mixers = headline.mixers()
    config.experiment = Experiment(
        question="Does steering pay where there is little text of every kind?",
        axes={
            "seed": seeds(5),
            "target": proxy_clusters.target_axis(headline.TARGETS),
            "tokens": proxy_clusters.LITTLE_AND_ALL,
            "mixer": {name: mixers[name] for name in _MIXERS},
        },
        baseline={"mixer": "natural"},
        also=("dga-begun", "held"),
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("tokens", "mixer"), ("target", "tokens", "mixer")),
        figure=Figure("forest", lines="mixer", panels="tokens"),
        answer=(
            "Here it pays: with 2,500 tokens of each cluster DGA over a basis ends"
            " 0.22 nats (0.17 to 0.27) below the natural mixture from even weights and"
            " 0.24 (0.18 to 0.30) from half a target's histogram, in all 20 pairs of"
            " target and seed, and reaches its loss with 0.81 and 0.71 of its FLOPs,"
            " probes counted. It ends 0.17 (0.11 to 0.22) below that beginning held"
            " fixed: steering leaves the clusters that it has used up. Importance"
            " sampling repeats a cluster 43 times, learns it by heart and ends 0.83"
            " nats above the natural mixture, though it is the best of all where text"
            " is not limited."
        ),
        shows_not=(
            "Nothing bounds how often text is read: `capped` has that. 200 steps of a"
            " tiny model, five seeds; intervals take pairs of seed and target for"
            " independent. Importance sampling is read at its end, not at its best;"
            " stopped in time it would still be above the natural mixture (0.23 on"
            " average, by the best losses in `results.jsonl`), but for `mmlu`, whose"
            " histogram is broad: there it is 0.11 below."
        ),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
