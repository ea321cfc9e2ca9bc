"""How the model is computed on the mesh at hand: what is fastest or fits there."""

import dataclasses

from jax.sharding import Mesh

from dga_jax.model.loss import LOGITS_BUDGET, ChooseHead, Head
from dga_jax.model.transformer import ModelConfig
from dga_jax.sharding import BATCH_AXES, constrain, platform, shards

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
) -> ChooseHead:
    """How the logits of rows that are sharded over some axes are computed.

    Each device multiplies its own rows with the unembedding, which `fsdp` has to gather
    for it, or all rows of the devices along `fsdp` with its own part of the vocabulary:
    whichever moves less. Of n devices each sends (n-1)/n of an array that is gathered,
    as much to sum one up in parts, and twice that for a sum that all of them get. For V
    columns (of its part, where `tensor` cuts them) and T tokens, all of width D, it is

        (n-1)/n D 3V            by rows: XLA sums up the gradient as a whole;
        (n-1)/n D (2T + 2V/n)   in parts, which lie along D where they are kept,

    and so parts are taken where T < (3/2 - 1/n) V and they divide the vocabulary. About
    there they hold less, too: T rows for activations and their gradient, where copies
    hold V columns for the unembedding and its gradient in float32.

    Args:
      mesh: of the run.
      axes: of the mesh, that the rows lie over.
      budget: of bytes, see `Head`.
      batches: of rows, side by side on one part of the mesh, as under `jax.vmap`.
    """
    sizes = mesh.shape
    whole = sizes["fsdp"] == sizes["tensor"] == 1
    keep = constrain(mesh, ("fsdp",), ("tensor",))

    def head(rows_over: tuple[str, ...], vocab_over: tuple[str, ...]) -> Head:
        return Head(
            budget=budget,
            copies=shards(mesh, rows_over),
            shards=shards(mesh, vocab_over),
            place=constrain(mesh, rows_over, vocab_over),
            keep=keep,
            indexed=whole and platform(mesh) == "cpu",
        )

    by_rows = head(axes, ("tensor",))
    if "fsdp" not in axes or sizes["fsdp"] == 1:
        return by_rows
    # The parameters' part over `tensor` is cut further.
    in_parts = head(tuple(a for a in axes if a != "fsdp"), ("tensor", "fsdp"))

    def choose(rows: int, length: int, vocab_size: int) -> Head:
        tokens = batches * rows * length / in_parts.copies
        columns = (1.5 - 1 / sizes["fsdp"]) * vocab_size / sizes["tensor"]
        divided = rows % by_rows.copies == vocab_size % in_parts.shards == 0
        chosen = in_parts if divided and tokens < columns else by_rows
        return chosen(rows, length, vocab_size)

    return choose
