"""Next-token loss of rows of tokens, holding no more logits than a budget allows."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

Constrain = Callable[[jax.Array], jax.Array]  # pins the sharding of an array

# Bytes of float32 logits that a device holds at a time where no chunk is given. Beside
# them the backward pass holds about as much again.
LOGITS_BUDGET = 512 * 2**20


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


@dataclasses.dataclass(frozen=True)
class Head:
    """How logits are computed; what they are does not depend on it.

    Attributes:
      budget: bytes of float32 logits that a device may hold at a time.
      copies: parts that a mesh cuts the rows into. Each multiplies with its own copy of
        the unembedding, which is gathered once and whose gradient is added up over the
        mesh once, however many chunks there are.
      place: pins copies [copies, D, V] to where their rows lie.
      shards: parts that the vocabulary is cut into.
      indexed: a target's logit is found by its index and not by a masked sum over all,
        which is faster on a CPU; for an unembedding that every device holds whole.
    """

    budget: int = LOGITS_BUDGET
    copies: int = 1
    place: Constrain = lambda x: x
    shards: int = 1
    indexed: bool = False

    def chunk(self, rows: int, length: int, vocab_size: int) -> int:
        """Positions of so many rows whose logits fit; chunks of a row are alike."""
        row_bytes = 4 * -(-vocab_size // self.shards)
        each = -(-rows // self.copies) * row_bytes  # of a position, on one device
        chunks = -(-length // max(self.budget // each, 1))
        return -(-length // chunks)


def row_losses(
    model: Any,
    rows_BxS: jax.Array,
    *,
    chunk: int = 0,
    constrain: Constrain = lambda x: x,
    head: Head = Head(),
) -> RowLosses:
    """Losses of rows of L+1 tokens, S = L+1, of which the first is only read.

    Args:
      model: has `hidden` and `unembedding`, see `Transformer`.
      rows_BxS: int32 token ids; -1 where there is none, at the end of a row, and -2 - t
        for a token t that is read and not predicted.
      chunk: positions whose logits are held at a time, [B, chunk, V] float32; 0: as
        many as the head's budget allows.
      constrain: pins down the sharding of activations [B, L, D].
      head: how logits are computed.
    """
    inputs, targets = rows_BxS[:, :-1], rows_BxS[:, 1:]
    tokens_BxL = jnp.where(inputs < 0, jnp.maximum(-2 - inputs, 0), inputs)
    hidden_BxLxD = model.hidden(tokens_BxL, constrain)
    kernel_DxV = model.unembedding()
    rows, length = inputs.shape
    if rows % head.copies:
        head = dataclasses.replace(head, copies=1)
    chunk = min(chunk or head.chunk(rows, length, kernel_DxV.shape[1]), length)
    sums = _chunk_sums(kernel_DxV, head)
    if chunk == length:
        nll_B, z_B = sums((hidden_BxLxD, targets))
    else:
        nll_B, z_B = _sum_of_chunks(sums, hidden_BxLxD, targets, chunk)
    count_B = jnp.sum(targets >= 0, axis=1, dtype=jnp.float32)
    return RowLosses(nll_B, z_B, count_B)


_Sums = Callable[[tuple[jax.Array, jax.Array]], tuple[jax.Array, jax.Array]]


def _chunk_sums(kernel_DxV: jax.Array, head: Head) -> _Sums:
    """(activations [B, C, D], targets [B, C]) -> each row's sums (nll, z), [B]."""
    # Their gradients are sums over tokens and chunks: in bfloat16 a frequent token's
    # would soon be too large for what is added to change it.
    kernel = wide_DxV = kernel_DxV.astype(jnp.float32)
    parts = ()
    if head.copies > 1:
        parts = (head.copies,)
        # What crosses a mesh does so in the activations' type.
        copied = wide_DxV if head.indexed else kernel_DxV
        copies = jnp.broadcast_to(copied, (*parts, *copied.shape))
        kernel = head.place(copies).astype(jnp.float32)
    picked = _picked_by_index if head.indexed else _picked_by_mask

    def sums(chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden_BxCxD, targets_BxC = chunk
        # One axis of tokens, T, as in `Projection`; with copies, one for each part.
        hidden_TxD = hidden_BxCxD.reshape(*parts, -1, hidden_BxCxD.shape[-1])
        targets_T = targets_BxC.reshape(*parts, -1)
        logits_TxV = jnp.matmul(
            hidden_TxD,
            kernel.astype(hidden_TxD.dtype),
            preferred_element_type=jnp.float32,
        )
        top_T = jax.nn.logsumexp(logits_TxV, axis=-1)
        nll_T = top_T - picked(hidden_TxD, wide_DxV, logits_TxV, targets_T)
        real = targets_BxC >= 0
        return tuple(
            jnp.sum(x.reshape(real.shape), axis=-1, where=real)
            for x in (nll_T, top_T**2)
        )

    return sums


# The targets' logits [T]; where there is no target, any.


def _picked_by_mask(
    hidden_TxD: jax.Array,
    kernel_DxV: jax.Array,
    logits_TxV: jax.Array,
    targets_T: jax.Array,
) -> jax.Array:
    del hidden_TxD, kernel_DxV
    is_target = jnp.arange(logits_TxV.shape[-1]) == targets_T[..., None]
    return jnp.sum(logits_TxV, axis=-1, where=is_target)


def _picked_by_index(
    hidden_TxD: jax.Array,
    kernel_DxV: jax.Array,
    logits_TxV: jax.Array,
    targets_T: jax.Array,
) -> jax.Array:
    """Computed anew, from the target's column: all logits are read once less."""
    del logits_TxV
    columns_TxD = jnp.take(kernel_DxV.T, jnp.maximum(targets_T, 0), axis=0)
    return jnp.sum(hidden_TxD.astype(jnp.float32) * columns_TxD, axis=-1)


def _sum_of_chunks(
    sums: _Sums, hidden_BxLxD: jax.Array, targets_BxL: jax.Array, chunk: int
) -> tuple[jax.Array, jax.Array]:
    """`sums` of whole rows, chunk by chunk; their logits are computed again."""
    fill = -targets_BxL.shape[1] % chunk
    hidden_BxLxD = jnp.pad(hidden_BxLxD, ((0, 0), (0, fill), (0, 0)))
    targets_BxL = jnp.pad(targets_BxL, ((0, 0), (0, fill)), constant_values=-1)

    def chunked(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)

    parts = jax.lax.map(
        jax.checkpoint(sums), (chunked(hidden_BxLxD), chunked(targets_BxL))
    )
    return tuple(jnp.sum(part, axis=0) for part in parts)


def make_row_losses(
    graph: nnx.GraphDef,
    *,
    chunk: int = 0,
    constrain: Constrain = lambda x: x,
    head: Head = Head(),
) -> Callable[[Any, jax.Array], RowLosses]:
    """`row_losses` as a pure function of (parameters, rows [B, L+1])."""

    def losses(params: Any, rows_BxS: jax.Array) -> RowLosses:
        model = nnx.merge(graph, params)
        return row_losses(model, rows_BxS, chunk=chunk, constrain=constrain, head=head)

    return losses
