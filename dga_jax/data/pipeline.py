"""Reads the rows that the sampler plans, ahead of the step that needs them.

Reading ahead stays within a span of steps whose weights are known, so no batch is ever
drawn from weights that an update has replaced.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np

from dga_jax.data.sampler import Cumulative, Draw, Sampler
from dga_jax.data.store import PAD, Store

# Steps planned at once. Bounds how long the first batch of a span waits for the plan.
_WINDOW = 64


class Batch(NamedTuple):
    """The global batch of one step.

    Attributes:
      step: the train step it is for.
      rows: int32 [B, L+1]; rows that other processes hold are not read and all PAD.
      domains: int64 [B], where each row came from.
    """

    step: int
    rows: np.ndarray
    domains: np.ndarray


class _Plan:
    """Batches of a window of steps, by position: a grain random-access source."""

    def __init__(
        self,
        store: Store,
        first_step: int,
        draws: Sequence[Draw],
        held: np.ndarray | None,
    ):
        self._store, self._first_step = store, first_step
        self._draws, self._held = draws, held

    def __len__(self) -> int:
        return len(self._draws)

    def __getitem__(self, index: int) -> Batch:
        draw = self._draws[index]
        rows = read_held(self._store, "train", draw.rows, self._held)
        return Batch(self._first_step + index, rows, draw.domains)


def read_held(
    store: Store, split: str, ids: np.ndarray, held: np.ndarray | None = None
) -> np.ndarray:
    """Rows `ids` [n] of a split, int32 [n, L+1]; where `held` [n] is False, all PAD."""
    if held is None or held.all():
        return store.read(split, ids)
    rows = np.full((len(ids), store.seq_len + 1), PAD, np.int32)
    rows[held] = store.read(split, ids[held])
    return rows


def batches(
    store: Store,
    sampler: Sampler,
    cumulative: Cumulative,
    cursors: np.ndarray,
    steps: range,
    batch_size: int,
    *,
    held: np.ndarray | None = None,
    threads: int = 4,
    ahead: int = 8,
) -> Iterator[Batch]:
    """Batches of consecutive steps under fixed weights.

    Args:
      store: where the rows are.
      sampler: which rows they are.
      cumulative: of rows over the domains, the same for all `steps`.
      cursors: int64 [k] before the first of `steps`; not changed.
      steps: the steps, in order.
      batch_size: rows of the global batch.
      held: bool [batch_size], rows of the batch that this process needs (None: all).
      threads: that read.
      ahead: batches read before they are asked for.

    Raises:
      UserError: see `Sampler.draw`.
    """
    cursors = np.array(cursors)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    for start in range(steps.start, steps.stop, _WINDOW):
        draws = []
        for step in range(start, min(start + _WINDOW, steps.stop)):
            draw = sampler.draw(step, cumulative, cursors, batch_size)
            sampler.advance(cursors, draw.domains)
            draws.append(draw)
        plan = _Plan(store, start, draws, held)
        yield from grain.MapDataset.source(plan).to_iter_dataset(options)
