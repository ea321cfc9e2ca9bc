"""Alignments of a small transformer against float64 finite differences in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from dga_jax.mixing.alignment import alignment_step, target_direction, tree_dot

DOMAINS, ROWS, TOKENS, VOCABULARY, WIDTH = 7, 5, 6, 11, 4


def row_losses(params, batch, xp=jnp):
    """One attention and one MLP layer; masked mean of the tokens' losses, [b]."""
    inputs, targets = batch["tokens"][:, :-1], batch["tokens"][:, 1:]
    x = params["embed"][inputs]
    wq, wk, wv = params["attention"]
    scores = xp.einsum("bqd,bkd->bqk", x @ wq, x @ wk)
    causal = np.tril(np.ones((TOKENS, TOKENS), bool))
    scores = xp.where(causal, scores, -1e9)
    scores = xp.exp(scores - scores.max(axis=-1, keepdims=True))
    x = x + (scores / scores.sum(axis=-1, keepdims=True)) @ (x @ wv)
    logits = xp.tanh(x @ params["mlp"]["w"] + params["mlp"]["b"]) @ params["out"]
    top = logits.max(axis=-1, keepdims=True)
    log_total = xp.log(xp.exp(logits - top).sum(axis=-1)) + top[..., 0]
    at_target = xp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    mask = batch["mask"]
    return ((log_total - at_target) * mask).sum(axis=-1) / mask.sum(axis=-1)


def make_params():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    return {
        "embed": normal(VOCABULARY, WIDTH),
        "attention": tuple(normal(WIDTH, WIDTH) for _ in range(3)),
        "mlp": {"w": normal(WIDTH, WIDTH), "b": normal(WIDTH)},
        "out": normal(WIDTH, VOCABULARY),
    }


def make_rows(seed, *leading):
    """Domains differ: each prefers tokens of its own, and its rows' ends are padded."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, VOCABULARY, (*leading, TOKENS + 1)).astype(np.int32)
    lengths = rng.integers(1, TOKENS + 1, (*leading, 1))
    mask = (np.arange(TOKENS) < lengths).astype(np.float32)
    return {"tokens": tokens, "mask": mask}


def numeric_gradients(params, batch):
    """float64 [n, parameters]: central differences of the losses of n rows."""
    flat, unravel = ravel_pytree(params)
    flat = np.asarray(flat, np.float64)
    structure = jax.tree.structure(params)
    shapes = [leaf.shape for leaf in jax.tree.leaves(unravel(flat))]
    cuts = np.cumsum([np.prod(shape) for shape in shapes])[:-1]

    def losses_at(vector):
        parts = np.split(vector, cuts)
        leaves = [
            part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)
        ]
        return row_losses(jax.tree.unflatten(structure, leaves), batch, xp=np)

    width = 1e-6
    columns = [
        (losses_at(flat + width * e) - losses_at(flat - width * e)) / (2 * width)
        for e in np.eye(flat.size)
    ]
    return np.stack(columns, axis=1)


@pytest.fixture(scope="module")
def case():
    """Parameters, target, probes, and what float64 says about them."""
    params, target = make_params(), make_rows(1, 8)
    probes = make_rows(2, DOMAINS, ROWS)
    flat_rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), probes)
    gradients = numeric_gradients(params, flat_rows).reshape(DOMAINS, ROWS, -1)
    target_gradient = numeric_gradients(params, target).mean(axis=0)
    return params, target, probes, gradients, target_gradient


@pytest.mark.parametrize("estimator", ["forward", "reverse"])
def test_alignments_are_inner_products_of_gradients(case, estimator):
    params, target, probes, gradients, target_gradient = case
    direction, norm = target_direction(row_losses, params, target)
    result = alignment_step(row_losses, params, direction, probes, estimator=estimator)

    np.testing.assert_allclose(norm, np.linalg.norm(target_gradient), rtol=1e-5)
    expected = gradients.mean(axis=1) @ target_gradient
    scale = np.linalg.norm(gradients.mean(axis=1), axis=1) * norm
    assert result.alignments.shape == (DOMAINS,)
    assert np.all(np.abs(result.alignments - expected) <= 1e-4 * scale)
    assert np.any(np.abs(expected) > 0.05 * scale)  # else the bound says nothing


@pytest.mark.parametrize("estimator", ["forward", "reverse"])
def test_standard_errors_and_losses_are_those_of_the_rows(case, estimator):
    params, target, probes, gradients, target_gradient = case
    direction, _ = target_direction(row_losses, params, target)
    result = alignment_step(row_losses, params, direction, probes, estimator=estimator)

    rates = gradients @ target_gradient
    expected = rates.std(axis=1, ddof=1) / np.sqrt(ROWS)
    np.testing.assert_allclose(result.standard_errors, expected, rtol=1e-3)
    losses = [
        row_losses(params, jax.tree.map(lambda x, i=i: x[i], probes)).mean()
        for i in range(DOMAINS)
    ]
    np.testing.assert_allclose(result.losses, losses, rtol=1e-5)


def errors_of(nats, tokens, ids=None, **options):
    """(a [k], errors [k]) for rows [k, b] whose summed nats have these derivatives."""
    tokens = jnp.asarray(tokens, jnp.float32)
    scale = tokens.shape[1] / jnp.sum(tokens, axis=1, keepdims=True)
    result = alignment_step(
        scaled_nats,
        jnp.ones(()),
        jnp.ones(()),
        {"nats": jnp.asarray(nats, jnp.float32), "scale": scale + 0 * tokens},
        row_weights=tokens,
        row_ids=None if ids is None else jnp.asarray(ids, jnp.int32),
        **options,
    )
    return np.asarray(result.alignments), np.asarray(result.standard_errors)


def scaled_nats(params, batch):
    return params * batch["nats"] * batch["scale"]


@pytest.mark.parametrize("rows", [8, 3], ids=["distinct", "repeated"])
@pytest.mark.parametrize("lengths", ["full", "short", "short, of other loss", "any"])
@pytest.mark.parametrize("estimator", ["forward", "reverse"])
def test_errors_are_the_spread_over_draws(rows, lengths, estimator):
    """Of `rows` rows, drawn anew each time, eight are read, some again."""
    draws = 3000
    rng = np.random.default_rng(0)
    tokens = rng.choice([1.0, 1 / 8], (draws, rows))
    if lengths == "full":
        tokens[:] = 1
    elif lengths == "any":
        tokens = rng.uniform(0.01, 1, (draws, rows))
    rate = 0.3 + 0.2 * rng.normal(size=tokens.shape) / np.sqrt(tokens)
    if lengths == "short, of other loss":
        rate -= tokens < 1
    again = np.arange(8) % rows
    ids = np.broadcast_to(again, (draws, 8))
    nats = (rate * tokens)[:, again]
    found, errors = errors_of(nats, tokens[:, again], ids, estimator=estimator)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(found.std(ddof=1), rel=0.2)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3]))
def test_rows_read_again_and_rows_without_tokens_tell_nothing(seed, times):
    """Nor does the unit of their weights, or the order that they come in.

    Of twelve rows a domain, those that are not four read again have no tokens.
    """
    empty = 12 - 4 * times
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 9, (5, 4))
    nats = rng.normal(size=(5, 4)) * tokens
    plain, errors = errors_of(nats, tokens)
    order = rng.permutation(4 * times + empty)

    def more(x):
        return np.pad(np.tile(x, times), ((0, 0), (0, empty)))[:, order]

    ids = np.pad(np.tile(np.arange(4), times), (0, empty), constant_values=9)[order]
    ids = np.broadcast_to(ids, (5, len(ids)))
    found, same = errors_of(more(nats), 3 * more(tokens), ids)
    # The same nats over three times the tokens.
    np.testing.assert_allclose(3 * found, plain, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(3 * same, errors, rtol=1e-3)


@pytest.mark.parametrize("estimator", ["forward", "reverse"])
@pytest.mark.parametrize(
    ("tokens", "ids"),
    [
        ([7.0, 7.0, 7.0], [4, 4, 4]),
        ([7.0, 0.0, 0.0], [4, 5, 6]),
        ([7.0, 7.0, 0.0], [4, 4, 5]),
        ([7.0], [0]),
    ],
)
def test_of_one_row_there_is_no_error(tokens, ids, estimator):
    """Not 0, as the spread of its repetitions would have it."""
    nats = 0.1 * np.array(tokens)
    found, errors = errors_of([nats], [tokens], [ids], estimator=estimator)
    assert found == pytest.approx(0.1)
    assert np.isnan(errors).all()


@pytest.mark.parametrize(
    ("domains", "chunk", "estimator"),
    [(7, chunk, "forward") for chunk in (1, 3, 6, 7, 100)]
    + [(6, 3, "forward"), (7, 3, "reverse")],
)
def test_chunks_change_nothing(case, domains, chunk, estimator):
    params, target, probes, *_ = case
    direction, _ = target_direction(row_losses, params, target)
    probes = jax.tree.map(lambda x: x[:domains], probes)
    align = functools.partial(alignment_step, row_losses, params, direction, probes)
    parts = align(estimator=estimator, chunk=chunk)
    for got, expected in zip(parts, align(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chunk", [None, 2])
def test_domains_that_do_not_have_equally_many_rows(chunk):
    """Each as if it were alone, wherever its rows lie; also rows that are drawn twice.

    Domain 2 has one row, domain 3 none but the same one.
    """
    rng = np.random.default_rng(5)
    counts = np.array([7, 4, 1, 4])
    owners = rng.permutation(np.repeat(np.arange(4), counts))
    ids = 9 * owners + np.where(owners == 3, 0, rng.integers(0, 4, 16))
    _, ids = np.unique(ids, return_inverse=True)
    tokens = rng.integers(1, 9, 16).astype(np.float32)
    nats = rng.normal(size=16).astype(np.float32)
    for label in np.unique(ids):  # equal ids are one row
        tokens[ids == label], nats[ids == label] = tokens[ids == label][0], 0.5
    sums = np.bincount(owners, tokens)
    scale = (counts / sums)[owners].astype(np.float32)
    result = alignment_step(
        scaled_nats,
        jnp.ones(()),
        jnp.ones(()),
        {"nats": nats.reshape(4, 4), "scale": scale.reshape(4, 4)},
        row_weights=tokens.reshape(4, 4),
        row_ids=jnp.asarray(ids.reshape(4, 4), jnp.int32),
        owners=jnp.asarray(owners.reshape(4, 4), jnp.int32),
        chunk=chunk,
    )
    for i in range(4):
        here = owners == i
        found, error = errors_of([nats[here]], [tokens[here]], [ids[here]])
        assert result.alignments[i] == pytest.approx(float(found[0]), rel=1e-5)
        np.testing.assert_allclose(result.standard_errors[i], error[0], rtol=1e-4)
        assert result.losses[i] == pytest.approx(float(found[0]), rel=1e-5)
    assert np.isnan(result.standard_errors).tolist() == [False, False, True, True]


def test_chunks_bound_the_memory(case):
    params = case[0]
    many = make_rows(3, 64, ROWS)

    def temporaries(chunk):
        lowered = alignment_step.lower(row_losses, params, params, many, chunk=chunk)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporaries(4) < temporaries(None) / 4


@pytest.mark.parametrize("estimator", ["forward", "reverse"])
def test_one_domain_and_one_row(case, estimator):
    params, target, probes, gradients, target_gradient = case
    direction, _ = target_direction(row_losses, params, target)
    single = jax.tree.map(lambda x: x[:1, :1], probes)
    result = alignment_step(row_losses, params, direction, single, estimator=estimator)
    expected = gradients[0, 0] @ target_gradient
    np.testing.assert_allclose(result.alignments, [expected], rtol=1e-3)
    assert result.standard_errors.shape == (1,)
    assert np.isnan(result.standard_errors).all()


def test_direction_need_not_be_the_gradient(case):
    params, _, probes, gradients, _ = case
    rng = np.random.default_rng(4)
    direction = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), params
    )
    result = alignment_step(row_losses, params, direction, probes)
    expected = gradients.mean(axis=1) @ np.asarray(ravel_pytree(direction)[0])
    np.testing.assert_allclose(result.alignments, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 4, 8])
def test_target_direction_in_chunks(case, chunk):
    params, target, _, _, target_gradient = case
    direction, norm = target_direction(row_losses, params, target, chunk=chunk)
    assert jax.tree.structure(direction) == jax.tree.structure(params)
    difference = np.asarray(ravel_pytree(direction)[0]) - target_gradient
    assert np.linalg.norm(difference) <= 1e-5 * np.linalg.norm(target_gradient)
    np.testing.assert_allclose(norm, np.linalg.norm(target_gradient), rtol=1e-5)


def test_wrong_arguments(case):
    params, target, probes, *_ = case
    align = functools.partial(alignment_step, row_losses, params, params, probes)
    with pytest.raises(ValueError, match="estimator='sideways'"):
        align(estimator="sideways")
    with pytest.raises(ValueError, match="chunk=0"):
        align(chunk=0)
    for chunk in (0, -8, 3, 16):
        with pytest.raises(ValueError, match=f"chunk={chunk} .* 8 target rows"):
            target_direction(row_losses, params, target, chunk=chunk)


def test_tree_dot_is_taken_in_float32():
    value = 1 + 2**-7  # exact in bfloat16, its square is not
    tree = {"a": jnp.full((4096,), value, jnp.bfloat16), "b": [jnp.ones((2, 2))]}
    assert tree_dot(tree, tree) == 4096 * value**2 + 4
