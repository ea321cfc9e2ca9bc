"""Which files a glob, a directory or a path stands for, here and elsewhere."""

import glob
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from dga_jax.data.sources import remote
from dga_jax.errors import UserError

_WILD = "*?["
_NOT_DATA = ("lost+found",)


class File(NamedTuple):
    """A file, and what is known of it without reading it."""

    path: str
    num_bytes: int
    version: str


class Found(NamedTuple):
    """What a pattern stands for.

    Attributes:
      files: sorted by path.
      root: the directory that the pattern names without a wildcard.
      is_directory: the pattern is that directory.
    """

    files: list[File]
    root: str
    is_directory: bool


def find(pattern: str) -> Found:
    """The files that a pattern matches, or that lie anywhere below a directory.

    Files and directories that begin with a dot or an underscore, as tools leave them,
    do not count where a directory is given.

    Raises:
      UserError: nothing matches, or something cannot be read.
    """
    if remote.is_remote(pattern):
        with remote.explained(pattern):
            found = _find_remote(pattern)
    else:
        found = _find_local(pattern)
    if not found.files and found.is_directory:
        raise UserError(f"{pattern} holds no file; check the path")
    if not found.files:
        raise UserError(f"no file matches {pattern!r}; check the path, quote the glob")
    return found._replace(files=sorted(found.files))


def local_file(path: str) -> File:
    """One file of this machine.

    Raises:
      UserError: it cannot be read.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        if os.path.islink(path):
            raise UserError(
                f"cannot read {path}: the link leads nowhere; remove it"
            ) from None
        raise UserError(
            f"cannot read {path}: {error.strerror}; see to it or leave it out"
        ) from error
    if not stat.S_ISREG(status.st_mode):  # it is read more than once, and again later
        raise UserError(
            f"cannot read {path}: it is no regular file; write its content to one"
        )
    return File(path, status.st_size, f"{status.st_size} {status.st_mtime_ns}")


def remote_file(url: str) -> File:
    """One file elsewhere; raises what the storage's client raises."""
    return _of(remote.describe(url))


def _find_local(pattern: str) -> Found:
    if os.path.isdir(pattern):
        root = pattern.rstrip("/") or "/"
        return Found([local_file(path) for path in _below(root)], root, True)
    if os.path.lexists(pattern):
        return Found([local_file(pattern)], os.path.dirname(pattern), False)
    for folder in glob.glob(os.path.dirname(pattern) or ".", recursive=True):
        _check_readable(folder)
    paths = glob.glob(pattern, recursive=True)
    files = [local_file(path) for path in paths if not os.path.isdir(path)]
    return Found(files, _fixed(pattern), False)


def _check_readable(folder: str) -> None:
    """A glob passes over what it may not look into, and so would lose documents."""
    if os.path.basename(folder) in _NOT_DATA or not os.path.isdir(folder):
        return
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(
            f"cannot read {folder}: Permission denied; change it or narrow the glob"
        )


def _below(root: str) -> Iterator[str]:
    def fail(error: OSError):
        raise UserError(
            f"cannot read {error.filename}: {error.strerror}; change it or give a glob"
        ) from error

    seen = set()  # for a link may lead to a directory that holds it
    for folder, folders, names in os.walk(root, onerror=fail, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(x for x in folders if _counts(x) and x not in _NOT_DATA)
        yield from (os.path.join(folder, name) for name in names if _counts(name))


def _counts(name: str) -> bool:
    return not name.startswith((".", "_"))


def _find_remote(pattern: str) -> Found:
    if any(sign in pattern for sign in _WILD):
        files = [_of(info) for info in remote.glob(pattern)]
        return Found(files, remote.normal(_fixed(pattern)), False)
    info = remote.describe(pattern)
    if info["type"] != "directory":
        return Found([_of(info)], info["name"].rpartition("/")[0], False)
    root = remote.normal(pattern).rstrip("/")
    files = [_of(info) for info in remote.walk(pattern)]
    files = [
        file
        for file in files
        if all(map(_counts, file.path.removeprefix(root + "/").split("/")))
    ]
    return Found(files, root, True)


def _of(info: dict) -> File:
    return File(info["name"], int(info.get("size") or 0), remote.version(info))


def _fixed(pattern: str) -> str:
    """The directories of a pattern before its first wildcard."""
    wild = min((pattern.find(x) for x in _WILD if x in pattern), default=len(pattern))
    return pattern[: pattern.rfind("/", 0, wild) + 1].rstrip("/")
