"""An update of a run's weights: from rows of the store to alignments to new weights."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from dga_jax import sharding
from dga_jax.data.store import PAD
from dga_jax.mixing.mixers import MixerState
from dga_jax.training.steps import weighted_rows
from dga_jax.training.train_state import TrainState

if TYPE_CHECKING:
    from dga_jax.training.setup import Run

Batch = dict[str, jax.Array]


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


class Rows(NamedTuple):
    """What an update measures on, placed on the mesh.

    Attributes:
      indices: int64 [m], into the weights.
      target: the target's batch.
      probes: the probe batches of m domains, or more where the mesh asks for it.
    """

    indices: np.ndarray
    target: Batch
    probes: Batch


def batch_shapes(
    config: ConfigDict, mesh: Mesh, num_probes: int
) -> tuple[dict[str, jax.ShapeDtypeStruct], ...]:
    """Of an update's batches, the target's and the probes', with their shardings."""
    mixer, width = config.mixer, config.train.seq_len + 1
    target = mixer.target_rows + _fill(mixer.target_rows, sharding.batch_shards(mesh))
    shards = sharding.probe_shards(mesh, mixer.probe_rows)
    probes = num_probes + _fill(num_probes, shards), mixer.probe_rows

    def shapes(where: NamedSharding, *rows: int, **more: np.ndarray) -> dict:
        batch = weighted_rows(np.zeros((*rows, width), np.int32)) | more
        return {
            key: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=where)
            for key, value in batch.items()
        }

    return shapes(sharding.batch_sharding(mesh), target), shapes(
        sharding.probe_sharding(mesh, mixer.probe_rows),
        *probes,
        ids=np.zeros(probes, np.int32),
    )


class Updates:
    """Updates of a run's weights.

    Which rows one reads is a function of the seed and the step alone: those of the next
    are read and placed while the steps before it run, and the target's stay where they
    are as long as they are the same ones.

    Args:
      run: of which; not changed.
      align: as `run.steps.align`.
    """

    def __init__(self, run: "Run", align: Callable):
        self._run, self._align = run, align
        self._thread = ThreadPoolExecutor(1, "rows of updates")
        self._ahead: dict[int, Future[Rows]] = {}  # by step, of the next update alone
        self._target_ids = np.zeros(0, np.int64)
        self._target: Batch = {}

    def read_ahead(self, step: int) -> None:
        """Begins to read what the update after train step `step` measures on."""
        self._ahead = {step: self._thread.submit(self._read, step)}

    def move(
        self, state: TrainState, mixer_state: MixerState, step: int
    ) -> tuple[MixerState, Measured]:
        """The update after a train step, and what was measured for it.

        Args:
          state: parameters and optimizer state to measure at.
          mixer_state: what the last update left.
          step: the train step.

        Raises:
          UserError: rows cannot be read.
        """
        found = self.measure(state, step)
        moved = self._run.mixture.update(
            mixer_state, step, found.indices, found.alignments
        )
        return moved, found

    def measure(self, state: TrainState, step: int) -> Measured:
        """Alignments after train step `step`.

        The rows are the same whatever the mesh; what fills its parts up does not count.
        For the arguments see `move`.
        """
        if step not in self._ahead:
            self.read_ahead(step)
        rows = self._ahead.pop(step).result()
        result, norm = jax.device_get(self._align(state, rows.target, rows.probes))
        count = len(rows.indices)
        return Measured(
            rows.indices,
            result.alignments[:count],
            result.standard_errors[:count],
            float(norm),
        )

    def close(self) -> None:
        """Ends the reading; what was read ahead is forgotten."""
        self._thread.shutdown(cancel_futures=True)

    def _read(self, step: int) -> Rows:
        probes = self._run.mixture.probes(step)
        return Rows(
            probes.indices, self._target_batch(step), self._probe_batches(probes.rows)
        )

    def _target_batch(self, step: int) -> Batch:
        run = self._run
        ids = run.mixture.sampler.target_rows(
            step, run.store.num_rows("target"), run.config.mixer.target_rows
        )
        ids = np.sort(ids)  # where all of the target is read, it is so every time
        if not np.array_equal(ids, self._target_ids):
            rows = run.store.read("target", ids)
            fill = _fill(len(rows), sharding.batch_shards(run.mesh))
            rows = np.pad(rows, ((0, fill), (0, 0)), constant_values=PAD)
            self._target = _place(rows, sharding.batch_sharding(run.mesh))
            self._target_ids = ids
        return self._target

    def _probe_batches(self, ids: np.ndarray) -> Batch:
        mesh = self._run.mesh
        fill = _fill(len(ids), sharding.probe_shards(mesh, ids.shape[1]))
        ids = np.concatenate([ids, np.repeat(ids[:1], fill, axis=0)])
        rows = self._run.store.read("train", ids.ravel()).reshape(*ids.shape, -1)
        # Which rows are equal, in numbers that fit the device's 32 bits.
        _, labels = np.unique(ids, return_inverse=True)
        where = sharding.probe_sharding(mesh, ids.shape[1])
        return _place(rows, where, ids=labels.reshape(ids.shape).astype(np.int32))


def _fill(count: int, parts: int) -> int:
    """What it takes to make a multiple of it."""
    return -count % parts


def _place(rows: np.ndarray, where: NamedSharding, **more: np.ndarray) -> Batch:
    batch = weighted_rows(rows) | more
    return {key: sharding.place(value, where) for key, value in batch.items()}
