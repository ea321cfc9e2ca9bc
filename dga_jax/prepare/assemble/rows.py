"""Last steps: tokens go to their places in rows, rows to the files of the store.

Tokens reach the disk three times: as `tokenizing` leaves them, regrouped by the file of
the store that they go to, and in that file. Its rows are put together in memory, as
many at a time as fit there.
"""

import dataclasses
import functools
import os
import pathlib
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from dga_jax.data.store import EVALUATED, padding_of
from dga_jax.errors import UserError
from dga_jax.prepare import store_writer
from dga_jax.prepare.assemble.byte_counts import spread_bytes
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.layout import ASIDE, KEPT, Layout, Segment
from dga_jax.prepare.assemble.tokenizing import DocumentTable
from dga_jax.prepare.sources import Shard

_BYTES = np.dtype("<u4")  # of a token; a document has less than 4 GB
_PLACES = 1 << 20  # filled at a time
_RECORD_BYTES = 64  # that a record takes besides its row
_IN_MEMORY = 1 << 27  # bytes of rows that are put together at a time
_AT_ONCE = 1 << 22  # bytes of them that are written at a time


@dataclasses.dataclass(frozen=True)
class Split:
    """A split of the store, to be written in files of equally many rows.

    Attributes:
      name: one of `store.SPLITS`.
      rows: of the split.
      row_tokens: L + 1.
      dtype: of tokens on disk; its largest value is padding.
      rows_per_file: but the last file's.
    """

    name: str
    rows: int
    row_tokens: int
    dtype: np.dtype
    rows_per_file: int

    @property
    def record_bytes(self) -> int:
        """Of a row, as a record, or on its way to be one."""
        return self.row_tokens * self.place_bytes + _RECORD_BYTES

    @property
    def place_bytes(self) -> int:
        """Of what is known of a place."""
        return sum(dtype.itemsize for dtype in self.fields)

    @property
    def fields(self) -> list[np.dtype]:
        """What is known of each place: the token, and its bytes if they are counted."""
        return [self.dtype, _BYTES] if self.name in EVALUATED else [self.dtype]

    @functools.cached_property  # every file asks for its own name
    def files(self) -> list[tuple[str, int]]:
        """Name and rows of each file."""
        return store_writer.file_names(self.name, self.rows, self.rows_per_file)


_FILES = 1 << 32  # more than a split has: what makes one number of split and file


def key_of(split: int, file: int) -> int:
    """One number for a file of a split."""
    return split * _FILES + file


class _Span(NamedTuple):
    """Tokens that lie side by side in a file of the store.

    Attributes:
      key: `key_of` the file.
      place: of the first one, counted from the beginning of the file.
      fields: of each place, see `Split.fields`.
    """

    key: int
    place: int
    fields: list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class ScatterTokens:
    """Yields the tokens of a segment with the places they go to, by file of the store.

    Attributes:
      layouts: of the corpora.
      splits: of the store.
      token_bytes: int32 [vocab_size], of the tokenizer.
    """

    layouts: Sequence[Layout]
    splits: Sequence[Split]
    token_bytes: np.ndarray

    def __call__(self, item: tuple[int, Segment]) -> Iterator[tuple[int, bytes]]:
        """Yields (`key_of` a file, what `WriteRows` reads) for a corpus's segment."""
        number, segment = item
        layout = self.layouts[number]
        next_rank = layout.ranks.start(segment)
        next_token = layout.before.read(segment)  # [2, k], as kept and set aside
        for shard in segment.shards:
            for piece in layout.plan.documents.of(shard):
                aside = layout.ranks.aside(piece, next_rank)
                if piece.lengths.any():
                    spans = self._spans(layout, shard, piece, aside, next_token)
                    yield from _by_file(spans)

    def _spans(
        self,
        layout: Layout,
        shard: Shard,
        piece: DocumentTable,
        aside: np.ndarray,
        next_token: np.ndarray,
    ) -> Iterator[_Span]:
        """What one piece puts in rows; moves `next_token` on."""
        count = int(piece.sizes.sum())
        tokens = layout.plan.documents.tokenized.tokens(shard, piece.number, count)
        (chosen,) = np.nonzero(piece.lengths)
        side = np.where(aside[chosen], ASIDE, KEPT)
        order = np.lexsort((piece.domains[chosen], side))
        chosen, side = chosen[order], side[order]
        domains = piece.domains[chosen]
        ends = np.cumsum(piece.sizes)
        change = np.flatnonzero(np.diff(side) | np.diff(domains)) + 1
        for here in np.split(np.arange(len(chosen)), change):
            s, d, here = side[here[0]], domains[here[0]], chosen[here]
            sizes = piece.sizes[here]
            text = [
                tokens[end - size : end]
                for end, size in zip(ends[here], sizes, strict=True)
            ]
            fields = [np.concatenate(text)]
            # A cut stream is counted as kept, and in both splits.
            targets = (KEPT, ASIDE) if layout.cut[d] else (s,)
            if any(len(self.splits[layout.plan.splits[t]].fields) > 1 for t in targets):
                # Of documents that are cut between rows or splits, each token's are
                # those that it has in the whole.
                text_bytes = piece.text_bytes[here]
                found = spread_bytes(fields[0], sizes, text_bytes, self.token_bytes)
                fields.append(found.astype(_BYTES))
            start = next_token[s, d]
            next_token[s, d] += sizes.sum()
            for target in targets:
                yield from self._in_split(
                    layout.plan.splits[target],
                    fields,
                    start - layout.starts[target, d],
                    layout.stops[target, d] - layout.starts[target, d],
                    layout.offsets[target, d],
                )

    def _in_split(
        self,
        number: int,
        fields: Sequence[np.ndarray],
        start: int,
        size: int,
        first_row: int,
    ) -> Iterator[_Span]:
        """The part of a text at `start` of a stream of `size` tokens, by file."""
        split = self.splits[number]
        begin, start = max(-start, 0), max(start, 0)
        fields = [
            x[begin:][: max(size - start, 0)] for x in fields[: len(split.fields)]
        ]
        count = len(fields[0])
        if not count or size < 2:
            return
        L = split.row_tokens - 1
        # Token p is in row p // L; the last of a row is also the first of the next,
        # unless there is none. In a split of such rows, place j holds token j - j // W.
        low = start + start // L - (start > 0 and start % L == 0)
        last = start + count - 1
        high = last + (last - 1) // L + 1 if last == size - 1 else last + last // L + 1
        first, in_file = first_row * split.row_tokens, split.rows_per_file * (L + 1)
        begin, end = first + low, first + high
        while begin < end:
            file, place = divmod(int(begin), in_file)
            count = min(end - begin, in_file - place, _PLACES)
            j = np.arange(begin - first, begin - first + count)
            tokens = j - j // split.row_tokens - start
            yield _Span(key_of(number, file), place, [x[tokens] for x in fields])
            begin += count


def _by_file(spans: Iterable[_Span]) -> Iterator[tuple[int, bytes]]:
    """Spans of one file joined: number, first places, lengths, and field by field."""
    by_key: dict[int, list[_Span]] = {}
    for span in spans:
        by_key.setdefault(span.key, []).append(span)
    for key, found in by_key.items():
        heads = np.array([(x.place, len(x.fields[0])) for x in found], "<i8").T
        fields = zip(*(x.fields for x in found), strict=True)
        data = [np.concatenate(field).tobytes() for field in fields]
        yield key, b"".join((len(found).to_bytes(8, "little"), heads.tobytes(), *data))


@dataclasses.dataclass(frozen=True)
class WriteRows:
    """Writes a file of the store from the tokens that belong there.

    Attributes:
      splits: of the store.
      store: where the files go.
      reports: gets a report of each file, written when the file is there.
    """

    written: ClassVar = 2  # how rows travel, and what is said of them

    splits: Sequence[Split]
    store: Folder
    reports: Folder

    def done(self, key: int) -> bool:
        """Whether the file was written, and is still there."""
        if not self.reports.has(f"{key}.json"):
            return False
        name, _ = self.splits[key // _FILES].files[key % _FILES]
        report = self.reports.read_json(f"{key}.json")
        return self.store.size(name) == report["bytes"]

    @property
    def keys(self) -> list[int]:
        """All files of the store."""
        return [key for split in range(len(self.splits)) for key in self._keys(split)]

    def _keys(self, split: int) -> list[int]:
        return [key_of(split, file) for file in range(len(self.splits[split].files))]

    def of_split(self, split: int) -> list[dict]:
        """What `store_writer.write_records` said of the files of a split."""
        return [self.reports.read_json(f"{key}.json") for key in self._keys(split)]

    def row_bytes(self, split: int) -> np.ndarray | None:
        """Bytes of the predicted tokens, int64 [rows]; None if they are not counted."""
        if len(self.splits[split].fields) == 1:
            return None
        files = [f"{key}.npz" for key in self._keys(split)]
        found = [self.reports.load(name)["row_bytes"] for name in files]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def __call__(self, key: int, parts: Iterable[bytes]) -> None:
        """Writes one file; places that no token goes to are padding.

        Args:
          key: see `key_of`.
          parts: what `ScatterTokens` yielded; gone through more than once.
        """
        split = self.splits[key // _FILES]
        name, rows = split.files[key % _FILES]
        near = self.store.is_local and self.reports.is_local
        directory = self.reports.url if near else tempfile.gettempdir()
        aside = pathlib.Path(directory, f".{name}-{secrets.token_hex(4)}")
        counted = [np.zeros(0, np.int64)]
        try:
            os.makedirs(directory, exist_ok=True)
            blocks = _blocks(split, rows, parts, counted)
            report = store_writer.write_records(aside, blocks)
            self.store.put(aside, name)
            if len(split.fields) > 1:
                self.reports.save(f"{key}.npz", row_bytes=np.concatenate(counted))
        except OSError as error:
            raise UserError(
                f"cannot write {name} in {directory}: {error.strerror};"
                " free some space, or choose another disk, and run again"
            ) from error
        finally:
            if aside.exists():
                aside.unlink()
        self.reports.write_json(f"{key}.json", report)


def _blocks(
    split: Split, rows: int, parts: Iterable[bytes], counted: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """The rows of a file in order, tokens [m, L+1].

    Puts the bytes of the predicted tokens, int64 [m], into `counted` if there are some.
    """
    width = split.row_tokens
    together = max(1, _IN_MEMORY // (width * split.place_bytes))
    step = max(1, _AT_ONCE // (width * split.place_bytes))
    memory = [np.empty(min(together, rows) * width, dtype) for dtype in split.fields]
    for first in range(0, rows, together):
        fields = [field[: (rows - first) * width] for field in memory]
        # Where no token goes, there are no bytes of it.
        for field, empty in zip(fields, (padding_of(split.dtype), 0), strict=False):
            field[:] = empty
        for part in parts:
            _fill(fields, first * width, part)
        for start in range(0, len(fields[0]), step * width):
            tokens, *others = (
                field[start : start + step * width].reshape(-1, width)
                for field in fields
            )
            counted += [x[:, 1:].sum(axis=1, dtype=np.int64) for x in others]
            yield tokens


def _fill(fields: Sequence[np.ndarray], begin: int, part: bytes) -> None:
    """Puts those of a part's tokens that go there into the places from `begin` on."""
    count = int.from_bytes(part[:8], "little")
    starts, sizes = np.frombuffer(part, "<i8", 2 * count, 8).reshape(2, count)
    lows = np.maximum(starts - begin, 0)
    highs = np.minimum(starts + sizes - begin, len(fields[0]))
    ends = np.cumsum(sizes)
    froms = ends - sizes - starts + begin + lows
    (here,) = np.nonzero(lows < highs)
    moves = [x[here].tolist() for x in (lows, highs, froms)]
    offset = 8 + 16 * count
    for field in fields:
        data = np.frombuffer(part, field.dtype, ends[-1], offset)
        offset += data.nbytes
        for low, high, source in zip(*moves, strict=True):
            field[low:high] = data[source : source + high - low]
