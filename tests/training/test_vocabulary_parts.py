"""The loss with the vocabulary cut over `fsdp`, where that moves less than its copies.

Sizes of which no product is another: a shape tells what it is of.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from runs import mesh_of

from dga_jax import sharding
from dga_jax.benchmark.collectives import collectives
from dga_jax.benchmark.program import arrays
from dga_jax.model.loss import Head, row_losses
from dga_jax.model.transformer import ModelConfig
from dga_jax.training import placement, train_state
from dga_jax.training.config import apply_argument, default_config
from dga_jax.training.optimizer import make_optimizer
from dga_jax.training.steps import make_steps, weighted_rows
from dga_jax.training.suited import loss_head

ROWS, LENGTH, WIDTH, VOCAB, CHUNK = 8, 20, 56, 688, 6
MESHES = [(1, 8, 1), (2, 4, 1), (2, 2, 2)]
MODEL = ModelConfig(
    vocab_size=2736,
    num_layers=2,
    d_model=WIDTH,
    num_heads=4,
    num_kv_heads=4,
    d_ff=104,
    tied_embeddings=False,
)
OPTIONS = dataclasses.replace(
    small.OPTIONS, microbatches=2, loss_chunk=12, chunk=2, target_chunk=8, z_loss=0.1
)


def test_what_moves_less_is_taken():
    """750M on eight chips: 8 rows of 1,024 tokens each are more than the vocabulary."""
    head = loss_head(mesh_of(1, 8, 1))
    assert head.suited(64, 1024, 50_304) is head
    cut = head.suited(32, 1024, 50_304)
    assert (cut.parts, cut.copies, cut.shards) == (8, 1, 8)
    assert cut.chunk(32, 1024, 50_304) == head.chunk(32, 1024, 50_304) == 512
    # Just as much: 1/8 of the vocabulary's columns have to move to their parts.
    assert head.suited(8, 7, 64) is head
    assert head.suited(8, 7, 72).parts == 8
    with_tensor = loss_head(mesh_of(2, 2, 2))
    assert with_tensor.suited(16, 1024, 4 * 8192) is with_tensor
    assert with_tensor.suited(16, 1024, 4 * 8192 + 4).parts == 4


def test_where_there_is_nothing_to_choose():
    head = loss_head(mesh_of(1, 8, 1))
    assert head.suited(32, 1024, 50_303) is head  # which 8 does not divide
    assert head.suited(33, 16, 50_304) == dataclasses.replace(head, copies=1)
    for mesh in (mesh_of(1, 1, 1), mesh_of(8, 1, 1), mesh_of(1, 1, 8)):
        assert loss_head(mesh).cut is None
    assert loss_head(mesh_of(2, 4, 1), ()).cut is None  # whole rows


def test_batches_side_by_side_count_together():
    mesh = mesh_of(1, 8, 1)
    found = [loss_head(mesh, ("fsdp",), batches=n).suited(8, 64, 1024) for n in (1, 2)]
    assert [head.parts for head in found] == [8, 0]


def test_it_is_said():
    config = apply_argument(default_config(), "debug")
    config.model.vocab_size = 50_304
    config.train.update(batch_size=64, microbatches=2, seq_len=1024)
    mesh = mesh_of(1, 8, 1)
    assert placement.describe(config, mesh).endswith("; loss: vocabulary in 8 parts")
    config.train.microbatches = 1
    assert placement.describe(config, mesh).endswith("; loss: by rows")
    assert "loss" not in placement.describe(config, mesh_of(8, 1, 1))


def compiled(mesh, head, dtype=jnp.float32, vocab=VOCAB):
    """Loss and gradient of activations and kernel, as they lie on a mesh."""
    tokens = np.random.default_rng(0).integers(0, vocab, (ROWS, LENGTH + 1))
    tokens[1, 7:] = -1
    tokens[2] = -2 - tokens[2]

    def loss(activations, kernel):
        pin = sharding.constrain_rows(mesh)
        model = small.Given(activations, kernel, dtype)
        sums = row_losses(model, tokens, chunk=CHUNK, constrain=pin, head=head)
        return jnp.sum(sums.nll + 0.1 * sums.z), sums

    places = sharding.batch_sharding(mesh), NamedSharding(mesh, P("fsdp", "tensor"))
    gradient = jax.jit(
        jax.value_and_grad(loss, argnums=(0, 1), has_aux=True),
        in_shardings=places,
        out_shardings=(None, places),
    )
    shapes = (ROWS, LENGTH, WIDTH), (WIDTH, vocab)
    given = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    return gradient.lower(*given).compile()


def inputs(vocab=VOCAB):
    keys = jax.random.split(jax.random.key(0))
    activations = jax.random.normal(keys[0], (ROWS, LENGTH, WIDTH))
    return activations, jax.random.normal(keys[1], (WIDTH, vocab)) / 8


def result(program, vocab=VOCAB):
    placed = jax.tree.map(jax.device_put, inputs(vocab), program.input_shardings[0])
    return jax.device_get(program(*placed))


def assert_close(found, expected, **tolerance):
    for value, want in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(value, want, **tolerance)


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_the_loss_of_parts_is_the_loss(sizes):
    """Of rows with tokens to predict, with few and with none; and its gradient."""
    mesh = mesh_of(*sizes)
    head = loss_head(mesh)
    assert head.suited(ROWS, LENGTH, VOCAB).parts
    found = result(compiled(mesh, head))
    expected = result(compiled(mesh_of(1, 1, 1), Head()))
    assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_the_unembedding_stays_in_parts(sizes):
    """Activations cross once, whatever the number of chunks, which is 4 here."""
    mesh = mesh_of(*sizes)
    columns = VOCAB // mesh.shape["tensor"]
    program = compiled(mesh, loss_head(mesh)).as_text()
    shapes = {array.shape for array in arrays(program)}
    part = VOCAB // (mesh.shape["fsdp"] * mesh.shape["tensor"])
    assert any({WIDTH, part} <= set(shape) for shape in shapes)
    assert not any({WIDTH, columns} <= set(shape) for shape in shapes)
    crossing = [
        one.executions
        for one in collectives(program)
        for shape in one.shapes
        if np.prod(shape) >= ROWS // mesh.shape["data"] * CHUNK * WIDTH
        and {LENGTH, WIDTH} <= set(shape)
    ]
    assert crossing == [1, 1]
    by_rows = compiled(mesh, dataclasses.replace(loss_head(mesh), cut=None))
    assert any({WIDTH, columns} <= set(a.shape) for a in arrays(by_rows.as_text()))


def test_a_vocabulary_that_cannot_be_cut():
    mesh = mesh_of(1, 8, 1)
    found = result(compiled(mesh, loss_head(mesh), vocab=683), 683)
    expected = result(compiled(mesh_of(1, 1, 1), Head(), vocab=683), 683)
    assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_gradients_in_bfloat16():
    """Within its rounding, for the unembedding as for what is added up of parts."""
    mesh = mesh_of(2, 4, 1)
    found = result(compiled(mesh, loss_head(mesh), jnp.bfloat16))[1]
    rounded = result(compiled(mesh_of(1, 1, 1), Head(), jnp.bfloat16))[1]
    for value, want in zip(found, rounded, strict=True):
        off = np.linalg.norm(value - want) / np.linalg.norm(want)
        assert off < 0.005


@pytest.fixture(scope="module")
def steps_on():
    """Every program of a run, and what it makes of the same rows, on a mesh."""

    def run(sizes):
        mesh, rng = mesh_of(*sizes), np.random.default_rng(0)
        state = train_state.create(MODEL, make_optimizer(small.ADAM), mesh, seed=0)
        steps = make_steps(MODEL, small.ADAM, OPTIONS, mesh)
        rows = rng.integers(0, MODEL.vocab_size, (16, 33), np.int32)
        probes = rng.integers(0, MODEL.vocab_size, (4, 8, 33), np.int32)
        placed = sharding.place(rows, sharding.batch_sharding(mesh))
        batches = [
            {k: sharding.place(v, where) for k, v in weighted_rows(batch).items()}
            for batch, where in (
                (rows, sharding.batch_sharding(mesh)),
                (probes, sharding.probe_sharding(mesh, 8)),
            )
        ]
        calls = {
            "evaluate": (steps.evaluate, state.params, placed),
            "align": (steps.align, state, *batches),
            "train": (steps.train, state, placed),
        }
        programs, found = {}, {}
        for name, (step, *arguments) in calls.items():
            programs[name] = step.lower(*arguments).compile()
            found[name] = jax.device_get(programs[name](*arguments))
        texts = {name: program.as_text() for name, program in programs.items()}
        return texts, found

    return run


@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2)], ids=str)
def test_every_step_is_that_of_one_device(sizes, steps_on):
    """Train step, evaluation, and alignments, which are forward-mode derivatives."""
    texts, found = steps_on(sizes)
    _, expected = steps_on((1, 1, 1))
    assert_close(found, expected, rtol=1e-4, atol=1e-5)
    columns = MODEL.vocab_size // sizes[2]
    for name, text in texts.items():
        shapes = {array.shape for array in arrays(text)}
        whole = [shape for shape in shapes if {WIDTH, columns} <= set(shape)]
        assert whole == [], name
