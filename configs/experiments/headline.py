"""DGA and what it has to beat, towards every target, as much text as there is."""

from ml_collections import ConfigDict

from configs import proxy_clusters
from dga_jax.experiment.spec import Experiment, Figure, seeds
from dga_jax.training.config import apply_argument

TARGETS = ("python_docs", "austen", "sotu_modern", "mmlu")
DATA = (
    "`stores/report`, made as the [index](../README.md) says: 14 corpora in 256"
    " clusters, four targets that are in none of them. What was chosen (where DGA"
    " begins, η, β) was chosen by `configs/experiments/tune.py` on two other targets."
)


def mixers() -> dict[str, dict[str, object]]:
    """What is compared; DGA over a basis, from even weights and from its target's."""
    basis = {"mixer.basis": proxy_clusters.BASIS}
    begun = basis | {"mixer.weights": proxy_clusters.begin(proxy_clusters.SHARE)}
    return {
        "uniform": {"mixer.name": "static"},
        "natural": {"mixer.name": "static", "mixer.weights": "natural"},
        "importance": {"mixer.name": "importance"},
        "dga-even": basis | {"mixer.name": "dga"},
        "dga-begun": begun | {"mixer.name": "dga"},
        "random": begun | {"mixer.name": "random"},
    }


def get_config(argument: str | None = None) -> ConfigDict:
    """200 steps of the proxy over 256 clusters."""
    config = proxy_clusters.get_config()
    config.experiment = Experiment(
        question="Does steering the mixture make a better model of the target?",
        axes={
            "seed": seeds(3),
            "target": proxy_clusters.target_axis(TARGETS),
            "mixer": mixers(),
        },
        baseline={"mixer": "natural"},
        loss="target/{target}",
        over=("seed", "target"),
        tables=(("mixer",), ("target", "mixer")),
        figure=Figure("forest", lines="mixer", panels="target"),
        answer="",
        shows_not=(
            "200 steps of a tiny model, in which no text comes twice: the setting in"
            " which importance sampling does best. `random`, DGA's steps in random"
            " directions from the same start as `dga-begun`, shows how much of that"
            " one's gain is where it begins."
        ),
        data=DATA,
    )
    return apply_argument(config, argument)
