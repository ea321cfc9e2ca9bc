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
MODEL = ModelConfig(
    vocab_size=2736,
    num_layers=1,
    d_model=WIDTH,
    num_heads=4,
    num_kv_heads=4,
    d_ff=104,
    remat="none",
)
OPTIONS = dataclasses.replace(
    small.OPTIONS, microbatches=2, loss_chunk=12, chunk=2, target_chunk=8, z_loss=0.1
)


def parts(head, *sizes):
    """Of the rows, and of the vocabulary."""
    chosen = head(*sizes)
    return chosen.copies, chosen.shards


def test_what_moves_less_is_taken():
    """750M on eight chips: up to 8 rows of 1,024 tokens each, at least of these."""
    head = loss_head(mesh_of(1, 8, 1))
    assert parts(head, 64, 1024, 50_304) == (1, 8)
    assert parts(head, 72, 1024, 50_304) == (8, 1)
    assert head(64, 1024, 50_304).chunk(64, 1024, 50_304) == 256
    # Just as much: the part of the vocabulary has to move, too.
    assert parts(head, 8, 11, 64) == (8, 1)
    assert parts(head, 8, 11, 72) == (1, 8)
    with_tensor = loss_head(mesh_of(2, 2, 2))
    assert parts(with_tensor, 16, 1024, 16_384) == (4, 2)
    assert parts(with_tensor, 16, 1024, 16_388) == (2, 4)


def test_where_there_is_nothing_to_choose():
    head = loss_head(mesh_of(1, 8, 1))
    assert parts(head, 32, 1024, 50_303) == (8, 1)  # which 8 does not divide
    assert parts(head, 33, 16, 50_304) == (1, 1)
    assert parts(loss_head(mesh_of(8, 1, 1)), 8, 16, 50_304) == (8, 1)
    assert parts(loss_head(mesh_of(1, 1, 8)), 8, 16, 50_304) == (1, 8)
    assert parts(loss_head(mesh_of(2, 4, 1), ()), 8, 16, 50_304) == (1, 1)  # whole rows


def test_batches_side_by_side_count_together():
    mesh = mesh_of(1, 8, 1)
    heads = [loss_head(mesh, ("fsdp",), batches=n) for n in (1, 2)]
    assert [parts(head, 8, 128, 1024) for head in heads] == [(1, 8), (8, 1)]


def test_it_is_said():
    config = apply_argument(default_config(), "debug")
    config.model.vocab_size = 50_304
    config.train.update(batch_size=128, microbatches=2, seq_len=1024)
    mesh = mesh_of(1, 8, 1)
    assert placement.describe(config, mesh).endswith("; loss: vocabulary in 8 parts")
    config.train.microbatches = 1
    assert placement.describe(config, mesh).endswith("; loss: by rows")
    assert "loss" not in placement.describe(config, mesh_of(8, 1, 1))


def compiled(mesh, head, dtype=jnp.float32):
    """Loss and gradient of activations and kernel, as they lie on a mesh."""
    tokens = np.random.default_rng(0).integers(0, VOCAB, (ROWS, LENGTH + 1))
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
    shapes = (ROWS, LENGTH, WIDTH), (WIDTH, VOCAB)
    given = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    return gradient.lower(*given).compile()


def result(program):
    keys = jax.random.split(jax.random.key(0))
    given = (
        jax.random.normal(keys[0], (ROWS, LENGTH, WIDTH)),
        jax.random.normal(keys[1], (WIDTH, VOCAB)) / 8,
    )
    placed = jax.tree.map(jax.device_put, given, program.input_shardings[0])
    return jax.device_get(program(*placed))


@pytest.fixture(scope="module")
def expected():
    """Of one device."""
    return result(compiled(mesh_of(1, 1, 1), Head()))


def assert_close(found, expected, **tolerance):
    for value, want in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(value, want, **tolerance)


@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2)], ids=str)
def test_the_loss_of_parts_is_the_loss(sizes, expected):
    """And so its gradient; rows have tokens to predict, few or none.

    Activations cross once, whatever the number of chunks, which is 4 here.
    """
    mesh = mesh_of(*sizes)
    program = compiled(mesh, loss_head(mesh))
    assert_close(result(program), expected, rtol=1e-5, atol=1e-6)
    text = program.as_text()
    shapes = {array.shape for array in arrays(text)}
    columns = VOCAB // mesh.shape["tensor"]
    assert any({WIDTH, columns // mesh.shape["fsdp"]} <= set(shape) for shape in shapes)
    assert not any({WIDTH, columns} <= set(shape) for shape in shapes)
    assert crossings(text, ROWS // mesh.shape["data"] * CHUNK * WIDTH) == [1, 1]


def crossings(text, least):
    """How often collectives deliver activations, of so many numbers at least."""
    return [
        one.executions
        for one in collectives(text)
        for shape in one.shapes
        if np.prod(shape) >= least and {LENGTH, WIDTH} <= set(shape)
    ]


def test_gradients_in_bfloat16(expected):
    """Within its rounding, for the unembedding as for what is added up of parts."""
    mesh = mesh_of(2, 4, 1)
    found = result(compiled(mesh, loss_head(mesh), jnp.bfloat16))[1]
    for value, want in zip(found, expected[1], strict=True):
        assert np.linalg.norm(value - want) < 0.01 * np.linalg.norm(want)


def steps_on(sizes):
    """The text of the programs, and what they make of the same rows, on a mesh."""
    mesh, rng = mesh_of(*sizes), np.random.default_rng(0)
    state = train_state.create(MODEL, make_optimizer(small.ADAM), mesh, seed=0)
    steps = make_steps(MODEL, small.ADAM, OPTIONS, mesh)
    rows = rng.integers(0, MODEL.vocab_size, (16, 33), np.int32)
    probes = rng.integers(0, MODEL.vocab_size, (4, 8, 33), np.int32)
    target, probes = (
        {k: sharding.place(v, where) for k, v in weighted_rows(batch).items()}
        for batch, where in (
            (rows, sharding.batch_sharding(mesh)),
            (probes, sharding.probe_sharding(mesh, 8)),
        )
    )
    align = steps.align.lower(state, target, probes).compile()
    found = [jax.device_get(align(state, target, probes))]
    placed = sharding.place(rows, sharding.batch_sharding(mesh))
    train = steps.train.lower(state, placed).compile()
    found.append(jax.device_get(train(state, placed)))
    return [train.as_text(), align.as_text()], found


def test_steps_are_those_of_one_device():
    """A train step, and alignments, which are forward-mode derivatives."""
    texts, found = steps_on((1, 8, 1))
    _, expected = steps_on((1, 1, 1))
    assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for text in texts:
        shapes = {array.shape for array in arrays(text)}
        assert not any({WIDTH, MODEL.vocab_size} <= set(shape) for shape in shapes)
