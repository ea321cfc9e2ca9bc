"""6,738,415,616 parameters at a vocabulary of 32,000; context 2048."""

from ml_collections import ConfigDict

from dga_jax.training.config import apply_argument, default_config


def get_config(argument: str | None = None) -> ConfigDict:
    """32 layers of 4096, 32 heads: the shape of Llama 2 7B (arXiv 2307.09288)."""
    config = default_config()
    config.model.update(num_layers=32, d_model=4096, num_heads=32, vocab_size=32_000)
    config.model.tied_embeddings = False
    config.train.update(steps=100_000, batch_size=512, seq_len=2048, microbatches=8)
    config.optimizer.learning_rate = 3e-4
    return apply_argument(config, argument)
