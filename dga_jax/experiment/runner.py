"""Trains the runs of an experiment, one after the other, in this process."""

import contextlib
import copy
import os
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dga_jax import files
from dga_jax.errors import ExitStatus, UserError, exit_status, is_full_disk, one_line
from dga_jax.experiment import results
from dga_jax.experiment.plan import Planned
from dga_jax.training import workdir
from dga_jax.training.fields import changed
from dga_jax.training.loop import train
from dga_jax.training.setup import check, open_run

# A defect of ours is worse than a mistake of the user.
_WORSE = (ExitStatus.COMPLETE, ExitStatus.USER_ERROR, ExitStatus.DEFECT)


class Trained(NamedTuple):
    """How it went.

    Attributes:
      failed: names of the runs that failed.
      status: 0; that of a failure; or `STOPPED` if SIGTERM ended it.
    """

    failed: Sequence[str]
    status: ExitStatus


def train_all(
    runs: Sequence[Planned],
    every: Sequence[Planned],
    directory: Path,
    explicit: Iterable[str],
) -> Trained:
    """Trains what is not trained yet; one that fails does not stop the others.

    Args:
      runs: that this process is to train.
      every: of the experiment, whose results are written after each run.
      directory: of the experiment.
      explicit: fields that were set on the command line.

    Raises:
      UserError: a finished run is another than planned; nothing is trained then. Or
        the disk is full.
    """
    for run in every:
        _check_same(directory, run)
    write_results(directory, every)
    left = [run for run in runs if not _folder(directory, run, results.RESULT).exists()]
    done = len(runs) - len(left)
    if done:
        print(f"{directory}: {done} of {len(runs)} runs are finished", flush=True)
    failed, status = [], ExitStatus.COMPLETE
    for number, run in enumerate(left, done + 1):
        print(f"[{number}/{len(runs)}] {run.name}", flush=True)
        found = _attempt(run, directory, set(explicit))
        if found == ExitStatus.STOPPED:
            return Trained(failed, found)
        if found != ExitStatus.COMPLETE:
            failed.append(run.name)
            status = max(status, found, key=_WORSE.index)
        write_results(directory, every)
    return Trained(failed, status)


def take_over(runs: Sequence[Planned], directory: Path, others: Sequence[Path]) -> None:
    """Takes results of other experiments for runs of the same config.

    Args:
      runs: that may be taken over.
      directory: of this experiment.
      others: of those that have results; their runs need not be there.

    Raises:
      UserError: a file of theirs cannot be read, or there is none.
    """
    found = {}
    for other in others:
        there = (other / results.RESULTS).is_file()
        lines = results.read_lines(other) if there else []
        done = [line for line in lines if "failed" not in line]
        if not done:
            raise UserError(f"--reuse={other}: no finished run is there; leave it out")
        for line in done:
            result = {k: v for k, v in line.items() if k not in ("name", "axes")}
            found[results.identity(result["config"])] = result
    for run in runs:
        path = _folder(directory, run, results.RESULT)
        result = found.get(results.identity(changed(run.config)))
        if result is not None and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            results.write(path, result | {"run": run.name})


def _attempt(run: Planned, directory: Path, explicit: set[str]) -> ExitStatus:
    """Trains a run, and says how it went; what failed is written down."""
    started = time.monotonic()
    try:
        complete = _train_one(run, directory, explicit)
    except Exception as error:
        if is_full_disk(error) or "disk is full" in str(error):
            raise
        status, said = exit_status(error), one_line(error)
        if status == ExitStatus.DEFECT:
            traceback.print_exc()
        print(f"{run.name} FAILED: {said}", flush=True)
        results.write(_folder(directory, run, results.FAILED), {"failed": said})
        return status
    if complete is None:
        print(f"{run.name}: another process is at it; left to that", flush=True)
    elif not complete:
        return ExitStatus.STOPPED
    else:
        seconds = time.monotonic() - started
        made = results.read(_folder(directory, run, results.RESULT))["made"]
        around = seconds - made.get("seconds", seconds)
        said = f"{run.name}: {seconds:.0f} s"
        if around >= 0:  # else it was begun before, and its clock too
            said += f", {around:.1f} of them around the training"
        print(said, flush=True)
    return ExitStatus.COMPLETE


def _folder(directory: Path, run: Planned, name: str = "") -> Path:
    return directory / results.RUNS / run.name / name


def _check_same(directory: Path, run: Planned) -> None:
    """A result of other fields would pass for that of these."""
    result = results.read(_folder(directory, run, results.RESULT))
    name = result and results.same(result["config"], run.config)
    if name:
        raise UserError(
            f"{_folder(directory, run)}: it is finished, but of another config.{name} "
            "than the experiment has by now; choose another --workdir, or remove it"
        )


def _train_one(run: Planned, directory: Path, explicit: set[str]) -> bool | None:
    """Trains a run to its end; False if SIGTERM ended it, None if another has it."""
    folder = _folder(directory, run)
    with _held(folder) as mine:
        if not mine:
            return None
        if (folder / results.RESULT).exists():
            return True
        parts = check(copy.deepcopy(run.config), explicit)
        opened = open_run(parts, folder, ahead=True)
        if opened.step == 0 or not (folder / results.MADE).exists():
            results.write(folder / results.MADE, results.made_here())
        if opened.step < parts.config.train.steps:
            if not train(opened):
                return False
        else:
            opened.checkpoints.close()
        results.write(folder / results.RESULT, results.outcome(folder, run))
        (folder / results.FAILED).unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Holds a workdir; False inside if another process does."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(workdir.locked(folder))
        except UserError:
            if not os.access(folder / files.LOCK, os.W_OK):
                raise
            yield False
            return
        yield True


def write_results(directory: Path, every: Sequence[Planned]) -> None:
    """Writes results.jsonl from the runs that are done, one process at a time."""
    with files.locked(directory, "workdir"):
        results.write_lines(directory, results.gather(directory, every))
