"""The documents of many shards, in one order, for the passes that prepare makes."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from dga_jax.errors import UserError
from dga_jax.prepare.sources import (
    BadDocument,
    Document,
    DomainSources,
    Shard,
    read_documents,
)

# Tokenizing keeps some 120 bytes a token for a moment; and all cores want documents.
_BATCH_BYTES = 1 << 21
_BATCH_DOCUMENTS = 4096
# What a job that is stopped does again, at most; a few seconds of work.
_PIECE_BYTES = 1 << 23
_PIECE_DOCUMENTS = 1 << 15
# What is made of pieces belongs to this way of cutting them, and of writing it down.
PIECES = f"2 {_PIECE_BYTES} {_PIECE_DOCUMENTS}"


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Documents, shard by shard in this order.

    Attributes:
      shards: what is read as a whole.
      pattern: what the user wrote for them, "" if nobody did.
    """

    shards: tuple[Shard, ...]
    pattern: str = ""

    @property
    def name(self) -> str:
        """How messages call it."""
        if self.pattern or not self.shards:
            return self.pattern
        more = len(self.shards) - 1
        return self.shards[0].name + (f" and {more} more" if more else "")

    @property
    def given_names(self) -> list[str]:
        """Domains that the user named, sorted."""
        return sorted({shard.domain for shard in self.shards if shard.named})

    def documents(self, by_domain: bool = False) -> Iterator[Document | BadDocument]:
        """Yields all documents, those without text too.

        Args:
          by_domain: their domains count, so that each must have its name from one
            source.

        Raises:
          UserError: a shard that cannot be used, or no text in any; or see `by_domain`.
        """
        with_text, domains = False, DomainSources()
        for shard in self.shards:
            for piece in read_pieces(shard):
                with_text = with_text or any(d.num_bytes for d in piece)
                if by_domain:
                    for name, source in dict.fromkeys(
                        (d.domain, d.source) for d in piece
                    ):
                        if name:  # which a document that cannot be used has not
                            domains.add(name, source, shard)
                yield from piece
        if not with_text:
            raise no_text(self)

    def batches(self) -> Iterator[list[Document | BadDocument]]:
        """The same in batches of bounded size, always the same ones."""
        return in_batches(self.documents())


def no_text(corpus: Corpus) -> UserError:
    """The error of a corpus without text."""
    filters = {str(one) for shard in corpus.shards for one in shard.fields.filters}
    if filters:
        return UserError(
            f"no document of {corpus.name} meets --filter:"
            f" {', '.join(sorted(filters))}; relax it, or leave it out"
        )
    return UserError(f"{corpus.name} holds no text; add some or leave it out")


def read_pieces(
    shard: Shard, on_bytes: Callable[[int], object] = lambda count: None
) -> Iterator[list[Document | BadDocument]]:
    """The documents of a shard in pieces of some megabytes, always the same ones.

    Args:
      shard: what to read.
      on_bytes: called with the number of bytes read from disk, as they are read.

    Raises:
      UserError: it cannot be used.
    """
    documents = read_documents(shard, on_bytes)
    yield from _batched(documents, _PIECE_BYTES, _PIECE_DOCUMENTS)


def in_batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in lists of bounded size."""
    return _batched(documents, _BATCH_BYTES, _BATCH_DOCUMENTS)


def _batched(
    documents: Iterable[Document], most_bytes: int, most_documents: int
) -> Iterator[list[Document]]:
    batch, size = [], 0
    for document in documents:
        batch.append(document)
        size += document.num_bytes
        if size >= most_bytes or len(batch) >= most_documents:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
