"""What to do after a loss that is not finite: commands that work as they stand."""

import os
import shlex
from pathlib import Path

from ml_collections import ConfigDict

_ROOT = Path(__file__).parents[2]
_LOWER = 0.1  # times the learning rate that was too high


def remedies(config: ConfigDict, directory: Path, step: int, last: int | None) -> str:
    """How to go on from the last good checkpoint, and how to see the rows of the step.

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


def _command(module, *flags):
    return shlex.join(["python", "-m", module, *flags])


def _config_of(directory):
    """The config file that takes the config of a run, and the run for its argument."""
    path = _ROOT / "configs" / "of_run.py"
    if Path.cwd() == _ROOT:
        path = path.relative_to(_ROOT)
    return f"{path}:{directory}"


def _new(directory):
    """A directory beside the workdir that is not there yet."""
    number = 2
    while os.path.lexists(f"{directory}-{number}"):
        number += 1
    return f"{directory}-{number}"
