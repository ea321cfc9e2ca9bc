"""Alignments by forward mode against the gradients that it does without."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dga_jax import train_state
from dga_jax.benchmark.tables import Check, Table, Timings, interleaved
from dga_jax.mixing.alignment import (
    Alignment,
    alignment_step,
    target_direction,
    tree_dot,
)
from dga_jax.model.loss import make_row_losses, weighted_rows
from dga_jax.model.transformer import ModelConfig

FORWARD = "forward mode"
CHUNKED = "forward mode, in chunks"
PLAIN = "plain gradient"
TRAIN = "gradient as in the train step"
VMAP_GRAD = "vmap(grad), dot product"
REVERSE = "reverse mode, row by row"


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
      model: with `remat` as in training.
      domains: k.
      rows: b, of each domain.
      seq_len: L.
      chunk: domains at a time, in chunked form.
      rounds: in which the variants take turns.
      many: values of k whose temporaries are compared.
    """

    model: ModelConfig
    domains: int = 16
    rows: int = 2
    seq_len: int = 256
    chunk: int = 4
    rounds: int = 3
    many: tuple[int, ...] = (8, 64, 512, 4096)


SMALL = Size(
    ModelConfig(
        vocab_size=2048, num_layers=4, d_model=256, num_heads=4, num_kv_heads=4, d_ff=768
    )
)
LARGE = dataclasses.replace(  # for an accelerator
    SMALL,
    model=ModelConfig(
        vocab_size=32_768,
        num_layers=12,
        d_model=768,
        num_heads=12,
        num_kv_heads=12,
        d_ff=2048,
        dtype="bfloat16",
    ),
    seq_len=1024,
    rounds=10,
)
QUICK = Size(
    ModelConfig(
        vocab_size=512, num_layers=2, d_model=64, num_heads=2, num_kv_heads=2, d_ff=128
    ),
    domains=8,
    seq_len=64,
    many=(8, 64),
)


def run(size: Size) -> list[Table]:
    """Times where all fits, temporaries where it would not."""
    return [_times(size), _temporaries(size)]


def row_loss(config: ModelConfig, constrain=lambda x: x):
    """The loss that training and alignment share: chunked logits, remat as configured.

    Returns:
      (params, batch of `weighted_rows`) -> losses [b].
    """
    losses = make_row_losses(train_state.graph(config), chunk=128, constrain=constrain)
    return lambda params, batch: losses(params, batch["rows"]).nll * batch["scale"]


def plain_loss(config: ModelConfig):
    """The same loss with nothing computed twice: all activations and logits are held."""
    graph = train_state.graph(dataclasses.replace(config, remat=False))

    def loss(params, batch):
        inputs, targets = batch["rows"][:, :-1], batch["rows"][:, 1:]
        logits_BxLxV = nnx.merge(graph, params)(inputs)
        nll_BxL = optax.softmax_cross_entropy_with_integer_labels(logits_BxLxV, targets)
        return jnp.sum(nll_BxL, axis=1) * batch["scale"]

    return loss


def vmapped_gradients(loss, params, direction, probes) -> jax.Array:
    """⟨∇ℓ_i, direction⟩ [k], the straightforward way: all k gradients are built."""

    def one(batch):
        gradient = jax.grad(lambda p: jnp.mean(loss(p, batch)))(params)
        return tree_dot(gradient, direction)

    return jax.vmap(one)(probes)


def abstract_arguments(size: Size, domains: int):
    """Shapes of (params, direction, probe batches) for k `domains`."""
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
    del mesh
    params = jax.eval_shape(lambda: _init(size.model))
    probes = jax.eval_shape(lambda: _batches(size, domains))
    return params, params, probes
