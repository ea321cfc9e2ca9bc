"""An update of a run's weights: from rows of the store to alignments to new weights."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from dga_jax import sharding
from dga_jax.data.store import PAD
from dga_jax.mixing.mixers import MixerState
from dga_jax.training.setup import Run
from dga_jax.training.steps import weighted_rows
from dga_jax.training.train_state import TrainState


class Measured(NamedTuple):
    """Alignments of m domains, or basis distributions, on the host.

    Attributes:
      indices: int64 [m], into the weights.
      alignments: float32 [m].
      errors: their standard errors, float32 [m]; NaN where all probe rows are one.
      target_norm: ‖∇ℓ(θ; y)‖, or its preconditioned counterpart.
    """

    indices: np.ndarray
    alignments: np.ndarray
    errors: np.ndarray
    target_norm: float


def move_weights(
    run: Run, align: Callable, state: TrainState, mixer_state: MixerState, step: int
) -> tuple[MixerState, Measured]:
    """The update of the weights after a train step, and what was measured for it.

    Args:
      run: of which; not changed.
      align: as `run.steps.align`.
      state: parameters and optimizer state to measure at.
      mixer_state: what the last update left.
      step: the train step.
    """
    measured = measure(run, align, state, step)
    moved = run.mixture.update(mixer_state, step, measured.indices, measured.alignments)
    return moved, measured


def measure(run: Run, align: Callable, state: TrainState, step: int) -> Measured:
    """Alignments after train step `step`.

    The rows are the same whatever the mesh; what fills its parts up does not count.
    For the arguments see `move_weights`.
    """
    probes = run.mixture.probes(step)
    target, domains = _target_batch(run, step), _probe_batches(run, probes.rows)
    result, norm = align(state, target, domains)
    count = len(probes.indices)
    return Measured(
        probes.indices,
        np.asarray(result.alignments)[:count],
        np.asarray(result.standard_errors)[:count],
        float(norm),
    )


def _target_batch(run: Run, step: int) -> dict[str, jax.Array]:
    ids = run.mixture.sampler.target_rows(
        step, run.store.num_rows("target"), run.config.mixer.target_rows
    )
    rows = run.store.read("target", ids)
    fill = -len(rows) % sharding.batch_shards(run.mesh)
    rows = np.pad(rows, ((0, fill), (0, 0)), constant_values=PAD)
    return _place(rows, sharding.batch_sharding(run.mesh))


def _probe_batches(run: Run, ids: np.ndarray) -> dict[str, jax.Array]:
    fill = -len(ids) % run.mesh.shape["data"]
    ids = np.concatenate([ids, np.repeat(ids[:1], fill, axis=0)])
    rows = run.store.read("train", ids.ravel()).reshape(*ids.shape, -1)
    # Which rows are equal, in numbers that fit the device's 32 bits.
    _, labels = np.unique(ids, return_inverse=True)
    where = sharding.probe_sharding(run.mesh, ids.shape[1])
    return _place(rows, where, ids=labels.reshape(ids.shape).astype(np.int32))


def _place(
    rows: np.ndarray, where: NamedSharding, **more: np.ndarray
) -> dict[str, jax.Array]:
    batch = weighted_rows(rows) | more
    return {key: sharding.place(value, where) for key, value in batch.items()}
