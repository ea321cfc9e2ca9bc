"""LEGO, three steps of reasoning the target: docs/sources/lego.md makes its store."""

from ml_collections import ConfigDict

from dga_jax.training.config import apply_argument, default_config


def get_config(argument: str | None = None) -> ConfigDict:
    """4 layers of 64, which predict answers alone; DGA over the skills."""
    config = default_config()
    config.model.update(num_layers=4, d_model=64, num_heads=4, dtype="float32")
    config.model.update(remat="none", document_mask=True)
    config.train.update(steps=4000, batch_size=64, seq_len=33)
    config.optimizer.update(learning_rate=2e-3, weight_decay=0.01)
    config.mixer.update(interval=50, eta=5.0, beta=0.3, probe_rows=32, target_rows=128)
    config.data.update(store="lego", answers_after=" =")
    config.eval.update(every=100, rows=128, target_rows=512)
    config.checkpoint.every = 1000
    config.log.update(every=10, console=100)
    return apply_argument(config, argument)
