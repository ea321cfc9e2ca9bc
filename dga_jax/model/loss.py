"""Next-token loss of rows of tokens, never holding the logits of a whole row."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

Constrain = Callable[[jax.Array], jax.Array]  # pins the sharding of activations


class RowLosses(NamedTuple):
    """Sums over each row's predicted tokens, float32 [B].

    Attributes:
      nll: negative log-likelihood, nats.
      z: squares of the log-partition function (for the z-loss of PaLM, section 5).
      count: number of predicted tokens.
    """

    nll: jax.Array
    z: jax.Array
    count: jax.Array


def row_losses(
    model: Any,
    rows_BxS: jax.Array,
    *,
    chunk: int,
    constrain: Constrain = lambda x: x,
) -> RowLosses:
    """Losses of rows of L+1 tokens, S = L+1, of which the first is only read.

    Args:
      model: has `hidden` and `logits`, see `Transformer`.
      rows_BxS: int32 token ids; -1 where there is none, at the end of a row, and -2 - t
        for a token t that is read and not predicted.
      chunk: positions whose logits are held at a time, [B, chunk, V] float32.
      constrain: pins down the sharding of activations [B, L, D].
    """
    inputs, targets = rows_BxS[:, :-1], rows_BxS[:, 1:]
    tokens_BxL = jnp.where(inputs < 0, jnp.maximum(-2 - inputs, 0), inputs)
    hidden_BxLxD = model.hidden(tokens_BxL, constrain)
    length = inputs.shape[1]
    chunk = min(chunk, length)
    fill = -length % chunk
    hidden_BxLxD = jnp.pad(hidden_BxLxD, ((0, 0), (0, fill), (0, 0)))
    targets = jnp.pad(targets, ((0, 0), (0, fill)), constant_values=-1)

    @jax.checkpoint
    def sums(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden_BxCxD, targets_BxC = part
        logits_BxCxV = model.logits(hidden_BxCxD)
        top = jax.nn.logsumexp(logits_BxCxV, axis=-1)
        # A masked sum, not a gather: it shards over the vocabulary.
        ids = jnp.arange(logits_BxCxV.shape[-1])
        is_target = ids == targets_BxC[..., None]
        picked = jnp.sum(logits_BxCxV, axis=-1, where=is_target)
        real = targets_BxC >= 0
        nll = jnp.sum(top - picked, axis=-1, where=real)
        return nll, jnp.sum(top**2, axis=-1, where=real)

    def chunked(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)

    nll, z = jax.lax.map(sums, (chunked(hidden_BxLxD), chunked(targets)))
    count = jnp.sum(rows_BxS[:, 1:] >= 0, axis=1, dtype=jnp.float32)
    return RowLosses(jnp.sum(nll, axis=0), jnp.sum(z, axis=0), count)


def make_row_losses(
    graph: nnx.GraphDef, *, chunk: int, constrain: Constrain = lambda x: x
) -> Callable[[Any, jax.Array], RowLosses]:
    """`row_losses` as a pure function of (parameters, rows [B, L+1])."""

    def losses(params: Any, rows_BxS: jax.Array) -> RowLosses:
        model = nnx.merge(graph, params)
        return row_losses(model, rows_BxS, chunk=chunk, constrain=constrain)

    return losses
