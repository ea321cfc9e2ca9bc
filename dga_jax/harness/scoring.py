"""Log-probabilities of tokens under a model, of rows of many lengths.

Shapes: B rows, T tokens that are read, P of them predicted, D width, V vocabulary.
"""

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from dga_jax import sharding
from dga_jax.harness.batching import Batch, packed
from dga_jax.logs import perf
from dga_jax.logs.console import progress
from dga_jax.model import kernels
from dga_jax.model.loss import Head
from dga_jax.model.transformer import (
    ModelConfig,
    abstract,
    matrix_parameter_count,
)

_LANES = 128  # what kernels of accelerators like lengths to be a multiple of
_FINE = 16  # on CPU
_AHEAD = 4  # batches: the host prepares one while others are computed


@dataclasses.dataclass(frozen=True)
class Place:
    """What model is evaluated, and where.

    Attributes:
      config: the architecture.
      mesh: that its parameters lie on.
      length: L, tokens of a row that it was trained with.
      batch_tokens: that are computed at a time.
      attention: one of `kernels.KERNELS`, or `kernels.AUTO`.
    """

    config: ModelConfig
    mesh: Mesh
    length: int
    batch_tokens: int
    attention: str = kernels.AUTO

    @property
    def shards(self) -> int:
        """Into how many parts the rows of a batch are cut."""
        return sharding.batch_shards(self.mesh)

    @property
    def rows(self) -> NamedSharding:
        """Where the rows of a batch lie."""
        return sharding.batch_sharding(self.mesh)

    @property
    def ahead(self) -> int:
        """Batches that may be sent off before the first of them is fetched.

        On CPU none: programs of several devices that run side by side wait for each
        other's threads, up to a time after which XLA ends the process.
        """
        return 0 if sharding.platform(self.mesh) == "cpu" else _AHEAD

    @property
    def _matrices(self) -> int:
        """Parameters that multiply every token: all but embedding and head."""
        config = self.config
        return matrix_parameter_count(config) - config.vocab_size * config.d_model

    @property
    def _attended(self) -> int:
        return self.config.num_layers * self.config.num_heads * self.config.head_width

    def flops(self, length: int) -> float:
        """Of the forward pass of a row so long, without logits; see `logs.perf`."""
        of_token = perf.model_flops_per_token(self._matrices, 1, self._attended, length)
        return length * of_token / 3  # of which the backward pass has two

    def of_length(self, length: int) -> ModelConfig:
        """The architecture, with the kernel of attention that rows so long can have."""
        config = self.config
        # Several texts in a row are to the kernel what documents are.
        shape = kernels.Shape(config.dtype, config.head_width, length, documents=True)
        chip = kernels.Chip.of(self.mesh.devices.flat[0])
        kernel, _ = kernels.choose(self.attention, chip, shape)
        return dataclasses.replace(config, attention=kernel, mesh=self.mesh)

    def in_batches(
        self, lengths: Sequence[int], most: int | None = None
    ) -> list[Batch]:
        """Texts of these lengths in batches that suit the mesh; see `packed`."""
        on_cpu = sharding.platform(self.mesh) == "cpu"
        return packed(
            lengths,
            tokens=self.batch_tokens,
            shards=self.shards,
            multiple=_FINE if on_cpu else _LANES,
            most=most,
            reach=self._matrices / (2 * self._attended),
        )

    def positions(self, tokens: Sequence[int]) -> np.ndarray:
        """How far each token of a text stands into it, or into its document."""
        index = np.arange(len(tokens), dtype=np.int32)
        end = self.config.document_end
        starts = np.where(np.equal(tokens, end), index, 0) if end is not None else 0
        return index - np.maximum.accumulate(starts + 0 * index)


class Request(NamedTuple):
    """What is to be scored.

    Attributes:
      tokens: int32 [n + 1], what the model reads, and the last one predicted.
      count: how many at the end are predicted.
    """

    tokens: np.ndarray
    count: int

    @property
    def read(self) -> np.ndarray:
        """Tokens that the model reads, [n]."""
        return self.tokens[:-1]

    @property
    def key(self) -> tuple[bytes, int]:
        """Requests with the same differ in their last token alone; one text is read."""
        return self.read.tobytes(), self.count


class Score(NamedTuple):
    """Of a request: log-probability in nats; whether each token was the likeliest."""

    log_probability: float
    is_greedy: bool


@dataclasses.dataclass
class Work:
    """What was computed: the texts, and them with what filled rows up.

    Attributes:
      tokens: of the texts.
      computed: tokens of all rows.
      flops: of the forward pass of each text in a row of its own length.
      flops_computed: of that of all rows, whose texts are read beside each other.
    """

    tokens: int = 0
    computed: int = 0
    flops: float = 0.0
    flops_computed: float = 0.0

    def add(self, place: Place, lengths: Sequence[int], found: Sequence[Batch]) -> None:
        """Counts texts of these lengths in the batches that were made of them."""
        self.tokens += sum(lengths)
        self.computed += sum(batch.rows * batch.length for batch in found)
        flops = functools.cache(place.flops)
        self.flops += sum(map(flops, lengths))
        self.flops_computed += sum(x.rows * flops(x.length) for x in found)

    def __str__(self) -> str:
        share = 1 - self.tokens / max(self.computed, 1)
        ratio = self.flops_computed / max(self.flops, 1)
        return (
            f"{self.computed:,} tokens computed, {share:.1%} of them padding; "
            f"{ratio:.2f} x the FLOPs of the texts alone"
        )


class Scorer:
    """Scores requests; what is compiled for a shape serves later calls.

    Args:
      place: what model, and where.
      bar: show how far it is.

    Attributes:
      work: what was computed so far.
    """

    def __init__(self, place: Place, bar: bool = False):
        self._place, self._bar = place, bar
        self._programs: dict[int, Callable] = {}
        self.work = Work()

    def __call__(self, params: Any, requests: Sequence[Request]) -> list[Score]:
        """Scores of requests under parameters, in their order."""
        by_key: dict[tuple, list[int]] = {}
        for i, request in enumerate(requests):
            by_key.setdefault(request.key, []).append(i)
        texts = list(by_key.values())  # of each, the requests that share it
        lengths = [len(requests[members[0]].read) for members in texts]
        found = self._place.in_batches(lengths)
        self.work.add(self._place, lengths, found)
        # Of each batch and row, its requests in their order.
        rows = [
            [[i for text in row for i in texts[text]] for row in batch.members]
            for batch in found
        ]
        width: dict[int, int] = {}
        for batch, of_batch in zip(found, rows, strict=True):
            needed = max(sum(requests[i].count for i in row) for row in of_batch)
            width[batch.length] = max(width.get(batch.length, 1), needed)
        scores: dict[int, Score] = {}
        ahead = deque()  # what was sent off and not fetched
        bar = progress(
            iterable=zip(found, rows, strict=True),
            total=len(found),
            desc="scored",
            unit="batch",
            disable=not self._bar,
        )
        for batch, of_batch in bar:
            members = [[requests[i] for i in row] for row in of_batch]
            arrays = _arrays(self._place, batch, width[batch.length], members)
            placed = (sharding.place(x, self._place.rows) for x in arrays)
            results = self._program(batch.length)(params, *placed)
            ahead.append((of_batch, results))
            if len(ahead) > self._place.ahead:
                scores |= _fetched(requests, *ahead.popleft())
        for of_batch, results in ahead:
            scores |= _fetched(requests, of_batch, results)
        return [scores[i] for i in range(len(requests))]

    def _program(self, length: int) -> Callable:
        if length not in self._programs:
            self._programs[length] = _make_scores(self._place, length)
        return self._programs[length]


def _fetched(
    requests: Sequence[Request],
    rows: Sequence[Sequence[int]],
    results: tuple[jax.Array, jax.Array],
) -> dict[int, Score]:
    """The scores of a batch, by request."""
    log_probabilities, greedy = map(np.asarray, results)
    scores = {}
    for row, members in enumerate(rows):
        start = 0
        for i in members:
            end = start + requests[i].count
            total = log_probabilities[row, start:end].astype(np.float64).sum()
            is_greedy = greedy[row, start:end].all()
            scores[i], start = Score(float(total), bool(is_greedy)), end
    return scores


def _arrays(
    place: Place, batch: Batch, width: int, rows: Sequence[Sequence[Request]]
) -> tuple[np.ndarray, ...]:
    """Tokens and positions [B, T]; which ones predict, and what, [B, P]."""
    tokens, positions = np.zeros((2, batch.rows, batch.length), np.int32)
    slots, targets = np.zeros((2, batch.rows, width), np.int32)
    for row, requests in enumerate(rows):
        start = end = slot = 0  # of the text, and of what is predicted
        key = None
        for request in requests:
            read, count = request.read, request.count
            if request.key != key:
                key, start, end = request.key, end, end + len(read)
                tokens[row, start:end] = read
                positions[row, start:end] = place.positions(read)
            here = slice(slot, slot := slot + count)
            slots[row, here] = np.arange(end - count, end)
            targets[row, here] = request.tokens[len(request.tokens) - count :]
    return tokens, positions, slots, targets


def _make_scores(place: Place, length: int) -> Callable:
    """(params, *`_arrays`) -> log-probabilities, whether greedy, [B, P]."""
    graph, _ = abstract(place.of_length(length))
    constrain = sharding.constrain_rows(place.mesh)
    head = Head(copies=place.shards, shards=place.mesh.shape["tensor"])

    @functools.partial(jax.jit, out_shardings=sharding.replicated(place.mesh))
    def scores(
        params: Any,
        tokens_BxT: jax.Array,
        positions_BxT: jax.Array,
        slots_BxP: jax.Array,
        targets_BxP: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graph, params)
        hidden_BxTxD = model.hidden(tokens_BxT, constrain, positions_BxT)
        picked_BxPxD = constrain(
            jnp.take_along_axis(hidden_BxTxD, slots_BxP[..., None], axis=1)
        )

        def of_chunk(chunk: tuple[jax.Array, jax.Array]) -> tuple:
            hidden_BxCxD, targets_BxC = chunk
            logits_BxCxV = model.logits(hidden_BxCxD)
            picked = jnp.take_along_axis(logits_BxCxV, targets_BxC[..., None], axis=2)
            top_BxC = jax.nn.logsumexp(logits_BxCxV, axis=-1)
            likeliest_BxC = jnp.argmax(logits_BxCxV, axis=-1)
            return picked[..., 0] - top_BxC, likeliest_BxC == targets_BxC

        rows, width = targets_BxP.shape
        size = head.chunk(rows, width, place.config.vocab_size)
        return _in_chunks(of_chunk, (picked_BxPxD, targets_BxP), size)

    return scores


def _in_chunks(function: Callable, arrays: tuple, size: int) -> tuple:
    """What a function of chunks [B, size, ...] gives of arrays [B, P, ...]: [B, P]."""
    rows, width = arrays[1].shape
    if size >= width:
        return function(arrays)

    def chunked(x: jax.Array) -> jax.Array:
        fill = [(0, 0), (0, -width % size)] + [(0, 0)] * (x.ndim - 2)
        parts = jnp.pad(x, fill).reshape(rows, -1, size, *x.shape[2:])
        return jnp.moveaxis(parts, 1, 0)

    parts = jax.lax.map(function, tuple(map(chunked, arrays)))
    return tuple(jnp.moveaxis(x, 0, 1).reshape(rows, -1)[:, :width] for x in parts)
