"""LEGO, three steps of reasoning the target: docs/sources/lego.md makes its store."""

from ml_collections import ConfigDict

from dga_jax.training.config import apply_argument, default_config


def get_config(argument: str | None = None) -> ConfigDict:
    """2 layers of 64, which predict answers alone; DGA over the skills."""
    config = default_config()
    config.model.update(num_layers=2, d_model=64, num_heads=4, d_ff=128, qk_norm=True)
    config.model.update(tied_embeddings=False, dtype="float32", remat="none")
    config.train.update(steps=2000, batch_size=32, seq_len=33)
    config.optimizer.update(learning_rate=3e-3, schedule="constant", warmup_steps=100)
    config.optimizer.update(b2=0.98, weight_decay=0.0)
    config.mixer.update(start=300, interval=50, eta=3.0, beta=0.3, shrink=True)
    config.mixer.update(floor=0.1, probe_rows=64, target_rows=128)
    config.data.update(store="lego", answers_after=" =", systematic=True)
    config.eval.update(every=100, rows=64, target_rows=256)
    config.checkpoint.every = 500
    config.log.update(every=10, console=100)
    return apply_argument(config, argument)
