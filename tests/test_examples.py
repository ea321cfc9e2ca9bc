"""The examples do what they say."""

import pathlib

import numpy as np

from dga_jax.mixing import mixers
from examples import digits, overfit


def test_digits():
    """The kind that is like the target gains, and the target's loss is lower."""
    weights, loss = digits.train(mixers.dga(eta=5.0, beta=0.3), steps=60)
    assert max(weights, key=weights.get) == "turned 90"
    assert weights["wrong labels"] < 0.2
    assert loss < digits.train(mixers.static(), steps=60)[1]
    assert len(pathlib.Path(digits.__file__).read_text().splitlines()) < 100


def test_overfit_correlations():
    """By rank, along time or clusters; a report has a line for each pair."""
    up = np.array([1.0, 2.0, 30.0, 31.0])
    found = overfit.correlation(up, np.exp(-up))
    assert np.isclose(found, -1)
    runs = np.random.default_rng(0).normal(size=(3, 4, 5, 6))
    runs[:, :, overfit.NORM] = -runs[:, :, overfit.EPOCHS]
    first = overfit.report(runs).splitlines()[1]
    assert first.count("-1.00 [-1.00, -1.00]") == 3
    assert len(overfit.report(runs).splitlines()) == 1 + len(overfit.PAIRS)
