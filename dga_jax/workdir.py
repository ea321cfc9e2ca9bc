"""A run's directory: one run at a time, the same run as before, room to write."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dga_jax import files
from dga_jax.errors import UserError

CONFIG_NAME = "config.json"
# Groups and fields that a resumed run may change: none of them touches what is computed
# from what data, beyond rounding.
_MAY_CHANGE = (
    *("mesh.", "checkpoint.", "eval.", "log.", "data.store", "data.threads"),
    "train.skip_nonfinite",
)

_REASONS = {"train.steps": " (the schedules of the steps already made depend on it)"}


def locked(workdir: Path) -> contextlib.AbstractContextManager[None]:
    """Holds the workdir for this process; see `files.locked`."""
    return files.locked(workdir, "workdir", "another process is running there")


def check_same_run(
    workdir: Path,
    record: dict[str, Any],
    steps_may_change: Callable[[dict[str, Any]], bool],
) -> None:
    """Compares the run with the one that the workdir belongs to, if there is one.

    Args:
      workdir: of the run.
      record: {"config": ..., "data": ...}, ready for JSON; "data" identifies store and
        domains.
      steps_may_change: whether, given the recorded config, `train.steps` may be what it
        is now.

    Raises:
      UserError: naming the field, its value before and its value now.
    """
    path = workdir / CONFIG_NAME
    before = _read(path)
    if before is None:
        if (workdir / "checkpoints").exists():
            raise UserError(
                f"--workdir={workdir}: it holds checkpoints but no {CONFIG_NAME}; "
                "choose another directory"
            )
        return
    now = json.loads(json.dumps(record))
    _compare(workdir, "store", before["data"], now["data"])
    old, new = _flat(before["config"]), _flat(now["config"])
    if old.get("train.steps") != new["train.steps"] and steps_may_change(
        before["config"]
    ):
        old["train.steps"] = new["train.steps"]
    _compare(workdir, "config", old, new)


def write_record(workdir: Path, record: dict[str, Any]) -> None:
    """Records what run the workdir belongs to, whole or not at all."""
    aside = workdir / f".{CONFIG_NAME}.partial"
    aside.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    os.replace(aside, workdir / CONFIG_NAME)


def check_room(workdir: Path, needed: int) -> None:
    """Raises UserError unless `needed` bytes are free where the workdir is."""
    free = shutil.disk_usage(workdir).free
    if free < needed:
        raise UserError(
            f"--workdir={workdir}: checkpoints take up to {needed / 1e9:.2f} GB, but "
            f"{free / 1e9:.2f} GB are free; free some space, choose another disk, or "
            "lower checkpoint.keep"
        )


def _read(path):
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); choose another --workdir"
        ) from None


def _compare(workdir, what, old, new):
    for name in sorted(old.keys() | new.keys()):
        if what == "config" and name.startswith(_MAY_CHANGE):
            continue
        before, now = old.get(name), new.get(name)
        if before != now:
            raise UserError(
                f"--workdir={workdir} belongs to another run: {what}.{name} was "
                f"{before!r} and is now {now!r}{_REASONS.get(name, '')}; set it back, "
                "or choose another directory"
            )


def _flat(config, prefix=""):
    """Nested dicts as one, with dotted names."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
