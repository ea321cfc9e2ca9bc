"""Steps and models that tests vary, and what they are given instead of a model."""

import functools

import jax.numpy as jnp
from flax import nnx

from dga_jax.model.transformer import ModelConfig, Transformer
from dga_jax.training.optimizer import OptimizerConfig
from dga_jax.training.steps import StepOptions

ADAM = OptimizerConfig(
    learning_rate=0.01,
    schedule="constant",
    steps=10,
    warmup_steps=0,
    decay_fraction=0.2,
    final_fraction=0.1,
    b1=0.9,
    b2=0.95,
    eps=1e-3,
    weight_decay=0.0,
    clip_norm=0.0,
)
OPTIONS = StepOptions(
    microbatches=1,
    z_loss=0.0,
    loss_chunk=8,
    estimator="forward",
    chunk=None,
    target_chunk=None,
    normalise=False,
    precondition=False,
)
TINY = ModelConfig(
    vocab_size=13,
    num_layers=2,
    d_model=16,
    num_heads=4,
    num_kv_heads=2,
    d_ff=32,
    remat="none",
)


@functools.cache
def split(config):
    """Graph and parameters of a model."""
    graph, params = nnx.split(Transformer(config, rngs=nnx.Rngs(0)), nnx.Param)
    params = nnx.to_pure_dict(params)
    # Logits of about 1, as in training: at the beginning they hardly differ.
    params["embed"]["embedding"] = 20 * params["embed"]["embedding"]
    return graph, params


class Given:
    """A model whose activations are given, and its unembedding, [D, V]."""

    def __init__(self, activations, kernel, dtype=jnp.float32):
        self._activations, self._kernel = activations.astype(dtype), kernel
        self._dtype = dtype

    def hidden(self, tokens, constrain):
        return constrain(self._activations)

    def unembedding(self):
        return self._kernel.astype(self._dtype)
