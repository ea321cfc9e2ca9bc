"""The documents of many files, in one order, for the passes that prepare makes."""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from dga_jax.data.sources import Document, Shard, read_documents

# Tokenizing keeps some 120 bytes a token for a moment; and all cores want documents.
_BATCH_BYTES = 1 << 21
_BATCH_DOCUMENTS = 4096


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Shards of documents, read in this order.

    Attributes:
      shards: what is read.
      on_bytes: called with the number of bytes read from disk, as they are read.
      dropped: int64 [m], sorted, positions of documents that are left out.
    """

    shards: tuple[Shard, ...]
    on_bytes: Callable[[int], object] = lambda count: None
    dropped: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.int64)
    )

    def documents(self) -> Iterator[Document]:
        """Streams all documents that are not dropped, those without text too.

        Raises:
          UserError: a shard that cannot be used, or holds no text at all.
        """
        dropped = iter(self.dropped.tolist())
        next_dropped = next(dropped, None)
        position = itertools.count()
        for shard in self.shards:
            for document in read_documents(shard, self.on_bytes):
                if next(position) == next_dropped:
                    next_dropped = next(dropped, None)
                else:
                    yield document

    def batches(self) -> Iterator[list[Document]]:
        """The same in batches of bounded size, always the same ones."""
        return batched(self.documents())

    def without(self, positions: np.ndarray) -> "Corpus":
        """The corpus without the documents at some positions, int64 [m], sorted."""
        return dataclasses.replace(self, dropped=positions)

    def identity(self) -> dict[str, object]:
        """What tells this corpus from another, without reading it; ready for JSON."""
        shards = [shard.digest for shard in self.shards]
        dropped = hashlib.sha256(self.dropped.astype("<i8").tobytes()).hexdigest()
        return {"shards": shards, "dropped documents": dropped}


def batched(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in lists of bounded size."""
    batch, size = [], 0
    for document in documents:
        batch.append(document)
        size += document.num_bytes
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
