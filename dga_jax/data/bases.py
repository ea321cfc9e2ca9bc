"""Bases and histograms of a store whose domains are clusters.

Counts of documents are kept over the finest clusters, so that a basis that is stored
once serves every level.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dga_jax.data.basis import Basis
from dga_jax.data.basis_file import load_basis
from dga_jax.data.histograms import Histograms
from dga_jax.data.store import BASES, TARGET_HISTOGRAM, Domains, Store
from dga_jax.errors import UserError, listed
from dga_jax.files import made_writable, read_arrays, replaced

TARGET, NATURAL = "target", "natural"
_SHOWN = 10  # names in an error
_LEVEL = re.compile(r"level(\d+)")


class StoredBasis(NamedTuple):
    """Histograms of reference sets, and what joins them in the basis.

    Attributes:
      histograms: of N sets over the finest clusters.
      natural: whether the corpus's own distribution is one more.
      target: whether the target's histogram is one more.
    """

    histograms: Histograms
    natural: bool
    target: bool


def find_basis(
    spec: str, store: Store, level: int, smoothing: float, available: np.ndarray
) -> Basis:
    """The basis that `config.mixer.basis` names.

    Args:
      spec: the name of a stored basis; a path, `.npy` or `.npz`; "levelL": the
        clusters of a coarser level L, each with the corpus's own distribution inside;
        "target": the histogram of the target, or of each; "natural": the corpus's own
        distribution; or several of these with "+" between them, joined to one basis.
      store: of the run.
      level: of its domains.
      smoothing: documents of the natural distribution added to each histogram.
      available: bool [k], domains with rows that may be used; the others get nothing.

    Raises:
      UserError: no such basis, made for another store or level, a distribution that
        lies on empty domains only, more distributions than domains.
    """
    parts = [spec] if Path(spec).exists() else spec.split("+")
    if len(set(parts)) < len(parts) or not all(parts):
        raise UserError(
            f"config.mixer.basis={spec}: a part is empty or comes twice; write each"
            " once, with + between them"
        )
    found = [_part(part, store, level, smoothing) for part in parts]
    basis = found[0]
    if len(parts) > 1:
        natural = store.domains(level).natural_weights()
        basis = _joined(dict(zip(parts, found, strict=True)), natural)
    try:
        return basis.reweighted(available)
    except ValueError as error:
        raise UserError(
            f"basis {spec}: distribution {basis.names[error.args[0]]!r} lies on domains"
            " without training rows only"
        ) from None


def _part(spec: str, store: Store, level: int, smoothing: float) -> Basis:
    """What one part of `config.mixer.basis` stands for; see `find_basis`."""
    domains = store.domains(level)
    if spec.endswith((".npy", ".npz")):
        basis = load_basis(spec, domains.names)
    elif match := _LEVEL.fullmatch(spec):
        basis = _of_level(int(match[1]), store, level, domains)
    elif spec == TARGET:
        basis = smoothed(target_histograms(store), domains, smoothing)
    elif spec == NATURAL:
        basis = Basis.of((NATURAL,), domains.natural_weights()[None])
    else:
        basis = _of_stored(spec, store, domains, smoothing)
    if len(basis.names) > len(domains):
        raise UserError(
            f"basis {spec}: {len(basis.names)} distributions over {len(domains)}"
            " domains; a basis has at most as many as there are domains"
        )
    return basis


def _joined(parts: Mapping[str, Basis], natural: np.ndarray) -> Basis:
    """One basis of several: PART:NAME; those of target and natural keep their names."""
    names = [
        name if part in (TARGET, NATURAL) else f"{part}:{name}"
        for part, basis in parts.items()
        for name in basis.names
    ]
    # What has a share of something common has it of the natural distribution.
    own = sparse.vstack([basis.own for basis in parts.values()])
    shares = np.concatenate([basis.shares for basis in parts.values()])
    return Basis(tuple(names), sparse.csr_array(own), shares, natural)


def importance_weights(
    store: Store, level: int, reference: str, smoothing: float, available: np.ndarray
) -> np.ndarray:
    """P(domain | set), what importance sampling draws by: float64 [k].

    Args:
      store: its domains are clusters.
      level: of the domains.
      reference: "target", all of them if there are several; "target/NAME" for one of
        these; or BASIS/NAME for one set of a stored basis.
      smoothing: documents of the natural distribution added to the set's.
      available: bool [k], domains with rows that may be used; the others get nothing.

    Raises:
      UserError: no such set, or the store has no clusters.
    """
    if reference == TARGET:
        histograms = target_histogram(store)
    else:
        histograms = _reference(reference, store)
    basis = smoothed(histograms, store.domains(level), smoothing)
    try:
        return basis.reweighted(available).mix(np.ones(1))
    except ValueError:
        raise UserError(
            f"config.mixer.reference={reference}: none of its documents lies in a"
            " domain with rows that may be used; raise mixer.smoothing or"
            " data.tokens_per_domain"
        ) from None


def _reference(reference: str, store: Store) -> Histograms:
    """One set of a stored basis, or one of several targets."""
    name, slash, row = reference.partition("/")
    if name == TARGET:
        what, row = f"store {store.path}", reference
        histograms = target_histograms(store)
    else:
        what, histograms = f"basis {name}", read_basis(store, name).histograms
        if not slash and len(histograms.names) == 1:
            row = histograms.names[0]
    if row not in histograms.names:
        raise UserError(
            f"config.mixer.reference={reference}: {what} has no {row!r}; it has"
            f" {listed(histograms.names, _SHOWN)}"
        )
    return histograms.select(histograms.names.index(row))


def smoothed(histograms: Histograms, domains: Domains, smoothing: float) -> Basis:
    """P(domain | set) = (documents in the domain + s natural) / (documents + s).

    The mean of the posterior under a Dirichlet prior s · natural: s documents that are
    spread as the corpus is count as if the set held them too. A set without documents
    is the natural distribution, with s = 0 too.

    Args:
      histograms: of N sets over the finest clusters.
      domains: of a level.
      smoothing: s ≥ 0.
    """
    coarse = histograms.coarsened(histograms.counts.shape[1] // len(domains))
    natural = domains.natural_weights()
    basis = Basis.smoothed(coarse.names, coarse.counts, natural, smoothing)
    empty = coarse.documents == 0
    return Basis(basis.names, basis.own, np.where(empty, 1.0, basis.shares), natural)


def target_histogram(store: Store) -> Histograms:
    """The target's documents by finest cluster, those of all targets together.

    Raises:
      UserError: the store has no clusters, or a file is damaged.
    """
    found = target_histograms(store)
    if len(found.names) == 1:
        return found
    total = sparse.csr_array(found.counts.sum(axis=0)[None])
    return Histograms((TARGET,), total)


def target_histograms(store: Store) -> Histograms:
    """The same of each target: "target/NAME", or "target" where there is one.

    Raises:
      UserError: the store has no clusters, or a file is damaged.
    """
    check_clusters(store)
    path = store.path / TARGET_HISTOGRAM
    found = Histograms.from_arrays(read_arrays(path, "prepare the store again"))
    if not store.targets.names:
        return found
    names = tuple(f"{TARGET}/{name}" for name in found.names)
    return Histograms(names, found.counts)


def check_clusters(store: Store) -> None:
    """Raises UserError unless the store's domains are clusters."""
    if not store.branching:
        raise UserError(
            f"the domains of store {store.path} are not clusters: it has no histograms"
            " and no levels to make a basis of; prepare it with --cluster"
        )


def read_basis(store: Store, name: str) -> StoredBasis:
    """Reads a basis that `write_basis` stored.

    Raises:
      UserError: there is none of that name, or it was made for another store.
    """
    check_clusters(store)
    path = basis_path(store, name)
    if not path.exists():
        known = sorted(p.stem for p in path.parent.glob("*.npz"))
        raise UserError(
            f"store {store.path} has no basis {name!r}, it has"
            f" {listed(known, _SHOWN) or 'none'}; make one with python -m"
            " dga_jax.prepare basis, or give level0 or the path of an .npy or .npz file"
        )
    arrays = read_arrays(path, "make the basis again")
    missing = {"store", NATURAL, TARGET, "names", "indptr"} - arrays.keys()
    if missing:
        raise UserError(
            f"{path} is not a basis that dga_jax.prepare basis made: it has no"
            f" {sorted(missing)[0]}; make it again, or give the path of a file with P"
        )
    if str(arrays["store"]) != store.content_hash:
        raise UserError(
            f"basis {path} was made for another store than {store.path}; make it again"
        )
    return StoredBasis(
        Histograms.from_arrays(arrays), bool(arrays[NATURAL]), bool(arrays[TARGET])
    )


def check_names(basis: StoredBasis) -> None:
    """Raises UserError if a reference set has the name of what is added to them."""
    reserved = {NATURAL} if basis.natural else set()
    reserved |= {TARGET} if basis.target else set()
    for name in basis.histograms.names:
        if name in reserved:
            raise UserError(
                f"a reference set is named {name!r}, as what is added to them: rename"
                f" it, or give --no{name}"
            )


def write_basis(store: Store, name: str, basis: StoredBasis) -> Path:
    """Stores a basis with its store, whole or not at all; returns its path.

    Raises:
      UserError: the store cannot be written to.
    """
    path = basis_path(store, name)
    check_writable(store)
    with replaced(path) as file:
        np.savez(
            file,
            **basis.histograms.arrays(),
            store=np.array(store.content_hash),
            natural=np.array(basis.natural),
            target=np.array(basis.target),
        )
    return path


def check_writable(store: Store) -> None:
    """Makes the folder of a store's bases; UserError unless it can be written to."""
    folder = store.path / BASES
    if not made_writable(folder):
        raise UserError(
            f"cannot write to {folder}: a basis is stored with its store; make it"
            " writable, or copy the store"
        )


def basis_path(store: Store, name: str) -> Path:
    """Where a stored basis lies.

    Raises:
      UserError: no name for a file.
    """
    taken = _LEVEL.fullmatch(name) or name in (TARGET, NATURAL)
    if taken or not re.fullmatch(r"[\w-]{1,100}", name):
        raise UserError(
            f"basis {name!r}: a name has letters, digits, - and _, at most 100, and is"
            f" neither levelN nor {TARGET} nor {NATURAL}"
        )
    return store.path / BASES / f"{name}.npz"


def _of_stored(name: str, store: Store, domains: Domains, smoothing: float) -> Basis:
    histograms, natural, target = read_basis(store, name)
    sets = [histograms, *([target_histograms(store)] if target else [])]
    names = [name for one in sets for name in one.names]
    counts = [one.counts for one in sets]
    if natural:
        names.append(NATURAL)
        counts.append(sparse.csr_array((1, counts[0].shape[1])))
    joined = Histograms(tuple(names), sparse.csr_array(sparse.vstack(counts)))
    return smoothed(joined, domains, smoothing)


def _of_level(coarse: int, store: Store, level: int, domains: Domains) -> Basis:
    check_clusters(store)
    if coarse > level:
        raise UserError(
            f"config.mixer.basis=level{coarse}: the domains are those of level {level},"
            " a basis is of the same or a coarser one; name that, or set data.level"
        )
    parents = store.domains(coarse)
    stride = len(domains) // len(parents)
    natural = domains.natural_weights()
    alive = np.flatnonzero(parents.tokens)
    columns = (alive[:, None] * stride + np.arange(stride)).ravel()
    data = natural[columns]
    data /= np.repeat(data.reshape(-1, stride).sum(axis=1), stride)
    indptr = np.arange(len(alive) + 1) * stride
    own = sparse.csr_array((data, columns, indptr), shape=(len(alive), len(domains)))
    names = tuple(parents.names[i] for i in alive)
    return Basis(names, own, np.zeros(len(alive)), natural)
