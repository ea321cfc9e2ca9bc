"""What becomes of a step that has ended: whether it counts, and what is said of it.

That is a line of metrics, and now and then one to read.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from ml_collections import ConfigDict

from dga_jax.errors import UserError
from dga_jax.logs import perf
from dga_jax.logs.console import Progress
from dga_jax.logs.metrics import MetricsWriter
from dga_jax.logs.signs import Sign
from dga_jax.mixing.mixers import MixerState
from dga_jax.training import train_state
from dga_jax.training.checkpoint import Checkpoints
from dga_jax.training.mixture_metrics import MixtureMetrics
from dga_jax.training.setup import Run
from dga_jax.training.steps import StepMetrics
from dga_jax.training.watch import Watch

_SHOWN_DOMAINS = 5
_LOWER = 0.1  # times the learning rate that was too high


def due(config: ConfigDict, every: int, step: int) -> bool:
    """Whether what comes every so many steps comes now: after the last one anyway."""
    return step == config.train.steps or (every > 0 and step % every == 0)


class Guard:
    """Lets as many steps as may be be skipped, and then ends the run.

    Args:
      config: of the run.
      directory: its workdir.
      checkpoints: of the workdir.
      skipped: steps skipped before.

    Attributes:
      skipped: steps skipped up to now.
    """

    def __init__(
        self,
        config: ConfigDict,
        directory: Path,
        checkpoints: Checkpoints,
        skipped: int = 0,
    ):
        self._config, self._directory = config, directory
        self._checkpoints = checkpoints
        self.skipped = skipped

    def skips(self, step: int, loss: float, norm: float) -> bool:
        """Whether a step was left out, for its loss or the norm of its gradient.

        Raises:
          UserError: it was, and no more may be.
        """
        if np.isfinite(loss) and np.isfinite(norm):
            return False
        what = f"the loss is {loss} and the gradient norm {norm}"
        limit = self._config.train.skip_nonfinite
        if self.skipped == limit:
            if limit:
                what += (
                    f", after {limit} skipped, as many as train.skip_nonfinite={limit} "
                    "lets (the same command goes on with a higher one)"
                )
            self._end(step, what)
        self.skipped += 1
        if self.skipped == 1 and jax.process_index() == 0:
            said = f"step {step}: {what}: skipped, as up to {limit} steps may be"
            print(said, flush=True)
        return True

    def check(self, step: int, params: Any) -> None:
        """Raises UserError unless a step left all parameters finite: good to save."""
        if not train_state.all_finite(params):
            self._end(step, "the step left parameters that are not finite")

    def _end(self, step: int, what: str) -> NoReturn:
        last = self._checkpoints.last_step
        self._checkpoints.wait()
        then = remedies(self._config, self._directory, step, last)
        raise UserError(f"step {step}: {what}; {then}")


class StepLog:
    """Writes the one line of each step, when all that it says is known.

    Args:
      run: going on.
      writer: of its metrics.
      clock: of the run; told of each step.
      guard: asked whether a step counts.
      of_mixture: gives the leading domains.
      watch: told of each loss, and asked for signs of failure.

    Attributes:
      target_loss: of the newest evaluation; None before the first.
    """

    def __init__(
        self,
        run: Run,
        writer: MetricsWriter,
        clock: perf.Clock,
        guard: Guard,
        of_mixture: MixtureMetrics,
        watch: Watch,
    ):
        self._config, self._writer, self._clock = run.config, writer, clock
        self._guard, self._of_mixture, self._watch = guard, of_mixture, watch
        self._console = Progress() if jax.process_index() == 0 else None
        self._pace = perf.Pace(clock)  # from one line on the console to the next
        self._step = run.step
        self._pending = None  # metrics of the step, still on the device
        self.target_loss: float | None = run.extra.get("target_loss")

    def under_way(
        self,
        step: int,
        metrics: StepMetrics,
        mixer_state: MixerState,
        cursors: np.ndarray,
    ) -> None:
        """Finishes the line of the step before, and begins that of one just sent off.

        The step before has ended by now or soon: waiting for its numbers here keeps the
        device busy with this one.
        """
        self.finish({}, mixer_state, cursors)
        self._step, self._pending = step, metrics

    def finish(
        self, values: Mapping[str, float], mixer_state: MixerState, cursors: np.ndarray
    ) -> None:
        """Writes the line of the step, if it is not written and has anything to say.

        Args:
          values: metrics besides those of the train step and `perf/`.
          mixer_state: by which the leading domains are named.
          cursors: int64 [k], rows drawn of each domain.

        Raises:
          UserError: the step's loss or gradient is not finite, and may not be.
        """
        pending, self._pending = self._pending, None
        self.target_loss = values.get("eval/target/loss", self.target_loss)
        step, line = self._step, dict(values)
        if pending is not None:
            found = StepMetrics(*(x.item() for x in jax.device_get(pending[:-1])))
            line |= self._of_step(step, found)
        if not line:
            return
        signs = self._watch.signs(values, mixer_state, cursors) if values else None
        if signs is not None:
            line |= self._watch.metrics(signs)
        self._writer.write(step, line | self._clock.metrics())
        if pending is not None and (step == 1 or self._due(self._config.log.console)):
            self._show(found.loss, mixer_state, cursors)
        if signs is not None:
            self._warn(signs)

    def _due(self, every: int) -> bool:
        return due(self._config, every, self._step)

    def _of_step(self, step: int, found: StepMetrics) -> dict[str, float]:
        """`train/` metrics of a step that has ended, where they are due."""
        skipped = self._guard.skips(step, found.loss, found.gradient_norm)
        if not skipped:
            self._watch.trained(found.loss)
        self._clock.tick(int(found.tokens))
        if not (skipped or self._due(self._config.log.every)):
            return {}
        metrics = {
            "train/loss": found.loss,
            "train/gradient_norm": found.gradient_norm,
            "train/learning_rate": found.learning_rate,
        }
        if self._config.train.skip_nonfinite:
            metrics["train/skipped_steps"] = self._guard.skipped
        return metrics

    def _show(self, loss: float, mixer_state: MixerState, cursors: np.ndarray) -> None:
        """Prints where the run stands, and which domains have been used up."""
        if self._console is None:
            return
        last = self._config.train.steps
        self._console.line(
            self._step,
            last,
            loss,
            self.target_loss,
            self._pace.read(),
            self._clock.eta_seconds(last - self._step),
            self._of_mixture.leading(mixer_state, cursors, _SHOWN_DOMAINS),
        )
        used_up = self._of_mixture.newly_used_up(mixer_state, cursors)
        if used_up:
            self._console.say(used_up)

    def _warn(self, signs: list[Sign]) -> None:
        """Prints a line on each sign that was not there before."""
        for sign in self._watch.fresh(signs):
            # What is used up is said by name, with the step's own line.
            if self._console is not None and sign.name != "used_up":
                self._console.say(f"warning, step {self._step}: {sign}")


def remedies(config: ConfigDict, directory: Path, step: int, last: int | None) -> str:
    """Commands, which work as they stand, to go on and to see the rows of the step.

    Args:
      config: of the run.
      directory: its workdir.
      step: whose loss or gradient is not finite.
      last: step of the newest checkpoint; None without any.
    """
    saved = f"last good checkpoint: {last}"
    what = "go on from it"
    flags = [f"--config.start.from={directory}@{last}", "--config.start.what=all"]
    if last is None:
        saved, what, flags = "no checkpoint yet", "start again", []
    rate = f"{config.optimizer.learning_rate * _LOWER:.3g}"
    again = _command(
        "dga_jax.main",
        f"--config={_config_of(directory)}",
        f"--workdir={_new(directory)}",
        *flags,
        f"--config.optimizer.learning_rate={rate}",
    )
    rows = _command("dga_jax.rows", f"--workdir={directory}", f"--step={step}")
    return (
        f"{saved} ({directory}); {what} with a lower learning rate: {again} ; look at "
        f"the rows of step {step}: {rows}"
    )


def _command(module: str, *flags: str) -> str:
    return shlex.join(["python", "-m", module, *flags])


def _config_of(directory: Path) -> str:
    """The config file that takes the config of a run, and the run for its argument."""
    return f"configs/of_run.py:{directory}"


def _new(directory: Path) -> str:
    """A directory beside the workdir that is not there yet."""
    number = 2
    while os.path.lexists(f"{directory}-{number}"):
        number += 1
    return f"{directory}-{number}"
