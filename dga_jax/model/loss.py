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
      place: pins copies [copies, D, V] to where their rows lie; of `parts`, kernels
        [copies, parts, D, V/parts] and activations [copies, parts, B/copies, L, D].
      shards: parts that the vocabulary is cut into.
      indexed: a target's logit is found by its index and not by a masked sum over all,
        which is faster on a CPU; for an unembedding that every device holds whole.
      parts: of the vocabulary, each multiplied with all rows of a copy; 0: there are
        none. Then the activations are what is gathered, once, and whose gradient is
        added up over the mesh; the unembedding and its gradient stay in parts.
      cut: a head with `parts` that may be taken instead of this one; see `suited`.
      batches: of rows that are computed side by side, as under `jax.vmap`.
    """

    budget: int = LOGITS_BUDGET
    copies: int = 1
    place: Constrain = lambda x: x
    shards: int = 1
    indexed: bool = False
    parts: int = 0
    cut: "Head | None" = None
    batches: int = 1

    def suited(self, rows: int, length: int, vocab_size: int) -> "Head":
        """This head or its `cut`, whichever moves less over the mesh.

        Of the numbers that a device holds of them, it sends (n-1)/n to gather an array
        from n devices, and as many for its gradient. For V' = V/shards columns here, n
        times as many parts in the cut, and T tokens of the rows that these share, it is

            2 (n-1)/n D V'            with this head, which gathers the unembedding;
            2 (n-1)/n D (T + V'/n)    with the cut, which gathers activations and moves
                                      the device's part of the unembedding.

        So the cut is taken where T < (1 - 1/n) V', and then holds less, too: T rows of
        activations and not V' columns. Where its parts do not divide the vocabulary, or
        the copies the rows, it is no choice.
        """
        if rows % self.copies:
            return dataclasses.replace(self, copies=1)
        cut = self.cut
        if cut is None or vocab_size % cut.parts:
            return self
        tokens = self.batches * rows * length // cut.copies
        share = self.shards / cut.parts
        return cut if tokens * self.shards < (1 - share) * vocab_size else self

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
    head = head.suited(rows, length, kernel_DxV.shape[1])
    chunk = min(chunk or head.chunk(rows, length, kernel_DxV.shape[1]), length)
    sums = _chunk_sums(kernel_DxV, head)
    if head.parts:
        hidden_BxLxD = _spread(constrain(hidden_BxLxD), head)
    if chunk == length:
        nll_B, z_B = sums((hidden_BxLxD, targets))
    else:
        nll_B, z_B = _sum_of_chunks(sums, hidden_BxLxD, targets, chunk)
    count_B = jnp.sum(targets >= 0, axis=1, dtype=jnp.float32)
    return RowLosses(nll_B, z_B, count_B)


_Sums = Callable[[tuple[jax.Array, jax.Array]], tuple[jax.Array, jax.Array]]


def _spread(hidden_BxLxD: jax.Array, head: Head) -> jax.Array:
    """Activations to where each part of the vocabulary lies, S copies of W parts.

    The gradients that come back from the parts are added up in the activations' type,
    as by the copies of a kernel.
    """
    hidden_SxBxLxD = hidden_BxLxD.reshape(head.copies, -1, *hidden_BxLxD.shape[1:])
    shape = head.copies, head.parts, *hidden_SxBxLxD.shape[1:]
    return head.place(jnp.broadcast_to(hidden_SxBxLxD[:, None], shape))


def _placed(kernel_DxV: jax.Array, wide_DxV: jax.Array, head: Head) -> jax.Array:
    """The float32 kernel where it is needed: [D, V], [S, D, V] or [S, W, D, V/W]."""
    if head.copies == 1 and not head.parts:
        return wide_DxV
    # What crosses a mesh does so in the activations' type.
    copied = wide_DxV if head.indexed else kernel_DxV
    if head.parts:
        copied = jnp.moveaxis(copied.reshape(len(copied), head.parts, -1), 1, 0)
    copies = jnp.broadcast_to(copied, (head.copies, *copied.shape))
    return head.place(copies).astype(jnp.float32)


def _chunk_sums(kernel_DxV: jax.Array, head: Head) -> _Sums:
    """(activations [B, C, D], targets [B, C]) -> each row's sums (nll, z), [B].

    With W parts of the vocabulary activations are [S, W, B/S, C, D], see `_spread`.
    """
    # Their gradients are sums over tokens and chunks: in bfloat16 a frequent token's
    # would soon be too large for what is added to change it.
    wide_DxV = kernel_DxV.astype(jnp.float32)
    kernel = _placed(kernel_DxV, wide_DxV, head)
    copies = (head.copies,) if head.parts or head.copies > 1 else ()
    picked = _picked_by_index if head.indexed else _picked_by_mask
    if head.parts:
        picked = _picked_in_parts

    def sums(chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden_BxCxD, targets_BxC = chunk
        # One axis of tokens, T, as in `Projection`; with copies, one for each of them.
        lead = (*copies, head.parts) if head.parts else copies
        hidden_TxD = hidden_BxCxD.reshape(*lead, -1, hidden_BxCxD.shape[-1])
        targets_T = targets_BxC.reshape(*copies, -1)
        logits_TxV = jnp.matmul(
            hidden_TxD,
            kernel.astype(hidden_TxD.dtype),
            preferred_element_type=jnp.float32,
        )
        top_T = jax.nn.logsumexp(logits_TxV, axis=(1, -1) if head.parts else -1)
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


def _picked_in_parts(
    hidden_TxD: jax.Array,
    kernel_DxV: jax.Array,
    logits_TxV: jax.Array,
    targets_T: jax.Array,
) -> jax.Array:
    """The same of logits [S, W, T, V/W]."""
    del hidden_TxD, kernel_DxV
    parts, size = logits_TxV.shape[1], logits_TxV.shape[-1]
    index_WxTxV = jnp.arange(parts * size).reshape(parts, 1, size)
    is_target = index_WxTxV == targets_T[:, None, :, None]
    return jnp.sum(logits_TxV, axis=(1, -1), where=is_target)


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
    fill = 0, -targets_BxL.shape[1] % chunk

    def chunked(x: jax.Array, axis: int, value: int) -> jax.Array:
        widths = [fill if i == axis else (0, 0) for i in range(x.ndim)]
        x = jnp.pad(x, widths, constant_values=value)
        x = x.reshape(*x.shape[:axis], -1, chunk, *x.shape[axis + 1 :])
        return jnp.moveaxis(x, axis, 0)

    hidden = chunked(hidden_BxLxD, hidden_BxLxD.ndim - 2, 0)
    parts = jax.lax.map(jax.checkpoint(sums), (hidden, chunked(targets_BxL, 1, -1)))
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
