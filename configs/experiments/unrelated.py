"""A target like no part of the corpus: does steering towards it do harm?"""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import sample
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_MIXERS = ("uniform", "natural", "importance", "dga-even", "dga-begun")


def get_config(argument: str | None = None) -> ConfigDict:
    """French manual pages; the corpus is English, code and mathematics."""
    config = proxy_clusters.get_config()
    config.data.store = "stores/unrelated"
    mixers = sample.mixers_of_one_target()
    config.experiment = Experiment(
        question="What happens with a target that is like nothing in the corpus?",
        axes={
            "seed": seeds(3),
            "mixer": {name: mixers[name] for name in _MIXERS},
        },
        baseline={"mixer": "natural"},
        figure=Figure("front", lines="mixer"),
        data="`stores/unrelated`, made as the [index](../README.md) says.",
    )
    return apply_argument(config, argument)
