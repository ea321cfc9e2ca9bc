"""Causal self-attention with rotary positions and grouped key-value heads."""

import jax
import jax.numpy as jnp
from flax import nnx


def rotate(x_BxLxHxK: jax.Array, theta: float) -> jax.Array:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864).

    Halves, not pairs, are rotated, which is the layout of Llama checkpoints in the
    Hugging Face ecosystem. Angles are float32 whatever the dtype of x.
    """
    length, width = x_BxLxHxK.shape[1], x_BxLxHxK.shape[3]
    frequencies = theta ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    angles = jnp.arange(length, dtype=jnp.float32)[:, None] * frequencies
    sin, cos = jnp.sin(angles)[:, None, :], jnp.cos(angles)[:, None, :]
    first, second = jnp.split(x_BxLxHxK.astype(jnp.float32), 2, axis=-1)
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(rotated, axis=-1).astype(x_BxLxHxK.dtype)


class Attention(nnx.Module):
    """Multi-head attention, [B, L, D] to [B, L, D].

    Args:
      config: a `ModelConfig`.
      rngs: for the initial values.
    """

    def __init__(self, config, *, rngs: nnx.Rngs):
        self.config = config
        self.head_dim = config.d_model // config.num_heads
        inner = config.num_heads * self.head_dim
        grouped = config.num_kv_heads * self.head_dim
        self.query = config.linear(config.d_model, inner, rngs=rngs)
        self.key = config.linear(config.d_model, grouped, rngs=rngs)
        self.value = config.linear(config.d_model, grouped, rngs=rngs)
        self.out = config.linear(inner, config.d_model, residual=True, rngs=rngs)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        """Every position attends to itself and to those before it in its row."""

        def heads(projection):
            return projection(x_BxLxD).reshape(*x_BxLxD.shape[:2], -1, self.head_dim)

        mixed_BxLxHxK = jax.nn.dot_product_attention(
            rotate(heads(self.query), self.config.rope_theta),
            rotate(heads(self.key), self.config.rope_theta),
            heads(self.value),
            is_causal=True,
            implementation=self.config.attention,
        )
        return self.out(mixed_BxLxHxK.reshape(*x_BxLxD.shape[:2], -1))
