"""Next-token loss of rows of tokens, holding no more logits than a budget allows."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

# In the names of a compiled program's operations, to tell what it spends on the loss.
SCOPE = "next_token_loss"
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

    Rows are cut into `copies` parts, S, and the vocabulary into `shards`, W: S x W
    products of some rows and some columns, [S, W, T, V/W].

    Attributes:
      budget: bytes of float32 logits that a device may hold at a time.
      copies: of the unembedding, one for each part of the rows. What has to cross a
        mesh does so once, however many chunks there are, and so do the gradients.
      shards: parts that the vocabulary is cut into.
      place: pins kernels [S, W, D, V/W] and activations [S, W, B/S, L, D] to where they
        are multiplied.
      keep: pins the unembedding [D, V], and its gradient, to where its parameters lie.
      indexed: a target's logit is found by its index and not by a masked sum over all,
        which is faster on a CPU; for an unembedding that every device holds whole.
    """

    budget: int = LOGITS_BUDGET
    copies: int = 1
    shards: int = 1
    place: Constrain = lambda x: x
    keep: Constrain = lambda x: x
    indexed: bool = False

    def __call__(self, rows: int, length: int, vocab_size: int) -> "Head":
        """This head, but for what does not divide the rows or the vocabulary."""
        del length
        copies = 1 if rows % self.copies else self.copies
        shards = 1 if vocab_size % self.shards else self.shards
        head = dataclasses.replace(self, copies=copies, shards=shards)
        if copies * shards > 1:
            return head
        # Under `jax.vmap` a pin of what is whole would gather it for all batches.
        return dataclasses.replace(head, place=lambda x: x, keep=lambda x: x)

    def chunk(self, rows: int, length: int, vocab_size: int) -> int:
        """Positions of so many rows whose logits fit; chunks of a row are alike."""
        row_bytes = 4 * -(-vocab_size // self.shards)
        each = -(-rows // self.copies) * row_bytes  # of a position, on one device
        chunks = -(-length // max(self.budget // each, 1))
        return -(-length // chunks)


# (rows B, positions L, columns V) -> the head to compute their logits with.
ChooseHead = Callable[[int, int, int], Head]


def row_losses(
    model: Any,
    rows_BxS: jax.Array,
    *,
    chunk: int = 0,
    constrain: Constrain = lambda x: x,
    head: ChooseHead = Head(),
) -> RowLosses:
    """Losses of rows of L+1 tokens, S = L+1, of which the first is only read.

    Args:
      model: has `hidden` and `unembedding`, see `Transformer`.
      rows_BxS: int32 token ids; -1 where there is none, at the end of a row, and -2 - t
        for a token t that is read and not predicted.
      chunk: positions whose logits are held at a time, [B, chunk, V] float32; 0: as
        many as the head's budget allows.
      constrain: pins down the sharding of activations [B, L, D].
      head: how logits are computed; a `Head`, or what chooses one.
    """
    inputs, targets = rows_BxS[:, :-1], rows_BxS[:, 1:]
    tokens_BxL = jnp.where(inputs < 0, jnp.maximum(-2 - inputs, 0), inputs)
    hidden_BxLxD = model.hidden(tokens_BxL, constrain)
    with jax.named_scope(SCOPE):
        kernel_DxV = model.unembedding()
        sizes = *inputs.shape, kernel_DxV.shape[1]
        chosen = head(*sizes)
        length = inputs.shape[1]
        chunk = min(chunk or chosen.chunk(*sizes), length)
        sums = _chunk_sums(kernel_DxV, chosen)
        spread = _spread(constrain(hidden_BxLxD), targets, chosen)
        nll_B, z_B = (
            sums(spread) if chunk == length else _of_chunks(sums, *spread, chunk)
        )
    count_B = jnp.sum(targets >= 0, axis=1, dtype=jnp.float32)
    return RowLosses(nll_B, z_B, count_B)


_Sums = Callable[[tuple[jax.Array, jax.Array]], tuple[jax.Array, jax.Array]]


def _spread(
    hidden_BxLxD: jax.Array, targets_BxL: jax.Array, head: Head
) -> tuple[jax.Array, jax.Array]:
    """Activations [S, W, B/S, L, D] beside each part of the vocabulary, and targets.

    The gradients that come back from the parts are added up in the activations' type,
    as those of a kernel's copies are. Targets are [S, 1, B/S, L].
    """
    hidden, targets = (
        x.reshape(head.copies, 1, -1, *x.shape[1:]) for x in (hidden_BxLxD, targets_BxL)
    )
    shape = head.copies, head.shards, *hidden.shape[2:]
    return head.place(jnp.broadcast_to(hidden, shape)), targets


def _chunk_sums(kernel_DxV: jax.Array, head: Head) -> _Sums:
    """What `_spread` gives, or a chunk of it -> each row's sums (nll, z), [B]."""
    lead = (head.copies, head.shards) if head.copies * head.shards > 1 else ()
    # Their gradients are sums over tokens and chunks: in bfloat16 a frequent token's
    # would soon be too large for what is added to change it.
    wide_DxV = kernel_DxV.astype(jnp.float32)
    # What crosses a mesh does so in the activations' type.
    kept_DxV = head.keep(wide_DxV if head.indexed else kernel_DxV)
    parts_WxDxV = jnp.moveaxis(kept_DxV.reshape(len(kept_DxV), head.shards, -1), 1, 0)
    shape = head.copies, *parts_WxDxV.shape
    placed = head.place(jnp.broadcast_to(parts_WxDxV, shape)).astype(jnp.float32)
    placed = placed.reshape(*lead, *shape[2:])
    first_Wx1 = jnp.arange(head.shards)[:, None] * shape[-1]
    part = jax.vmap(jax.vmap(_part)) if lead else _part

    def sums(chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden, targets = chunk
        # One axis of tokens, T, as in `Projection`, of each part of the rows.
        hidden_TxD = hidden.reshape(*lead, -1, hidden.shape[-1])
        targets_Sx1xT = targets.reshape(head.copies, 1, -1)
        own_T = (targets_Sx1xT - first_Wx1).reshape(*lead, -1)
        top_T, picked_T = part(hidden_TxD, placed, own_T)
        if lead:
            top_T = jax.nn.logsumexp(top_T, axis=1)
            picked_T = jnp.sum(picked_T, axis=1)
        if head.indexed:
            by_index = _picked_by_index(hidden_TxD, wide_DxV, own_T)
            picked_T = by_index.reshape(top_T.shape)
        real_BxC = targets.reshape(-1, targets.shape[-1]) >= 0
        return tuple(
            jnp.sum(x.reshape(real_BxC.shape), axis=-1, where=real_BxC)
            for x in (top_T - picked_T, top_T**2)
        )

    return sums


def _part(
    hidden_TxD: jax.Array, kernel_DxV: jax.Array, targets_T: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Log Z over some columns, and the targets' logits, 0 where they are of others."""
    logits_TxV = jnp.matmul(
        hidden_TxD,
        kernel_DxV.astype(hidden_TxD.dtype),
        preferred_element_type=jnp.float32,
    )
    is_target = jnp.arange(logits_TxV.shape[-1]) == targets_T[:, None]
    picked_T = jnp.sum(logits_TxV, axis=-1, where=is_target)
    return jax.nn.logsumexp(logits_TxV, axis=-1), picked_T


def _picked_by_index(
    hidden_TxD: jax.Array, kernel_DxV: jax.Array, targets_T: jax.Array
) -> jax.Array:
    """Computed anew, from the target's column: all logits are read once less.

    Where there is no target, it is any.
    """
    columns_TxD = jnp.take(kernel_DxV.T, jnp.maximum(targets_T, 0), axis=0)
    return jnp.sum(hidden_TxD.astype(jnp.float32) * columns_TxD, axis=-1)


def _of_chunks(
    sums: _Sums, hidden: jax.Array, targets: jax.Array, chunk: int
) -> tuple[jax.Array, jax.Array]:
    """`sums` of whole rows, chunk by chunk; their logits are computed again."""

    def chunked(x: jax.Array, value: int) -> jax.Array:
        widths = [(0, 0)] * x.ndim
        widths[3] = 0, -x.shape[3] % chunk
        x = jnp.pad(x, widths, constant_values=value)
        return jnp.moveaxis(x.reshape(*x.shape[:3], -1, chunk, *x.shape[4:]), 3, 0)

    chunks = chunked(hidden, 0), chunked(targets, -1)
    parts = jax.lax.map(jax.checkpoint(sums), chunks)
    return tuple(jnp.sum(part, axis=0) for part in parts)


def make_row_losses(
    graph: nnx.GraphDef,
    *,
    chunk: int = 0,
    constrain: Constrain = lambda x: x,
    head: ChooseHead = Head(),
) -> Callable[[Any, jax.Array], RowLosses]:
    """`row_losses` as a pure function of (parameters, rows [B, L+1])."""

    def losses(params: Any, rows_BxS: jax.Array) -> RowLosses:
        model = nnx.merge(graph, params)
        return row_losses(model, rows_BxS, chunk=chunk, constrain=constrain, head=head)

    return losses
