"""A basis: N fixed distributions over k domains, P ∈ R^(N×k), and weights α = wP.

What moves is then w, on the simplex of N, and N probes are measured instead of k.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import numpy as np
from scipy import sparse


@dataclasses.dataclass(frozen=True)
class Basis:
    """Distributions over domains, each a sparse part and a share of a common one.

    Histograms of small sets, smoothed with the corpus's own distribution, are of this
    form: 64 of them over 16.7 million domains take no 8 GB.

    Attributes:
      names: N names, for logs.
      own: sparse float64 [N, k]; row j sums to 1 - shares[j].
      shares: float64 [N], of `common` in each distribution.
      common: float64 [k], sums to 1.
    """

    names: tuple[str, ...]
    own: sparse.csr_array
    shares: np.ndarray
    common: np.ndarray

    @classmethod
    def of(cls, names: Sequence[str], matrix: np.ndarray) -> "Basis":
        """A basis from P [N, k] whose rows sum to 1, without a common part."""
        own = sparse.csr_array(np.asarray(matrix, np.float64))
        count = own.shape[1]
        return cls(tuple(names), own, np.zeros(len(names)), np.full(count, 1 / count))

    @classmethod
    def smoothed(
        cls,
        names: Sequence[str],
        counts: sparse.csr_array,
        natural: np.ndarray,
        smoothing: float,
    ) -> "Basis":
        """P_j = (counts_j + s natural) / (Σ counts_j + s).

        Args:
          names: N names.
          counts: sparse [N, k] ≥ 0.
          natural: float64 [k], sums to 1.
          smoothing: s ≥ 0; above 0 where a row of counts is empty.
        """
        totals = np.asarray(counts.sum(axis=1), np.float64) + smoothing
        totals[totals == 0] = 1
        own = sparse.diags_array(1 / totals) @ counts.astype(np.float64)
        return cls(
            tuple(names), sparse.csr_array(own), smoothing / totals, np.array(natural)
        )

    def mix(self, weights: np.ndarray) -> np.ndarray:
        """α = wP: float64 [k] from w [N]."""
        weights = np.asarray(weights, np.float64)
        return self.own.T @ weights + (weights @ self.shares) * self.common

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """`count` domains from each distribution: int64 [N, count]."""
        domains = np.empty((len(self.names), count), np.int64)
        for j, share in enumerate(self.shares):
            row = slice(*self.own.indptr[j : j + 2])
            sums = np.cumsum(self.own.data[row])
            total = sums[-1] if len(sums) else 0.0
            points = rng.random(count) * (total + share)
            inside = points < total
            places = np.searchsorted(sums, points[inside], side="right")
            domains[j, inside] = self.own.indices[row][places]
            if not inside.all():
                rest = (points[~inside] - total) / share * self._common_sums[-1]
                last = np.nextafter(self._common_sums[-1], 0)
                domains[j, ~inside] = np.searchsorted(
                    self._common_sums, np.minimum(rest, last), side="right"
                )
        return domains

    def reweighted(self, factors: np.ndarray) -> "Basis":
        """Distributions ∝ P_ji f_i.

        Args:
          factors: f ≥ 0, [k]; of bool: the domains that may have any mass.

        Raises:
          ValueError: with the index of a distribution that has no mass left.
        """
        own = self.own.copy()
        own.data *= factors[own.indices]
        own.eliminate_zeros()
        common = self.common * factors
        left = common.sum()
        shares = self.shares * left
        mass = np.asarray(own.sum(axis=1)) + shares
        if not mass.all():
            raise ValueError(int(np.argmin(mass)))
        return Basis(
            self.names,
            sparse.csr_array(sparse.diags_array(1 / mass) @ own),
            shares / mass,
            common / left if left else self.common,
        )

    @functools.cached_property
    def digest(self) -> str:
        """Hex SHA-256 of names and distributions."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        own = self.own
        for array in (own.indptr, own.indices):
            digest.update(array.astype("<i8").tobytes())
        for array in (own.data, self.shares, self.common * self.shares.any()):
            digest.update(array.astype("<f8").tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def _common_sums(self) -> np.ndarray:
        return np.cumsum(self.common)
