"""Which rows a step trains on: a pure function of (seed, step, weights, cursors).

Every host computes the same row ids of the global batch and reads its own rows, so the
order of the data does not depend on the mesh, and a reader that runs ahead has no state
to save: weights, cursors and step are in the checkpoint.

Inside a domain rows come without replacement, in a fresh permutation each epoch. The
permutation is a Feistel network, evaluated for the rows that are needed alone.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dga_jax.errors import UserError

_ROUNDS = 4
# What a permutation or a random stream is for: part of its key.
_EPOCH, _SUBSET, _PROBE, _TARGET, _DOMAINS, _DRAW, _BASIS = range(7)


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), on uint64."""
    x = x ^ (x >> np.uint64(30))
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def _key(*parts: object) -> np.ndarray:
    """One key, uint64 [n], from integers and integer arrays [n]; n = 1 without any."""
    key = np.zeros(1, np.uint64)  # NumPy warns of overflow in scalars, not in arrays
    for part in parts:
        key = key + np.uint64(0x9E3779B97F4A7C15)
        key = _mix(key ^ np.asarray(part).astype(np.uint64))
    return key


def permute(index: np.ndarray, size: np.ndarray, key: np.ndarray) -> np.ndarray:
    """A pseudo-random permutation of range(size), at some of its points.

    The generalised Feistel network of Black and Rogaway (2002, section 4) on
    Z_a × Z_b with a b ≥ size, walked until it lands inside.

    Args:
      index: int64 [n], each in [0, size).
      size: int64 [n], ≥ 1; may differ by entry.
      key: uint64 [n]; equal (size, key) is the same permutation.

    Returns:
      int64 [n], where each index goes.
    """
    index, size, key = np.broadcast_arrays(index, size, key)
    size = size.astype(np.uint64)
    a = np.ceil(np.sqrt(size.astype(np.float64))).astype(np.uint64)
    b = (size + a - np.uint64(1)) // a
    result = _feistel(index.astype(np.uint64), a, b, key)
    outside = np.flatnonzero(result >= size)
    while outside.size:
        walked = _feistel(result[outside], a[outside], b[outside], key[outside])
        result[outside] = walked
        outside = outside[walked >= size[outside]]
    return result.astype(np.int64)


def _feistel(
    x: np.ndarray, a: np.ndarray, b: np.ndarray, key: np.ndarray
) -> np.ndarray:
    """The network without the walk: uint64 [n] in [0, a b), as x is."""
    left, right = np.divmod(x, b)
    for _ in range(_ROUNDS):
        key = key + np.uint64(0x9E3779B97F4A7C15)
        left = (left + _mix(right ^ key)) % a
        key = key + np.uint64(0x9E3779B97F4A7C15)
        right = (right + _mix(left ^ key)) % b
    return left * b + right


def ranks(values: np.ndarray) -> np.ndarray:
    """How many equal values stand before each entry: int64 [n].

    >>> ranks(np.array([7, 3, 7, 7, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(values)])
    result = np.empty(len(values), np.int64)
    result[order] = np.arange(len(values)) - np.repeat(starts, lengths)
    return result


class Cumulative(NamedTuple):
    """Weights ready to be drawn from.

    Attributes:
      weights: float64 [k], ≥ 0, in proportion to which rows are drawn of domains.
      sums: their float64 cumulative sum. In float32 a weight of 1e-9 has width 0.
    """

    weights: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(cls, weights: np.ndarray) -> "Cumulative":
        """Sums the weights once, for many draws."""
        weights = np.asarray(weights, np.float64)
        # Near the end of float64 a product loses digits; times a power of two does not.
        if weights.max(initial=0.0) < 2.0**-500:
            weights = weights * 2.0**600
        return cls(weights, np.cumsum(weights))

    def draw(
        self, rng: np.random.Generator, count: int, systematic: bool = False
    ) -> np.ndarray:
        """`count` domains, int64, each with its weight's share of probability.

        Args:
          rng: for all that is random.
          count: n.
          systematic: domain i comes ⌊n p_i⌋ or ⌈n p_i⌉ times, where p_i is its share,
            and on average n p_i times: systematic sampling (Madow 1949), points at even
            distances from one that is random, in any order.
        """
        points = rng.random(count)
        if systematic:
            offset = rng.random()
            points = (np.argsort(points, kind="stable") + offset) / count
        points *= self.sums[-1]
        # A point may round up to the end, where there is no domain.
        points = np.minimum(points, np.nextafter(self.sums[-1], 0))
        # Looked up in order: the sums do not fit in the cache.
        order = np.argsort(points)
        domains = np.empty(count, np.int64)
        domains[order] = np.searchsorted(self.sums, points[order], side="right")
        return domains


class Draw(NamedTuple):
    """One global batch: store rows `rows` and their `domains`, int64 [B]."""

    rows: np.ndarray
    domains: np.ndarray


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Draws rows from domains that are contiguous ranges of a store.

    Attributes:
      seed: of all that is random here.
      offsets: int64 [k+1]; rows of domain i are offsets[i]:offsets[i+1].
      limits: int64 [k], rows of each domain that may be used, a fixed random subset of
        those it has; None for all.
      max_epochs: times a row may be drawn (0: no bound). Domains that used theirs up
        are masked when drawing; the weights are not touched.
      systematic: each batch has as many rows of a domain as its weight says, within one
        row; otherwise they come independently of each other.
    """

    seed: int
    offsets: np.ndarray
    limits: np.ndarray | None = None
    max_epochs: int = 0
    systematic: bool = False

    def __post_init__(self):
        sizes = np.diff(self.offsets)
        if self.limits is not None:
            sizes = np.minimum(sizes, self.limits)
        object.__setattr__(self, "sizes", sizes)

    def draw(
        self, step: int, cumulative: Cumulative, cursors: np.ndarray, count: int
    ) -> Draw:
        """The batch of train step `step`.

        Args:
          step: number of the step.
          cumulative: over the k domains, of rows; 0 for one without any.
          cursors: int64 [k], rows that earlier steps drew of each domain. Not changed:
            `advance` does that.
          count: B, rows in the batch.

        Raises:
          UserError: every domain with a weight used up `max_epochs`.
        """
        rng = self._rng(_DRAW, step)
        domains = cumulative.draw(rng, count, self.systematic)
        if self.max_epochs:
            domains = self._redraw_exhausted(domains, cumulative, cursors, rng)
        return Draw(self._rows(domains, cursors[domains] + ranks(domains)), domains)

    def advance(self, cursors: np.ndarray, domains: np.ndarray) -> None:
        """Moves the cursors, in place, past the rows of a batch."""
        np.add.at(cursors, domains, 1)

    def epochs(self, cursors: np.ndarray) -> np.ndarray:
        """Passes made over each domain's usable rows, float64 [k]; 0 without rows."""
        return cursors / np.maximum(self.sizes, 1)

    def used_up(self, cursors: np.ndarray) -> np.ndarray:
        """Which domains `max_epochs` masks: bool [k]; never one without rows."""
        limit = self.sizes * self.max_epochs
        return (limit > 0) & (cursors >= limit)

    def probes(
        self, step: int, domains: np.ndarray, rows: int | np.ndarray
    ) -> np.ndarray:
        """Row ids for the probe batches of `domains` [n] after step `step`.

        Uniform over each domain's usable rows, without repetition as far as there are
        enough of them, and independent of the cursors.

        Args:
          step: train step.
          domains: int64 [n].
          rows: b of each, or int64 [n], how many of which.

        Returns:
          int64 [n, b]; or [Σ rows], domain by domain.
        """
        counts = np.broadcast_to(rows, len(domains))
        spread = np.repeat(domains, counts)
        places = np.arange(len(spread)) - np.repeat(np.cumsum(counts) - counts, counts)
        found = self._rows(spread, places, _PROBE, step)
        return found.reshape(-1, rows) if np.ndim(rows) == 0 else found

    def basis_probes(
        self,
        step: int,
        draw: Callable[[np.random.Generator, int], np.ndarray],
        rows: int | np.ndarray,
    ) -> np.ndarray:
        """Row ids for the probe batches of a basis after step `step`.

        Args:
          step: train step.
          draw: of (generator, b), domains [N, b] drawn from the N distributions; all
            of them have rows.
          rows: b of each, or int64 [N], how many of which.

        Returns:
          int64 [N, b]; or [Σ rows], distribution by distribution.
        """
        drawn = draw(self._rng(_BASIS, step), int(np.max(rows)))
        taken = np.arange(drawn.shape[1]) < np.reshape(rows, (-1, 1))
        domains = drawn[np.broadcast_to(taken, drawn.shape)]
        found = self._rows(domains, ranks(domains), _PROBE, step)
        return found.reshape(-1, rows) if np.ndim(rows) == 0 else found

    def probed_domains(self, update: int, count: int) -> np.ndarray:
        """`count` domains with rows, sorted: those that update number `update` probes.

        Updates go through a permutation of the domains, then through another; what the
        last update of one lacks comes from its beginning. `count` 0, or above what
        there is: all of them.
        """
        alive = np.flatnonzero(self.sizes)
        if not count or count >= len(alive):
            return alive
        epoch, part = divmod(update, -(-len(alive) // count))
        places = (part * count + np.arange(count)) % len(alive)
        key = _key(self.seed, _DOMAINS, epoch)
        return np.sort(alive[permute(places, len(alive), key)])

    def target_rows(self, step: int, available: int, rows: int) -> np.ndarray:
        """Row ids [rows] of the target for the update after step `step`."""
        epoch, place = np.divmod(np.arange(rows), available)
        return permute(place, available, _key(self.seed, _TARGET, step, epoch))

    def _rng(self, purpose: int, step: int) -> np.random.Generator:
        key = np.append(_key(self.seed, purpose), np.uint64(step))
        return np.random.Generator(np.random.Philox(key=key))

    def _rows(
        self,
        domains: np.ndarray,
        places: np.ndarray,
        purpose: int = _EPOCH,
        step: int = 0,
    ) -> np.ndarray:
        """Store rows of the `places`-th draws [n] of `domains` [n]."""
        sizes = self.sizes[domains]
        epoch, place = np.divmod(places, sizes)
        key = _key(self.seed, purpose, step, domains, epoch)
        inside = permute(place, sizes, key)
        if self.limits is not None:
            full = self.offsets[domains + 1] - self.offsets[domains]
            inside = permute(inside, full, _key(self.seed, _SUBSET, domains))
        return self.offsets[domains] + inside

    def _redraw_exhausted(
        self,
        domains: np.ndarray,
        cumulative: Cumulative,
        cursors: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """The batch's domains [B], drawn again where their rows are used up."""
        limit = self.sizes * self.max_epochs
        while True:
            over = cursors[domains] + ranks(domains) >= limit[domains]
            if not over.any():
                return domains
            used = np.array(cursors)
            np.add.at(used, domains[~over], 1)
            left = Cumulative.of(np.where(used < limit, cumulative.weights, 0.0))
            if left.sums[-1] <= 0:
                raise UserError(
                    "every domain with a weight has used up "
                    f"data.max_epochs={self.max_epochs}: lower train.steps, raise "
                    "data.max_epochs or data.tokens_per_domain, or bring more text"
                )
            domains = np.array(domains)
            domains[over] = left.draw(rng, int(over.sum()), self.systematic)
