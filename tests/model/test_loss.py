import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from flax import nnx
from small import split

from dga_jax.benchmark.program import arrays
from dga_jax.data.store import PAD
from dga_jax.model.loss import Head, make_row_losses

TINY = dataclasses.replace(small.TINY, vocab_size=257)


@pytest.fixture(scope="module")
def rows(byte_store):
    """Real text; one row whole, one half padded, one without a predicted token."""
    rows = byte_store.read("train", np.arange(4))
    rows[1, 17:] = PAD
    rows[2, 1:] = PAD
    return rows


def direct(config, params, rows):
    """Summed losses, log² Z and counts of each row, from the logits of all of it."""
    logits = nnx.merge(split(config)[0], params)(jnp.maximum(rows[:, :-1], 0))
    targets = rows[:, 1:]
    real = targets != PAD
    log_z = jax.nn.logsumexp(logits, axis=-1)
    index = jnp.maximum(targets, 0)[..., None]
    picked = jnp.take_along_axis(logits, index, axis=-1)[..., 0]
    return (
        jnp.sum(jnp.where(real, log_z - picked, 0), axis=1),
        jnp.sum(jnp.where(real, log_z**2, 0), axis=1),
        jnp.sum(real, axis=1),
    )


@pytest.mark.parametrize(
    ("chunk", "tied"),
    [(1, True), (5, True), (31, True), (32, True), (100, True), (5, False)],
)
def test_any_chunk_gives_the_direct_loss(chunk, tied, rows):
    config = dataclasses.replace(TINY, tied_embeddings=tied)
    graph, params = split(config)
    losses = jax.jit(make_row_losses(graph, chunk=chunk))(params, rows)
    for found, expected in zip(losses, direct(config, params, rows), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert losses.count.tolist() == [32, 16, 0, 32]
    assert losses.nll[2] == losses.z[2] == 0


HEADS = {
    "sum": Head(),
    "index": Head(indexed=True),
    "copies": Head(copies=2),
    "index of copies": Head(copies=2, indexed=True),
    "little": Head(budget=4 * 4 * 257 * 7),  # 7 positions of 4 rows
    "little of two": Head(budget=2 * 4 * 257 * 7, copies=2),
}


@pytest.mark.parametrize("name", HEADS)
def test_any_head_gives_the_direct_loss(name, rows):
    graph, params = split(TINY)
    losses = jax.jit(make_row_losses(graph, head=HEADS[name]))
    expected = direct(TINY, params, rows)
    for found, want in zip(losses(params, rows), expected, strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
    # Copies that do not divide the rows are left out.
    for found, want in zip(losses(params, rows[:3]), expected, strict=True):
        np.testing.assert_allclose(found, want[:3], rtol=1e-5, atol=1e-5)


def test_the_chunk_follows_from_the_budget():
    """750M on eight devices, a microbatch of 8 rows each: 1.65 GB of logits in all."""
    head = Head(budget=2**29, copies=8)
    assert head.chunk(64, 1024, 50_304) == 256  # 4 alike, where 333 positions fit
    assert head.chunk(65, 1024, 50_304) == 256
    assert head.chunk(16, 1024, 50_304) == 1024
    assert dataclasses.replace(head, shards=2).chunk(64, 1024, 50_304) == 512
    assert dataclasses.replace(head, copies=1).chunk(64, 1024, 50_304) == 41
    assert Head(budget=1).chunk(64, 1024, 50_304) == 1  # never none


def test_no_more_logits_are_held_than_the_budget_allows(rows):
    graph, params = split(TINY)
    losses = make_row_losses(graph, head=HEADS["little"])
    gradient = jax.grad(lambda p: jnp.sum(losses(p, rows).nll))
    text = jax.jit(gradient).lower(params).compile().as_text()
    shapes = [array.shape for array in arrays(text) if array.kind == "f32"]
    # 32 positions in 5 chunks of 7; the unembedding's side has 257, too.
    assert max(np.prod(s) for s in shapes if 257 in s and 16 not in s) == 28 * 257


@pytest.mark.parametrize(
    ("chunk", "remat", "name"),
    [
        (0, "none", "sum"),
        (5, "full", "index"),
        (0, "none", "index"),
        (5, "none", "copies"),
    ],
)
def test_gradients_are_those_of_the_direct_loss(chunk, remat, name, rows):
    config = dataclasses.replace(TINY, remat=remat)
    graph, params = split(config)
    losses = make_row_losses(graph, chunk=chunk, head=HEADS[name])

    def of_chunks(p):
        sums = losses(p, rows)
        return jnp.sum(sums.nll) + 0.1 * jnp.sum(sums.z)

    def of_all(p):
        nll, z, _ = direct(TINY, p, rows)
        return jnp.sum(nll) + 0.1 * jnp.sum(z)

    value, gradient = jax.jit(jax.value_and_grad(of_chunks))(params)
    expected_value, expected = jax.jit(jax.value_and_grad(of_all))(params)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    for found, want in zip(
        jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(found, want, atol=1e-4 * float(jnp.abs(want).max()))


def test_what_padding_hides_does_not_matter(byte_store):
    """A padded row has the loss of the part before, whatever stood behind."""
    rows = byte_store.read("train", np.arange(2))
    graph, params = split(TINY)
    losses = jax.jit(make_row_losses(graph, chunk=8))
    padded = np.array(rows)
    padded[:, 11:] = PAD
    short = losses(params, rows[:, :11])
    for found, expected in zip(losses(params, padded), short, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_uniform_model_pays_log_v(rows):
    graph, params = split(TINY)
    params = jax.tree.map(jnp.zeros_like, params)
    losses = make_row_losses(graph, chunk=8)(params, rows)
    np.testing.assert_allclose(losses.nll, losses.count * np.log(257), rtol=1e-5)
