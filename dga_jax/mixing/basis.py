"""A basis: N fixed distributions over k domains, P ∈ R^(N×k), and weights α = wP.

What moves is then w, on the simplex of N, and N probes are measured instead of k.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

from dga_jax.errors import UserError

_TOLERANCE = 1e-4  # of a row's sum: what float32 files of 262,144 columns come with


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

    def dense(self) -> np.ndarray:
        """P: float64 [N, k]."""
        return self.own.toarray() + self.shares[:, None] * self.common

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


def check_size(origin: object, distributions: int, domains: int) -> None:
    """Raises UserError if a basis has more distributions than there are domains."""
    if distributions > domains:
        raise UserError(
            f"basis {origin}: {distributions} distributions over {domains} domains; a"
            " basis has at most as many as there are domains"
        )


def load_basis(path: str | Path, domain_names: Sequence[str]) -> Basis:
    """Reads and checks a basis for the domains of a store.

    Args:
      path: an `.npy` file with P [N, k], or an `.npz` file with `P` and, if wanted,
        `names` [N] and `domains` [k], the names that its columns stand for, which may
        come in another order than the store's.
      domain_names: the store's k domains.

    Raises:
      UserError: no such file, another number of columns, unknown domains, a row that
        is not a distribution, names that do not fit or repeat.
    """
    matrix, names, domains = _read(Path(path))
    if matrix.ndim != 2 or not matrix.shape[0]:
        raise UserError(f"basis {path}: P has shape {matrix.shape}, expected [N, k]")
    if domains is not None:
        matrix = _in_store_order(path, matrix, domains, domain_names)
    if matrix.shape[1] != len(domain_names):
        raise UserError(
            f"basis {path}: {matrix.shape[1]} columns, but the store's level has "
            f"{len(domain_names)} domains; make the basis for this store and level"
        )
    check_size(path, *matrix.shape)
    names = tuple(names or (f"basis_{j}" for j in range(len(matrix))))
    if len(names) != len(matrix) or len(set(names)) != len(names):
        raise UserError(
            f"basis {path}: {len(matrix)} rows of P need as many distinct names, "
            f"got {len(set(names))}"
        )
    return Basis.of(names, _distributions(path, matrix, names))


def _read(path):
    """(P, names or None, domains or None) as the file has them."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None, None
        with loaded as archive:
            fields = {
                key: archive[key] for key in ("P", "names", "domains") if key in archive
            }
    except FileNotFoundError:
        raise UserError(f"basis {path}: no such file") from None
    except OSError as error:
        raise UserError(f"basis {path}: {error.strerror or error}") from None
    except Exception:  # NumPy lets errors of zipfile, zlib and tokenize through
        raise UserError(
            f"basis {path}: not a whole file of numbers; write it with numpy.save(P) "
            "or numpy.savez(P=P, names=names, domains=domains)"
        ) from None
    if "P" not in fields:
        raise UserError(
            f"basis {path}: no array named P in it; one that is stored with its store "
            "goes by its name alone"
        )
    return fields["P"], _strings(fields.get("names")), _strings(fields.get("domains"))


def _strings(array):
    return None if array is None else [str(name) for name in np.ravel(array)]


def _in_store_order(path, matrix, domains, domain_names):
    if len(domains) != matrix.shape[1]:
        raise UserError(
            f"basis {path}: {len(domains)} domains named, {matrix.shape[1]} columns"
        )
    column = {name: j for j, name in enumerate(domains)}
    if len(column) != len(domains):
        raise UserError(f"basis {path}: a domain is named twice")
    missing = [name for name in domain_names if name not in column]
    unknown = sorted(set(domains) - set(domain_names))
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"names {unknown[0]!r}"
        raise UserError(
            f"basis {path}: its domains are not the store's: it {what}; "
            "make the basis for this store and level"
        )
    return matrix[:, [column[name] for name in domain_names]]


def _distributions(path, matrix, names):
    try:
        matrix = matrix.astype(np.float64, casting="same_kind")
    except TypeError:  # text, complex numbers, records
        raise UserError(f"basis {path}: P does not hold numbers") from None
    sums = matrix.sum(axis=1)
    bad = ~(np.isfinite(matrix).all(axis=1) & (matrix >= 0).all(axis=1))
    bad |= ~(np.abs(sums - 1) <= _TOLERANCE)
    if bad.any():
        j = int(np.argmax(bad))
        raise UserError(
            f"basis {path}: row {j} ({names[j]}) is no distribution: entries must be "
            f"≥ 0 and sum to 1, they sum to {sums[j]:.6g}"
        )
    return matrix / sums[:, None]
