"""Texts in batches of a few shapes: each once, whole, with little padding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dga_jax.harness.batching import MOST_SHAPES, packed


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=60),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([16, 200, 5000]),
    st.sampled_from([None, 1, 3]),
)
def test_every_text_is_in_one_row_that_holds_it(lengths, shards, tokens, most):
    found = packed(lengths, tokens=tokens, shards=shards, multiple=16, most=most)
    rows = [row for batch in found for row in batch.members]
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(len(row) <= (most or len(lengths)) for row in rows)
    for batch in found:
        assert 0 < len(batch.members) <= batch.rows
        assert batch.rows % shards == batch.length % 16 == 0
        for row in batch.members:
            assert 0 < sum(lengths[i] for i in row) <= batch.length
        assert batch.rows * batch.length <= max(tokens, shards * batch.length)
    assert len({(batch.rows, batch.length) for batch in found}) <= MOST_SHAPES


def test_no_text_is_no_batch():
    assert packed([], tokens=64) == []


@pytest.mark.parametrize("shards", [1, 8])
def test_little_is_padding(shards):
    """Of lengths as questions have them, with a long tail; rows suit what they hold."""
    draws = np.random.default_rng(0).lognormal(4.5, 0.7, 5000)
    lengths = np.clip(draws, 10, 1024).astype(int).tolist()
    found = packed(lengths, tokens=16_384, shards=shards, multiple=16)
    computed = sum(batch.rows * batch.length for batch in found)
    assert computed < 1.05 * sum(lengths)
    held = {
        batch.length: np.mean([len(row) for row in batch.members]) for batch in found
    }
    assert len(held) == MOST_SHAPES
    assert 2 <= held[min(held)] <= 4
