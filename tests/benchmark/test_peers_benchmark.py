import builtins
import dataclasses
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dga_jax.benchmark import peers, peers_linen
from dga_jax.benchmark.step import load_config
from dga_jax.model.transformer import matrix_parameter_count
from dga_jax.training import config as configs

TEXT = "configs/quickstart.py:debug,model.vocab_size=256,train.seq_len=32"
TINY = dataclasses.replace(
    peers.QUICK, configs=(TEXT,), rounds=1, steps=1, large=32, matmul_gflop=1e-4
)


def losses(move, steps):
    found = [move() for _ in range(steps)]
    return [float(getattr(x, "loss", x)) for x in found]


def linen(text=TEXT):
    """Our model's config, and the peer's sizes and decoder."""
    config = load_config(text)
    model = configs.model_config(config)
    sizes = peers.peer_sizes(config, model)
    return model, sizes, peers_linen.Decoder(**sizes)


@pytest.mark.parametrize("text", [TEXT, *peers.Size().configs])
def test_matrices_of_peers_are_as_large_as_ours(text):
    model, _, peer = linen(text)
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    shapes = jax.eval_shape(peer.init, jax.random.key(0), tokens)["params"]
    del shapes["positions"]
    scales = (2 * model.num_layers + 1) * model.d_model
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes) if len(leaf.shape) > 1]
    assert sum(sizes) == matrix_parameter_count(model) - scales
    assert scales < sum(sizes) / 100


def test_flops_are_those_that_the_compiler_counts():
    text = f"{TEXT},model.d_model=256,train.seq_len=64"
    *_, peer = linen(text)
    params = jax.eval_shape(
        peer.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 1), jnp.int32)
    )
    rows = jax.ShapeDtypeStruct((8, 65), jnp.int32)
    gradient = jax.jit(jax.grad(peers_linen.mean_nll(peer)))
    counted = gradient.lower(params, rows).compile().cost_analysis()["flops"]
    ours = configs.flops_per_token(load_config(text)) * 8 * 64
    assert counted == pytest.approx(ours, rel=0.1)


@pytest.mark.slow
def test_all_learn_the_same_rows(quick_compilation):
    found = peers.contenders(load_config(TEXT), None)
    assert set(found) == {peers.OURS, peers.NANODO}
    assert found[peers.NANODO].parameters > found[peers.OURS].parameters  # positions
    for one in found.values():
        first, *_, last = losses(one.step, 8)
        assert first == pytest.approx(math.log(256), rel=0.1)
        assert last < 0.97 * first


def test_peer_sees_no_later_token():
    *_, peer = linen()
    tokens = np.arange(16, dtype=np.int32)[None]
    params = jax.jit(peer.init)(jax.random.key(0), tokens)
    changed = tokens.copy()
    changed[0, 10] = 99
    apply = jax.jit(peer.apply)
    before, after = apply(params, tokens), apply(params, changed)
    np.testing.assert_array_equal(before[:, :10], after[:, :10])
    assert (before[:, 10:] != after[:, 10:]).any(axis=-1).all()


def test_tables_without_torch(quick_compilation, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "dga_jax.benchmark.peers_torch", raising=False)
    products, trained = peers.run(dataclasses.replace(TINY, goals=True))
    assert "PyTorch is not measured" in products.title
    for name, (of_jax, of_torch, ratio) in products.rows.items():
        assert of_jax > 0, name
        assert of_torch is ratio is None
    assert list(products.rows) == ["[32, 32] x [32, 32]", "[256, 64] x [64, 384]"]
    assert trained.rows[peers.TORCH] == (None,) * 5
    assert trained.rows[peers.NANODO][4] == 1
    for name in (peers.OURS, peers.NANODO):
        assert all(value > 0 for value in trained.rows[name]), name
    (check,) = trained.checks
    assert check.value == trained.rows[peers.OURS][4]
    assert check.limit == 0.77
    assert "Not comparable" in str(trained)


def test_torch_that_fails_without_a_word(monkeypatch):
    imported = builtins.__import__

    def without_torch(name, scope=None, local=None, names=(), level=0):
        if "peers_torch" in (names or ()):
            raise ImportError
        return imported(name, scope, local, names, level)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    assert peers._torch().said == "PyTorch is not measured (ImportError())"


def test_torch_has_the_same_architecture():
    torch = pytest.importorskip("torch")
    from dga_jax.benchmark import peers_torch

    _, sizes, peer = linen()
    tokens = np.random.default_rng(0).integers(0, 256, (2, 32), np.int32)
    params = jax.jit(peer.init)(jax.random.key(0), tokens)
    other = peers_torch.Decoder(**sizes)
    assert peers_torch.parameter_count(other) == sum(
        leaf.size for leaf in jax.tree.leaves(params)
    )
    _copy(params["params"], other, torch)
    theirs = other(torch.from_numpy(tokens.astype(np.int64))).detach().numpy()
    np.testing.assert_allclose(jax.jit(peer.apply)(params, tokens), theirs, atol=1e-4)


def _copy(params, decoder, torch):
    """Puts the parameters of a Linen decoder into one of PyTorch."""

    def put(parameter, *arrays):
        width = arrays[0].shape[0]
        flat = [np.reshape(a, (width, -1)) for a in arrays]
        value = np.concatenate(flat, axis=1).T
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.array(value)).reshape(parameter.shape))

    with torch.no_grad():
        for name in ("embed", "positions"):
            table = np.array(params[name]["embedding"])
            getattr(decoder, name).weight.copy_(torch.from_numpy(table))
    put(decoder.final_norm.weight, params["LayerNorm_0"]["scale"])
    for i, block in enumerate(decoder.blocks):
        theirs = params[f"Block_{i}"]
        attention = theirs["Attention_0"]
        kernels = [attention[name]["kernel"] for name in ("query", "key", "value")]
        put(block.query_key_value.weight, *kernels)
        out = attention["out"]["kernel"]
        put(block.out.weight, np.reshape(out, (-1, out.shape[-1])))
        put(block.up.weight, theirs["Dense_0"]["kernel"])
        put(block.down.weight, theirs["Dense_1"]["kernel"])
        put(block.attention_norm.weight, theirs["LayerNorm_0"]["scale"])
        put(block.mlp_norm.weight, theirs["LayerNorm_1"]["scale"])


def test_torch_learns_and_is_in_the_tables(quick_compilation):
    pytest.importorskip("torch")
    products, trained = peers.run(TINY)
    assert "CPU threads" in products.title
    for table in (products, trained):
        assert all(value > 0 for row in table.rows.values() for value in row)
    from dga_jax.benchmark import peers_torch

    config, (_, sizes, _) = load_config(TEXT), linen()
    rows = np.random.default_rng(0).integers(0, 256, (8, 33), np.int32)
    adam = configs.optimizer_config(config)
    step = peers_torch.make_step(peers_torch.Decoder(**sizes), adam, rows)
    first, *_, last = losses(step, 12)
    assert first == pytest.approx(math.log(256), rel=0.1)
    assert last < 0.9 * first
