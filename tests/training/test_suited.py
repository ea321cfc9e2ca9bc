import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from runs import mesh_of
from small import Given

from dga_jax.benchmark.collectives import collectives
from dga_jax.model.loss import Head, row_losses
from dga_jax.model.transformer import ModelConfig
from dga_jax.sharding import batch_sharding, constrain_rows
from dga_jax.training.suited import loss_head, suited_model

ROWS, LENGTH, WIDTH, VOCAB, CHUNK = 16, 32, 64, 328, 8


def compiled(mesh, head):
    """Loss and gradient of activations and kernel, as they lie on a mesh."""
    tokens = np.random.default_rng(0).integers(0, VOCAB, (ROWS, LENGTH + 1))

    def loss(activations, kernel):
        pin = constrain_rows(mesh)
        model = Given(activations, kernel)
        sums = row_losses(model, tokens, chunk=CHUNK, constrain=pin, head=head)
        return jnp.sum(sums.nll + 0.1 * sums.z)

    places = batch_sharding(mesh), NamedSharding(mesh, P("fsdp", "tensor"))
    gradient = jax.jit(
        jax.value_and_grad(loss, argnums=(0, 1)),
        in_shardings=places,
        out_shardings=(None, places),
    )
    shapes = (ROWS, LENGTH, WIDTH), (WIDTH, VOCAB)
    return gradient.lower(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes))


def of_kernels(program, mesh):
    """How often collectives deliver a kernel that is whole but for the tensor axis."""
    whole = WIDTH * VOCAB // mesh.shape["tensor"]
    return sum(
        one.executions
        for one in collectives(program.as_text())
        for shape in one.shapes
        if {WIDTH, VOCAB // mesh.shape["tensor"]} <= set(shape)
        and np.prod(shape) >= whole
    )


@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2), (8, 1, 1)], ids=str)
def test_the_unembedding_crosses_the_mesh_once(sizes):
    """There and its gradient back, whatever the number of chunks, which is 4 here."""
    mesh, alone = mesh_of(*sizes), mesh_of(1, 1, 1)
    program = compiled(mesh, loss_head(mesh)).compile()
    if mesh.shape["fsdp"] > 1:
        assert of_kernels(program, mesh) <= 2
    key = jax.random.split(jax.random.key(0))
    given = (
        jax.random.normal(key[0], (ROWS, LENGTH, WIDTH)),
        jax.random.normal(key[1], (WIDTH, VOCAB)) / 8,
    )
    placed = jax.tree.map(jax.device_put, given, program.input_shardings[0])
    expected = compiled(alone, Head()).compile()(*given)
    for found, want in zip(
        jax.tree.leaves(program(*placed)), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)


def test_without_copies_it_would_with_each_chunk():
    """The check above can fail."""
    mesh = mesh_of(1, 8, 1)
    assert of_kernels(compiled(mesh, Head()).compile(), mesh) >= 4


def test_what_suits_a_cpu():
    alone, spread = mesh_of(1, 1, 1), mesh_of(1, 8, 1)
    assert loss_head(alone).indexed
    assert loss_head(mesh_of(8, 1, 1)).indexed
    assert not loss_head(spread)(16, 32, 512).indexed
    shallow = ModelConfig(512, 2, 64, 2, 2, 64)
    assert suited_model(shallow, spread).unrolled
    assert not suited_model(dataclasses.replace(shallow, num_layers=99), alone).unrolled
