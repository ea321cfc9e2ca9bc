"""Texts in batches of a few shapes: each once, whole, with little padding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dga_jax.harness.batching import _EIGHTHS, packed


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
    assert len({(batch.rows, batch.length) for batch in found}) <= len(_EIGHTHS)


def test_no_text_is_no_batch():
    assert packed([], tokens=64) == []


def share(lengths, found):
    return sum(batch.rows * batch.length for batch in found) / sum(lengths)


@pytest.mark.parametrize("shards", [1, 8])
@pytest.mark.parametrize(
    ("median", "spread", "most"), [(90, 0.7, 1.06), (700, 0.2, 1.15)]
)
def test_little_is_padding(shards, median, spread, most):
    """Of lengths as questions have them, alone and behind examples."""
    draws = np.random.default_rng(0).lognormal(np.log(median), spread, 5000)
    lengths = np.clip(draws, 10, 1024).astype(int).tolist()
    found = packed(lengths, tokens=16_384, shards=shards, multiple=16)
    assert share(lengths, found) < most


def test_rows_are_not_much_longer_than_what_they_hold():
    """As attention costs more in them, though fewer shapes would do."""
    lengths = [60] * 5000 + [1000] * 100
    found = packed(lengths, tokens=4096, multiple=16, reach=6 * 768)
    assert share(lengths, found) < 1.07
    held = {b.length: np.mean([len(row) for row in b.members]) for b in found}
    assert max(held) == 1008
    assert held[min(held)] <= 8


def test_a_shape_is_not_compiled_for_a_few_rows():
    lengths = [1000] * 40 + [400] * 3 + [100] * 4
    found = packed(lengths, tokens=16_384, multiple=16)
    assert {batch.length for batch in found} == {1008}


@pytest.mark.parametrize(("width", "most"), [(768, 1.2), (128, 1.4)])
def test_attention_is_weighed(width, most):
    """In FLOPs of the forward pass, against texts in rows of their own length."""
    reach = 6 * width
    draws = np.random.default_rng(0).lognormal(np.log(150), 0.6, 14_000)
    lengths = np.clip(draws, 40, 1024).astype(int).tolist()

    def cost(found):
        rows = sum(b.rows * b.length * (1 + b.length / reach) for b in found)
        return rows / sum(n * (1 + n / reach) for n in lengths)

    found = packed(lengths, tokens=16_384, multiple=16, reach=reach)
    assert cost(found) < most
    assert cost(found) < cost(packed(lengths, tokens=16_384, multiple=16))
