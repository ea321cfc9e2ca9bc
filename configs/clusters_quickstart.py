"""The quickstart over 256 clusters of its text, through a basis of 16 distributions."""

from ml_collections import ConfigDict

from configs import quickstart
from dga_jax.training.config import apply_argument


def get_config(argument: str | None = None) -> ConfigDict:
    """The finest of two levels of clusters; the basis is the 16 of the coarser one."""
    config = quickstart.get_config()
    config.data.update(store="sample-clusters", level=1)
    config.mixer.update(basis="level0", interval=10, eta=5.0)
    return apply_argument(config, argument)
