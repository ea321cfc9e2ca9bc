"""123,587,328 parameters at a vocabulary of 50,304; context 1024."""

from ml_collections import ConfigDict

from dga_jax.training.config import apply_argument, default_config


def get_config(argument: str | None = None) -> ConfigDict:
    """12 layers of 768, 12 heads."""
    config = default_config()
    config.model.update(num_layers=12, d_model=768, num_heads=12)
    config.train.update(steps=20_000, batch_size=512, microbatches=8)
    config.optimizer.learning_rate = 6e-4
    return apply_argument(config, argument)
