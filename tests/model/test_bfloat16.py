"""Gradients in bfloat16 are near those in float32, for frequent tokens too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small import Given

from dga_jax.model.loss import Head, row_losses
from dga_jax.model.transformer import ModelConfig, Transformer

ROWS, LENGTH, WIDTH, VOCAB = 8, 512, 16, 64


@pytest.fixture(scope="module")
def tokens():
    """By Zipf's law: one in five is the most frequent, 860 of 4,096."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, VOCAB + 1)
    return rng.choice(VOCAB, (ROWS, LENGTH + 1), p=share / share.sum())


def far(found, expected):
    """The largest relative error of what belongs to one token, [..., V]."""
    found, expected = (np.asarray(x, np.float64) for x in (found, expected))
    off = np.linalg.norm(found - expected, axis=0)
    return (off / np.linalg.norm(expected, axis=0)).max()


@pytest.mark.parametrize("chunk", [LENGTH, 8])
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("indexed", [True, False])
def test_of_the_unembedding(indexed, copies, chunk, tokens):
    rng = np.random.default_rng(1)
    activations = 1 + rng.normal(size=(ROWS, LENGTH, WIDTH)).astype(np.float32)
    activations = activations.astype(jnp.bfloat16)
    kernel = rng.normal(size=(WIDTH, VOCAB)).astype(np.float32) / 4
    kernel = np.asarray(kernel.astype(jnp.bfloat16), np.float32)

    def gradient(dtype, head, chunk):
        def loss(kernel):
            model = Given(activations, kernel, dtype)
            return jnp.sum(row_losses(model, tokens, chunk=chunk, head=head).nll)

        return jax.jit(jax.grad(loss))(kernel)

    found = gradient(jnp.bfloat16, Head(copies=copies, indexed=indexed), chunk)
    assert far(found, gradient(jnp.float32, Head(), LENGTH)) < 0.01


def test_of_the_embedding(tokens):
    """Of the activations before the first layer."""
    rng = np.random.default_rng(1)
    towards = 1 + rng.normal(size=(ROWS, LENGTH + 1, WIDTH)).astype(np.float32)

    def gradient(dtype):
        config = ModelConfig(VOCAB, 1, WIDTH, 2, 2, 32, dtype=dtype)
        graph, params = nnx.split(Transformer(config, rngs=nnx.Rngs(0)), nnx.Param)

        def loss(params):
            looked_up = []

            def keep(x):
                looked_up.append(x)
                return x

            nnx.merge(graph, params).hidden(tokens, keep)
            assert looked_up[0].dtype == dtype
            return jnp.sum(looked_up[0].astype(jnp.float32) * towards)

        return jax.jit(jax.grad(loss))(params)["embed"]["embedding"][...].T

    assert far(gradient("bfloat16"), gradient("float32")) < 0.01
