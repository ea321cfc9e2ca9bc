"""Last steps: tokens go to their places in rows, rows to the files of the store."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from dga_jax.data.store import EVALUATED
from dga_jax.errors import UserError
from dga_jax.prepare import store_writer
from dga_jax.prepare.assemble.byte_counts import spread_bytes
from dga_jax.prepare.assemble.documents import Documents
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.layout import ASIDE, KEPT, Layout, Segment
from dga_jax.prepare.sources import Shard

_BYTES = np.dtype("<u4")  # of a token; a document has less than 4 GB
_PLACES = 1 << 20  # filled at a time
_RECORD_BYTES = 64  # that a record takes besides its row
_AT_ONCE = 1 << 22  # bytes of rows, on their way to be records


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
        return self.row_tokens * sum(t.itemsize for t in self.fields) + _RECORD_BYTES

    @property
    def fields(self) -> list[np.dtype]:
        """What is known of each place: the token, and its bytes if they are counted."""
        return [self.dtype, _BYTES] if self.name in EVALUATED else [self.dtype]

    @functools.cached_property  # every file asks for its own name
    def files(self) -> list[tuple[str, int]]:
        """Name and rows of each file."""
        return store_writer.file_names(self.name, self.rows, self.rows_per_file)


class Placed(NamedTuple):
    """A corpus whose tokens have places.

    Attributes:
      documents: of the corpus.
      layout: says where the tokens go.
      splits: numbers of the splits for what is kept and what is set aside.
    """

    documents: Documents
    layout: Layout
    splits: tuple[int, int]


_FILES = 1 << 32  # more than a split has: what makes one number of split and file


def key_of(split: int, file: int) -> int:
    """One number for a file of a split."""
    return split * _FILES + file


@dataclasses.dataclass(frozen=True)
class Place:
    """Yields the tokens of a segment with the places they go to, by file of the store.

    Attributes:
      corpora: what is placed.
      splits: of the store.
      token_bytes: int32 [vocab_size], of the tokenizer.
    """

    corpora: Sequence[Placed]
    splits: Sequence[Split]
    token_bytes: np.ndarray

    def __call__(self, item: tuple[int, Segment]) -> Iterator[tuple[int, bytes]]:
        """Yields (`key_of` a file, what `Gather` reads) for a segment of a corpus."""
        number, segment = item
        documents, layout, _ = placed = self.corpora[number]
        next_rank = layout.ranks.start(segment)
        next_token = layout.before.read(segment)  # [2, k], as kept and set aside
        for shard in segment.shards:
            for view in documents.of(shard):
                aside = layout.ranks.aside(view, next_rank)
                if view.lengths.any():
                    chunks = self._chunks(placed, shard, view, aside, next_token)
                    yield from _by_file(chunks)

    def _chunks(self, placed, shard: Shard, view, aside, next_token):
        """Yields (key, first place, fields): what one piece puts in a row in a file."""
        documents, layout, splits = placed
        count = int(view.sizes.sum())
        tokens = documents.tokenized.tokens(shard, view.piece, count)
        (chosen,) = np.nonzero(view.lengths)
        side = np.where(aside[chosen], ASIDE, KEPT)
        order = np.lexsort((view.domains[chosen], side))
        chosen, side = chosen[order], side[order]
        domains, lengths = view.domains[chosen], view.lengths[chosen]
        ends = np.cumsum(view.sizes)
        change = np.flatnonzero(np.diff(side) | np.diff(domains)) + 1
        for first, last in zip([0, *change], [*change, len(chosen)], strict=True):
            here = chosen[first:last]
            text = np.concatenate(
                [tokens[ends[i] - view.sizes[i] : ends[i]] for i in here]
            )
            s, d = side[first], domains[first]
            targets = (KEPT, ASIDE) if layout.cut[d] else (s,)
            fields = [text]
            if any(len(self.splits[splits[t]].fields) > 1 for t in targets):
                # Of documents that are cut between rows or splits, each token's are
                # those that it has in the whole.
                sizes, text_bytes = view.sizes[here], view.text_bytes[here]
                of_tokens = spread_bytes(text, sizes, text_bytes, self.token_bytes)
                fields.append(of_tokens.astype(_BYTES))
            start = next_token[s, d]
            next_token[s, d] += lengths[first:last].sum()
            for target in targets:
                # A cut stream is counted as kept, and in both splits.
                yield from self._in_split(
                    self.splits[splits[target]],
                    splits[target],
                    fields,
                    start - layout.starts[target, d],
                    layout.stops[target, d] - layout.starts[target, d],
                    layout.offsets[target, d],
                )

    def _in_split(self, split, number, fields, start, size, first_row):
        """The part of a text at `start` of a stream of `size` tokens, by file."""
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
            file, place = divmod(begin, in_file)
            count = min(end - begin, in_file - place, _PLACES)
            j = np.arange(begin - first, begin - first + count)
            tokens = j - j // split.row_tokens - start
            yield key_of(number, file), place, [field[tokens] for field in fields]
            begin += count


def _by_file(chunks) -> Iterator[tuple[int, bytes]]:
    """Chunks of one file joined: number, first places, lengths, and field by field."""
    found: dict[int, tuple[list, list]] = {}
    for key, place, fields in chunks:
        heads, parts = found.setdefault(key, ([], []))
        heads.append((place, len(fields[0])))
        parts.append(fields)
    for key, (heads, parts) in found.items():
        table = np.array(heads, "<i8").T
        joined = map(np.concatenate, zip(*parts, strict=True))
        data = b"".join(field.tobytes() for field in joined)
        yield int(key), len(heads).to_bytes(8, "little") + table.tobytes() + data


@dataclasses.dataclass(frozen=True)
class Gather:
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
        return [
            key_of(number, file)
            for number, split in enumerate(self.splits)
            for file in range(len(split.files))
        ]

    def of_split(self, split: int) -> list[dict]:
        """What `store_writer.write_records` said of the files of a split."""
        keys = [key_of(split, file) for file in range(len(self.splits[split].files))]
        return [self.reports.read_json(f"{key}.json") for key in keys]

    def row_bytes(self, split: int) -> np.ndarray | None:
        """Bytes of the predicted tokens, int64 [rows]; None if they are not counted."""
        if len(self.splits[split].fields) == 1:
            return None
        keys = [key_of(split, file) for file in range(len(self.splits[split].files))]
        found = [self.reports.load(f"{key}.npz")["row_bytes"] for key in keys]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def __call__(self, key: int, parts: Iterable[bytes]) -> None:
        """Writes one file; places that no token goes to are padding."""
        split, file = self.splits[key // _FILES], key % _FILES
        name, rows = split.files[file]
        near = self.store.is_local and self.reports.is_local
        directory = self.reports.url if near else tempfile.gettempdir()
        try:
            os.makedirs(directory, exist_ok=True)
            with contextlib.ExitStack() as opened:
                files = [
                    opened.enter_context(tempfile.TemporaryFile(dir=directory))
                    for _ in split.fields
                ]
                _fill(files, split, rows, parts)
                aside = os.path.join(directory, f".{name}-{secrets.token_hex(4)}")
                try:
                    blocks = _blocks(files[0], split, split.dtype)
                    report = store_writer.write_records(aside, blocks)
                    self.store.put(pathlib.Path(aside), name)
                    for file in files[1:]:
                        counted = _row_bytes(file, split)
                        self.reports.save(f"{key}.npz", row_bytes=counted)
                finally:
                    if os.path.exists(aside):
                        os.unlink(aside)
        except OSError as error:
            raise UserError(
                f"cannot write {name} in {directory}: {error.strerror};"
                " free some space, or choose another disk, and run again"
            ) from error
        self.reports.write_json(f"{key}.json", report)


def _fill(files, split: Split, rows: int, parts: Iterable[bytes]) -> None:
    """Puts tokens in their places of a file of rows, padding elsewhere.

    Other fields go to files of their own, with 0 elsewhere.
    """
    tokens, *others = files
    places = split.row_tokens * rows
    size, padding = places * split.dtype.itemsize, b"\xff" * _AT_ONCE
    for start in range(0, size, _AT_ONCE):
        tokens.write(padding[: size - start])
    tokens.flush()
    for file in others:
        file.truncate(places * _BYTES.itemsize)
    for part in parts:
        count = int.from_bytes(part[:8], "little")
        end = 8 + 16 * count
        table = np.frombuffer(part[8:end], "<i8").reshape(2, count)
        data = memoryview(part)
        for file, dtype in zip(files, split.fields, strict=True):
            starts, sizes = table * dtype.itemsize
            ends = end + np.cumsum(sizes)
            for place, size, end in zip(
                starts.tolist(), sizes.tolist(), ends.tolist(), strict=True
            ):
                _write_at(file.fileno(), data[end - size : end], place)


def _write_at(descriptor: int, data: memoryview, place: int) -> None:
    while len(data):  # a full disk may take a part and fail at the next
        written = os.pwrite(descriptor, data, place)
        data, place = data[written:], place + written


def _blocks(places, split: Split, dtype: np.dtype) -> Iterator[np.ndarray]:
    places.seek(0)
    row_bytes = split.row_tokens * dtype.itemsize
    size = max(1, _AT_ONCE // row_bytes) * row_bytes
    while data := places.read(size):
        yield np.frombuffer(data, dtype).reshape(-1, split.row_tokens)


def _row_bytes(counted, split: Split) -> np.ndarray:
    """Sums over the predicted tokens of rows, int64 [rows]."""
    blocks = _blocks(counted, split, _BYTES)
    sums = [block[:, 1:].sum(axis=1, dtype=np.int64) for block in blocks]
    return np.concatenate([np.zeros(0, np.int64), *sums])
