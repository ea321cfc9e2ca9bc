"""The proxy over 256 clusters of a store with several targets, for experiments.

docs/evidence says how to make such a store; `data.store` names it.
"""

from ml_collections import ConfigDict

from configs import proxy
from dga_jax.training.config import apply_argument

# The target's histogram, the corpus as it is, and its coarse clusters.
BASIS = "target+natural+level0"
# Even weights of these, with nothing on the histograms of a store's other targets.
OWN = "target/{target}=.0556,natural=.0556,level0:*=.8888"
NATURAL = {"mixer.name": "static", "mixer.weights": "natural"}
# The points of an axis: little text of each cluster, and all there is.
LITTLE_AND_ALL = {
    "2500": {"data.tokens_per_domain": 2500},
    "all": {"data.tokens_per_domain": 0},
}
MOST = 0.9  # the same, where text is plenty
SHARE = 0.5  # of the weight on the target's histogram, where DGA begins there


def get_config(argument: str | None = None) -> ConfigDict:
    """200 steps of 16 rows, ten updates of the weights."""
    config = proxy.get_config()
    config.data.update(store="stores/report", level=1)
    config.mixer.update(interval=20, eta=20.0, beta=0.3, probe_rows=4, target_rows=16)
    config.eval.update(rows=4, target_rows=64)
    return apply_argument(config, argument)


def target_axis(names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """The points of an axis of targets: what is steered to, and importance's set."""
    return {
        name: {"mixer.targets": f"{name}=1", "mixer.reference": f"target/{name}"}
        for name in names
    }


def begin(share: float) -> str:
    """Weights of the basis at first: a share on the target's histogram; 0: even ones.

    What is left goes to the natural distribution and the clusters, by halves.
    """
    rest = (1 - share) / 2
    given = f"target/{{target}}={share:g},natural={rest:g},level0:*={rest:g}"
    return given if share else ""
