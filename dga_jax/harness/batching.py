"""Texts of many lengths in batches of a few shapes, so that few programs are compiled.

Several share a row, one behind the other, as documents do that attend to themselves
alone: what is left over is little whatever the lengths are. A row should not be much
longer than what it holds either, as attention costs more in longer ones.
"""

import bisect
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

_EIGHTHS = (8, 7, 6, 5, 4, 2)  # of the longest row, that a row may be long
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
    reach: float = math.inf,
) -> list[Batch]:
    """All texts in batches, longest rows first.

    Args:
      lengths: of the texts, at least 1.
      tokens: of a batch, at most, but for a row for each shard.
      shards: what the rows of a batch are a multiple of.
      multiple: what the length of a row is a multiple of.
      most: texts in a row; None: as many as fit.
      reach: length of a row in which attention costs as much as all else.
    """
    if not lengths:
        return []

    def suited(length: int, sizes: Sequence[int]) -> int:
        """The row that texts of a length fill best, were all as long."""

        def cost(size: int) -> float:
            number = min(size // length, most or size)
            return size / number * (1 + size / reach)

        return min((size for size in sizes if size >= length), key=cost)

    sizes = _sizes(lengths, multiple, tokens, suited)
    waiting, found = _Waiting(lengths), []
    for size in sizes:
        of_size = [n for n in waiting.lengths if suited(n, sizes) == size]
        rows = []
        for length in reversed(of_size):
            while waiting.has(length):
                rows.append(waiting.fill(size, length, most))
        if rows:
            found += _batched(rows, size, tokens, shards)
    return found


def _sizes(
    lengths: Sequence[int],
    multiple: int,
    tokens: int,
    suited: Callable[[int, Sequence[int]], int],
) -> list[int]:
    """Lengths of rows, longest first; each but the longest is of a batch or more."""
    longest, counts = max(lengths), Counter(lengths)
    all_sizes = {-(-longest * i // (8 * multiple)) * multiple for i in _EIGHTHS}
    sizes = sorted(all_sizes, reverse=True)
    sizes = [sizes[0], *(size for size in sizes[1:] if size >= _SHORTEST)]
    while len(sizes) > 1:
        of_size = Counter(dict.fromkeys(sizes[1:], 0))
        for length, count in counts.items():
            of_size[suited(length, sizes)] += length * count
        del of_size[sizes[0]]
        least = min(of_size, key=of_size.__getitem__)
        if of_size[least] >= tokens:
            break
        sizes.remove(least)
    return sizes


def _batched(rows: list[list[int]], size: int, tokens: int, shards: int) -> list[Batch]:
    """Batches of one shape, as large as they may be and as full as they can."""
    most = max(tokens // (size * shards), 1) * shards
    count = -(-len(rows) // most)
    each = -(-len(rows) // (count * shards)) * shards
    return [Batch(size, each, rows[i : i + each]) for i in range(0, len(rows), each)]


class _Waiting:
    """Texts that are in no row yet, by length.

    Attributes:
      lengths: of them, ascending.
    """

    def __init__(self, lengths: Sequence[int]):
        self._ids: dict[int, list[int]] = {}
        for i in reversed(range(len(lengths))):
            self._ids.setdefault(lengths[i], []).append(i)
        self.lengths = sorted(self._ids)

    def has(self, length: int) -> bool:
        """Whether there is one so long."""
        return length in self._ids

    def fill(self, room: int, first: int, most: int | None) -> list[int]:
        """A row: a text of a length, then ever the longest that still fits."""
        row = [self._take(first)]
        room -= first
        while (end := bisect.bisect_right(self.lengths, room)) and (
            most is None or len(row) < most
        ):
            length = self.lengths[end - 1]
            row.append(self._take(length))
            room -= length
        return row

    def _take(self, length: int) -> int:
        ids = self._ids[length]
        found = ids.pop()
        if not ids:
            del self._ids[length]
            del self.lengths[bisect.bisect_left(self.lengths, length)]
        return found
