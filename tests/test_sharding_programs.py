"""What the compiled steps hold on each device of a mesh, read from the programs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from flax import nnx
from runs import mesh_of

from dga_jax import sharding
from dga_jax.benchmark.collectives import collectives
from dga_jax.benchmark.program import arrays
from dga_jax.model.transformer import ModelConfig
from dga_jax.training import train_state
from dga_jax.training.optimizer import make_optimizer
from dga_jax.training.steps import make_steps, weighted_rows

# Sizes of which no product is another: a shape tells what it is of.
MODEL = ModelConfig(
    vocab_size=344,
    num_layers=3,
    d_model=64,
    num_heads=8,
    num_kv_heads=8,
    d_ff=200,
    tied_embeddings=False,
)
ADAM = dataclasses.replace(small.ADAM, weight_decay=0.1, clip_norm=1.0)
OPTIONS = dataclasses.replace(
    small.OPTIONS,
    microbatches=2,
    loss_chunk=16,
    chunk=8,
    target_chunk=8,
    normalise=True,
    precondition=False,  # with Adam's moments the compiler finds the shardings itself
)
MESHES = [(1, 8, 1), (2, 2, 2)]


def arguments(name, state, mesh, probe_rows=8):
    """Of 16 rows a batch, in two parts; 16 probe batches, 8 at a time."""
    rows = sharding.batch_sharding(mesh)
    probes = sharding.probe_sharding(mesh, probe_rows)

    def weighted(lead, where):
        kinds = {"rows": ((33,), jnp.int32), "scale": ((), jnp.float32)}
        kinds["tokens"] = kinds["scale"]
        return {
            key: jax.ShapeDtypeStruct((*lead, *rest), kind, sharding=where)
            for key, (rest, kind) in kinds.items()
        }

    if name == "train":
        return state, weighted((16,), rows)["rows"]
    return state, weighted((16,), rows), weighted((16, probe_rows), probes)


def compiled(name, sizes, probe_rows=8):
    mesh = mesh_of(*sizes)
    state = train_state.abstract_state(MODEL, make_optimizer(ADAM), mesh)
    step = getattr(make_steps(MODEL, ADAM, OPTIONS, mesh), name)
    lowered = step.lower(*arguments(name, state, mesh, probe_rows))
    return state.params, lowered.compile().as_text()


shared = functools.cache(compiled)


def shapes_in(text):
    return {array.shape for array in arrays(text) if array.kind in ("f32", "bf16")}


def stacked(params):
    """Kernels of all layers that the mesh cuts: full shape and a device's, by path."""
    return {
        jax.tree_util.keystr(path): (x.shape, x.sharding.shard_shape(x.shape))
        for path, x in jax.tree_util.tree_leaves_with_path(params)
        if x.ndim == 3
    }


@pytest.mark.parametrize("name", ["train", "align"])
@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_no_device_holds_all_of_the_layers(name, sizes):
    """Of parameters, moments, gradients, their sums, the target's and tangents.

    A layer in use is gathered, or one layer's gradient before it is reduced; the stack
    is not, wherever it stands.
    """
    params, text = shared(name, sizes)
    found, kernels = shapes_in(text), stacked(params)
    assert len(kernels) == 7
    for path, (full, part) in kernels.items():
        assert full not in found, path
        assert part in found, path


def test_probe_rows_that_fsdp_does_not_divide():
    """Of activations no more than a number a token is reduced or gathered.

    But for the target's, of 8 rows, beside parts of the vocabulary.
    """
    target = 8, 32, 64
    _, text = compiled("align", (1, 8, 1), probe_rows=4)
    for one in collectives(text):
        if one.op in ("all-reduce", "all-gather"):
            shapes = [
                shape for shape in one.shapes if 32 in shape and shape[-3:] != target
            ]
            sizes = [np.prod(shape) for shape in shapes]
            assert max(sizes, default=0) <= 8 * 4 * 32, one


def test_alignments_do_not_depend_on_where_domains_lie(byte_store):
    """Nor on how many of them are computed at a time."""
    rows = byte_store.read("train", np.arange(16 * 4) * 50).reshape(16, 4, -1)
    found = []
    for sizes, chunk in (((1, 1, 1), None), ((1, 8, 1), 8), ((2, 4, 1), None)):
        mesh = mesh_of(*sizes)
        options = dataclasses.replace(OPTIONS, chunk=chunk)
        state = train_state.create(MODEL, make_optimizer(ADAM), mesh, seed=0)
        batches = [
            {k: sharding.place(v, where) for k, v in weighted_rows(batch).items()}
            for batch, where in (
                (rows[:, 0], sharding.batch_sharding(mesh)),
                (rows, sharding.probe_sharding(mesh, 4)),
            )
        ]
        result, norm = make_steps(MODEL, ADAM, options, mesh).align(state, *batches)
        found.append((*result, norm))
    for other in found[1:]:
        for value, expected in zip(other, found[0], strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_target_gradient_was_replicated(monkeypatch):
    """The check above can fail: so it was before the gradient was pinned."""
    monkeypatch.setattr(sharding, "constrain_as", lambda _: lambda tree: tree)
    make_steps.cache_clear()  # steps made before are pinned
    params, text = compiled("align", (1, 8, 1))
    make_steps.cache_clear()
    found = shapes_in(text)
    assert any(full in found for full, _ in stacked(params).values())


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_the_embedding_is_looked_up_in_parts(sizes):
    """No device gathers the table or holds all of the gradient's sum.

    The table has a shape that nothing else has in a program without a loss.
    """
    mesh = mesh_of(*sizes)
    state = train_state.abstract_state(MODEL, make_optimizer(ADAM), mesh)
    where = sharding.batch_sharding(mesh)
    pin, constrain = sharding.constrain_as(state.params), sharding.constrain_rows(mesh)
    graph = train_state.graph(MODEL)

    def total(params, tokens):
        return jnp.sum(nnx.merge(graph, params).hidden(tokens, constrain) ** 2)

    tokens = jax.ShapeDtypeStruct((16, 32), jnp.int32, sharding=where)
    gradient = jax.jit(lambda params, tokens: pin(jax.grad(total)(params, tokens)))
    found = shapes_in(gradient.lower(state.params, tokens).compile().as_text())
    assert (344, 64) not in found


@pytest.mark.slow
def test_a_step_with_splash_is_one_with_xla(byte_store):
    """Interpreted, on a mesh, under remat and in the loop over layers; documents."""
    mesh = mesh_of(2, 2, 2)
    rows = byte_store.read("train", np.arange(8) * 100)
    placed = sharding.place(rows, sharding.batch_sharding(mesh))
    results = []
    for attention in ("xla", "splash"):
        model = dataclasses.replace(
            MODEL, document_end=10, num_kv_heads=4, attention=attention, mesh=mesh
        )
        state = train_state.create(model, make_optimizer(ADAM), mesh, seed=0)
        steps = make_steps(model, ADAM, OPTIONS, mesh)
        _, metrics = steps.train(state, placed)
        results.append((metrics.rows, metrics.loss, metrics.gradient_norm))
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5)
