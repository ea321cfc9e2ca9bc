"""The documents of a corpus as the later steps see them: domains, what is left out."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from dga_jax.prepare.assemble.folder import Folder, side_by_side
from dga_jax.prepare.assemble.tokenizing import DocumentTable, Tokenized
from dga_jax.prepare.sources import Shard

SEED = 0  # of what is drawn from a corpus

Pieces = Iterator[DocumentTable]


@dataclasses.dataclass(frozen=True)
class Named:
    """Documents name their domains; without any name there is one domain.

    Attributes:
      names: of the domains, sorted.
    """

    names: tuple[str, ...] = ()

    def of(self, shard: Shard, pieces: Pieces) -> Pieces:
        """Gives each document of a shard the number of its domain."""
        numbers = {name: i for i, name in enumerate(self.names)}
        for piece in pieces:
            domains = np.zeros_like(piece.domains)
            if numbers:
                # A piece in which no document can be used names none.
                names = piece.names or self.names[:1]
                here = np.array([numbers[name] for name in names], np.int64)
                domains = here[piece.domains]
            yield piece._replace(domains=domains)


@dataclasses.dataclass(frozen=True)
class Assigned:
    """Documents were put into clusters.

    Attributes:
      folder: holds a file a shard, with the clusters of all of its documents.
    """

    folder: Folder

    def of(self, shard: Shard, pieces: Pieces) -> Pieces:
        """Gives each document of a shard the number of its cluster."""
        assigned = self.folder.load(file_of(shard))["clusters"]
        for piece in pieces:
            here = assigned[piece.first :][: len(piece.domains)]
            yield piece._replace(domains=here.astype(np.int64))


def file_of(shard: Shard) -> str:
    """The name of a file of arrays about a shard."""
    return f"{shard.stem}.npz"


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
        name = file_of(shard)
        if not self.folder.has(name):
            return np.zeros(0, np.int64)
        return self.folder.load(name)["documents"]

    def write(self, file: str, documents: np.ndarray) -> None:
        """Leaves documents of a shard out, `file_of` which is given."""
        self.folder.save(file, documents=np.sort(documents))


@dataclasses.dataclass(frozen=True)
class Documents:
    """The documents of a corpus.

    Attributes:
      tokenized: its shards.
      domains: their domains.
      dropped: those left out.
    """

    tokenized: Tokenized
    domains: Named | Assigned
    dropped: Sequence[Dropped] = ()

    def of(self, shard: Shard) -> Pieces:
        """The documents of a shard, piece by piece."""
        left_out = self.left_out(shard)
        for piece in self.domains.of(shard, self.tokenized.pieces(shard)):
            used = np.ones(len(piece.lengths), bool)
            low, high = np.searchsorted(
                left_out, (piece.first, piece.first + len(used))
            )
            used[left_out[low:high] - piece.first] = False
            yield piece._replace(
                lengths=piece.lengths * used,
                text_bytes=piece.text_bytes * used,
                unknown=piece.unknown * used,
            )

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


@dataclasses.dataclass(frozen=True)
class Remaining:
    """The documents with text that are not left out, in order.

    Attributes:
      documents: all.
      shards: of the corpus.
      ends: int64 [shards], how many there are up to the end of each shard.
      identity: tells them from others; ready for JSON.
    """

    documents: Documents
    shards: Sequence[Shard]
    ends: np.ndarray
    identity: list

    @classmethod
    def of(cls, documents: Documents, shards: Sequence[Shard]) -> "Remaining":
        """Counts them."""

        def of_shard(shard: Shard) -> tuple[int, list]:
            left_out = documents.left_out(shard)
            digest = hashlib.sha256(left_out.astype("<i8").tobytes()).hexdigest()
            count = documents.tokenized.with_text(shard) - len(left_out)
            return count, [*shard.identity, digest]

        counts, identity = zip(*side_by_side(of_shard, shards), strict=True)
        return cls(documents, shards, np.cumsum(counts), list(identity))

    @property
    def total(self) -> int:
        """How many there are."""
        return int(self.ends[-1])

    def sample(self, count: int) -> list[tuple[Shard, np.ndarray]]:
        """At most `count` of them, drawn without replacement: ranks in each shard."""
        if self.total <= count:
            chosen = np.arange(self.total)
        else:
            rng = np.random.default_rng(SEED)
            chosen = np.sort(rng.choice(self.total, count, replace=False))
        starts = np.append(0, self.ends[:-1])
        bounds = np.searchsorted(chosen, np.append(starts, self.total))
        return [
            (shard, chosen[low:high] - start)
            for shard, start, low, high in zip(
                self.shards, starts, bounds[:-1], bounds[1:], strict=True
            )
            if high > low
        ]


def places_of(documents: Documents, shard: Shard, ranks: np.ndarray) -> np.ndarray:
    """The places in a shard of the remaining documents of these ranks, int64."""
    pieces = documents.tokenized.pieces(shard)
    with_text = np.concatenate([piece.lengths > 0 for piece in pieces])
    with_text[documents.left_out(shard)] = False
    return np.flatnonzero(with_text)[ranks]
