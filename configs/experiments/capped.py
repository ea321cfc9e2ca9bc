"""Little text: would a bound on how often it is read do what steering does?"""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_BOUNDS = (4, 16)  # epochs
_BOUNDED = {
    "importance": "importance",
    "half": "held",
    "most": "held-most",
    "dga": "dga-begun",
}


def get_config(argument: str | None = None) -> ConfigDict:
    """2,500 tokens of each of 256 clusters; what is used up is not drawn any more."""
    config = proxy_clusters.get_config()
    config.data.tokens_per_domain = 2500
    mixers = headline.mixers() | headline.most()
    bounded = {
        f"{short}-{bound}": mixers[name] | {"data.max_epochs": bound}
        for short, name in _BOUNDED.items()
        for bound in _BOUNDS
    }
    config.experiment = Experiment(
        question="Would a bound on repetition do as well?",
        axes={
            "seed": seeds(5),
            "target": proxy_clusters.target_axis(headline.TARGETS),
            "mixer": {
                name: mixers[name] for name in ("natural", "dga-even", "dga-begun")
            }
            | bounded,
        },
        baseline={"mixer": "natural"},
        also=(
            *("dga-begun", "importance-4"),
            *("dga-begun", "most-4"),
            *("dga-4", "importance-4"),
            *("dga-16", "importance-4"),
            *("dga-16", "most-4"),
            *("dga-16", "dga-begun"),
        ),
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("mixer",), ("target", "mixer")),
        figure=Figure("forest", lines="mixer"),
        answer=(
            "Nearly as well as steering alone, and both together do best: where a"
            " cluster is drawn 4 times at most, importance sampling ends 0.20 nats"
            " (0.14 to 0.26) below the natural mixture, nine tenths of the target's"
            " histogram held fixed as much (0.15 to 0.27), DGA without a bound 0.24"
            " (0.18 to 0.30), DGA with a bound of 16 epochs 0.28 (0.21 to 0.35), in"
            " 20 of 20 pairs: 0.07 (0.03 to 0.12) below that fixed mixture, the best"
            " that needs no gradients. DGA hardly depends on the bound (0.24, 0.26,"
            " 0.28 without, with 4, with 16); importance sampling does: with 16 it"
            " ends 0.15 above the natural mixture."
        ),
        shows_not=(
            "The bounds are the two that are published (4 epochs as good as new text,"
            " arXiv 2305.16264; 16 what a scarce source bears in a mixture, arXiv"
            " 2605.12715), not searched; 2,500 tokens a cluster, 200 steps. A bound"
            " of 4 may be right for other lengths of run, or not."
        ),
        data=(
            headline.DATA + " `half` and `most` hold half and nine tenths of the weight"
            " on the target's histogram fixed; the number is the bound, in epochs of a"
            " cluster."
        ),
    )
    return apply_argument(config, argument)
