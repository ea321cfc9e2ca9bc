import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from flax import nnx

from configs import quickstart
from dga_jax.model.attention import rotate
from dga_jax.model.transformer import (
    Transformer,
    matrix_parameter_count,
    parameter_count,
)
from dga_jax.training import config as configs

TINY = dataclasses.replace(
    small.TINY, vocab_size=257, d_model=32, num_kv_heads=4, d_ff=64
)


@pytest.fixture(scope="module")
def tokens(byte_store):
    return byte_store.read("train", np.arange(3))[:, :-1]


def logits_of(config, tokens, seed=0):
    graph, params = nnx.split(Transformer(config, rngs=nnx.Rngs(seed)), nnx.Param)
    return jax.jit(lambda p, t: nnx.merge(graph, p)(t))(params, tokens)


def config_of(name):
    """What `configs/NAME.py` trains; the module's name is no identifier."""
    module = __import__(f"configs.{name}", fromlist=["get_config"])
    return configs.model_config(module.get_config())


@pytest.mark.parametrize(
    ("name", "count"),
    [("125m", 123_587_328), ("350m", 359_842_816), ("750m", 778_169_600)],
)
def test_parameter_counts(name, count):
    config = config_of(name)
    assert (config.vocab_size, config.dtype) == (50_304, "bfloat16")
    assert config.remat == "full"
    assert parameter_count(config) == count
    assert matrix_parameter_count(config) == count


def test_parameter_counts_by_hand():
    d, f, v, n, kv = 32, 64, 257, 2, 16
    layer = d * d * 2 + d * kv * 2 + 3 * d * f + 2 * d
    untied = dataclasses.replace(TINY, num_kv_heads=2, tied_embeddings=False)
    assert parameter_count(untied) == n * layer + d + 2 * v * d
    assert matrix_parameter_count(untied) == n * layer + d + v * d


@pytest.mark.parametrize(
    ("remat", "unrolled"), [("dots", False), ("full", True), ("none", True)]
)
def test_how_layers_are_computed_does_not_matter(remat, unrolled, tokens):
    """Of the logits' squares, the gradient too; no layer is a loop when unrolled."""

    def program(config):
        graph, params = nnx.split(Transformer(config, rngs=nnx.Rngs(0)), nnx.Param)
        params = nnx.to_pure_dict(params)
        loss = jax.value_and_grad(lambda p: jnp.sum(nnx.merge(graph, p)(tokens) ** 2))
        return jax.jit(loss).lower(params).compile(), params

    other = dataclasses.replace(TINY, remat=remat, unrolled=unrolled)
    (plain, params), (compiled, same) = program(TINY), program(other)
    assert (" while(" in compiled.as_text()) is not unrolled
    jax.tree.map(np.testing.assert_array_equal, params, same)
    for found, expected in zip(
        jax.tree.leaves(compiled(params)), jax.tree.leaves(plain(params)), strict=True
    ):
        scale = float(jnp.abs(expected).max())
        np.testing.assert_allclose(found, expected, atol=1e-5 * scale)


def test_what_the_backward_pass_keeps():
    """Less by each name, in bytes that go from the forward to the backward pass."""

    def kept(remat):
        config = dataclasses.replace(TINY, num_layers=6, unrolled=True, remat=remat)
        graph, params = nnx.split(Transformer(config, rngs=nnx.Rngs(0)), nnx.Param)
        tokens = jnp.zeros((8, 128), jnp.int32)

        def backward(params):
            return jax.vjp(lambda p: nnx.merge(graph, p).hidden(tokens), params)[1]

        leaves = jax.tree.leaves(jax.eval_shape(backward, params))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)

    none, dots, full = (kept(remat) for remat in ("none", "dots", "full"))
    assert none > 1.2 * dots > 2 * full


def test_an_unknown_remat():
    with pytest.raises(ValueError, match="none, dots, full"):
        dataclasses.replace(TINY, remat="some")


def test_quickstart_fits_the_sample(sample_store):
    config = configs.model_config(quickstart.get_config())
    assert config.d_model % config.num_heads == 0
    assert quickstart.get_config().train.seq_len == sample_store.seq_len


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("tied", [True, False])
def test_the_future_is_not_seen(kv_heads, tied, tokens):
    config = dataclasses.replace(TINY, num_kv_heads=kv_heads, tied_embeddings=tied)
    changed = np.array(tokens)
    changed[:, 20] = (changed[:, 20] + 1) % 256
    before, after = logits_of(config, tokens), logits_of(config, changed)
    assert before.shape == (*tokens.shape, 257)
    assert before.dtype == jnp.float32
    np.testing.assert_array_equal(before[:, :20], after[:, :20])
    moved = np.abs(before - after).max(axis=(0, 2))
    assert (moved[20:] > 1e-6).all()  # and the past is


def test_rows_do_not_see_each_other(tokens):
    changed = np.array(tokens)
    changed[1] = changed[2]
    before, after = logits_of(TINY, tokens), logits_of(TINY, changed)
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(after[1], after[2])


def test_grouped_heads_are_repeated_heads(tokens):
    """Two key-value heads for four queries: the same as four, in equal pairs."""
    grouped = dataclasses.replace(TINY, num_kv_heads=2)
    graph, params = nnx.split(Transformer(grouped, rngs=nnx.Rngs(0)), nnx.Param)
    full_graph = nnx.split(Transformer(TINY, rngs=nnx.Rngs(0)), nnx.Param)[0]
    pure = nnx.to_pure_dict(params)
    expected = nnx.merge(graph, params)(tokens)
    for name in ("key", "value"):
        kernel = pure["blocks"]["attention"][name]["kernel"]
        heads = kernel.reshape(*kernel.shape[:2], 2, 8).repeat(2, axis=2)
        pure["blocks"]["attention"][name]["kernel"] = heads.reshape(2, 32, 32)
    found = nnx.merge(full_graph, pure)(tokens)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "positions",
    [
        None,
        [[0, 2, 4, 6, 8, 10, 12, 14, 16], [0, 1, 2, 3, 4, 5, 6, 7, 8]],
        [[0, 1, 0, 1, 2, 3, 0, 0, 1], [0, 0, 0, 1, 2, 3, 4, 5, 6]],
    ],
    ids=["none", "one document", "documents"],
)
def test_attention_by_hand(positions):
    """One layer's attention against softmax(QKᵀ/√K) V, head by head.

    Positions, where there are any, are what is rotated by; twice as far apart is
    another result.
    """
    index = np.arange(9)
    begins = np.zeros((2, 9), int)
    if positions is not None:
        positions = jnp.array(positions)
        begins = np.maximum(index - positions, 0)
    model = Transformer(TINY, rngs=nnx.Rngs(0))
    graph, layers = nnx.split(model.blocks)
    attention = nnx.merge(graph, jax.tree.map(lambda x: x[0], layers)).attention
    x = jax.random.normal(jax.random.key(0), (2, 9, 32))

    def heads(kernel):
        return (x @ kernel[...]).reshape(2, 9, 4, 8)

    q = rotate(heads(attention.query.kernel), TINY.rope_theta, positions)
    k = rotate(heads(attention.key.kernel), TINY.rope_theta, positions)
    v = heads(attention.value.kernel)
    scores = jnp.einsum("blhk,bmhk->bhlm", q, k) / np.sqrt(8)
    seen = np.tri(9, dtype=bool) & (index >= begins[..., None])
    scores = jnp.where(seen[:, None], scores, -jnp.inf)
    mixed = jnp.einsum("bhlm,bmhk->blhk", jax.nn.softmax(scores), v)
    expected = mixed.reshape(2, 9, 32) @ attention.out.kernel[...]
    np.testing.assert_allclose(attention(x, positions), expected, atol=1e-5)


def test_rotary_products_depend_on_distance_alone():
    query, key = jax.random.normal(jax.random.key(1), (2, 8))
    everywhere = jnp.broadcast_to(jnp.stack([query, key]), (1, 12, 2, 8))
    rotated = rotate(everywhere, 100.0)[0]
    products = rotated[:, 0] @ rotated[:, 1].T
    for distance in range(-5, 6):
        np.testing.assert_allclose(
            np.diagonal(products, distance), products[5, 5 + distance], atol=1e-4
        )
    assert np.ptp(products[0]) > 0.1  # and on it they do depend
    norms = jnp.linalg.norm(rotated, axis=-1)
    np.testing.assert_allclose(norms, jnp.broadcast_to(norms[0], norms.shape), 1e-5)
    np.testing.assert_array_equal(rotated[0], everywhere[0, 0])


def test_rotary_positions_are_those_of_the_row_unless_given():
    x = jax.random.normal(jax.random.key(2), (2, 6, 2, 8))
    anew = rotate(x, 100.0, jnp.array([[0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 4, 5]]))
    np.testing.assert_array_equal(anew[0, :3], rotate(x[:1, :3], 100.0)[0])
    np.testing.assert_array_equal(anew[0, 3:], rotate(x[:1, 3:], 100.0)[0])
    np.testing.assert_array_equal(anew[1], rotate(x, 100.0)[1])


def test_rotary_angles_stay_exact_in_bfloat16():
    x = jnp.ones((1, 2000, 1, 8), jnp.bfloat16)
    exact = rotate(x.astype(jnp.float32), 1e4)
    np.testing.assert_allclose(rotate(x, 1e4).astype(jnp.float32), exact, atol=0.01)


def test_bfloat16_is_close_to_float32(tokens):
    exact = logits_of(TINY, tokens)
    rough = logits_of(dataclasses.replace(TINY, dtype="bfloat16"), tokens)
    assert rough.dtype == jnp.float32
    scale = float(jnp.std(exact))
    error = float(jnp.abs(rough - exact).max())
    assert 0 < error < 0.1 * scale


def test_parameters_are_float32_whatever_the_activations():
    model = Transformer(dataclasses.replace(TINY, dtype="bfloat16"), rngs=nnx.Rngs(0))
    for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)):
        assert leaf.dtype == jnp.float32


def test_initial_scales():
    config = dataclasses.replace(TINY, d_model=256, d_ff=512, num_layers=8)
    params = nnx.to_pure_dict(
        nnx.state(Transformer(config, rngs=nnx.Rngs(0)), nnx.Param)
    )
    block = params["blocks"]
    spread = {
        0.02: params["embed"]["embedding"],
        256**-0.5: block["attention"]["query"]["kernel"],
        (256 * 16) ** -0.5: block["attention"]["out"]["kernel"],
        (512 * 16) ** -0.5: block["mlp"]["down"]["kernel"],
    }
    for expected, kernel in spread.items():
        assert float(jnp.std(kernel)) == pytest.approx(expected, rel=0.02)
    kernels = block["mlp"]["up"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1])  # every layer has its own values
