"""The documents that clusters are made of, and samples of them."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from dga_jax.prepare.assemble.documents import Documents
from dga_jax.prepare.assemble.folder import side_by_side
from dga_jax.prepare.sources import Shard

SEED = 0


@dataclasses.dataclass(frozen=True)
class Kept:
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
    def of(cls, documents: Documents, shards: Sequence[Shard]) -> "Kept":
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
    """The places in a shard of those documents that are kept, by rank: int64."""
    views = documents.tokenized.pieces(shard)
    with_text = np.concatenate([view.lengths > 0 for view in views])
    with_text[documents.left_out(shard)] = False
    return np.flatnonzero(with_text)[ranks]
