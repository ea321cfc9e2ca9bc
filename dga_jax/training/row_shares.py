"""Probe rows shared out among domains by how noisy their alignments are."""

import heapq
from collections.abc import Mapping
from typing import Any

import numpy as np

_MEMORY = 0.5  # of a variance, at an update that measures it anew


class RowShares:
    """How many of an update's rows each domain gets: as many in all as b of each.

    Rows n_i with the least Σ σ_i² / n_i, where σ_i is the spread of the alignments of
    single rows of a domain as earlier updates found it: Neyman's allocation, n_i ∝ σ_i.
    It is the logarithm of a weight that moves by an alignment, so that errors of all
    domains count the same, whatever their weights. Half of b at least go to each: a
    spread is itself measured by few rows, and who had none would stay unknown. As the
    rows of an update have no say in how many they are, alignments stay unbiased.

    Source: Neyman (1934, J. R. Stat. Soc. 97(4)); whole numbers by the priorities σ_i /
    √(n (n + 1)), as Wright (2012, The American Statistician 66(4)) shows to be exact.

    Args:
      rows: b, of each domain on average.
      known: what `known` gave when the run was saved; None if nothing.

    >>> shares = RowShares(4)
    >>> print(shares.counts(np.arange(3)))
    [4 4 4]
    >>> shares.learn(np.arange(3), np.array([0.1, 0.1, 0.3]))
    >>> print(shares.counts(np.arange(3)))
    [3 3 6]
    """

    def __init__(self, rows: int, known: Mapping[str, Any] | None = None):
        self._rows = rows
        known = known or {"indices": [], "variances": []}
        self._variances = dict(zip(known["indices"], known["variances"], strict=True))
        self._given = np.zeros(0, np.int64)

    def counts(self, indices: np.ndarray) -> np.ndarray:
        """Rows of each of the domains [m] that the next update measures: int64 [m].

        One of which nothing is known yet counts as the average of the others.
        """
        self._given = self._shared_out(indices)
        return self._given

    def learn(self, indices: np.ndarray, errors: np.ndarray) -> None:
        """Takes in what the rows that `counts` gave have shown.

        Args:
          indices: int64 [m], as `counts` was given.
          errors: [m], standard errors of the alignments; NaN where not known.
        """
        found = np.asarray(errors, np.float64) ** 2 * self._given
        for i, variance in zip(indices.tolist(), found.tolist(), strict=True):
            if np.isfinite(variance):
                before = self._variances.get(i, variance)
                self._variances[i] = _MEMORY * before + (1 - _MEMORY) * variance

    def known(self) -> dict[str, list]:
        """Variances of single rows by domain, ready for JSON."""
        return {
            "indices": list(self._variances),
            "variances": list(self._variances.values()),
        }

    def _shared_out(self, indices: np.ndarray) -> np.ndarray:
        variances = [self._variances.get(i, np.nan) for i in indices.tolist()]
        spreads = np.sqrt(variances)
        if not np.nansum(spreads) > 0:
            return np.full(len(indices), self._rows)
        spreads = np.where(np.isnan(spreads), np.nanmean(spreads), spreads)
        least = -(-self._rows // 2)
        counts = np.full(len(indices), least)
        waiting = [
            (-s / np.sqrt(least * (least + 1)), i) for i, s in enumerate(spreads)
        ]
        heapq.heapify(waiting)
        for _ in range((self._rows - least) * len(indices)):
            i = waiting[0][1]
            counts[i] += 1
            priority = spreads[i] / np.sqrt(counts[i] * (counts[i] + 1.0))
            heapq.heapreplace(waiting, (-priority, i))
        return counts
