"""The examples do what they say."""

import pathlib

from dga_jax.mixing import mixers
from examples import digits


def test_digits():
    """The kind that is like the target gains, and the target's loss is lower."""
    weights, loss = digits.train(mixers.dga(eta=5.0, beta=0.3), steps=60)
    assert max(weights, key=weights.get) == "turned 90"
    assert weights["wrong labels"] < 0.2
    assert loss < digits.train(mixers.static(), steps=60)[1]
    assert len(pathlib.Path(digits.__file__).read_text().splitlines()) < 100
