"""A small model on the text that comes with the code; minutes on a laptop's CPU."""

from ml_collections import ConfigDict

from dga_jax.training.config import apply_argument, default_config


def get_config(argument: str | None = None) -> ConfigDict:
    """3 layers of 128, towards the Python documentation."""
    config = default_config()
    config.model.update(num_layers=3, d_model=128, num_heads=4, dtype="float32")
    config.model.remat = "none"
    config.train.update(steps=300, batch_size=16, seq_len=128)
    config.optimizer.learning_rate = 3e-3
    config.mixer.update(interval=50, eta=25.0, beta=0.3, probe_rows=4, target_rows=16)
    config.data.store = "sample"
    config.eval.update(every=50, rows=16, target_rows=128)
    config.checkpoint.every = 100
    config.log.update(every=1, console=10)
    return apply_argument(config, argument)
