"""Texts of many lengths in batches of a few shapes, so that few programs are compiled.

Several share a row, one behind the other, as documents do that attend to themselves
alone: what is left over is little whatever the lengths are. A row should not be much
longer than what it holds either, as attention costs more in longer ones.
"""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

MOST_SHAPES = 4  # each half as long as the one before
_SHORTEST = 64  # of a row, but for a single shape


class Batch(NamedTuple):
    """Rows that are computed together.

    Attributes:
      length: of the rows.
      rows: how many, of which the last ones may be empty.
      members: by row, the texts that it holds, in their order.
    """

    length: int
    rows: int
    members: list[list[int]]


def packed(
    lengths: Sequence[int],
    *,
    tokens: int,
    shards: int = 1,
    multiple: int = 1,
    most: int | None = None,
) -> list[Batch]:
    """All texts in batches, longest rows first.

    Args:
      lengths: of the texts, at least 1.
      tokens: of a batch, at most, but for a row for each shard.
      shards: what the rows of a batch are a multiple of.
      multiple: what the length of a row is a multiple of.
      most: texts in a row; None: as many as fit.
    """
    if not lengths:
        return []
    waiting = _Waiting(lengths)
    sizes = _sizes(max(lengths), multiple)
    found = []
    for size, shorter in zip(sizes, [*sizes[1:], 0], strict=True):
        rows = []
        # Two at least are to fit into a shorter row, where two may share one.
        while (longest := waiting.longest) and min(2, most or 2) * longest > shorter:
            rows.append(waiting.fill(size, most))
        if rows:
            found += _batched(rows, size, tokens, shards)
    return found


def _sizes(longest: int, multiple: int) -> list[int]:
    sizes = [-(-longest // multiple) * multiple]
    for _ in range(MOST_SHAPES - 1):
        half = -(-sizes[-1] // (2 * multiple)) * multiple
        if half < _SHORTEST or half == sizes[-1]:
            break
        sizes.append(half)
    return sizes


def _batched(rows: list[list[int]], size: int, tokens: int, shards: int) -> list[Batch]:
    """Batches of one shape, as large as they may be and as full as they can."""
    most = max(tokens // (size * shards), 1) * shards
    count = -(-len(rows) // most)
    each = -(-len(rows) // (count * shards)) * shards
    return [Batch(size, each, rows[i : i + each]) for i in range(0, len(rows), each)]


class _Waiting:
    """Texts that are in no row yet, by length."""

    def __init__(self, lengths: Sequence[int]):
        self._ids: dict[int, list[int]] = {}
        for i in reversed(range(len(lengths))):
            self._ids.setdefault(lengths[i], []).append(i)
        self._lengths = sorted(self._ids)

    @property
    def longest(self) -> int:
        """Of what waits; 0 if nothing does."""
        return self._lengths[-1] if self._lengths else 0

    def fill(self, room: int, most: int | None) -> list[int]:
        """Takes for a row, again and again, the longest text that still fits."""
        row = []
        while (end := bisect.bisect_right(self._lengths, room)) and (
            most is None or len(row) < most
        ):
            length = self._lengths[end - 1]
            row.append(self._ids[length].pop())
            if not self._ids[length]:
                del self._lengths[end - 1]
            room -= length
        return row
