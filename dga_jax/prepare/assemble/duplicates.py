"""Exact duplicates: of documents with the same text, the first one stays.

Texts are compared by their 128-bit hashes. Hashes are regrouped into buckets by their
leading bits, and each bucket is sorted: memory is that of one bucket.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dga_jax.prepare.assemble.documents import Dropped, file_of
from dga_jax.prepare.assemble.engine import Engine
from dga_jax.prepare.assemble.folder import Folder, side_by_side
from dga_jax.prepare.assemble.layout import Segment, segments
from dga_jax.prepare.assemble.tokenizing import DocumentTable, Tokenized
from dga_jax.prepare.sources import Shard

_RECORD = np.dtype(
    [("high", "<u8"), ("low", "<u8"), ("shard", "<u4"), ("place", "<u4")]
)
_RECORD_BYTES = 100  # of memory for each document of a bucket that is being sorted


def find_duplicates(
    tokenized: Tokenized,
    shards: Sequence[Shard],
    engine: Engine,
    folder: Folder,
    memory_bytes: int,
) -> tuple[Dropped, int]:
    """Looks for documents whose text an earlier one of the corpus has.

    Args:
      tokenized: the shards.
      shards: of the corpus, in order.
      engine: runs the steps.
      folder: for what is found.
      memory_bytes: that a process may use for it.

    Returns:
      The documents to leave out, and how many they are.
    """
    documents = sum(side_by_side(tokenized.with_text, shards))
    count = max(1, -(-documents * _RECORD_BYTES // memory_bytes))
    folder = folder / str(count)
    by_hash = FindInBucket(folder / "buckets")
    engine.shuffle(
        ScatterHashes(tokenized, count),
        segments(shards),
        by_hash,
        folder / "hashes",
    )
    buckets = by_hash.folder.names()
    by_shard = DropFromShard(
        Dropped(folder / "dropped", "duplicate"),
        tuple(map(file_of, shards)),
    )
    engine.shuffle(
        ScatterPlaces(by_hash.folder),
        buckets,
        by_shard,
        folder / "places",
    )
    found = sum(len(by_hash.folder.load(bucket)["place"]) for bucket in buckets)
    return by_shard.dropped, found


@dataclasses.dataclass(frozen=True)
class ScatterHashes:
    """Yields the hashes of a segment's documents with text, by bucket."""

    tokenized: Tokenized
    buckets: int

    def __call__(self, segment: Segment) -> Iterator[tuple[int, bytes]]:
        """Yields (bucket, records)."""
        for number, shard in enumerate(segment.shards, segment.first):
            for piece in self.tokenized.pieces(shard):
                yield from self._of_piece(number, piece)

    def _of_piece(
        self, number: int, piece: DocumentTable
    ) -> Iterator[tuple[int, bytes]]:
        (chosen,) = np.nonzero(piece.lengths)
        records = np.empty(len(chosen), _RECORD)
        halves = piece.hashes[chosen].view("<u8")
        records["high"], records["low"] = halves[:, 0], halves[:, 1]
        records["shard"], records["place"] = number, piece.first + chosen
        bucket = records["high"] >> np.uint64(32)
        bucket = bucket * np.uint64(self.buckets) >> np.uint64(32)
        for key in np.unique(bucket).tolist():
            yield key, records[bucket == key].tobytes()


@dataclasses.dataclass(frozen=True)
class FindInBucket:
    """Finds the duplicates in a bucket of records."""

    folder: Folder

    def done(self, key: int) -> bool:
        """Whether the bucket was searched."""
        return self.folder.has(f"{key:06d}.npz")

    def __call__(self, key: int, parts: Iterable[bytes]) -> None:
        """Writes `shard` and `place` of each duplicate."""
        records = np.frombuffer(b"".join(parts), _RECORD)
        fields = [np.ascontiguousarray(records[name]) for name in _RECORD.names]
        order = np.lexsort(fields[::-1])
        high, low, shard, place = (
            field[order][1:] == field[order][:-1] for field in fields
        )
        # What an engine brings twice is no duplicate of itself.
        later = records[order[1:][high & low & ~(shard & place)]]
        self.folder.save(
            f"{key:06d}.npz",
            shard=later["shard"].astype(np.int64),
            place=later["place"].astype(np.int64),
        )


@dataclasses.dataclass(frozen=True)
class ScatterPlaces:
    """Yields the duplicates in a bucket by shard."""

    folder: Folder

    def __call__(self, bucket: str) -> Iterator[tuple[int, bytes]]:
        """Yields (number of the shard, places in it)."""
        found = self.folder.load(bucket)
        for shard in np.unique(found["shard"]).tolist():
            yield shard, found["place"][found["shard"] == shard].tobytes()


@dataclasses.dataclass(frozen=True)
class DropFromShard:
    """Leaves the duplicates in a shard out.

    Attributes:
      dropped: gets them.
      files: `file_of` each shard.
    """

    dropped: Dropped
    files: tuple[str, ...]

    def done(self, key: int) -> bool:
        """Whether those of a shard are known."""
        return self.dropped.folder.has(self.files[key])

    def __call__(self, key: int, parts: Iterable[bytes]) -> None:
        """Writes the places of a shard's duplicates."""
        places = np.frombuffer(b"".join(parts), np.int64)
        self.dropped.write(self.files[key], np.unique(places))
