"""Histograms of sets of documents over the clusters of a tree."""

import dataclasses

import numpy as np
from scipy import sparse

SMOOTHING = 1.0  # documents of the natural distribution that count with a set's own


@dataclasses.dataclass(frozen=True)
class Histograms:
    """How many documents of each of N sets lie in each of k clusters.

    Attributes:
      names: N names of sets.
      counts: sparse float64 [N, k] of whole numbers.
    """

    names: tuple[str, ...]
    counts: sparse.csr_array

    @property
    def documents(self) -> np.ndarray:
        """float64 [N], documents of each set."""
        return np.asarray(self.counts.sum(axis=1))

    def coarsened(self, stride: int) -> "Histograms":
        """The same over the clusters that `stride` of these in a row make up."""
        shape = (len(self.names), self.counts.shape[1] // stride)
        entries = self.counts.tocoo()
        place = (entries.row, entries.col // stride)
        return Histograms(
            self.names, sparse.coo_array((entries.data, place), shape).tocsr()
        )

    def select(self, row: int) -> "Histograms":
        """One of the sets."""
        return Histograms(self.names[row : row + 1], self.counts[[row]])

    def arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` makes histograms of."""
        return {
            "names": np.array(self.names, np.str_),
            "indptr": self.counts.indptr.astype(np.int64),
            "indices": self.counts.indices.astype(np.int64),
            "counts": self.counts.data,
            "clusters": np.array(self.counts.shape[1]),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Histograms":
        """Histograms from what `arrays` gave."""
        names = tuple(arrays["names"].tolist())
        parts = (arrays["counts"], arrays["indices"], arrays["indptr"])
        shape = (len(names), int(arrays["clusters"]))
        return cls(names, sparse.csr_array(parts, shape=shape))
