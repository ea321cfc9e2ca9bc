"""778,169,600 parameters at a vocabulary of 50,304; context 1024."""

from ml_collections import ConfigDict

from dga_jax.training.config import apply_argument, default_config


def get_config(argument: str | None = None) -> ConfigDict:
    """36 layers of 1280, 20 heads."""
    config = default_config()
    config.model.update(num_layers=36, d_model=1280, num_heads=20)
    config.train.update(steps=60_000, batch_size=512, microbatches=8)
    config.optimizer.learning_rate = 2.5e-4
    return apply_argument(config, argument)
