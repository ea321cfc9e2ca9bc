"""A tree of clusters: k-means in each cluster of the level above, level by level."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from dga_jax.errors import UserError
from dga_jax.files import read_arrays, replaced
from dga_jax.prepare.clusters import kmeans

_BATCH = 1 << 17  # points that are assigned at a time


@dataclasses.dataclass(frozen=True)
class Tree:
    """Centroids of every level.

    A cluster of level l is a number: c_0 at level 0, c_0 K_1 + c_1 at level 1, and so
    on, so that the children of one cluster follow each other.

    Attributes:
      branching: K_l, children of each cluster, level by level; level 0's has one root.
      centroids: float32 [G_l, K_l, d] of each level that is fitted, where G_l is
        K_0 … K_{l-1}.
      prices: float32 [G_l, K_l], see `kmeans.Level`.
    """

    branching: tuple[int, ...]
    centroids: tuple[np.ndarray, ...] = ()
    prices: tuple[np.ndarray, ...] = ()

    @property
    def fitted(self) -> int:
        """Levels that are fitted."""
        return len(self.centroids)

    @property
    def num_clusters(self) -> int:
        """Clusters of the finest level."""
        return math.prod(self.branching)

    def fit_level(
        self,
        points: np.ndarray,
        *,
        start: str = "kmeans++",
        iterations: int = 25,
        max_imbalance: float = 0.0,
        seed: int = 0,
    ) -> "Tree":
        """The tree with one more level, trained on points [n, d]; see `kmeans.fit`."""
        groups = self._descend(points, self.fitted, self.prices)
        level = kmeans.fit(
            points,
            groups,
            math.prod(self.branching[: self.fitted]),
            self.branching[self.fitted],
            start=start,
            iterations=iterations,
            max_imbalance=max_imbalance,
            seed=seed,
        )
        return dataclasses.replace(
            self,
            centroids=(*self.centroids, level.centroids),
            prices=(*self.prices, level.prices),
        )

    def assign(
        self, points: np.ndarray, allowed: np.ndarray | None = None
    ) -> np.ndarray:
        """The finest cluster of each point: int64 [n].

        Args:
          points: float32 [n, d]; may be memory mapped.
          allowed: bool [num_clusters], clusters that points may go to, one at least;
            None: all that training points went to.
        """
        prices = self.prices
        if allowed is not None:
            prices = tuple(
                np.where(
                    allowed.reshape(*price_GxK.shape, -1).any(axis=-1),
                    # An allowed cluster that no training point went to is the last
                    # resort of the points that came to its parent.
                    np.where(np.isinf(price_GxK), np.float32(1e6), price_GxK),
                    np.float32(np.inf),
                )
                for price_GxK in prices
            )
        return self._descend(points, self.fitted, prices)

    def _descend(
        self, points: np.ndarray, depth: int, prices: Sequence[np.ndarray]
    ) -> np.ndarray:
        clusters = np.zeros(len(points), np.int64)
        for first in range(0, len(points), _BATCH) if depth else ():
            here = slice(first, first + _BATCH)
            batch = np.asarray(points[here])
            for level in range(depth):
                labels = kmeans.assign(
                    batch, clusters[here], self.centroids[level], prices[level]
                )
                clusters[here] = clusters[here] * self.branching[level] + labels
        return clusters

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What makes the same tree again, by name."""
        arrays = {"branching": np.array(self.branching)}
        for level in range(self.fitted):
            arrays[f"centroids{level}"] = self.centroids[level]
            arrays[f"prices{level}"] = self.prices[level]
        return arrays

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Tree":
        """The tree of which `to_arrays` told."""
        levels = range((len(arrays) - 1) // 2)
        return cls(
            tuple(arrays["branching"].tolist()),
            tuple(arrays[f"centroids{level}"] for level in levels),
            tuple(arrays[f"prices{level}"] for level in levels),
        )

    def save(self, path: pathlib.Path) -> None:
        """Writes an .npz file, whole or not at all."""
        with replaced(path) as file:
            np.savez(file, **self.to_arrays())

    @classmethod
    def load(cls, path: pathlib.Path) -> "Tree":
        """Reads what `save` wrote.

        Raises:
          UserError: the file is missing or damaged.
        """
        return cls.of_arrays(read_arrays(path, "remove it and prepare again"))


def check_enough(branching: tuple[int, ...], documents: int) -> None:
    """Raises UserError if there are more clusters than documents."""
    if math.prod(branching) > documents:
        fewer = branching
        while fewer and math.prod(fewer) > documents:
            fewer = fewer[:-1]
        fewer = fewer or (max(documents // 20, 2),)
        raise UserError(
            f"--cluster={','.join(map(str, branching))} makes"
            f" {math.prod(branching):,} clusters of {documents:,} documents; ask for"
            f" fewer, as in --cluster={','.join(map(str, fewer))}"
        )
