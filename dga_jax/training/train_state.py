"""The training state, and its birth: sharded from the first moment."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from dga_jax import sharding
from dga_jax.model.transformer import (
    LOGICAL_AXES,
    ModelConfig,
    Transformer,
    abstract,
)


class TrainState(NamedTuple):
    """What a train step reads and replaces.

    Attributes:
      params: nested dict of float32 arrays.
      opt_state: of the optimizer.
      step: int32 [], train steps done.
    """

    params: Any
    opt_state: Any
    step: jax.Array


def _build(
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    key: jax.typing.ArrayLike,
) -> TrainState:
    model = Transformer(config, rngs=nnx.Rngs(key))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


@functools.lru_cache(maxsize=8)
def abstract_state(
    config: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Shapes, dtypes and shardings of the state, without making it."""
    params = abstract(config)[1]
    step = jax.ShapeDtypeStruct((), jnp.int32)
    shapes = TrainState(params, jax.eval_shape(optimizer.init, params), step)
    shardings = sharding.tree_shardings(mesh, shapes, LOGICAL_AXES)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        shapes,
        shardings,
    )


def create(
    config: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh, seed: int
) -> TrainState:
    """Initial state; the values depend on the seed and not on the mesh."""
    # NumPy's, which every process of a run may hand in as the whole.
    key = np.asarray(jax.random.key_data(jax.random.key(seed)))
    return _builder(config, optimizer, mesh)(key)


@functools.lru_cache(maxsize=8)
def _builder(
    config: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Callable[[np.ndarray], TrainState]:
    """Compiled once for all seeds."""
    target = abstract_state(config, optimizer, mesh)
    shardings = jax.tree.map(lambda x: x.sharding, target)
    build = functools.partial(_build, config, optimizer)
    return jax.jit(build, out_shardings=shardings)


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """Whether there is no NaN and no infinity in it: bool []."""
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def graph(config: ModelConfig) -> nnx.GraphDef:
    """The static half of the model; `nnx.merge(graph, params)` is the model."""
    return abstract(config)[0]
