"""Directories that appear whole or not at all."""

import contextlib
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator

from dga_jax.errors import UserError


@contextlib.contextmanager
def staged(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """A directory to fill, which becomes `output` when the block ends without an error.

    It lies beside `output` as `.NAME.partial-PID-RANDOM`; on an error it is removed.

    Raises:
      FileExistsError: `output` exists, or another process was quicker; it is untouched.
      UserError: its parent cannot be made or written to.
    """
    output = pathlib.Path(os.path.abspath(output))
    if os.path.lexists(output):
        raise FileExistsError(f"{output} exists")
    suffix = f"{os.getpid()}-{secrets.token_hex(4)}"
    staging = output.parent / f".{output.name}.partial-{suffix}"
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"cannot write to {output.parent}: {error.strerror or error}; choose"
            " another directory"
        ) from error
    try:
        yield staging
        for path in [*staging.iterdir(), staging]:
            _sync(path)
        _rename(staging, output)
        _sync(output.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _rename(staging: pathlib.Path, output: pathlib.Path) -> None:
    try:
        os.rename(staging, output)
    except OSError as error:  # ENOTEMPTY or EEXIST, as the file system likes
        if os.path.lexists(output):
            raise FileExistsError(f"{output} exists") from error
        raise


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
