"""359,842,816 parameters at a vocabulary of 50,304; context 1024."""

from ml_collections import ConfigDict

from dga_jax.training.config import apply_argument, default_config


def get_config(argument: str | None = None) -> ConfigDict:
    """24 layers of 1024, 16 heads."""
    config = default_config()
    config.model.update(num_layers=24, d_model=1024, num_heads=16)
    config.train.update(steps=40_000, batch_size=512, microbatches=8)
    config.optimizer.learning_rate = 3e-4
    return apply_argument(config, argument)
