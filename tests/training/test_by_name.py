"""Weights that come from another run, by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dga_jax.training.by_name import weights_by_name


@given(st.data())
def test_weights_by_name(data):
    """The law of `start`: proportions stay, the new get what the config gives them."""
    weight = st.floats(1e-6, 1) | st.just(0.0)

    def simplex(count):
        values = np.array(data.draw(st.lists(weight, min_size=count, max_size=count)))
        values[data.draw(st.integers(0, count - 1))] += 0.5
        return values / values.sum()

    m, n = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    old, initial = simplex(m), simplex(n)
    available = initial > 0
    places = np.array(data.draw(st.permutations(range(-6, 6))))[:n]
    places[(places < 0) | (places >= m)] = -1
    with np.errstate(divide="ignore"):
        log_old, log_initial = (np.log(x).astype(np.float32) for x in (old, initial))
    found = weights_by_name(log_old, places, log_initial, available)
    weights, known = np.exp(found.astype(np.float64)), places >= 0
    assert found.dtype == np.float32
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert not weights[~available].any()
    np.testing.assert_allclose(weights[~known], initial[~known], rtol=1e-4)
    had = np.where(known & available, old[places], 0)
    if had.sum() and initial[~known].sum() < 1 - 1e-6:
        expected = had / had.sum() * (1 - initial[~known].sum())
        np.testing.assert_allclose(weights[known], expected[known], rtol=1e-3)
    same = weights_by_name(log_old, np.arange(m), log_old, old > 0)
    np.testing.assert_array_equal(same, log_old)
