"""A basis that a user computed, in a file of NumPy's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dga_jax.data.basis import Basis
from dga_jax.errors import UserError

_TOLERANCE = 1e-4  # of a row's sum: what float32 files of 262,144 columns come with


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
    names = tuple(names or (f"basis_{j}" for j in range(len(matrix))))
    if len(names) != len(matrix) or len(set(names)) != len(names):
        raise UserError(
            f"basis {path}: {len(matrix)} rows of P need as many distinct names, "
            f"got {len(set(names))}"
        )
    return Basis.of(names, _distributions(path, matrix, names))


def _read(path: Path) -> tuple[np.ndarray, list[str] | None, list[str] | None]:
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


def _strings(array: np.ndarray | None) -> list[str] | None:
    return None if array is None else [str(name) for name in np.ravel(array)]


def _in_store_order(
    path: str | Path,
    matrix: np.ndarray,
    domains: Sequence[str],
    domain_names: Sequence[str],
) -> np.ndarray:
    """P [N, k], its columns as the store has its domains."""
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


def _distributions(
    path: str | Path, matrix: np.ndarray, names: Sequence[str]
) -> np.ndarray:
    """P as float64 [N, k] whose rows sum to 1."""
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
