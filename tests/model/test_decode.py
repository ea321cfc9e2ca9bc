"""What is read with a cache is what is computed of the whole, one token or many."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from runs import mesh_of
from small import TINY, split

from dga_jax import sharding
from dga_jax.model import decode
from dga_jax.model.transformer import LOGICAL_AXES

PLAIN = dataclasses.replace(TINY, num_layers=3)
DOCUMENTS = dataclasses.replace(PLAIN, document_end=3, tied_embeddings=False)
LENGTHS = (1, 2, 5, 9)
ROOM = 16


@functools.partial(jax.jit, static_argnums=0)
def _logits(config, params, tokens):
    return nnx.merge(split(config)[0], params)(tokens)


def whole(config, ids):
    """Logits [L, V] of one row, computed without a cache."""
    filled = np.pad(ids, (0, ROOM - len(ids)))[None]  # which nothing before it sees
    return np.asarray(_logits(config, split(config)[1], filled))[0, : len(ids)]


def prompts():
    """Rows of several lengths, filled up with a token that counts where it is read."""
    tokens = np.random.default_rng(0).integers(0, 13, (len(LENGTHS), max(LENGTHS)))
    for row, length in zip(tokens, LENGTHS, strict=True):
        row[length:] = 3
    return tokens.astype(np.int32)


def greedy(config, ids, count):
    """The likeliest tokens one after the other, each from the whole row anew."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(whole(config, ids)[-1].argmax()))
    return ids[-count:]


@pytest.mark.parametrize("config", [PLAIN, DOCUMENTS], ids=["plain", "documents"])
@pytest.mark.parametrize("steps", [1, 3])
def test_greedy_equals_the_argmax_of_whole_rows(config, steps):
    """At each length, and from prompts of several lengths in one batch."""
    functions = decode.make_decode(config, ROOM, decode.sampler(0), steps=steps)
    params, tokens, key = split(config)[1], prompts(), jax.random.key(0)
    ids, cache = functions.begin(params, tokens, np.array(LENGTHS, np.int32), key)
    found = [ids]
    for _ in range(6 // steps):
        ids, cache = functions.go_on(params, cache, ids, key)
        found.append(ids)
    expected = [
        greedy(config, row[:length], 7)
        for row, length in zip(tokens, LENGTHS, strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate(found, axis=1), expected)


@pytest.mark.parametrize("config", [PLAIN, DOCUMENTS], ids=["plain", "documents"])
def test_reading_in_pieces_is_reading_the_whole(config):
    """Documents begin and end within pieces and between them."""
    graph, params = split(config)
    model = nnx.merge(graph, params)
    tokens = np.array([[1, 3, 2, 2, 3, 3, 4, 5], [3, 1, 1, 3, 2, 5, 7, 3]], np.int32)
    cache, found = decode.empty_cache(config, 2, 8), []
    for start, end in ((0, 1), (1, 4), (4, 5), (5, 8)):
        hidden, cache = decode.read(model, cache, tokens[:, start:end])
        found.append(model.logits(hidden))
    expected = [whole(config, row) for row in tokens]
    np.testing.assert_allclose(
        np.concatenate(found, axis=1), expected, atol=2e-5, rtol=2e-5
    )


def test_on_a_mesh_as_on_one_device():
    mesh = mesh_of(2, 2, 2)
    params, tokens, key = split(DOCUMENTS)[1], prompts(), jax.random.key(0)
    counts = np.array(LENGTHS, np.int32)

    def of(params, **named):
        functions = decode.make_decode(
            DOCUMENTS, ROOM, decode.sampler(0), steps=4, **named
        )
        ids, cache = functions.begin(params, tokens, counts, key)
        return np.asarray(functions.go_on(params, cache, ids, key)[0])

    shardings = sharding.tree_shardings(mesh, params, LOGICAL_AXES)
    found = of(
        jax.tree.map(jax.device_put, params, shardings),
        mesh=mesh,
    )
    np.testing.assert_array_equal(found, of(params))


def test_nucleus_by_hand():
    """Of .5, .3, .15, .05: the first that reach p, the one that does among them."""
    logits = jnp.log(jnp.array([[0.15, 0.5, 0.05, 0.3]]))
    for top_p, kept in ((0.4, [1]), (0.6, [1, 3]), (0.81, [0, 1, 3])):
        found = np.asarray(decode.nucleus(logits, top_p)[0])
        assert np.flatnonzero(np.isfinite(found)).tolist() == kept
        np.testing.assert_array_equal(found[kept], logits[0][np.array(kept)])


def test_temperature_and_nucleus_say_how_often():
    """At temperature .5 probabilities are squared: .5, .3, .2 become 25, 9, 4 / 38."""
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.3, 0.5, 0.2])), (20_000, 3))

    def shares(temperature, top_p):
        ids = decode.sampler(temperature, top_p)(jax.random.key(1), logits)
        return np.bincount(np.asarray(ids), minlength=3) / 20_000

    np.testing.assert_allclose(shares(0.5, 1), np.array([9, 25, 4]) / 38, atol=0.015)
    # Without the last, which the temperature leaves 4/38 and top_p does not reach.
    np.testing.assert_allclose(shares(0.5, 0.85), [9 / 34, 25 / 34, 0], atol=0.015)
    assert shares(0, 0.1).tolist() == [0, 1, 0]


def test_another_key_draws_others():
    logits = jnp.zeros((100, 5))
    pick = decode.sampler(1.0)
    first, again, other = (pick(jax.random.key(k), logits) for k in (0, 0, 1))
    assert jnp.array_equal(first, again)
    assert not jnp.array_equal(first, other)
