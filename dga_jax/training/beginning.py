"""What a run begins with, and the shapes of it that a checkpoint is read into."""

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dga_jax import sharding
from dga_jax.mixing.mixers import MixerState
from dga_jax.training import config as configs
from dga_jax.training import train_state
from dga_jax.training.checkpoint import Snapshot
from dga_jax.training.mixture import Mixture
from dga_jax.training.optimizer import make_optimizer


def abstract_snapshot(config: ConfigDict, mesh: Mesh, mixture: Mixture) -> Snapshot:
    """Shapes, dtypes and shardings of a run's state; its cursors are zeros."""
    optimizer = make_optimizer(configs.optimizer_config(config))
    train = train_state.abstract_state(configs.model_config(config), optimizer, mesh)
    where = sharding.replicated(mesh)
    state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        jax.eval_shape(mixture.init),
    )
    return Snapshot(train, state, _no_cursors(mixture))


def fresh_snapshot(config: ConfigDict, mesh: Mesh, mixture: Mixture) -> Snapshot:
    """The state of a run that begins."""
    optimizer = make_optimizer(configs.optimizer_config(config))
    model = configs.model_config(config)
    train = train_state.create(model, optimizer, mesh, config.seed)
    return Snapshot(train, fresh_mixer(mixture, mesh), _no_cursors(mixture))


def fresh_mixer(mixture: Mixture, mesh: Mesh) -> MixerState:
    """The mixer's state of a run that begins, placed as the loop has it."""
    where = sharding.replicated(mesh)
    return jax.tree.map(lambda x: sharding.place(np.asarray(x), where), mixture.init())


def _no_cursors(mixture: Mixture) -> np.ndarray:
    return np.zeros(len(mixture.domains), np.int64)
