"""The headline at four times the steps."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_MIXERS = ("natural", "importance", "held", "dga-own", "dga-begun")
_LONG = {"train.steps": 800, "eval.every": 100}


def get_config(argument: str | None = None) -> ConfigDict:
    """Nothing else is changed: T_r stays 20, so there are more updates."""
    config = proxy_clusters.get_config()
    mixers = headline.mixers()
    config.experiment = Experiment(
        question="Does the order hold in longer runs?",
        axes={
            "seed": seeds(1),
            "target": proxy_clusters.target_axis(("python_docs", "austen")),
            "size": {"200-steps": {}, "800-steps": _LONG},
            "mixer": {name: mixers[name] for name in _MIXERS},
        },
        baseline={"mixer": "natural"},
        also=("dga-begun", "held"),
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("size", "mixer"),),
        figure=Figure("forest", lines="mixer", panels="size"),
        answer=(
            "It does, and steering gains by it: over two targets DGA begun at half the"
            " target's histogram goes from -0.26 after 200 steps to -0.47 after 800,"
            " and is then 0.12 below its beginning held fixed, against 0.02 before;"
            " from even weights it goes from -0.12 to -0.43. Importance sampling is"
            " still the best on the target (-0.36 and -0.55); on the corpus as it is it"
            " loses 1.48 nats, DGA 0.54 to 0.63, the fixed mixture 0.21."
        ),
        shows_not=(
            "Two targets and one seed: the intervals are over two runs each. A domain"
            " is seen at most 2.8 times in 800 steps, so text hardly repeats yet."
            " Whether DGA passes importance sampling in still longer runs is open. A"
            " larger model was not tried."
        ),
        data=headline.DATA,
    )
    return apply_argument(config, argument)
