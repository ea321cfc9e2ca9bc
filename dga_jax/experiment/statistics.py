"""Means and differences of few runs, with 95% intervals.

The bootstrap with a fixed seed. Its plain percentiles are too narrow for few runs; they
are taken further out by as much as a t distribution is wider than a normal one, and by
√(n/(n-1)): the expanded percentile interval (Hesterberg 2014, arXiv 1411.5279).
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
_SEED = 20_241_002
_OUTSIDE = 0.05


class Interval(NamedTuple):
    """A mean and its interval.

    Attributes:
      mean: NaN without any value.
      low, high: NaN for one value, which says nothing of others.
      count: of values.
    """

    mean: float
    low: float
    high: float
    count: int


class Difference(NamedTuple):
    """What pairs say.

    Attributes:
      interval: of the mean difference to the baseline.
      better: share of pairs in which the value is lower than the baseline's, a tie
        counting half.
    """

    interval: Interval
    better: float


def interval(values: Sequence[float]) -> Interval:
    """The mean of values [n], and its interval over resamples of them.

    >>> interval([1.0, 1.0, 1.0])
    Interval(mean=1.0, low=1.0, high=1.0, count=3)
    """
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    count = len(array)
    if not count:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(array.mean())
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    means = array[_resamples(count)].mean(axis=1)
    outside = _expanded(count)
    low, high = np.quantile(means, (outside, 1 - outside))
    return Interval(mean, float(low), float(high), count)


def difference(values: Sequence[float], baselines: Sequence[float]) -> Difference:
    """The mean of values [n] less those of the baseline [n], pair by pair.

    >>> difference([1.0, 2.0], [2.0, 3.0]).better
    1.0
    """
    found = np.asarray(values, np.float64) - np.asarray(baselines, np.float64)
    found = found[np.isfinite(found)]
    better = (
        float(np.mean((found < 0) + 0.5 * (found == 0))) if len(found) else math.nan
    )
    return Difference(interval(found), better)


@functools.lru_cache(maxsize=64)
def _resamples(count: int) -> np.ndarray:
    """Indices [RESAMPLES, count], the same for every sample of a size."""
    rng = np.random.default_rng(_SEED)
    return rng.integers(0, count, (RESAMPLES, count), dtype=np.int32)


@functools.cache
def _expanded(count: int) -> float:
    """The quantile of the lower end: .025 for many values, less for few."""
    from scipy import special  # slow to load

    t = special.stdtrit(count - 1, _OUTSIDE / 2)
    return float(special.ndtr(math.sqrt(count / (count - 1)) * t))
