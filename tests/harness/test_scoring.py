"""Scores are those of whole rows computed alone; what shares a row is computed once."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import nnx
from runs import ONE_DEVICE, mesh_of
from small import TINY, split

from dga_jax import sharding
from dga_jax.harness import scoring
from dga_jax.harness.generation import Generator
from dga_jax.harness.scoring import Place, Request, Scorer
from dga_jax.model.transformer import LOGICAL_AXES

LENGTH = 24
VOCAB = 19
CONFIG = dataclasses.replace(TINY, vocab_size=VOCAB, document_end=3)


@jax.jit
def _whole(params, tokens):
    logits = nnx.merge(split(CONFIG)[0], params)(tokens)
    return jax.nn.log_softmax(logits), logits.argmax(-1)


def whole(read):
    """Of one row alone: log-probabilities [T, V], likeliest tokens [T]."""
    filled = np.pad(read, (0, LENGTH - len(read)))[None]  # which nothing before it sees
    return (np.asarray(x)[0, : len(read)] for x in _whole(split(CONFIG)[1], filled))


def place_of(mesh, tokens=64):
    return Place(CONFIG, mesh_of(*mesh), LENGTH, tokens)


def params_on(mesh):
    params = split(CONFIG)[1]
    shardings = sharding.tree_shardings(mesh, params, LOGICAL_AXES)
    return jax.tree.map(jax.device_put, params, shardings)


def request(tokens, count):
    return Request(np.array(tokens, np.int32), count)


def requests(count=30):
    """Some are of two tokens, some are as long as the model reads."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        length = rng.integers(2, LENGTH + 2)
        tokens = rng.integers(0, VOCAB, length)
        found.append(request(tokens, int(rng.integers(1, min(length, 6)))))
    greedy = list(whole(found[0].read))[1]
    found.append(request((*found[0].read, greedy[-1]), 1))
    return found


def by_hand(one):
    table, likeliest = whole(one.read)
    targets = one.tokens[-one.count :]
    rows = slice(len(table) - one.count, None)
    total = table[rows][np.arange(one.count), targets].sum()
    return total, bool((likeliest[rows] == targets).all())


@pytest.mark.parametrize("mesh", [ONE_DEVICE, (2, 2, 2)], ids=["one", "eight"])
def test_scores_of_rows_computed_alone(mesh):
    place, asked = place_of(mesh), requests()
    found = Scorer(place)(params_on(place.mesh), asked)
    expected = [by_hand(one) for one in asked]
    np.testing.assert_allclose(
        [score.log_probability for score in found],
        [total for total, _ in expected],
        rtol=2e-5,
        atol=2e-5,
    )
    assert [s.is_greedy for s in found] == [greedy for _, greedy in expected]
    assert found[-1].is_greedy


def test_logits_in_chunks_are_the_same(monkeypatch):
    place, asked = place_of(ONE_DEVICE), requests()
    params = params_on(place.mesh)
    expected = Scorer(place)(params, asked)
    small = functools.partial(scoring.Head, budget=4 * VOCAB * 3)
    monkeypatch.setattr(scoring, "Head", small)
    found = Scorer(place)(params, asked)
    assert [s.is_greedy for s in found] == [s.is_greedy for s in expected]
    np.testing.assert_allclose(
        [s.log_probability for s in found],
        [s.log_probability for s in expected],
        rtol=1e-5,
    )


def test_choices_of_a_letter_share_a_row():
    """They differ in their last token alone."""
    place = place_of(ONE_DEVICE)
    scorer, params = Scorer(place), params_on(place.mesh)
    asked = [request((1, 2, 3, 4, letter), 1) for letter in (5, 6, 7, 8)]
    found = scorer(params, asked)
    assert scorer.work.tokens == 4
    table, _ = whole((1, 2, 3, 4))
    np.testing.assert_allclose(
        [s.log_probability for s in found], table[-1, 5:9], rtol=1e-5
    )


def test_what_was_computed_is_counted():
    scorer = Scorer(place_of(ONE_DEVICE))
    scorer(
        params_on(scorer._place.mesh), [request((1,) * 13, 2), request((2,) * 17, 1)]
    )
    assert (scorer.work.tokens, scorer.work.computed) == (28, 32)
    # Of two layers, and of their attention.
    matrices = 2 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 32 + 2 * 16) + 16
    alone, computed = (
        sum(n * (2 * matrices + 2 * 4 * 16 * n) for n in lengths)
        for lengths in ((12, 16), (16, 16))
    )
    assert scorer.work.flops == pytest.approx(alone)
    assert scorer.work.flops_computed == pytest.approx(computed)
    assert str(scorer.work) == (
        "32 tokens computed, 12.5% of them padding; 1.17 x the FLOPs of the texts alone"
    )


@pytest.mark.parametrize("mesh", [ONE_DEVICE, (4, 2, 1)], ids=["one", "eight"])
def test_greedy_continuations_of_prompts_of_many_lengths(mesh):
    place = place_of(mesh)
    prompts = [[1], [4, 5, 6], [2, 3] * 4, [7, 8, 9, 3, 1]]
    found = Generator(place)(params_on(place.mesh), prompts, 10, lambda ids: False)
    for prompt, ids in zip(prompts, found, strict=True):
        row = list(prompt)
        for _ in range(10):
            row.append(int(list(whole(row))[1][-1]))
        assert ids == row[len(prompt) :]


def test_rows_that_need_no_more_end_early():
    place, asked = place_of(ONE_DEVICE), []
    params = params_on(place.mesh)

    def finished(ids):
        asked.append(len(ids))
        return True

    Generator(place)(params, [[1], [2]], 20, finished)
    assert max(asked) == 1
