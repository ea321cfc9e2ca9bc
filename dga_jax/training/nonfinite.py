"""A loss that is not finite: steps that may be skipped, and what to do about it."""

import os
import shlex
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from ml_collections import ConfigDict

from dga_jax.errors import UserError
from dga_jax.training import train_state
from dga_jax.training.checkpoint import Checkpoints

_LOWER = 0.1  # times the learning rate that was too high


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
