"""A target like no part of the corpus: does steering towards it do harm?"""

from ml_collections import ConfigDict

from configs import proxy_clusters
from configs.experiments import headline
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

_MIXERS = ("uniform", "natural", "importance", "dga-even", "dga-begun")


def get_config(argument: str | None = None) -> ConfigDict:
    """French manual pages; the corpus is English, code and mathematics."""
    config = proxy_clusters.get_config()
    config.data.store = "stores/unrelated"
    mixers = headline.mixers()
    target = {"mixer.targets": "", "mixer.reference": "target"}
    begun = proxy_clusters.begin(proxy_clusters.SHARE).replace(
        "target/{target}", "target"
    )
    mixers["dga-begun"] |= {"mixer.weights": begun}
    config.experiment = Experiment(
        question="What happens with a target that is like nothing in the corpus?",
        axes={
            "seed": seeds(3),
            "target": {"french": target},
            "mixer": {name: mixers[name] for name in _MIXERS},
        },
        baseline={"mixer": "natural"},
        figure=Figure("front", lines="mixer"),
        data="`stores/unrelated`, made as the [index](../README.md) says.",
    )
    return apply_argument(config, argument)
