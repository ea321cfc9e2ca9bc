"""Rows of which answers alone are predicted, against the rule read place by place."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from runs import small_config
from small import TINY, split

from configs.lego import get_config
from dga_jax.data.answers import Answers, check_some
from dga_jax.data.store import PAD, Store
from dga_jax.errors import UserError
from dga_jax.model.loss import make_row_losses
from dga_jax.prepare.assemble import prepare_store
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import expand
from dga_jax.tokenizer import BytesTokenizer
from dga_jax.training.setup import open_store

END, EQUALS = 0, 1


def slowly(row, mark):
    """Which places are predicted, document by document."""
    chosen, start = np.zeros(len(row), bool), 0
    for place, token in enumerate(row):
        if token == END:
            inside = range(start + len(mark) - 1, place)
            ends = [i for i in inside if tuple(row[i - len(mark) + 1 : i + 1]) == mark]
            if ends:
                chosen[ends[-1] + 1 : place + 1] = True
            start = place + 1
    return chosen


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=12),
    st.sampled_from([(EQUALS,), (2, EQUALS), (EQUALS, EQUALS)]),
)
def test_what_follows_the_last_mark_is_predicted(rows, mark):
    rows = np.array([[*row, *[PAD] * (12 - len(row))] for row in rows], np.int32)
    only = Answers(mark, END).only(rows)
    np.testing.assert_array_equal(np.where(only < PAD, -2 - only, only), rows)
    expected = np.array([slowly(row, mark) for row in rows])
    np.testing.assert_array_equal(only >= 0, expected)
    assert only.dtype == np.int32


def test_the_rest_is_read_all_the_same(store):
    graph, params = split(dataclasses.replace(TINY, vocab_size=257, num_layers=1))
    rows = store.read("train", np.arange(4))
    only = Answers.after(" =", BytesTokenizer()).only(rows)
    logits = nnx.merge(graph, params)(jnp.asarray(rows[:, :-1]))
    each = -jax.nn.log_softmax(logits, axis=-1)
    each = jnp.take_along_axis(each, rows[:, 1:, None], axis=-1)[..., 0]
    found = make_row_losses(graph, chunk=7)(params, jnp.asarray(only))
    np.testing.assert_array_equal(found.count, [3, 3, 3, 3])  # a space, 0 or 1, the end
    expected = jnp.sum(each * (only[:, 1:] >= 0), axis=1)
    np.testing.assert_allclose(found.nll, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """LEGO as bytes, a document a row."""
    path = tmp_path_factory.mktemp("lego") / "store"
    generic, target = (
        Corpus(tuple(expand([pattern])))
        for pattern in ("lego:documents=40", "lego:skills=3/seed=1/documents=40")
    )
    prepare_store(
        generic=generic,
        target=target,
        tokenizer=BytesTokenizer(),
        seq_len=76,
        output=path,
    )
    return Store.open(path)


def test_a_store_reads_answers_and_counts_their_bytes(store):
    answers = Answers.after(" =", BytesTokenizer())
    opened = Store.open(store.path)
    opened.answers = answers
    rows = opened.read("target_eval", np.arange(3))
    np.testing.assert_array_equal(
        rows, answers.only(store.read("target_eval", np.arange(3)))
    )
    for row in rows:
        assert bytes(row[row >= 0][:2].astype(np.uint8)).decode() in (" 0", " 1")
    np.testing.assert_array_equal(opened.row_bytes("target_eval", np.arange(3)), 2)


def test_a_mark_that_cannot_be_spelled():
    class Unspeakable(BytesTokenizer):
        unknown = ord("?")

    with pytest.raises(UserError, match=r"answers_after='\?'.*cannot spell"):
        Answers.after("?", Unspeakable())


def test_the_config_says_what_precedes_answers():
    assert get_config("seed=3").data.answers_after == " ="


@pytest.mark.parametrize("split", ["target", "target_eval", "train"])
def test_a_mark_that_is_nowhere_is_an_error(split, store):
    """In whichever split: a run would train on nothing, or be measured by nothing."""

    class Lacking(Store):
        def read(self, name, ids):
            rows = super().read(name, ids)
            return np.where(rows < 0, rows, -2 - rows) if name == split else rows

    lacking = Lacking.open(store.path)
    lacking.answers = Answers.after(" =", BytesTokenizer())
    with pytest.raises(UserError, match=f"answers_after=' =': none of .* {split} rows"):
        check_some(lacking, " =")


def test_a_run_without_answers_does_not_begin(store):
    config = small_config(store, data__answers_after="zzzz")
    with pytest.raises(UserError, match="answers_after='zzzz': none of"):
        open_store(config, ())
    open_store(small_config(store, data__answers_after=" ="), ())
