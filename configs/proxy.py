"""A model that ranks mixtures as the quickstart's does, in a fraction of the time."""

from ml_collections import ConfigDict

from configs import quickstart
from dga_jax.training.config import apply_argument


def get_config(argument: str | None = None) -> ConfigDict:
    """2 layers of 64, for experiments of hundreds of runs."""
    config = quickstart.get_config()
    config.model.update(num_layers=2, d_model=64, num_heads=2, d_ff=128)
    config.train.update(steps=200, batch_size=16, seq_len=64)
    config.optimizer.learning_rate = 6e-3
    config.mixer.update(interval=10, eta=5.0, probe_rows=4, target_rows=16)
    config.eval.update(every=50, rows=4, target_rows=64)
    config.checkpoint.update(every=100, keep=1)
    config.log.update(every=5, console=100)
    return apply_argument(config, argument)
