"""The documents of a corpus as the later steps see them: domains, what is left out."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.tokenizing import DocumentTable, Tokenized
from dga_jax.prepare.sources import Shard

# Domains of a shard's documents, int64 [n], of a piece of it and of the place of that
# piece's first document in the shard.
DomainsOf = Callable[[DocumentTable, int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Named:
    """Documents name their domains; without any name there is one domain.

    Attributes:
      names: of the domains, sorted.
    """

    names: tuple[str, ...] = ()

    def of(self, shard: Shard) -> DomainsOf:
        """The domains of a shard's documents."""
        numbers = {name: i for i, name in enumerate(self.names)}

        def domains(piece: DocumentTable, start: int) -> np.ndarray:
            if not numbers:
                return np.zeros(len(piece.domains), np.int64)
            # A piece in which no document can be used names none.
            names = piece.names or self.names[:1]
            here = np.array([numbers[name] for name in names], np.int64)
            return here[piece.domains]

        return domains


@dataclasses.dataclass(frozen=True)
class Assigned:
    """Documents were put into clusters.

    Attributes:
      folder: holds a file a shard, with the clusters of all of its documents.
    """

    folder: Folder

    def of(self, shard: Shard) -> DomainsOf:
        """The domains of a shard's documents."""
        assigned = self.folder.load(file_of(shard.digest))["clusters"]

        def domains(piece: DocumentTable, start: int) -> np.ndarray:
            return assigned[start : start + len(piece.domains)].astype(np.int64)

        return domains


def file_of(digest: str) -> str:
    """The name of a file about a shard."""
    return f"{digest[:32]}.npz"


@dataclasses.dataclass(frozen=True)
class Dropped:
    """Documents that are left out.

    Attributes:
      folder: holds a file for each shard that has some: `documents`, int64 [m], their
        places in the shard, sorted.
      reason: why they are.
    """

    folder: Folder
    reason: str = "dropped"

    def of(self, shard: Shard) -> np.ndarray:
        """Places in a shard of documents that are left out, int64 [m], sorted."""
        name = file_of(shard.digest)
        if not self.folder.has(name):
            return np.zeros(0, np.int64)
        return self.folder.load(name)["documents"]

    def write(self, digest: str, documents: np.ndarray) -> None:
        """Leaves documents of the shard of that digest out."""
        self.folder.save(file_of(digest), documents=np.sort(documents))


@dataclasses.dataclass(frozen=True)
class Documents:
    """The documents of a corpus.

    Attributes:
      tokenized: its shards.
      grouping: their domains.
      dropped: those left out.
    """

    tokenized: Tokenized
    grouping: Named | Assigned
    dropped: Sequence[Dropped] = ()

    def of(self, shard: Shard) -> Iterator[DocumentTable]:
        """The documents of a shard, piece by piece."""
        domains_of, left_out = self.grouping.of(shard), self.left_out(shard)
        start = 0
        for piece in self.tokenized.pieces(shard):
            stop = start + len(piece.lengths)
            used = np.ones(len(piece.lengths), bool)
            low, high = np.searchsorted(left_out, (start, stop))
            used[left_out[low:high] - start] = False
            yield piece._replace(
                domains=domains_of(piece, start),
                lengths=piece.lengths * used,
                text_bytes=piece.text_bytes * used,
                unknown=piece.unknown * used,
            )
            start = stop

    def reasons(self, shard: Shard) -> dict[int, str]:
        """Why documents of a shard are left out, by place."""
        return {
            place: dropped.reason
            for dropped in self.dropped
            for place in dropped.of(shard).tolist()
        }

    def left_out(self, shard: Shard) -> np.ndarray:
        """Places in a shard of documents that are left out, int64 [m], sorted."""
        parts = [dropped.of(shard) for dropped in self.dropped]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))
