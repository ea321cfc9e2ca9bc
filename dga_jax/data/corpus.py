"""The documents of many files, in one order, for the passes that prepare makes."""

import dataclasses
import hashlib
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from dga_jax.data.sources import DOMAIN, Document, read_documents
from dga_jax.errors import UserError

# Tokenizing keeps some 120 bytes a token for a moment; and all cores want documents.
_BATCH_BYTES = 1 << 21
_BATCH_DOCUMENTS = 4096


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Files of documents, read in this order.

    Attributes:
      paths: the files.
      on_bytes: called with the number of bytes read from the files, as they are read.
      domain_field: of a JSON object, what names the domain of its document.
      dropped: int64 [m], sorted, positions of documents that are left out.
    """

    paths: tuple[pathlib.Path, ...]
    on_bytes: Callable[[int], object] = lambda count: None
    domain_field: str = DOMAIN
    dropped: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.int64)
    )

    def documents(self) -> Iterator[Document]:
        """Streams all documents that are not dropped, those without text too.

        Raises:
          UserError: a file that cannot be used, or holds no text at all.
        """
        dropped = iter(self.dropped.tolist())
        next_dropped = next(dropped, None)
        position = itertools.count()
        for path in self.paths:
            empty = True
            for document in read_documents(path, self.on_bytes, self.domain_field):
                empty = empty and not document.num_bytes
                if next(position) == next_dropped:
                    next_dropped = next(dropped, None)
                else:
                    yield document
            if empty:
                raise UserError(f"{path} holds no text; add some or leave it out")

    def batches(self) -> Iterator[list[Document]]:
        """The same in batches of bounded size, always the same ones."""
        return batched(self.documents())

    def without(self, positions: np.ndarray) -> "Corpus":
        """The corpus without the documents at some positions, int64 [m], sorted."""
        return dataclasses.replace(self, dropped=positions)

    def identity(self) -> dict[str, object]:
        """What tells this corpus from another, without reading it; ready for JSON."""
        files = [
            [os.path.realpath(path), path.stat().st_size, path.stat().st_mtime_ns]
            for path in self.paths
        ]
        dropped = hashlib.sha256(self.dropped.astype("<i8").tobytes()).hexdigest()
        return {"files": files, "dropped documents": dropped}


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
