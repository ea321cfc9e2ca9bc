"""Drawing rows from very many domains."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
from grain.experimental import index_shuffle
from scipy import sparse

from dga_jax.benchmark.tables import Check, Table, interleaved
from dga_jax.data.basis import Basis
from dga_jax.data.sampler import Cumulative, Sampler
from dga_jax.mixing import mixers

_GOAL_DOMAINS = 262_144
# Milliseconds a step for row ids, and an update for new weights.
_DRAW_GOALS = {_GOAL_DOMAINS: 1.0, 1 << 24: 5.0}
_UPDATE_GOAL = 50.0
_BASIS_GOALS = {1 << 24: 2000.0}
_DISTRIBUTIONS, _SET_DOCUMENTS, _PROBE_ROWS = 64, 1000, 8  # of the basis


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
      domains: numbers of domains; a domain takes about 50 bytes.
      rows: drawn in one step.
      steps: planned in a row, as the pipeline does.
      rounds: in which the variants take turns.
    """

    domains: tuple[int, ...] = (16, 4096, _GOAL_DOMAINS, 1 << 24)
    rows: int = 1024
    steps: int = 64
    rounds: int = 5


QUICK = Size(domains=(16, 4096, _GOAL_DOMAINS), rounds=3)
# Of a domain. 262,144 clusters of 30T tokens, at 1,024 a row, hold ten times as many.
_MEAN_ROWS, _SEQ_LEN = 10_000, 1024


def run(size: Size) -> Iterator[Table]:
    """Row ids of a step, and new weights, by number of domains."""
    rows, checks = {}, []
    for domains in size.domains:
        ids, update, basis, one_by_one, ratio = _measure(domains, size)
        rows[f"{domains:,} domains"] = (ids, one_by_one, ratio, update, basis)
        if domains in _DRAW_GOALS:
            goal = _DRAW_GOALS[domains]
            what = f"{size.rows:,} row ids from {domains:,} domains in at most"
            checks.append(Check(f"{what} {goal:.0f} ms", ids, goal))
        if domains == _GOAL_DOMAINS:
            what = f"new weights over {domains:,} domains in at most"
            checks.append(Check(f"{what} {_UPDATE_GOAL:.0f} ms", update, _UPDATE_GOAL))
        if domains in _BASIS_GOALS:
            goal = _BASIS_GOALS[domains]
            what = f"an update of a basis over {domains:,} domains in at most"
            checks.append(Check(f"{what} {goal:,.0f} ms", basis, goal))
    yield Table(
        f"sampler: {size.rows:,} row ids a step",
        (
            "ids ms",
            "grain index_shuffle ms",
            "ratio",
            "new weights ms",
            "new weights, basis ms",
        ),
        rows,
        tuple(checks),
    )


def _measure(domains: int, size: Size) -> tuple[float, ...]:
    """Milliseconds of ids, update, update of a basis, one by one; ids / one by one."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 2 * _MEAN_ROWS, domains)
    sampler = Sampler(0, np.concatenate([[0], np.cumsum(counts)]))
    mixer = mixers.dga(eta=1.0, beta=0.1)
    state = mixers.init(mixer, rng.dirichlet(np.ones(domains)))
    signal = rng.standard_normal(domains).astype(np.float32)
    tokens_per_row = rng.uniform(1, _SEQ_LEN, domains)
    cursors = np.zeros(domains, np.int64)
    steps = iter(range(size.rounds * size.steps))

    def update() -> Cumulative:
        moved = mixers.update(mixer, state, signal, step=1)
        weights = np.exp(np.asarray(moved.log_weights, np.float64))
        return Cumulative.of(weights / tokens_per_row)

    basis = _basis(rng, counts)
    basis_state = mixers.init(mixer, np.full(len(basis.names), 1 / len(basis.names)))

    def update_basis() -> Cumulative:
        basis.draw(rng, _PROBE_ROWS)
        moved = mixers.update(mixer, basis_state, signal_of_basis, step=1)
        weights = basis.mix(np.exp(np.asarray(moved.log_weights)))
        return Cumulative.of(weights / tokens_per_row)

    signal_of_basis = rng.standard_normal(len(basis.names)).astype(np.float32)
    update_basis()
    cumulative = update()  # and compiles it

    def ids() -> None:
        for step in itertools.islice(steps, size.steps):
            draw = sampler.draw(step, cumulative, cursors, size.rows)
            sampler.advance(cursors, draw.domains)

    last = (counts[cumulative.draw(rng, size.rows)] - 1).tolist()

    def one_by_one() -> None:
        for place in last:
            index_shuffle(place, place, 1, 4)

    variants = {
        "ids": ids,
        "update": update,
        "basis": update_basis,
        "one by one": one_by_one,
    }
    timings = interleaved(variants, size.rounds)
    scale = 1e3 / size.steps
    return (
        timings["ids"] * scale,
        timings["update"] * 1e3,
        timings["basis"] * 1e3,
        timings["one by one"] * 1e3,
        timings.ratio("ids", "one by one") / size.steps,
    )


def _basis(rng: np.random.Generator, counts: np.ndarray) -> Basis:
    """Histograms of as many sets as there may be, smoothed by the natural weights."""
    domains = len(counts)
    names = [str(j) for j in range(min(_DISTRIBUTIONS, domains))]
    rows = np.repeat(np.arange(len(names)), _SET_DOCUMENTS)
    places = (rows, rng.integers(domains, size=len(rows)))
    shape = (len(names), domains)
    histograms = sparse.coo_array((np.ones(len(rows)), places), shape).tocsr()
    return Basis.smoothed(names, histograms, counts / counts.sum(), 1.0)
