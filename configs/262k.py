"""262,144 clusters of a large corpus, through a basis: the setting of the paper.

Needs `--config.data.store`, prepared with --cluster=64,64,64. The basis is the 64
coarsest clusters, unless `--config.mixer.basis` names one stored with the store.
"""

from ml_collections import ConfigDict

from dga_jax.training.config import apply_argument, default_config


def get_config(argument: str | None = None) -> ConfigDict:
    """12 layers of 768, as 125m.py, over the finest of three levels."""
    config = default_config()
    config.model.update(num_layers=12, d_model=768, num_heads=12)
    config.train.update(steps=20_000, batch_size=512, microbatches=8)
    config.optimizer.learning_rate = 6e-4
    config.data.level = 2
    config.mixer.update(interval=100, beta=0.1, basis="level0")
    return apply_argument(config, argument)
