"""Checkpoints: all that a run needs to go on, saved and restored as one unit (orbax).

A checkpoint holds arrays (`Snapshot`) and a little JSON (clock, fingerprint). It is
written in the background and appears whole or not at all. On restore the fingerprint is
compared, so that a file that was damaged later is noticed; such a checkpoint is moved
aside and the one before it is used.
"""

import functools
import inspect
import os
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from dga_jax import distributed
from dga_jax.errors import UserError
from dga_jax.mixing.mixers import MixerState
from dga_jax.train_state import TrainState


class Snapshot(NamedTuple):
    """The arrays of a checkpoint.

    Attributes:
      train: parameters, optimizer state and step.
      mixture: log-weights and mixer state.
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
    """

    def __init__(self, workdir: Path, keep: int):
        self._folder = Path(workdir).absolute() / "checkpoints"
        self._keep = keep
        self._manager = None
        self._last = None

    @property
    def last_step(self) -> int | None:
        """Step of the newest checkpoint that is good; None without any."""
        return self._last

    def newest_step(self) -> int | None:
        """Step of the newest checkpoint in the folder, readable or not."""
        return max(self._steps(), default=None)

    def save(self, step: int, snapshot: Snapshot, extra: dict[str, Any]) -> None:
        """Starts to save; returns when the arrays may be changed again.

        Does nothing if this step is saved already. Raises UserError on a full disk,
        for this or for the save before.
        """
        if step == self._last:
            return
        record = {"extra": extra, "fingerprint": fingerprint(snapshot)}
        self._guarded(
            lambda: self._open().save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(snapshot),
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
        """The newest checkpoint that can be read, or None.

        Args:
          abstract: shapes, dtypes and shardings to restore into.
        """
        # Hosts may see a shared folder differently; what process 0 sees is restored.
        steps = distributed.broadcast(sorted(self._steps()))
        _silence_late_callbacks()
        while steps:
            step = steps.pop()
            self._check_shared(step)
            try:
                restored, problem = self._read(step, abstract), None
            except Exception as error:  # whatever orbax trips over in a damaged one
                restored, problem = None, error
            if _on_all_hosts(problem is None):
                self._last = step
                return restored
            self._move_aside(step, problem, before=steps)
        return None

    def _steps(self):
        """Steps that have a folder, complete or not, seen without orbax's filters."""
        if not self._folder.is_dir():
            return []
        return [int(p.name) for p in self._folder.iterdir() if p.name.isdigit()]

    def _check_shared(self, step):
        path = self._folder / str(step)
        if not distributed.comes_true(path.is_dir):
            raise UserError(
                f"checkpoint {step} is not seen here, but by process 0; the workdir "
                f"must be a directory that all hosts share ({path})"
            )
        distributed.meet(f"all see checkpoint {step}")

    def _read(self, step, abstract):
        found = self._open().restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract),
                record=ocp.args.JsonRestore(),
            ),
        )
        snapshot = found["state"]
        if fingerprint(snapshot) != found["record"]["fingerprint"]:
            raise ValueError("its arrays are not those that were saved")
        return Restored(step, snapshot, found["record"]["extra"])

    def _move_aside(self, step, problem, before):
        self.close()  # orbax caches what it saw in the folder
        aside = self._folder / f"damaged-{step}"
        if jax.process_index() == 0:
            number = 1
            while aside.exists():
                number += 1
                aside = self._folder / f"damaged-{step}-{number}"
            os.replace(self._folder / str(step), aside)
            reason = " ".join(str(problem).split())[:200] or type(problem).__name__
            then = "trying the one before it" if before else "going back to step 0"
            print(
                f"checkpoint {step} is damaged ({reason}); moved to {aside}, {then}",
                flush=True,
            )
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"moved aside {step}")

    def _open(self):
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep, cleanup_tmp_directories=True
            )
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        return self._manager

    def _guarded(self, action):
        try:
            action()
        except Exception as error:
            if "No space left" in str(error) or "ENOSPC" in str(error):
                raise UserError(
                    f"the disk is full: no checkpoint could be written to "
                    f"{self._folder}; free some space and run the same command again"
                ) from None
            raise


def fingerprint(snapshot: Snapshot) -> list[int]:
    """One uint32 a leaf: the wrapping sum of its bits, taken 32 at a time.

    Integer sums do not depend on the order of summation, hence not on the mesh.
    """
    leaves = jax.tree.leaves(snapshot)
    on_host = [isinstance(leaf, np.ndarray) for leaf in leaves]
    sums = iter(np.asarray(_bit_sums([x for x in leaves if isinstance(x, jax.Array)])))
    return [
        int(np.sum(np.ascontiguousarray(leaf).view(np.uint32), dtype=np.uint32))
        if host
        else int(next(sums))
        for leaf, host in zip(leaves, on_host, strict=True)
    ]


@jax.jit
def _bit_sums(leaves):
    def bits(leaf):
        words = jax.lax.bitcast_convert_type(leaf, jnp.uint32)
        return jnp.sum(words, dtype=jnp.uint32)

    return jnp.stack([bits(leaf) for leaf in leaves])


def size_on_disk(abstract: Snapshot) -> int:
    """Bytes of one checkpoint, at most (orbax compresses)."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(abstract))


@functools.cache
def _silence_late_callbacks() -> None:
    """Keeps what follows a failed read off the terminal, in this process.

    Orbax gives up at the first damaged array and closes its event loop. TensorStore's
    threads report to it all the same, and the coroutines that waited for them die:
    each would print a traceback.
    """
    before = sys.unraisablehook

    def hook(unraisable):
        late = str(unraisable.exc_value) == "Event loop is closed"
        if not (late or inspect.iscoroutine(unraisable.object)):
            before(unraisable)

    sys.unraisablehook = hook
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def _on_all_hosts(here: bool) -> bool:
    if jax.process_count() == 1:
        return here
    return bool(np.all(multihost_utils.process_allgather(np.array(here))))
