"""nanodo's decoder and train step, written anew in plain Flax Linen and optax.

After github.com/google-deepmind/nanodo as of June 2024: LayerNorm, learned positions,
GELU, the embedding used again for the logits, no biases, all logits held. Left out of
its step is what costs time and is not training: statistics by layer, and
`optax.MultiSteps` around an optimizer that accumulates nothing.

Shapes: B rows, L positions, D model width, F feed-forward width, V vocabulary, H heads
of width K.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from dga_jax.training.optimizer import OptimizerConfig, learning_rate

_KERNEL = nn.initializers.xavier_uniform()
_EMBEDDING = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)


class State(NamedTuple):
    """What a step reads and replaces: parameters, and the optimizer's state."""

    params: Any
    opt_state: Any


class Attention(nn.Module):
    """Causal attention, [B, L, D] to [B, L, D].

    Attributes:
      num_heads: H.
    """

    num_heads: int

    @nn.compact
    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        """Every position attends to itself and to those before it."""
        length, width = x_BxLxD.shape[1:]
        shape = (self.num_heads, width // self.num_heads)
        project = functools.partial(
            nn.DenseGeneral, features=shape, use_bias=False, kernel_init=_KERNEL
        )
        query_BxLxHxK = project(name="query")(x_BxLxD) / shape[1] ** 0.5
        key_BxLxHxK = project(name="key")(x_BxLxD)
        value_BxLxHxK = project(name="value")(x_BxLxD)
        scores_BxHxLxL = jnp.einsum("...qhd,...khd->...hqk", query_BxLxHxK, key_BxLxHxK)
        seen_1x1xLxL = jnp.tril(jnp.ones((1, 1, length, length), bool))
        lowest = jnp.finfo(scores_BxHxLxL.dtype).min
        scores_BxHxLxL = jnp.where(seen_1x1xLxL, scores_BxHxLxL, lowest)
        shares_BxHxLxL = jax.nn.softmax(scores_BxHxLxL, axis=-1)
        mixed_BxLxHxK = jnp.einsum(
            "...hqk,...khd->...qhd", shares_BxHxLxL, value_BxLxHxK
        )
        return nn.DenseGeneral(
            width, axis=(-2, -1), use_bias=False, kernel_init=_KERNEL, name="out"
        )(mixed_BxLxHxK)


class Block(nn.Module):
    """One pre-norm layer, [B, L, D] to [B, L, D].

    Attributes:
      num_heads: H.
      d_ff: F.
    """

    num_heads: int
    d_ff: int

    @nn.compact
    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        """The residual stream after this layer."""
        dense = functools.partial(nn.Dense, use_bias=False, kernel_init=_KERNEL)
        x_BxLxD += Attention(self.num_heads)(nn.LayerNorm(use_bias=False)(x_BxLxD))
        hidden_BxLxF = dense(self.d_ff)(nn.LayerNorm(use_bias=False)(x_BxLxD))
        return x_BxLxD + dense(x_BxLxD.shape[-1])(jax.nn.gelu(hidden_BxLxF))


class Decoder(nn.Module):
    """The decoder; layers are not stacked.

    Attributes:
      vocab_size: V.
      num_layers: of `Block`s.
      d_model: D.
      num_heads: H.
      d_ff: F.
      length: the largest L.
    """

    vocab_size: int
    num_layers: int
    d_model: int
    num_heads: int
    d_ff: int
    length: int

    @nn.compact
    def __call__(self, tokens_BxL: jax.Array) -> jax.Array:
        """Logits, float32 [B, L, V]."""
        embed, positions = (
            nn.Embed(count, self.d_model, embedding_init=_EMBEDDING, name=name)
            for count, name in (
                (self.vocab_size, "embed"),
                (self.length, "positions"),
            )
        )
        x_BxLxD = embed(tokens_BxL)
        x_BxLxD += positions(jnp.arange(tokens_BxL.shape[1])[None])
        for _ in range(self.num_layers):
            x_BxLxD = Block(self.num_heads, self.d_ff)(x_BxLxD)
        return embed.attend(nn.LayerNorm(use_bias=False)(x_BxLxD))


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clipping and AdamW, with the schedule of a config; all parameters decay."""
    clip = optax.clip_by_global_norm(config.clip_norm or float("inf"))
    adamw = optax.adamw(
        learning_rate(config),
        config.b1,
        config.b2,
        config.eps,
        weight_decay=config.weight_decay,
    )
    return optax.chain(clip, adamw)


def initial(model: Decoder, optimizer: optax.GradientTransformation) -> State:
    """The state before the first step."""
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    return State(params, optimizer.init(params))


def mean_nll(model: Decoder) -> Callable[[Any, jax.Array], jax.Array]:
    """The loss: (params, rows [B, L+1]) -> nats per token."""

    def loss(params: Any, rows_BxS: jax.Array) -> jax.Array:
        logits_BxLxV = model.apply(params, rows_BxS[:, :-1])
        nll_BxL = optax.softmax_cross_entropy_with_integer_labels(
            logits_BxLxV, rows_BxS[:, 1:]
        )
        return jnp.mean(nll_BxL)

    return loss


def make_step(
    model: Decoder, optimizer: optax.GradientTransformation
) -> Callable[[State, jax.Array], tuple[State, jax.Array]]:
    """The train step: (state, rows [B, L+1]) -> (state, nats per token).

    It is jitted, and the old state is donated.
    """
    part = jax.value_and_grad(mean_nll(model))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: State, rows_BxS: jax.Array) -> tuple[State, jax.Array]:
        loss, gradient = part(state.params, rows_BxS)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        return State(optax.apply_updates(state.params, updates), opt_state), loss

    return step
