"""Causal self-attention with rotary positions and grouped key-value heads.

A row holds documents one behind the other, each followed by an end of text. A position
attends to all of its row that stands before it, other documents too, unless positions
within documents are given.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dga_jax.model import kernels

if TYPE_CHECKING:
    from dga_jax.model.transformer import ModelConfig


def document_positions(tokens_BxL: jax.Array, end_of_text: int) -> jax.Array:
    """How far into its document each token stands, int32 [B, L].

    An end of text is, as an input, the beginning of the document behind it: it stands
    at 0, the first token of the document at 1. What begins a row stands at 0 too,
    though the row before may hold the beginning of its document.
    """
    index = jnp.arange(tokens_BxL.shape[1], dtype=jnp.int32)
    ends = jnp.where(tokens_BxL == end_of_text, index, 0)
    return index - jax.lax.cummax(ends, axis=1)


class RopeScaling(NamedTuple):
    """How Llama 3.1 stretches rotary positions (Dubey et al. 2024, arXiv 2407.21783).

    Attributes:
      factor: frequencies with fewer than `low` periods in `length` are divided by it;
        those with more than `high` stay, and in between it is interpolated.
      low, high: periods in `length`.
      length: positions of the rows that the model was trained on before.
    """

    factor: float
    low: float
    high: float
    length: int


def frequencies(
    width: int, theta: float, scaling: RopeScaling | None = None
) -> jax.Array:
    """Rotary frequencies of heads so wide, float32 [K/2], in radians a position."""
    plain = theta ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    if scaling is None:
        return plain
    periods = scaling.length * plain / (2 * math.pi)
    kept = jnp.clip((periods - scaling.low) / (scaling.high - scaling.low), 0, 1)
    return plain * (kept + (1 - kept) / scaling.factor)


def rotate(
    x_BxLxHxK: jax.Array,
    theta: float,
    positions: jax.Array | None = None,
    scaling: RopeScaling | None = None,
) -> jax.Array:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864).

    Halves, not pairs, are rotated, which is the layout of Llama checkpoints in the
    Hugging Face ecosystem. Angles are float32 whatever the dtype of x.

    Args:
      x_BxLxHxK: queries or keys.
      theta: base of the frequencies.
      positions: [L] or [B, L]; those in the row, unless given.
      scaling: of the frequencies, if there is any.
    """
    length, width = x_BxLxHxK.shape[1], x_BxLxHxK.shape[3]
    if positions is None:
        positions = jnp.arange(length, dtype=jnp.float32)
    angles = positions.astype(jnp.float32)[..., None] * frequencies(
        width, theta, scaling
    )
    sin, cos = jnp.sin(angles)[..., None, :], jnp.cos(angles)[..., None, :]
    first, second = jnp.split(x_BxLxHxK.astype(jnp.float32), 2, axis=-1)
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(rotated, axis=-1).astype(x_BxLxHxK.dtype)


class Attention(nnx.Module):
    """Multi-head attention, [B, L, D] to [B, L, D].

    Args:
      config: a `ModelConfig`.
      rngs: for the initial values.
    """

    def __init__(self, config: "ModelConfig", *, rngs: nnx.Rngs):
        self.config = config
        self.head_dim = config.head_width
        inner = config.num_heads * self.head_dim
        grouped = config.num_kv_heads * self.head_dim
        bias = config.qkv_bias
        self.query = config.linear(config.d_model, inner, bias=bias, rngs=rngs)
        self.key = config.linear(config.d_model, grouped, bias=bias, rngs=rngs)
        self.value = config.linear(config.d_model, grouped, bias=bias, rngs=rngs)
        self.out = config.linear(inner, config.d_model, residual=True, rngs=rngs)
        if config.qk_norm:
            self.query_norm = config.norm(width=self.head_dim, rngs=rngs)
            self.key_norm = config.norm(width=self.head_dim, rngs=rngs)

    def __call__(
        self,
        x_BxLxD: jax.Array,
        positions_BxL: jax.Array | None = None,
        attend: kernels.Kernel | None = None,
    ) -> jax.Array:
        """Every position attends to itself and to those before it in its row.

        Args:
          x_BxLxD: normalised activations.
          positions_BxL: from `document_positions`; given them, a position attends to
            its own document alone, as if nothing else were in the row.
          attend: mixes values, in place of the config's kernel; see `decode`.
        """
        query, key, value = self.projected(x_BxLxD)
        theta, scaling = self.config.rope_theta, self.config.rope_scaling
        attend = attend or kernels.kernel(self.config.attention, self.config.mesh)
        mixed_BxLxHxK = attend(
            rotate(query, theta, positions_BxL, scaling),
            rotate(key, theta, positions_BxL, scaling),
            value,
            positions_BxL,
        )
        return self.out(mixed_BxLxHxK.reshape(*x_BxLxD.shape[:2], -1))

    def projected(self, x_BxLxD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries [B, L, H, K], keys and values [B, L, H_kv, K]; not yet rotated."""

        def heads(projection: nnx.Linear) -> jax.Array:
            return projection(x_BxLxD).reshape(*x_BxLxD.shape[:2], -1, self.head_dim)

        query, key, value = map(heads, (self.query, self.key, self.value))
        if self.config.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        return query, key, value
