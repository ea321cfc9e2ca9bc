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
    mesh: Mesh,
    axes: tuple[str, ...] = BATCH_AXES,
    budget: int = LOGITS_BUDGET,
    batches: int = 1,
) -> Head:
    """How the logits of rows that are sharded over some axes are computed.

    Args:
      mesh: of the run.
      axes: of the mesh, that the rows lie over.
      budget: of bytes, see `Head`.
      batches: of rows, side by side on one part of the mesh.
    """

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
        cut=_cut_head(mesh, axes, budget),
        batches=batches,
    )


def _cut_head(mesh: Mesh, axes: tuple[str, ...], budget: int) -> Head | None:
    """With the vocabulary in parts over `fsdp`, if the rows are."""
    if "fsdp" not in axes or mesh.shape["fsdp"] == 1:
        return None
    # The parameters' part over `tensor` is cut further.
    others, parts = tuple(a for a in axes if a != "fsdp"), ("tensor", "fsdp")
    where = NamedSharding(mesh, P(others, parts))
    return Head(
        budget=budget,
        copies=shards(mesh, others),
        place=lambda x: jax.lax.with_sharding_constraint(x, where),
        shards=shards(mesh, parts),
        parts=shards(mesh, parts),
    )
