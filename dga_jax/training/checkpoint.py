"""Checkpoints: all that a run needs to go on, saved and restored as one unit (orbax).

A checkpoint holds arrays (`Snapshot`) and a little JSON: clock, what run it is of,
fingerprint of the arrays, digest of the JSON. It is written in the background and
appears whole or not at all. On restore fingerprint and digest are compared, so that a
file that was damaged later is noticed; such a checkpoint is moved aside and the one
before it is used. What merely cannot be read stays where it is.
"""

import functools
import inspect
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from dga_jax.errors import UserError
from dga_jax.mixing.mixers import MixerState
from dga_jax.training import distributed
from dga_jax.training.integrity import (
    DamagedError,
    check_arrays,
    check_files,
    check_readable,
    describe,
    digest,
    fingerprint,
    proves_damage,
    read_record,
)
from dga_jax.training.train_state import TrainState

_SMALLEST_PART = 1 << 20  # bytes of an array that a device writes for others
_ASIDE = "damaged-"  # before the step, in the name of a folder
_FULL = ("No space left", "ENOSPC", "Disk quota exceeded")


class Snapshot(NamedTuple):
    """The arrays of a checkpoint.

    Attributes:
      train: parameters, optimizer state and step.
      mixture: the mixer's state, under the name that it has on disk.
      cursors: int64 [k], rows drawn of each domain; a NumPy array.
    """

    train: TrainState
    mixture: MixerState
    cursors: np.ndarray


class Restored(NamedTuple):
    """A checkpoint read back: its step, arrays, and the JSON that `save` was given."""

    step: int
    snapshot: Snapshot
    extra: dict[str, Any]


class Checkpoints:
    """The checkpoints of a workdir.

    Args:
      workdir: their folder is WORKDIR/checkpoints.
      keep: how many of the newest stay.

    Attributes:
      run: what run they are of, ready for JSON; saved with each.
      seconds: that the last save took until it was on disk; None before the first.
    """

    def __init__(self, workdir: Path, keep: int):
        self._folder = Path(workdir).absolute() / "checkpoints"
        self._keep = keep
        self._manager = None
        self._last = None
        self.run: dict[str, Any] | None = None
        self.seconds: float | None = None
        self._saved_since = 0.0

    @property
    def last_step(self) -> int | None:
        """Step of the newest checkpoint that is good; None without any."""
        return self._last

    def newest_step(self) -> int | None:
        """Step of the newest checkpoint in the folder, readable or not."""
        return max(self._steps(), default=None)

    def damaged(self) -> list[Path]:
        """The folders of those that were moved aside."""
        return [path for path in self._entries() if path.name.startswith(_ASIDE)]

    def newest_run(self) -> tuple[int, dict[str, Any]] | None:
        """The newest step whose checkpoint says what run it is of, and what it says.

        Raises:
          UserError: one of them cannot be read.
        """
        steps = sorted(self._steps())
        while steps:
            step = steps.pop()
            folder = self._folder / str(step)
            try:
                check_readable(folder)
                run = read_record(folder).get("run")
            except DamagedError:
                continue
            except (OSError, UserError) as error:
                raise self._unreadable(step, error, before=steps) from None
            if run is not None:
                return step, run
        return None

    def save(self, step: int, snapshot: Snapshot, extra: dict[str, Any]) -> None:
        """Starts to save; returns when the arrays may be changed again.

        Does nothing if this step is saved already. Raises UserError on a disk that is
        full or cannot be written, for this or for the save before, and if there is one
        of a later step.
        """
        if step == self._last:
            return
        newest = self.newest_step()
        if newest is not None and newest >= step:  # and would be taken for the newer
            raise UserError(
                f"checkpoint {step} was not saved: {self._folder} holds one of step "
                f"{newest}; move that away and run the same command again"
            )
        record = {
            "extra": extra,
            "fingerprint": fingerprint(snapshot),
            "arrays": describe(snapshot),
            "run": self.run,
        }
        record["digest"] = digest(record)
        self.wait()
        self._saved_since = time.monotonic()
        self._guarded(
            lambda: self._open().save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(snapshot),
                    record=ocp.args.JsonSave(record),
                ),
                force=True,
            )
        )
        self._last = step

    def wait(self) -> None:
        """Returns when all saves are complete on disk."""
        if self._manager is not None:
            self._guarded(self._manager.wait_until_finished)

    def close(self) -> None:
        """Waits, and ends the background threads."""
        if self._manager is not None:
            self.wait()
            self._manager.close()
            self._manager = None

    def restore(self, abstract: Snapshot) -> Restored | None:
        """The newest checkpoint that is good, or None where there never was one.

        One that is proven to be damaged is moved aside, and the one before it is tried.

        Args:
          abstract: shapes, dtypes and shardings to restore into.

        Raises:
          UserError: one cannot be read, but may be good; or all are damaged.
        """
        # Hosts may see a shared folder differently; what process 0 sees is restored.
        steps = distributed.broadcast(sorted(self._steps()))
        _silence_late_callbacks()
        while steps:
            step = steps.pop()
            self._check_shared(step)
            try:
                restored, problem = self._read(step, abstract), None
            except Exception as error:  # whatever orbax trips over
                restored, problem = None, error
            damaged = isinstance(problem, DamagedError)
            if not on_all_hosts(problem is None or damaged):
                raise self._unreadable(step, problem, before=steps)
            if on_all_hosts(problem is None):
                self._last = step
                return restored
            self._move_aside(step, problem, before=steps)
        aside = self.damaged()
        if aside:
            names = ", ".join(sorted(path.name for path in aside))
            raise UserError(
                f"no checkpoint of this run is good: {self._folder} holds {names} only;"
                " put a good one there; or, to begin again at step 0, choose another "
                f"--workdir or remove {self._folder}"
            )
        return None

    def _steps(self) -> list[int]:
        """Steps that have a folder, complete or not, seen without orbax's filters."""
        return [int(path.name) for path in self._entries() if path.name.isdigit()]

    def _entries(self) -> list[Path]:
        try:
            return list(self._folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(
                f"{self._folder} cannot be read ({error.strerror}); change that, or "
                "choose another --workdir"
            ) from None

    def _check_shared(self, step: int) -> None:
        path = self._folder / str(step)
        if not distributed.comes_true(path.is_dir):
            raise UserError(
                f"checkpoint {step} is not seen here, but by process 0; the workdir "
                f"must be a directory that all hosts share ({path})"
            )
        distributed.meet(f"all see checkpoint {step}")

    def _read(self, step: int, abstract: Snapshot) -> Restored:
        folder = self._folder / str(step)
        check_readable(folder)
        record = read_record(folder)
        check_arrays(record, abstract)
        check_files(folder)
        try:
            found = self._open().restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract),
                    record=ocp.args.JsonRestore(),
                ),
            )
        except Exception as error:
            if proves_damage(error, folder):
                raise DamagedError(str(error)) from error
            raise
        snapshot = found["state"]
        if fingerprint(snapshot) != record["fingerprint"]:
            raise DamagedError("its arrays are not those that were saved")
        return Restored(step, snapshot, record["extra"])

    def _unreadable(
        self, step: int, problem: Exception | None, before: Sequence[int]
    ) -> UserError:
        self.close()
        folder = self._folder / str(step)
        if problem is None or isinstance(problem, DamagedError):
            reason = "see the message of another process"
        elif isinstance(problem, UserError):
            reason = str(problem)
        else:
            reason = f"{type(problem).__name__}: {problem}"[:300]
        remedy = "or choose another --workdir"
        if before:
            remedy = f"or move it away to go on from checkpoint {before[-1]}"
        return UserError(
            f"checkpoint {step} cannot be read, which does not prove it damaged "
            f"({' '.join(reason.split())}); nothing was changed in {folder}: see to it "
            f"and run the same command again, {remedy}"
        )

    def _move_aside(
        self, step: int, problem: Exception | None, before: Sequence[int]
    ) -> None:
        self.close()  # orbax caches what it saw in the folder
        aside = self._folder / f"{_ASIDE}{step}"
        if jax.process_index() == 0:
            number = 1
            while aside.exists():
                number += 1
                aside = self._folder / f"{_ASIDE}{step}-{number}"
            os.replace(self._folder / str(step), aside)
            reason = " ".join(str(problem).split())[:200]
            then = ", trying the one before it" if before else ""
            print(
                f"checkpoint {step} is damaged ({reason}); moved to {aside}{then}",
                flush=True,
            )
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"moved aside {step}")

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep,
                cleanup_tmp_directories=True,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._saved),
            )
            self._manager = manager(self._folder, options)
        return self._manager

    def _saved(self) -> None:
        """Called in the background, when all but a file's name is on disk."""
        first, self.seconds = self.seconds is None, time.monotonic() - self._saved_since
        if first and jax.process_index() == 0:
            print(f"the first checkpoint was saved in {self.took}", flush=True)

    @property
    def took(self) -> str:
        """How long the last save took, for a message."""
        return "no time" if self.seconds is None else f"{self.seconds:.1f} s"

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:
            if any(sign in str(error) for sign in _FULL):
                raise UserError(
                    f"the disk is full: no checkpoint could be written to "
                    f"{self._folder}; free some space and run the same command again"
                ) from None
            if isinstance(error, OSError):
                raise UserError(
                    f"no checkpoint could be written to {self._folder} ({error}); see "
                    "to it and run the same command again"
                ) from None
            raise


def manager(
    folder: Path, options: ocp.CheckpointManagerOptions | None = None
) -> ocp.CheckpointManager:
    """Saves with `PyTreeSave` as `state` and `JsonSave` as `record`; restores too.

    Arrays are not compressed: floats that were trained become little smaller, and to
    decompress them takes longer than to read them. Of what several devices hold alike,
    small arrays are written by one of them: to cut them up takes a program for each.
    """
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    arrays = ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, ocp.type_handlers.NumpyHandler()),
        (
            jax.Array,
            ocp.type_handlers.ArrayHandler(
                min_slice_bytes_for_replica_parallel=_SMALLEST_PART
            ),
        ),
    )
    saves = ocp.PyTreeCheckpointHandler(
        use_compression=False, type_handler_registry=arrays
    )
    registry.add("state", ocp.args.PyTreeSave, saves)
    registry.add("state", ocp.args.StandardRestore, ocp.StandardCheckpointHandler())
    record = ocp.JsonCheckpointHandler()
    registry.add("record", ocp.args.JsonSave, record)
    registry.add("record", ocp.args.JsonRestore, record)
    return ocp.CheckpointManager(folder, options=options, handler_registry=registry)


def size_on_disk(abstract: Snapshot) -> int:
    """Bytes of the arrays of one checkpoint."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(abstract))


@functools.cache
def _silence_late_callbacks() -> None:
    """Keeps what follows a failed read off the terminal, in this process.

    Orbax gives up at the first damaged array and closes its event loop. TensorStore's
    threads report to it all the same, and the coroutines that waited for them die:
    each would print a traceback.
    """
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        late = str(unraisable.exc_value) == "Event loop is closed"
        if not (late or inspect.iscoroutine(unraisable.object)):
            before(unraisable)

    sys.unraisablehook = hook
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def on_all_hosts(here: bool) -> bool:
    """Whether it is so on every process; all must call."""
    if jax.process_count() == 1:
        return here
    return bool(np.all(multihost_utils.process_allgather(np.array(here))))
