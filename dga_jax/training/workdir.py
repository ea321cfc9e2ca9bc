"""A run's directory: one run at a time, what run it is, room to write."""

import contextlib
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from dga_jax import files
from dga_jax.errors import UserError
from dga_jax.logs.metrics import LOG_NAME
from dga_jax.training import config as configs
from dga_jax.training import distributed
from dga_jax.training.checkpoint import Checkpoints

CONFIG_NAME = "config.json"


def of_flag(value: str) -> Path:
    """The directory that --workdir names.

    Raises:
      UserError: it is behind a URL.
    """
    remedy = (
        "mount the bucket (gcsfuse, mountpoint-s3) and give the path, or give a "
        "directory here and copy it afterwards"
    )
    return files.local_path("--workdir", value, remedy)


def locked(workdir: Path) -> contextlib.AbstractContextManager[None]:
    """Holds the workdir for this process; see `files.locked`."""
    return files.locked(workdir, "workdir", "another process is running there")


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Holds the workdir for all processes of this run; process 0 locks it.

    Raises:
      UserError: see `files.locked`; or what process 0 writes there is not seen here.
    """
    first = jax.process_index() == 0
    with locked(workdir) if first else contextlib.nullcontext():
        if jax.process_count() > 1:
            lock, sign = workdir / files.LOCK, secrets.token_hex(8)
            if first:
                lock.write_text(sign)
            sign = distributed.broadcast(sign)
            if not distributed.comes_true(lambda: _text(lock) == sign):
                raise UserError(
                    f"--workdir={workdir}: what process 0 writes there is not seen "
                    "here; give a directory that all hosts share"
                )
            distributed.meet("all see the workdir")
        yield


def is_begun(workdir: Path, checkpoints: Checkpoints) -> bool:
    """Whether anything was computed there: a checkpoint, good or not, or a line."""
    log = workdir / LOG_NAME
    lines = log.exists() and log.stat().st_size > 0
    return lines or checkpoints.newest_step() is not None or bool(checkpoints.damaged())


def read_record(
    workdir: Path, checkpoints: Checkpoints
) -> tuple[dict[str, Any] | None, str]:
    """What run the workdir belongs to.

    Where the file that says so is missing or damaged, the newest checkpoint that holds
    the same takes its place.

    Returns:
      {"config": ..., "data": ...}, as it was given to `write_record`, or None if there
      is no run yet; and a line worth saying, or "".

    Raises:
      UserError: the file cannot be read, or is damaged and no checkpoint holds the
        same.
    """
    path = workdir / CONFIG_NAME
    try:
        record, problem = _decode(path.read_bytes()), "it is damaged"
    except FileNotFoundError:
        record, problem = None, "it is missing"
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); change that, or choose another "
            "--workdir"
        ) from None
    if record is not None:
        return record, ""
    found = checkpoints.newest_run()
    if found is not None:
        step, record = found
        return record, f"{CONFIG_NAME}: {problem}; made anew from checkpoint {step}"
    if checkpoints.newest_step() is not None:
        raise UserError(
            f"{path}: {problem}, and the checkpoints beside it, of an older version or "
            "damaged, do not hold the same: begin a run in another --workdir with the "
            f"command that this one was begun with, stop it, and copy its {CONFIG_NAME}"
            f" to {workdir}"
        )
    begun = is_begun(workdir, checkpoints) and not checkpoints.damaged()
    if path.exists() and begun:
        raise UserError(
            f"{path}: {problem}, and there is no checkpoint that holds the same; remove"
            " it to begin again at step 0, or choose another --workdir"
        )
    return None, ""


def write_record(workdir: Path, record: Mapping[str, Any]) -> None:
    """Records what run the workdir belongs to; leaves a file that says it already."""
    path = workdir / CONFIG_NAME
    content = (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()
    if path.is_file() and path.read_bytes() == content:
        return
    with files.replaced(path) as file:
        file.write(content)


def check_room(workdir: Path, needed: int) -> None:
    """Raises UserError unless `needed` bytes are free where the workdir is."""
    free = shutil.disk_usage(workdir).free
    if free < needed:
        raise UserError(
            f"--workdir={workdir}: checkpoints take up to {needed / 1e9:.2f} GB, but "
            f"{free / 1e9:.2f} GB are free; free some space, choose another disk, or "
            "lower checkpoint.keep"
        )


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _decode(content: bytes) -> dict[str, Any] | None:
    """The record, or None if that is not what the bytes hold."""
    try:
        record = json.loads(content)
        configs.from_fields(record["config"])
        return record if isinstance(record["data"], dict) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
