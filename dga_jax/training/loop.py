"""The training loop: `Trainer.train` is the order in which everything happens.

A line of metrics is on disk before the checkpoint of its step is begun, and what a
killed run wrote after its last checkpoint is cut when it resumes.
"""

import contextlib
import functools
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.experimental import multihost_utils

from dga_jax import sharding
from dga_jax.data.pipeline import Batch, batches
from dga_jax.logs import metrics, perf
from dga_jax.logs.metrics import MetricsWriter
from dga_jax.training import config as configs
from dga_jax.training.checkpoint import Snapshot
from dga_jax.training.cost import Costs
from dga_jax.training.evaluate import Evaluator, steering_rows
from dga_jax.training.fields import flat
from dga_jax.training.mixture_metrics import MixtureMetrics
from dga_jax.training.probe import Updates
from dga_jax.training.programs import compiled
from dga_jax.training.setup import Run
from dga_jax.training.step_log import Guard, StepLog, due
from dga_jax.training.watch import Watch

if TYPE_CHECKING:
    from dga_jax.training.benchmarks import Benchmarks


class Stop:
    """Whether SIGTERM came; several processes agree on the step to stop at.

    While it is open SIGTERM interrupts nothing. In several processes JAX has seen to
    that since they joined.
    """

    def __init__(self):
        self._seen = threading.Event()
        self._before = None
        if jax.process_count() == 1:
            self._before = signal.signal(signal.SIGTERM, lambda *_: self._seen.set())
            if self._before == signal.SIG_IGN:  # it came, and what it raised was lost
                self._seen.set()

    def requested(self, step: int) -> bool:
        """Asked once a step, by all processes."""
        if jax.process_count() == 1:
            return self._seen.is_set()
        return multihost_utils.reached_preemption_sync_point(step)

    def close(self) -> None:
        """SIGTERM does again what it did."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


class Trainer:
    """One run from where its workdir stands.

    Args:
      run: what was set up.
      writer: of metrics.
      clock: of the run.
      evaluator: of held-out text.
    """

    def __init__(
        self,
        run: Run,
        writer: MetricsWriter,
        clock: perf.Clock,
        evaluator: Evaluator,
    ):
        self._run, self._config = run, run.config
        self._writer, self._clock, self._evaluator = writer, clock, evaluator
        self._step = run.step
        self._state, self._mixer_state, self._cursors = run.snapshot
        self._rows_lie = sharding.batch_sharding(run.mesh)
        self._steps = compiled(
            run.steps, lambda: clock.measure("compile"), run.programs
        )
        self._updates = Updates(run, self._steps)
        self._costs = Costs(run, evaluator.num_rows)
        self._factors = None  # of the loss, by domain; see `Mixture.loss_factors`
        self._guard = Guard(
            run.config,
            run.directory,
            run.checkpoints,
            run.extra.get("skipped_steps", 0),
        )
        self._of_mixture = MixtureMetrics(
            writer, run.mixture, self._cursors, run.extra.get("drawn")
        )
        self._watch = Watch(
            run.config, run.mixture, self._mixer_state, run.extra.get("signs")
        )
        self._log = StepLog(
            run, writer, clock, self._guard, self._of_mixture, self._watch
        )
        self._benchmarks = _benchmarks(run)
        log = run.config.log
        self._profiler = perf.ProfilerWindow(
            run.directory, log.profile_step, log.profile_steps
        )

    def train(self, stop: Stop) -> bool:
        """Trains to the end. False if a SIGTERM ended it before; all is saved then."""
        if not self._run.resumed:
            self._begin()
        for batch in self._batches():
            step, values = batch.step, {}
            self._profiler.before_step(step, self._state)
            self._train_step(batch)
            if self._run.mixture.moves and configs.update_due(self._config, step):
                values |= self._move_weights()
            if due(self._config, self._config.eval.every, step):
                values |= self._evaluate()
            if self._benchmarks and due(
                self._config, self._config.eval.lm_eval.every, step
            ):
                values |= self._benchmark()
            if values:
                values |= self._drawn()
                self._log.finish(values, self._mixer_state, self._cursors)
            if due(self._config, self._config.checkpoint.every, step):
                self._save()
            if stop.requested(step):
                break
        self._save()
        self._profiler.close()
        return self._step == self._config.train.steps

    def close(self) -> None:
        """Ends what goes on beside the steps."""
        self._updates.close()

    def _begin(self) -> None:
        """Before the first step: the weights and the model that the run begins with."""
        values = self._of_mixture.weights(self._step, self._mixer_state)
        values |= self._evaluate()
        if self._benchmarks:
            values |= self._benchmark()
        self._log.finish(values, self._mixer_state, self._cursors)
        if self._config.start["from"]:
            self._save()  # from here on the other run is not needed

    def _batches(self) -> Iterator[Batch]:
        """Batches to the end, read ahead up to the next update of the weights."""
        config, mixture = self._config, self._run.mixture
        held = sharding.local_rows(self._rows_lie, config.train.batch_size)
        while self._step < config.train.steps:
            last = config.train.steps
            if mixture.moves:
                update = configs.next_update(config, self._step)
                if update <= last:
                    last = update
                    self._updates.read_ahead(update)
            self._factors = mixture.loss_factors(self._mixer_state, self._cursors)
            yield from batches(
                self._run.store,
                mixture.sampler,
                mixture.cumulative(self._mixer_state),
                self._cursors,
                range(self._step + 1, last + 1),
                config.train.batch_size,
                held=held,
                threads=config.data.threads,
            )

    def _train_step(self, batch: Batch) -> None:
        """Sends a step on its way; its numbers are fetched when the next one is."""
        rows = sharding.place(batch.rows, self._rows_lie)
        weights, mixture = (), self._run.mixture
        if self._factors is not None:
            if mixture.sampler.max_epochs:  # each step may use a domain up
                self._factors = mixture.loss_factors(self._mixer_state, self._cursors)
            of_rows = self._factors[batch.domains]
            weights = (sharding.place(of_rows, self._rows_lie),)
        self._state, metrics = self._steps.train(self._state, rows, *weights)
        self._step = batch.step
        self._updates.trained(batch.domains, metrics)
        self._run.mixture.sampler.advance(self._cursors, batch.domains)
        self._log.under_way(batch.step, metrics, self._mixer_state, self._cursors)

    def _move_weights(self) -> dict[str, float]:
        """Alignments and new weights; returns what to log."""
        step = self._step
        jax.block_until_ready(self._state)  # or its time would be booked to alignment
        with self._clock.measure("alignment"):
            self._mixer_state, measured = self._updates.move(
                self._state, self._mixer_state, step, self._cursors
            )
        self._watch.moved(self._mixer_state, measured)
        values = self._of_mixture.weights(step, self._mixer_state)
        return values | self._of_mixture.measured(step, self._mixer_state, measured)

    def _evaluate(self) -> dict[str, float]:
        """Losses on held-out text, to log."""
        jax.block_until_ready(self._state)
        with self._clock.measure("eval"):
            found = self._evaluator(self._steps.evaluate, self._state.params)
        values = self._of_mixture.evaluated(
            self._step, self._mixer_state, found, self._cursors
        )
        return values | self._costs.evaluation(self._step)

    def _benchmark(self) -> dict[str, float]:
        """What lm-eval says of the model, to log."""
        jax.block_until_ready(self._state)
        with self._clock.measure("eval"):
            return self._benchmarks(self._state.params, self._step)

    def _drawn(self) -> dict[str, float]:
        return self._of_mixture.drawn(self._step, self._mixer_state, self._cursors)

    def _save(self) -> None:
        """Starts to write a checkpoint, if this step has none."""
        self._log.finish({}, self._mixer_state, self._cursors)
        self._guard.check(self._step, self._state.params)
        self._writer.flush()
        with self._clock.measure("checkpoint"):
            self._run.checkpoints.save(
                self._step,
                Snapshot(self._state, self._mixer_state, np.array(self._cursors)),
                {
                    "clock": self._clock.state(),
                    "target_loss": self._log.target_loss,
                    "drawn": self._of_mixture.pending(self._cursors),
                    "train_losses": self._updates.pending(),
                    "row_variances": self._updates.row_variances(),
                    "skipped_steps": self._guard.skipped,
                    "evaluated_rows": self._costs.evaluated,
                    "signs": self._watch.kept(),
                },
            )


def train(run: Run) -> bool:
    """Trains a run to its end.

    Returns:
      Whether it is complete; False if SIGTERM ended it early, with all saved.

    Raises:
      UserError: a loss that is not finite, a full disk, no rows left to draw.
    """
    config = run.config
    clock = _clock(run)
    evaluator = Evaluator(
        run.store,
        run.mesh,
        rows=config.eval.rows,
        target_rows=config.eval.target_rows,
        batch_size=config.train.batch_size // config.train.microbatches,
        steering_rows=steering_rows(run.mixture.mixer.reads),
    )
    first_step = run.step + 1 if run.resumed else run.step
    names = metrics.chosen(config.log.trackers)
    active = jax.process_index() == 0
    writer = MetricsWriter(
        run.directory,
        first_step=first_step,
        active=active,
        tensorboard=metrics.TENSORBOARD in names,
    )
    services = [name for name in names if name in metrics.SERVICES]
    followers = []
    if active and services:
        from dga_jax.logs import trackers  # few runs have any

        before = functools.partial(metrics.read_metrics, run.directory)
        fields = flat(config.to_dict())
        followers = trackers.follow(services, run.directory, fields, before, first_step)
    writer.follow(followers)
    stop, complete = Stop(), False
    try:
        with contextlib.closing(Trainer(run, writer, clock, evaluator)) as trainer:
            complete = trainer.train(stop)
        return complete
    finally:
        writer.close()
        run.checkpoints.close()
        stop.close()
        for follower in followers:  # last, for whoever stops us may not wait
            follower.close(complete)


def _benchmarks(run: Run) -> "Benchmarks | None":
    if not run.config.eval.lm_eval.every:
        return None
    from dga_jax.training.benchmarks import Benchmarks  # few runs have any

    return Benchmarks(run.config, run.mesh, run.store.tokenizer())


def _clock(run: Run) -> perf.Clock:
    """The clock of a run, going on from where its checkpoint was written."""
    clock = perf.Clock(
        jax.device_count(),
        flops_per_token=configs.flops_per_token(run.config),
        peak_flops=perf.peak_flops(jax.devices()[0].device_kind),
    )
    if "clock" in run.extra:
        clock.restore(run.extra["clock"])
    return clock
