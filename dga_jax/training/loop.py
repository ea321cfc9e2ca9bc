"""The training loop.

Every step does the same things in the same order: batch, train step, alignment and new
weights when due, evaluation when due, the step's one line of metrics, checkpoint when
due. A line is on disk before the checkpoint of its step is begun, and what a killed run
wrote after its last checkpoint is cut when it resumes.
"""

import signal
import threading
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from dga_jax import sharding
from dga_jax.data.pipeline import batches
from dga_jax.errors import UserError
from dga_jax.logs import perf
from dga_jax.logs.console import Progress
from dga_jax.logs.metrics import MetricsWriter
from dga_jax.model.transformer import matrix_parameter_count
from dga_jax.training import config as configs
from dga_jax.training import train_state
from dga_jax.training.checkpoint import Snapshot
from dga_jax.training.evaluate import Evaluator
from dga_jax.training.mixture_metrics import MixtureMetrics
from dga_jax.training.nonfinite import remedies
from dga_jax.training.probe import measure
from dga_jax.training.setup import Run

_SHOWN_DOMAINS = 5


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
        self._progress = Progress()
        self._state, self._mixture, self._cursors = run.snapshot
        self._of_mixture = MixtureMetrics(
            writer, run.mixture, self._cursors, run.extra.get("drawn")
        )
        self._step = run.step
        self._pending = None  # metrics of the newest step, still on the device
        self._target_loss = run.extra.get("target_loss")
        self._skipped = run.extra.get("skipped_steps", 0)
        self._programs = {}
        self._shown = clock.trained()  # at the last console line
        self._store = run.store
        self._batch_sharding = sharding.batch_sharding(run.mesh)
        self._held = sharding.local_rows(
            self._batch_sharding, self._config.train.batch_size
        )
        model = configs.model_config(self._config)
        self._flops_per_token = perf.model_flops_per_token(
            matrix_parameter_count(model),
            model.num_layers,
            model.d_model,
            self._config.train.seq_len,
        )
        self._peak_flops = perf.peak_flops(jax.devices()[0])
        self._profiler = perf.ProfilerWindow(
            run.directory,
            self._config.log.profile_step,
            self._config.log.profile_steps if self._config.log.profile_step else 0,
        )

    def train(self, stop: Stop) -> bool:
        """Trains to the end. False if a SIGTERM ended it before; all is saved then."""
        if not self._run.resumed:
            first = self._of_mixture.weights(self._step, self._mixture)
            self._finish_step(first | self._evaluate())
            if self._config.start["from"]:
                self._save()  # from here on the other run is not needed
        while self._step < self._config.train.steps:
            for batch in self._span():
                self._train_step(batch)
                if stop.requested(self._step):
                    self._save()
                    return self._step == self._config.train.steps
        self._save()
        self._profiler.close()
        return True

    def _span(self):
        """Batches up to the next update of the weights, or to the end."""
        last = self._config.train.steps
        if self._run.mixture.moves:
            last = min(last, configs.next_update(self._config, self._step))
        return batches(
            self._store,
            self._run.mixture.sampler,
            self._run.mixture.cumulative(self._mixture),
            self._cursors,
            range(self._step + 1, last + 1),
            self._config.train.batch_size,
            held=self._held,
            threads=self._config.data.threads,
        )

    def _train_step(self, batch):
        self._profiler.before_step(batch.step, self._state)
        rows = sharding.place(batch.rows, self._batch_sharding)
        train_step = self._compiled("train", self._state, rows)
        self._state, device_metrics = train_step(self._state, rows)
        self._run.mixture.sampler.advance(self._cursors, batch.domains)
        # The step before has ended by now or soon: waiting for its numbers here keeps
        # the device busy with this one.
        self._flush_pending()
        self._step, self._pending = batch.step, device_metrics
        extra = {}
        if self._run.mixture.moves and configs.update_due(self._config, self._step):
            extra |= self._move_weights()
        if self._due(self._config.eval.every):
            extra |= self._evaluate()
        if extra:
            extra |= self._drawn()
        if extra or self._due(self._config.checkpoint.every):
            self._finish_step(extra)
        if self._due(self._config.checkpoint.every):
            self._save()

    def _due(self, every):
        """Every so many steps, and after the last one."""
        if self._step == self._config.train.steps:
            return True
        return bool(every) and self._step % every == 0

    def _move_weights(self):
        """Alignments and new weights; returns what to log."""
        step, mixture = self._step, self._run.mixture
        jax.block_until_ready(self._state)  # or its time would be booked to alignment
        with self._clock.measure("alignment"):
            measured = measure(self._run, self._state, step, self._align)
            self._mixture = mixture.update(
                self._mixture, step, measured.indices, measured.alignments
            )
        weights = self._of_mixture.weights(step, self._mixture)
        return weights | self._of_mixture.alignments(step, self._mixture, measured)

    def _align(self, *arguments):
        return self._compiled("align", *arguments)(*arguments)

    def _compiled(self, name, *arguments):
        """A step, compiled when first used and apart from it, for the clock's sake."""
        if name not in self._programs:
            with self._clock.measure("compile"):
                step = getattr(self._run.steps, name)
                self._programs[name] = step.lower(*arguments).compile()
        return self._programs[name]

    def _evaluate(self):
        jax.block_until_ready(self._state)
        with self._clock.measure("eval"):
            found = self._evaluator(self._run.steps.evaluate, self._state.params)
        self._target_loss = found.metrics["eval/target/loss"]
        return self._of_mixture.evaluated(
            self._step, self._mixture, found, self._cursors
        )

    def _drawn(self):
        return self._of_mixture.drawn(self._step, self._mixture, self._cursors)

    def _flush_pending(self):
        if self._pending is not None:
            self._finish_step({})

    def _finish_step(self, extra: dict[str, Any]):
        """Writes the one line of the step, if there is anything to say."""
        pending, self._pending = self._pending, None
        step, log = self._step, self._config.log
        values = dict(extra)
        if pending is not None:
            loss, norm, rate, tokens = (x.item() for x in jax.device_get(pending))
            skipped = self._skip(step, loss, norm)
            self._clock.tick(int(tokens))
            if skipped or self._due(log.every):
                values |= {"train/loss": loss, "train/gradient_norm": norm}
                values["train/learning_rate"] = rate
                if self._config.train.skip_nonfinite:
                    values["train/skipped_steps"] = self._skipped
        if not values:
            return
        values |= self._speed()
        self._writer.write(step, values)
        if pending is not None and (step == 1 or self._due(log.console)):
            self._print(step, loss)

    def _speed(self):
        metrics = self._clock.metrics()
        rate = metrics.get("perf/tokens_per_second")
        share = rate and perf.mfu(
            rate, self._flops_per_token, jax.device_count(), self._peak_flops
        )
        return metrics if share is None else metrics | {"perf/mfu": share}

    def _skip(self, step, loss, norm):
        """Whether the step was left out; ends the run if it may not be."""
        if np.isfinite(loss) and np.isfinite(norm):
            return False
        what = f"the loss is {loss} and the gradient norm {norm}"
        limit = self._config.train.skip_nonfinite
        if self._skipped == limit:
            if limit:
                what += (
                    f", after {limit} skipped, as many as train.skip_nonfinite={limit} "
                    "lets (the same command goes on with a higher one)"
                )
            self._end_not_finite(what)
        self._skipped += 1
        if self._skipped == 1 and jax.process_index() == 0:
            said = f"step {step}: {what}: skipped, as up to {limit} steps may be"
            print(said, flush=True)
        return True

    def _end_not_finite(self, what):
        self._writer.flush()
        last = self._run.checkpoints.last_step
        self._run.checkpoints.wait()
        then = remedies(self._config, self._run.directory, self._step, last)
        raise UserError(f"step {self._step}: {what}; {then}")

    def _print(self, step, loss):
        if jax.process_index() != 0:
            return
        before, self._shown = self._shown, self._clock.trained()
        seconds, tokens = (b - a for a, b in zip(before, self._shown, strict=True))
        where = self._mixture, self._cursors
        self._progress.line(
            step,
            self._config.train.steps,
            loss,
            self._target_loss,
            tokens / seconds if seconds else None,
            self._clock.eta_seconds(self._config.train.steps - step),
            self._of_mixture.leading(*where, _SHOWN_DOMAINS),
        )
        used_up = self._of_mixture.newly_used_up(*where)
        if used_up:
            self._progress.say(used_up)

    def _save(self):
        self._flush_pending()
        if not train_state.all_finite(self._state.params):  # no good checkpoint
            self._end_not_finite("the step left parameters that are not finite")
        self._writer.flush()
        with self._clock.measure("checkpoint"):
            self._run.checkpoints.save(
                self._step,
                Snapshot(self._state, self._mixture, np.array(self._cursors)),
                {
                    "clock": self._clock.state(),
                    "target_loss": self._target_loss,
                    "drawn": self._of_mixture.pending(self._cursors),
                    "skipped_steps": self._skipped,
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
    clock = perf.Clock(jax.device_count())
    if "clock" in run.extra:
        clock.restore(run.extra["clock"])
    evaluator = Evaluator(
        run.store,
        run.mesh,
        rows=config.eval.rows,
        target_rows=config.eval.target_rows,
        batch_size=config.train.batch_size // config.train.microbatches,
    )
    writer = MetricsWriter(
        run.directory,
        first_step=run.step + 1 if run.resumed else run.step,
        active=jax.process_index() == 0,
    )
    stop = Stop()
    try:
        return Trainer(run, writer, clock, evaluator).train(stop)
    finally:
        writer.close()
        run.checkpoints.close()
        stop.close()
