"""With `document_end`, a document in a row is computed as if it were alone there."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from documents import alone, packed_rows, pieces_of
from flax import nnx
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small import TINY, split

from dga_jax.data.store import PAD
from dga_jax.model.attention import document_positions
from dga_jax.model.kernels import within_documents
from dga_jax.model.loss import make_row_losses

LENGTH = 12
PLAIN = dataclasses.replace(TINY, vocab_size=11)
FIRST = dataclasses.replace(PLAIN, document_end=0)  # what padding is read as, too
LAST = dataclasses.replace(PLAIN, document_end=10, remat="full")


@functools.partial(jax.jit, static_argnums=0)
def token_losses(config, params, rows):
    """[B, L], 0 where nothing is predicted."""
    logits = nnx.merge(split(config)[0], params)(jnp.maximum(rows[:, :-1], 0))
    targets = rows[:, 1:]
    picked = jnp.take_along_axis(
        jax.nn.log_softmax(logits), jnp.maximum(targets, 0)[..., None], axis=-1
    )
    return jnp.where(targets == PAD, 0, -picked[..., 0])


@functools.partial(jax.jit, static_argnums=0)
def rates(config, params, tangent, rows):
    """Gradient of the summed losses, and its product with a tangent, forward-mode."""
    losses = make_row_losses(split(config)[0], chunk=5)

    def loss(p):
        sums = losses(p, rows)
        return jnp.sum(sums.nll) + 0.1 * jnp.sum(sums.z)

    value, gradient = jax.value_and_grad(loss)(params)
    return value, gradient, jax.jvp(loss, (params,), (tangent,))[1]


def in_place_of(losses_alone, rows, end):
    """Losses of `alone(rows)` where their tokens stand in the rows, [B, L]."""
    found, left = np.zeros((len(rows), rows.shape[1] - 1)), iter(losses_alone)
    for row, place in zip(rows, found, strict=True):
        for piece in pieces_of(row, end):
            place[piece] = next(left)[: piece.stop - piece.start]
    return found


def check_law(config, rows):
    """By token; then sums, gradients and forward mode. Alone, nothing is masked."""
    end, params = config.document_end, split(PLAIN)[1]
    separate = alone(rows, end)
    expected = in_place_of(token_losses(PLAIN, params, separate), rows, end)
    np.testing.assert_allclose(
        token_losses(config, params, rows), expected, rtol=1e-5, atol=1e-5
    )
    rng = np.random.default_rng(0)
    tangent = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(np.float32), params
    )
    value, gradient, rate = rates(config, params, tangent, rows)
    same = rates(PLAIN, params, tangent, separate)
    np.testing.assert_allclose(value, same[0], rtol=1e-5)
    for found, one in zip(*map(jax.tree.leaves, (gradient, same[1])), strict=True):
        scale = max(float(jnp.abs(one).max()), 1e-3)
        np.testing.assert_allclose(found, one, atol=1e-5 * scale, rtol=1e-4)
    products = jax.tree.map(lambda g, t: jnp.sum(jnp.abs(g * t)), gradient, tangent)
    bound = 1e-5 * float(sum(jax.tree.leaves(products))) + 1e-6
    assert abs(float(rate - same[2])) <= bound
    by_gradient = jax.tree.map(lambda g, t: jnp.vdot(g, t), gradient, tangent)
    assert abs(float(rate - sum(jax.tree.leaves(by_gradient)))) <= bound


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([FIRST, LAST]), st.integers(0, 2**32 - 1))
def test_a_document_in_a_row_is_as_one_alone(config, seed):
    rng = np.random.default_rng(seed)
    check_law(config, packed_rows(rng, 3, LENGTH, config.document_end, 11))


@pytest.mark.parametrize("config", [FIRST, LAST], ids=["first id", "last id"])
def test_rows_of_ends_and_of_padding(config):
    rows = np.full((3, LENGTH + 1), config.document_end, np.int32)
    rows[1] = PAD
    rows[2, 1:] = PAD
    check_law(config, rows)


def test_documents_of_a_store(byte_store):
    """Rows of text that hold an end; of the last of a domain a part is padding."""
    rows = byte_store.read("train", np.arange(byte_store.num_rows("train")))
    end = byte_store.end_of_text
    within, padded = (rows[:, 1:-1] == end).any(axis=1), (rows == PAD).any(axis=1)
    rows = np.concatenate([rows[within][:20], rows[padded][:4]])
    assert len(rows) == 24
    params = split(TEXT)[1]
    expected = in_place_of(token_losses(TEXT, params, alone(rows, end)), rows, end)
    masked = dataclasses.replace(TEXT, document_end=end)
    np.testing.assert_allclose(
        token_losses(masked, params, rows), expected, rtol=1e-5, atol=1e-5
    )
    crossing = np.abs(token_losses(TEXT, params, rows) - expected)
    assert crossing.max() > 0.01  # without the mask it is another loss
    assert crossing[0, pieces_of(rows[0], end)[0]].max() < 1e-4


TEXT = dataclasses.replace(PLAIN, vocab_size=257)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, LENGTH - 1), st.integers(0, 2**32 - 1))
def test_what_stands_before_a_document_changes_no_bit(place, seed):
    rng = np.random.default_rng(seed)
    rows = packed_rows(rng, 3, LENGTH, 10, 11)
    rows[:, place] = np.where(rows[:, place] == PAD, PAD, 10)
    other = np.array(rows)
    other[:, :place] = rng.integers(0, 11, (3, place))
    params = split(PLAIN)[1]
    before, after = (token_losses(LAST, params, r)[:, place:] for r in (rows, other))
    np.testing.assert_array_equal(before, after)


def test_rows_of_one_document_are_as_without_the_mask():
    rows = np.random.default_rng(0).integers(0, 10, (3, LENGTH + 1), np.int32)
    params = split(PLAIN)[1]
    np.testing.assert_allclose(
        token_losses(LAST, params, rows), token_losses(PLAIN, params, rows), rtol=1e-6
    )


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(0, 3))
@example([1, 1, 0], 1)
def test_positions_and_what_they_see(tokens, end):
    """By the definition: documents are numbered by the ends up to and with a token."""
    document = np.cumsum(np.array(tokens) == end)
    expected = [t - np.flatnonzero(document == d)[0] for t, d in enumerate(document)]
    positions = document_positions(jnp.array([tokens]), end)
    assert positions.tolist() == [expected]
    same = document[:, None] == document
    np.testing.assert_array_equal(
        within_documents(positions)[0, 0], same & np.tri(len(tokens), dtype=bool)
    )


@pytest.mark.parametrize("remat", ["none", "full"])
def test_the_mask_is_held_once(remat):
    """Not by layer, nor by head, by the gradient: B L² bytes and what is B L."""

    def temporaries(end):
        config = dataclasses.replace(
            PLAIN, num_layers=4, num_heads=8, num_kv_heads=8, remat=remat
        )
        params = split(config)[1]
        graph = split(dataclasses.replace(config, document_end=end))[0]
        losses = make_row_losses(graph, chunk=64)
        gradient = jax.jit(jax.grad(lambda p, r: jnp.sum(losses(p, r).nll)))
        compiled = gradient.lower(params, np.zeros((4, 65), np.int32)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    more = temporaries(10) - temporaries(None)
    assert more < 2 * 4 * 64 * 64


@pytest.mark.parametrize("end", [-1, 11])
def test_an_end_that_is_no_token(end):
    with pytest.raises(ValueError, match=f"document_end={end} is not in a vocabulary"):
        dataclasses.replace(PLAIN, document_end=end)
