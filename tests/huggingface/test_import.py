"""Models of the Hugging Face ecosystem compute here what they compute there."""

import json

import jax
import numpy as np
import pytest
from flax import nnx, traverse_util
from hf_models import MODELS, VOCAB, logits, opened, saved

from dga_jax.huggingface import architecture, layout, tensors, weights
from dga_jax.model.transformer import ModelConfig, abstract


def read(directory, **fields):
    """Config and parameters of a directory."""
    found = architecture.model_fields(architecture.read_config(directory, "DIR"), "DIR")
    found.pop("max_positions")
    config = ModelConfig(**found | {"remat": "none"} | fields)
    tensors = weights.check(directory, config, "DIR")
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        abstract(config)[1],
    )
    return config, weights.load(tensors, config, shapes)


def ours(directory, tokens, **fields):
    config, params = read(directory, **fields)
    graph = abstract(config)[0]
    compute = jax.jit(lambda params, tokens: nnx.merge(graph, params)(tokens))
    return np.asarray(compute(params, tokens))


def tokens_of(length):
    return np.random.default_rng(length).integers(0, VOCAB, (2, length))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("length", [7, 128, pytest.param(700, marks=pytest.mark.slow)])
def test_logits_are_the_same(name, length, tmp_path):
    model = saved(name, tmp_path)
    tokens = tokens_of(length)
    expected = logits(model, tokens)
    found = ours(tmp_path, tokens)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_bfloat16(tmp_path):
    """As far from float32 as the other's bfloat16 is."""
    saved("qwen3", tmp_path, "bfloat16")
    tokens = tokens_of(128)
    exact = ours(tmp_path, tokens)
    np.testing.assert_allclose(exact, logits(opened(tmp_path), tokens), atol=1e-5)
    theirs = np.abs(logits(opened(tmp_path, "bfloat16"), tokens) - exact).max()
    found = np.abs(ours(tmp_path, tokens, dtype="bfloat16") - exact).max()
    assert 0 < found < 2 * theirs


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_what_was_read_is_written_again(name, dtype, tmp_path):
    """Byte for byte; also of several files."""
    model = saved(name, tmp_path, dtype, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    config, params = read(tmp_path)
    (out := tmp_path / "out").mkdir()
    by_path = traverse_util.flatten_dict(params)
    with tensors.writing(out, layout.tensor_shapes(config), dtype) as writer:
        for leaf in layout.leaves(config):
            writer.put(leaf.divided(np.asarray(by_path[leaf.path])))
    spec = architecture.config_json(
        config, max_positions=1024, bos=256, eos=256, dtype=dtype
    )
    (out / "config.json").write_text(json.dumps(spec))
    again = opened(out, dtype)
    assert again.config.model_type in (model.config.model_type, "llama", "mistral")
    expected = model.state_dict()
    assert again.state_dict().keys() == expected.keys()
    for tensor, values in again.state_dict().items():
        assert values.equal(expected[tensor]), tensor
