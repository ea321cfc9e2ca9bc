"""Drawing rows from very many domains."""

import dataclasses

import numpy as np
from grain.experimental import index_shuffle

from dga_jax.benchmark.tables import Check, Table, interleaved
from dga_jax.data.sampler import Cumulative, Sampler
from dga_jax.mixing import mixers

_GOAL_DOMAINS = 262_144
# Milliseconds a step for row ids, and an update for new weights.
_DRAW_GOALS = {_GOAL_DOMAINS: 1.0, 1 << 24: 5.0}
_UPDATE_GOAL = 50.0


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
      domains: numbers of domains; a domain takes about 50 bytes.
      rows: drawn in one step.
      rounds: in which the variants take turns.
    """

    domains: tuple[int, ...] = (16, 4096, _GOAL_DOMAINS, 1 << 24)
    rows: int = 1024
    rounds: int = 15


QUICK = Size(domains=(16, 4096, _GOAL_DOMAINS), rounds=5)


def run(size: Size) -> list[Table]:
    """Row ids of a step, and new weights, by number of domains."""
    rows, checks = {}, []
    for domains in size.domains:
        draw, update, one_by_one, ratio = _measure(domains, size)
        rows[f"{domains:,} domains"] = (draw, one_by_one, ratio, update)
        if domains in _DRAW_GOALS:
            goal = _DRAW_GOALS[domains]
            what = f"{size.rows:,} row ids from {domains:,} domains in at most"
            checks.append(Check(f"{what} {goal:.0f} ms", draw, goal))
        if domains == _GOAL_DOMAINS:
            what = f"new weights over {domains:,} domains in at most"
            checks.append(Check(f"{what} {_UPDATE_GOAL:.0f} ms", update, _UPDATE_GOAL))
    return [
        Table(
            f"sampler: {size.rows:,} row ids a step",
            ("ids ms", "index_shuffle, one by one ms", "ids / one by one", "update ms"),
            rows,
            tuple(checks),
        )
    ]


def _measure(domains, size):
    """Milliseconds of (ids, update, one by one) and the ratio of ids to one by one."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 200, domains)
    sampler = Sampler(0, np.concatenate([[0], np.cumsum(counts)]))
    mixer = mixers.dga(mixers.MixerOptions(eta=1.0, beta=0.1))
    state = mixers.init(mixer, rng.dirichlet(np.ones(domains)))
    signal = rng.standard_normal(domains).astype(np.float32)
    cursors = rng.integers(0, 1000, domains)
    steps = iter(range(size.rounds))

    def update():
        moved = mixers.update(mixer, state, signal, step=1)
        return Cumulative.of(np.exp(np.asarray(moved.log_weights, np.float64)))

    cumulative = update()  # and compiles it
    drawn = cumulative.draw(rng, size.rows)
    lasts = (counts[drawn] - 1).tolist()
    places = [place % (last + 1) for place, last in enumerate(lasts)]

    def ids():
        draw = sampler.draw(next(steps), cumulative, cursors, size.rows)
        sampler.advance(cursors, draw.domains)
        return draw.rows

    def one_by_one():
        pairs = zip(places, lasts, strict=True)
        return [index_shuffle(place, last, 1, 4) for place, last in pairs]

    variants = {"ids": ids, "update": update, "one by one": one_by_one}
    timings = interleaved(variants, size.rounds)
    milliseconds = (1e3 * timings[name] for name in variants)
    return (*milliseconds, timings.ratio("ids", "one by one"))
