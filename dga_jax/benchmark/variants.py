"""The ways to an alignment that are compared, and the sizes they are compared at."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from dga_jax import sharding
from dga_jax.mixing import alignment
from dga_jax.mixing.alignment import LossFn, PyTree
from dga_jax.model.loss import Constrain, make_row_losses
from dga_jax.model.transformer import ModelConfig
from dga_jax.training import train_state
from dga_jax.training.steps import weighted_rows


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
      many: values of k whose temporaries are compared; the smallest is also how many
        domains are chunked together there.
      goals: whether the times are held against the goals.
    """

    model: ModelConfig
    domains: int = 16
    rows: int = 2
    seq_len: int = 256
    chunk: int = 4
    rounds: int = 3
    many: tuple[int, ...] = (8, 64, 512, 4096)
    goals: bool = True


SMALL = Size(
    ModelConfig(
        vocab_size=2048,
        num_layers=4,
        d_model=256,
        num_heads=4,
        num_kv_heads=4,
        d_ff=768,
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
    many=(8, 64, 512),
    goals=False,  # so small, what is not arithmetic decides
)


def row_loss(config: ModelConfig, constrain: Constrain = lambda x: x) -> LossFn:
    """The loss that training and alignment share: chunked logits, remat as configured.

    Returns:
      (params, batch of `weighted_rows`) -> losses [b].
    """
    losses = make_row_losses(train_state.graph(config), chunk=128, constrain=constrain)
    return lambda params, batch: losses(params, batch["rows"]).nll * batch["scale"]


def plain_loss(config: ModelConfig) -> LossFn:
    """The same loss, nothing computed twice: activations and logits are all held."""
    graph = train_state.graph(dataclasses.replace(config, remat="none"))

    def loss(params: PyTree, batch: PyTree) -> jax.Array:
        inputs, targets = batch["rows"][:, :-1], batch["rows"][:, 1:]
        logits_BxLxV = nnx.merge(graph, params)(inputs)
        nll_BxL = optax.softmax_cross_entropy_with_integer_labels(logits_BxLxV, targets)
        return jnp.sum(nll_BxL, axis=1) * batch["scale"]

    return loss


def alignments(loss: LossFn, **options: Any) -> Callable:
    """`alignment_step` as a function of (params, direction, probe batches)."""
    return functools.partial(alignment.alignment_step, loss, **options)


def gradient(loss: LossFn) -> Callable:
    """Gradient of a batch's mean loss, as a function of (params, batch)."""
    return jax.grad(lambda params, batch: jnp.mean(loss(params, batch)))


def vmapped_gradients(loss: LossFn) -> Callable:
    """Alignments [k] the straightforward way: all k gradients are built."""

    def dot(params: PyTree, direction: PyTree, batch: PyTree) -> jax.Array:
        return alignment.tree_dot(gradient(loss)(params, batch), direction)

    return jax.vmap(dot, in_axes=(None, None, 0))


def random_probes(size: Size) -> dict[str, np.ndarray]:
    """Probe batches [k, b] of random tokens."""
    shape = (size.domains, size.rows, size.seq_len + 1)
    rng = np.random.default_rng(0)
    return weighted_rows(rng.integers(0, size.model.vocab_size, shape, np.int32))


def shapes(size: Size, mesh: Mesh) -> tuple:
    """(params, direction, probe batches), abstract, as they lie on a mesh."""
    params = train_state.abstract_state(size.model, optax.identity(), mesh).params
    where = sharding.probe_sharding(mesh, size.rows)
    rows = jax.ShapeDtypeStruct(
        (size.domains, size.rows, size.seq_len + 1), jnp.int32, sharding=where
    )
    scale = jax.ShapeDtypeStruct(rows.shape[:2], jnp.float32, sharding=where)
    return params, params, {"rows": rows, "scale": scale}


def one_device() -> Mesh:
    """A mesh of the first device."""
    return sharding.make_mesh(devices=jax.devices()[:1])
