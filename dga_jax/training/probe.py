"""An update of a run's weights: from rows of the store to signals to new weights."""

import functools
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from dga_jax import sharding
from dga_jax.data.domains import shared_out
from dga_jax.data.store import filled
from dga_jax.mixing.mixers import MixerState
from dga_jax.mixing.signals import Signals
from dga_jax.training import config as configs
from dga_jax.training.mixture import Probes
from dga_jax.training.optimizer import learning_rate
from dga_jax.training.steps import StepMetrics, Steps, target_scales, weighted_rows
from dga_jax.training.train_state import TrainState

if TYPE_CHECKING:
    from dga_jax.training.setup import Run

WeightedRows = dict[str, jax.Array]


# What each way of measuring on probe rows is for.
_OF_GRADIENTS = {"gradient_norms", "gradient_variances", "generic_alignments"}
_BY_TARGET = {"target_alignments", "target_losses"}
_OF_LOSSES = {"losses", "reference_losses"}


class Measured(NamedTuple):
    """What an update measured of m domains, or basis distributions, on the host.

    Attributes:
      indices: int64 [m], into the weights.
      signals: float32 [m] each, but what is counted [k], and what is not by domain.
      target_norm: ‖∇ℓ(θ; y)‖, or its preconditioned counterpart; NaN where no
        alignments were measured.
    """

    indices: np.ndarray
    signals: Signals
    target_norm: float


class Rows(NamedTuple):
    """What an update measures on, placed on the mesh; empty where it is not read.

    Attributes:
      indices: int64 [m], into the weights.
      target: the target's batch.
      probes: the probe batches of m domains, or more where the mesh asks for it.
      batches: the m b probe rows, in batches for `Steps.evaluate`.
      by_target: of each target alone its batch, and its rows as in `batches`.
    """

    indices: np.ndarray
    target: WeightedRows
    probes: WeightedRows
    batches: list[jax.Array]
    by_target: Sequence[tuple[WeightedRows, list[jax.Array]]] = ()


class Updates:
    """Updates of a run's weights.

    Which rows one reads is a function of the seed and the step alone: those of the next
    are read and placed while the steps before it run, and the target's stay where they
    are as long as they are the same ones.

    Only what the mixer reads is measured: one that is driven by losses differentiates
    nothing.

    Args:
      run: of which; not changed.
      steps: as `run.steps`.
    """

    def __init__(self, run: "Run", steps: Steps):
        self._run, self._steps = run, steps
        self._reads = set(run.mixture.mixer.reads)
        # Alignments bring the losses of their rows with them.
        brought = {"losses"} if "alignments" in self._reads else set()
        self._evaluates = self._reads & _OF_LOSSES - brought
        self._rate = learning_rate(configs.optimizer_config(run.config))
        # What few runs ask for is imported for them alone.
        self._trained, self._shares = None, None
        if "train_losses" in self._reads:
            from dga_jax.training.train_losses import TrainLosses

            pending = run.extra.get("train_losses")
            self._trained = TrainLosses(len(run.mixture.domains), pending)
        self._thread = ThreadPoolExecutor(1, "rows of updates")
        self._ahead: dict[int, Future[Rows]] = {}  # by step, of the next update alone
        if run.config.mixer.probe_by_error:
            from dga_jax.training.row_shares import RowShares

            self._shares = RowShares(
                run.config.mixer.probe_rows, run.extra.get("row_variances")
            )
        self._target_weights = run.store.targets.weights(run.config.mixer.targets)
        self._target_ids = np.zeros(0, np.int64)
        self._target: WeightedRows = {}

    def read_ahead(self, step: int) -> None:
        """Begins to read what the update after train step `step` measures on."""
        self._ahead = {step: self._thread.submit(self._read, step)}

    def trained(self, domains: np.ndarray, metrics: StepMetrics) -> None:
        """What a train step says of the domains [B] of its rows; nothing waits."""
        if self._trained is not None:
            self._trained.add(domains, metrics.rows)

    def pending(self) -> dict[str, list] | None:
        """Training losses since the last update, ready for JSON; None if not read."""
        return self._trained and self._trained.pending()

    def row_variances(self) -> dict[str, list] | None:
        """What is known of domains' rows, ready for JSON; None if not asked for."""
        return self._shares and self._shares.known()

    def move(
        self,
        state: TrainState,
        mixer_state: MixerState,
        step: int,
        cursors: np.ndarray,
    ) -> tuple[MixerState, Measured]:
        """The update after a train step, and what was measured for it.

        Args:
          state: parameters and optimizer state to measure at.
          mixer_state: what the last update left.
          step: the train step.
          cursors: int64 [k], rows drawn of each domain.

        Raises:
          UserError: rows cannot be read.
        """
        found = self.measure(state, step, cursors)
        moved = self._run.mixture.update(
            mixer_state, step, found.indices, found.signals
        )
        return moved, found

    def measure(
        self, state: TrainState, step: int, cursors: np.ndarray | None = None
    ) -> Measured:
        """What the mixer reads, after train step `step`.

        The rows are the same whatever the mesh; what fills its parts up does not count.
        For the arguments see `move`.
        """
        if step not in self._ahead:
            self.read_ahead(step)
        rows = self._ahead.pop(step).result()
        found, norm, count = {}, np.nan, len(rows.indices)
        if "alignments" in self._reads:
            result, norm = jax.device_get(
                self._steps.align(state, rows.target, rows.probes)
            )
            found |= {name: x[:count] for name, x in result._asdict().items()}
            if self._shares:
                self._shares.learn(rows.indices, found["standard_errors"])
        if self._reads & _OF_GRADIENTS:
            found |= self._of_gradients(state, rows.probes, count)
        if rows.by_target:
            found |= self._by_target(state, rows, count)
        if rows.batches:
            found |= self._losses(state, rows.batches, count)
        found |= self._counted(cursors)
        found["learning_rate"] = np.float32(self._rate(step - 1))
        read = {*self._reads, "standard_errors"}
        signals = Signals(**{name: x for name, x in found.items() if name in read})
        return Measured(rows.indices, signals, float(norm))

    def close(self) -> None:
        """Ends the reading; what was read ahead is forgotten."""
        self._thread.shutdown(cancel_futures=True)

    def _of_gradients(
        self, state: TrainState, probes: WeightedRows, count: int
    ) -> dict[str, np.ndarray]:
        size = len(probes["scale"])
        counts = (np.arange(size) < count).astype(np.float32)
        where = sharding.replicated(self._run.mesh)
        found = jax.device_get(
            self._steps.gradients(state.params, probes, sharding.place(counts, where))
        )
        return {
            "gradient_norms": found.norms[:count],
            "gradient_variances": found.variances[:count],
            "generic_alignments": found.alignments[:count],
        }

    def _by_target(
        self, state: TrainState, rows: Rows, count: int
    ) -> dict[str, np.ndarray]:
        """Alignments [m, n] with each target, and its loss [m]."""
        size = self._run.config.mixer.target_rows
        found = [
            self._steps.align(state, target, rows.probes)[0].alignments
            for target, _ in rows.by_target
        ]
        losses = [
            _mean_losses(self._steps.evaluate, state.params, batches, 1, size)
            for _, batches in rows.by_target
        ]
        return {
            "target_alignments": np.stack(jax.device_get(found))[:, :count],
            "target_losses": np.concatenate(losses),
        }

    def _losses(
        self, state: TrainState, batches: list[jax.Array], count: int
    ) -> dict[str, np.ndarray]:
        """Nats per token of the probe rows, of this model and of the reference."""
        found = {}
        mean = functools.partial(
            _mean_losses,
            batches=batches,
            count=count,
            per_domain=self._run.config.mixer.probe_rows,
        )
        if "losses" in self._evaluates:
            found["losses"] = mean(self._steps.evaluate, state.params)
        if "reference_losses" in self._evaluates:
            found["reference_losses"] = mean(*self._run.reference)
        return found

    def _counted(self, cursors: np.ndarray | None) -> dict[str, np.ndarray]:
        """What was counted while the run went on, by domain [k]."""
        found = {}
        if cursors is not None and "rows" in self._reads:
            found["rows"] = cursors.astype(np.float32)
        if cursors is not None and "tokens" in self._reads:
            per_row = self._run.mixture.domains.tokens_per_row
            found["tokens"] = (cursors * per_row).astype(np.float32)
        if self._trained is not None:
            found["train_losses"] = self._trained.means()
        return found

    def _read(self, step: int) -> Rows:
        """Reads for the update after a train step."""
        run = self._run
        by_gradient = self._reads & {"alignments", *_OF_GRADIENTS, *_BY_TARGET}
        if not by_gradient | self._evaluates:
            return Rows(np.flatnonzero(run.mixture.available), {}, {}, [])
        probes = run.mixture.probes(step, self._shares)
        rows = run.store.read("train", probes.rows.ravel())
        return Rows(
            probes.indices,
            self._target_batch(step) if "alignments" in self._reads else {},
            self._probe_batches(probes, rows) if by_gradient else {},
            self._batches(rows) if self._evaluates else [],
            self._each_target(step) if self._reads & _BY_TARGET else (),
        )

    def _each_target(self, step: int) -> list[tuple[WeightedRows, list[jax.Array]]]:
        """As many rows of each target as of one that is alone."""
        run, found = self._run, []
        where = sharding.batch_sharding(run.mesh)
        shards = sharding.batch_shards(run.mesh)
        counts = [run.config.mixer.target_rows] * (len(run.store.targets.offsets) - 1)
        for ids in self._ids_by_target(step, counts):
            rows = run.store.read("target", ids)
            found.append((_place(filled(rows, shards), where), self._batches(rows)))
        return found

    def _batches(self, rows: np.ndarray) -> list[jax.Array]:
        """Rows in batches of the shape that evaluation has."""
        train = self._run.config.train
        size = train.batch_size // train.microbatches
        rows = filled(rows, size)
        where = sharding.batch_sharding(self._run.mesh)
        return [
            sharding.place(rows[i : i + size], where) for i in range(0, len(rows), size)
        ]

    def _target_batch(self, step: int) -> WeightedRows:
        run = self._run
        # Where all of the target is read, it is so every time.
        ids = np.sort(self._target_rows(step))
        if not np.array_equal(ids, self._target_ids):
            rows = run.store.read("target", ids)
            rows = filled(rows, sharding.batch_shards(run.mesh))
            more, fill = {}, len(rows) - len(ids)
            if self._target_weights is not None:
                bounds = run.store.targets.offsets[1:]
                owners = np.pad(np.searchsorted(bounds, ids, side="right"), (0, fill))
                more["scale"] = target_scales(rows, owners, self._target_weights)
            self._target = _place(rows, sharding.batch_sharding(run.mesh), **more)
            self._target_ids = ids
        return self._target

    def _target_rows(self, step: int) -> np.ndarray:
        """Ids of the rows of the target, or of the targets by their weights."""
        store, rows = self._run.store, self._run.config.mixer.target_rows
        if self._target_weights is None:
            every = store.num_rows("target")
            return self._run.mixture.sampler.target_rows(step, every, rows)
        counts = shared_out(rows, self._target_weights)
        return np.concatenate(self._ids_by_target(step, counts))

    def _ids_by_target(self, step: int, counts: Sequence[int]) -> list[np.ndarray]:
        """Ids of so many rows of each target."""
        draw = self._run.mixture.sampler.target_rows
        bounds = itertools.pairwise(self._run.store.targets.offsets)
        return [
            low + draw(step, high - low, count)
            for (low, high), count in zip(bounds, counts, strict=True)
        ]

    def _probe_batches(self, probes: Probes, rows: np.ndarray) -> WeightedRows:
        """Rows of ids [m, b], the first domain's again where the mesh asks for more."""
        mesh, ids, owners, more = self._run.mesh, probes.rows, probes.owners, {}
        fill = -len(ids) % sharding.probe_shards(mesh, ids.shape[1])
        ids, rows = (
            np.concatenate([x, np.repeat(x[:1], fill, axis=0)])
            for x in (ids, rows.reshape(*ids.shape, -1))
        )
        if owners is not None:
            owners = np.pad(owners, ((0, fill), (0, 0)), constant_values=len(owners))
            flat = owners.ravel()
            weights = np.bincount(flat) / len(flat)
            scale = target_scales(rows.reshape(len(flat), -1), flat, weights)
            more["scale"] = scale.reshape(owners.shape)
            more["owners"] = owners.astype(np.int32)
            ids = ids + owners * (ids.max() + 1)
        # Which rows are equal, in numbers that fit the device's 32 bits.
        _, labels = np.unique(ids, return_inverse=True)
        labels = labels.reshape(ids.shape).astype(np.int32)
        where = sharding.probe_sharding(mesh, ids.shape[1])
        return _place(rows, where, ids=labels, **more)


def _mean_losses(
    evaluate: Callable,
    params: Any,
    batches: list[jax.Array],
    count: int,
    per_domain: int,
) -> np.ndarray:
    """Nats per token, float32 [count], of domains with equally many rows in turn."""
    # All batches are dispatched before the first result is fetched.
    found = jax.device_get([evaluate(params, rows) for rows in batches])
    rows = np.concatenate([(sums.nll, sums.count) for sums in found], axis=1)
    rows = rows[:, : per_domain * count].astype(np.float64)
    nats, tokens = rows.reshape(2, count, per_domain).sum(axis=2)
    return (nats / np.maximum(tokens, 1)).astype(np.float32)


def _place(rows: np.ndarray, where: NamedSharding, **more: np.ndarray) -> WeightedRows:
    batch = weighted_rows(rows) | more
    return {key: sharding.place(value, where) for key, value in batch.items()}
