"""How the model is computed on the mesh at hand: what is fastest or fits there."""

import dataclasses

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dga_jax.model.loss import LOGITS_BUDGET, Head
from dga_jax.model.transformer import ModelConfig
from dga_jax.sharding import BATCH_AXES, platform, shards

_MOST_UNROLLED = 16  # layers; compiling takes longer with each


def suited_model(config: ModelConfig, mesh: Mesh) -> ModelConfig:
    """The same model, computed as suits the devices of a mesh."""
    few = config.num_layers <= _MOST_UNROLLED
    return dataclasses.replace(config, unrolled=few and platform(mesh) == "cpu")


def loss_head(
    mesh: Mesh, axes: tuple[str, ...] = BATCH_AXES, budget: int = LOGITS_BUDGET
) -> Head:
    """How the logits of rows that are sharded over some axes are computed."""

    def place(copies_SxDxV: jax.Array) -> jax.Array:
        vocab = "tensor" if copies_SxDxV.shape[2] % mesh.shape["tensor"] == 0 else None
        return jax.lax.with_sharding_constraint(
            copies_SxDxV, NamedSharding(mesh, P(axes, None, vocab))
        )

    whole = mesh.shape["fsdp"] == mesh.shape["tensor"] == 1
    return Head(
        budget=budget,
        copies=shards(mesh, axes),
        place=place,
        shards=mesh.shape["tensor"],
        indexed=whole and platform(mesh) == "cpu",
    )
