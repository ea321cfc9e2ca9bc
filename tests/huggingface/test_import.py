"""Models of the Hugging Face ecosystem compute here what they compute there."""

import jax
import numpy as np
import pytest
from flax import nnx
from hf_models import MODELS, VOCAB, logits, saved

from dga_jax.huggingface import architecture, weights
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
