"""A train step compiled for TPUs that are not there holds no scores of attention."""

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
import pytest
from small import ADAM, OPTIONS

from dga_jax import sharding
from dga_jax.benchmark.fit_chips import topology_devices
from dga_jax.benchmark.program import arrays
from dga_jax.model import kernels
from dga_jax.model.transformer import ModelConfig
from dga_jax.training import train_state
from dga_jax.training.optimizer import make_optimizer
from dga_jax.training.steps import make_steps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
    ),
]
LENGTH = 512  # splash keeps numbers by row in arrays [..., L, 128]


def program(attention, document_end, slices=1, step="train"):
    """The optimised program of 2 x 2 x 2 chips, heads 48 wide in groups of two.

    Of two slices each has so many, and `data` is twice as large.
    """
    devices = topology_devices("v5e:2x4", slices)
    mesh = sharding.make_mesh(2 * slices, 2, 2, devices, slices)
    assert kernels.Chip.of(devices[0]) == kernels.Chip("tpu")
    model = ModelConfig(
        vocab_size=344,
        num_layers=1,
        d_model=384,
        num_heads=8,
        num_kv_heads=4,
        d_ff=352,
        tied_embeddings=False,
        dtype="bfloat16",
        attention=attention,
        mesh=mesh,
        document_end=document_end,
    )
    state = train_state.abstract_state(model, make_optimizer(ADAM), mesh)
    where = sharding.batch_sharding(mesh)
    rows = jax.ShapeDtypeStruct((16, LENGTH + 1), jnp.int32, sharding=where)
    options = dataclasses.replace(OPTIONS, microbatches=2, loss_chunk=16)
    found = getattr(make_steps(model, ADAM, options, mesh), step)
    given = state if step == "train" else state.params
    return found.lower(given, rows).compile().as_text()


def scores(text):
    """Arrays [..., queries, keys] of the row's or half of its length; no others are."""
    return [
        array.shape
        for array in arrays(text)
        if array.kind in ("f32", "bf16", "pred")
        and len(array.shape) > 2
        and {*array.shape[-2:]} <= {LENGTH, LENGTH // 2}
    ]


@pytest.mark.parametrize(
    ("document_end", "slices"),
    [(None, 2), (0, 1)],
    ids=["whole rows on a hybrid mesh", "documents"],
)
def test_splash_holds_no_scores(document_end, slices):
    text = program("splash", document_end, slices)
    assert "splash_mha_fwd" in text
    assert "splash_mha_dkv" in text
    assert "replica_groups" in text
    assert scores(text) == []


def test_xla_holds_scores():
    """The check above can fail: forward alone holds some."""
    assert scores(program("xla", None, step="evaluate"))
