"""The quickstart over 256 clusters of its text, through a basis of 16 distributions."""

from ml_collections import ConfigDict

from dga_jax.config import apply_argument, default_config


def get_config(argument: str | None = None) -> ConfigDict:
    """The finest of two levels of clusters; the basis is the 16 of the coarser one."""
    config = default_config()
    config.model.update(num_layers=3, d_model=128, num_heads=4, dtype="float32")
    config.model.remat = False
    config.train.update(steps=300, batch_size=16, seq_len=128)
    config.optimizer.learning_rate = 3e-3
    config.mixer.update(interval=10, eta=5.0, beta=0.3, probe_rows=4, target_rows=16)
    config.mixer.basis = "level0"
    config.data.update(store="sample-clusters", level=1)
    config.eval.update(every=50, rows=16, target_rows=128)
    config.checkpoint.every = 100
    config.log.update(every=1, console=10)
    return apply_argument(config, argument)
