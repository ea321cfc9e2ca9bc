"""Directories that appear whole or not at all."""

import errno
import os
import pathlib
import shutil

from dga_jax.errors import UserError
from dga_jax.files import appear


def publish(directory: pathlib.Path, output: pathlib.Path) -> None:
    """Moves a directory that is complete to where it is wanted, whole or not at all.

    To another file system it is copied beside `output` first.

    Raises:
      FileExistsError: `output` exists, or another process was quicker; it is untouched.
      UserError: its parent cannot be made or written to.
    """
    if os.path.lexists(output):
        raise FileExistsError(f"{output} exists")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            appear(directory, output)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(directory, output)
    except OSError as error:  # ENOTEMPTY or EEXIST, as the file system likes
        if os.path.lexists(output):
            raise FileExistsError(f"{output} exists") from error
        raise UserError(
            f"cannot write to {output.parent}: {_reason(error)}; free some space, or"
            " choose another directory, and run again"
        ) from error


def _reason(error: OSError) -> str:
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        *_, said = error.args[0][0]  # of the first of many files
        return said
    return error.strerror or str(error)


def _copy(directory: pathlib.Path, output: pathlib.Path) -> None:
    aside = output.with_name(f".{output.name}.partial-{directory.parent.name}")
    try:
        shutil.rmtree(aside, ignore_errors=True)  # of a job that was killed here
        shutil.copytree(directory, aside)
        appear(aside, output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(directory)
