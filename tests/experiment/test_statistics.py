"""Means and differences against values by hand."""

import math

import numpy as np
import pytest

from dga_jax.experiment.statistics import difference, interval


def test_an_interval_is_about_the_mean_and_as_wide_as_it_should_be():
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 1.0, 400)
    found = interval(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.count == 400
    half = 1.96 * values.std(ddof=1) / 20
    assert found.low == pytest.approx(found.mean - half, abs=0.01)
    assert found.high == pytest.approx(found.mean + half, abs=0.01)


def test_intervals_of_few_values_hold_what_they_say():
    """Of 500 samples of five, about 95% of the intervals hold the mean, 0."""
    samples = np.random.default_rng(1).normal(size=(500, 5))
    held = [found.low <= 0 <= found.high for found in map(interval, samples)]
    assert 0.90 <= np.mean(held) <= 0.99


def test_two_values_reach_to_both():
    assert interval([1.0, 3.0])[:3] == (2.0, 1.0, 3.0)


def test_one_value_has_no_interval_and_none_no_mean():
    alone = interval([1.5])
    assert alone.mean == 1.5
    assert math.isnan(alone.low)
    assert math.isnan(interval([math.nan]).mean)


def test_differences_are_by_pairs():
    found = difference([1.0, 5.0, 2.0, 7.0], [2.0, 6.0, 3.0, 7.0])
    assert found.interval.mean == pytest.approx(-0.75)
    assert found.better == pytest.approx(3.5 / 4)
    # What all pairs have in common says nothing of the difference.
    paired = difference([1.0, 11.0, 21.0], [2.0, 12.0, 22.0]).interval
    assert paired[:3] == (-1.0, -1.0, -1.0)


def test_the_same_values_give_the_same_interval():
    assert interval([1.0, 2.0, 4.0]) == interval([1.0, 2.0, 4.0])
