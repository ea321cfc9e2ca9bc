"""Files that appear whole, arrays that may be damaged, directories of one process.

And the cache: the directory where what can be made or copied again is kept.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

from dga_jax.errors import UserError, is_full_disk

LOCK = ".lock"
CACHE_VARIABLE = "DGA_JAX_CACHE"
WRITE_ELSEWHERE = "see to it that it can be written, or choose another place"
_PACKAGE = pathlib.Path(__file__).resolve().parent
OnBytes = Callable[[int], object]  # is told how many bytes were read
_CHUNK = 1 << 22  # bytes
# What NumPy raises of an `.npz` file that is not as it was written.
DAMAGED = (
    ValueError,
    KeyError,
    EOFError,
    TypeError,
    RuntimeError,  # it seems to be encrypted, or packed in a way that nobody knows
    zipfile.BadZipFile,
)


def shipped(name: str = "") -> pathlib.Path:
    """Where something lies that comes with the program, such as "configs/125m.py".

    Beside the package in a clone of the repository; inside, where a wheel brought it.
    """
    inside = _PACKAGE / "shipped"
    return (inside if inside.is_dir() else _PACKAGE.parent) / name


@contextlib.contextmanager
def replaced(path: pathlib.Path, suffix: str = "partial") -> Iterator[BinaryIO]:
    """A file to write that takes its place, on disk, when the block ends well.

    It is written aside as `.NAME.SUFFIX`; where several processes may write the same
    file, each needs a suffix of its own.
    """
    aside = path.with_name(f".{path.name}.{suffix}")
    try:
        with open(aside, "wb") as file:
            yield file
        appear(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def written(
    path: pathlib.Path, remedy: str = WRITE_ELSEWHERE, suffix: str = "partial"
) -> Iterator[BinaryIO]:
    """As `replaced`, a file that a user asked for.

    Raises:
      UserError: it cannot be written, or would take the place of what is no file;
        `remedy` says what to do. A full disk says so by itself.
    """
    if path.exists() and not path.is_file():  # /dev/null must stay what it is
        raise UserError(f"cannot write {path}: it is no file; {remedy}")
    try:
        with replaced(path, suffix) as file:
            yield file
    except OSError as error:
        if is_full_disk(error):
            raise
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; {remedy}") from error


def appear(aside: pathlib.Path, path: pathlib.Path) -> None:
    """Moves a file or directory that is complete to its place, on disk all of it.

    Raises:
      OSError: `path` is on another file system, or a directory that is not empty.
    """
    for inside in aside.rglob("*") if aside.is_dir() else ():
        _sync(inside)
    _sync(aside)
    os.replace(aside, path)
    _sync(path.parent)


def _sync(path: pathlib.Path) -> None:
    """Puts a file, or the names in a directory, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    # Not every file system knows how to for a directory.
    unknown = (
        contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext()
    )
    try:
        with unknown:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def made_writable(directory: pathlib.Path) -> bool:
    """Makes a directory, its parents too; whether it can be written to."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK)


def read_arrays(path: pathlib.Path, remedy: str) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file of ours.

    Raises:
      UserError: missing or damaged; `remedy` says what to do.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, *DAMAGED) as error:
        raise UserError(f"cannot read {path} ({error}); {remedy}") from error


def file_digest(path: pathlib.Path, on_bytes: OnBytes = lambda count: None) -> str:
    """Hex SHA-256 of a file; `on_bytes` is told how many bytes have been read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest()


def is_remote(path: str) -> bool:
    """Whether a path or pattern is a URL."""
    return "://" in path


def local_path(flag: str, path: str, remedy: str) -> pathlib.Path:
    """The path that a flag names, a `file:///` URL too.

    Raises:
      UserError: a URL of anything else, of which `pathlib` would make a folder `gs:`;
        `remedy` says what to give instead. A name that is no text, which no log, plot
        or page can hold.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(f"{flag}={path!a}: its bytes are no UTF-8; rename it") from None
    path = path.removeprefix("file://") if path.startswith("file:///") else path
    if is_remote(path):
        raise UserError(f"{flag}={path}: not a path of this machine; {remedy}")
    return pathlib.Path(path)


@contextlib.contextmanager
def locked(directory: pathlib.Path, flag: str, busy: str = "") -> Iterator[None]:
    """Holds a directory for this process; made if it does not exist.

    Args:
      directory: to hold.
      flag: what named it.
      busy: what another process does that holds it; "": wait for it.

    Raises:
      UserError: it cannot be made or written to, or another process holds it that is
        not waited for.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / LOCK, "w")  # noqa: SIM115 (held until the end)
    except OSError as error:
        raise UserError(
            f"--{flag}={directory}: {error.strerror}; choose a directory you can write"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise UserError(
                f"--{flag}={directory}: {busy}; wait for it, or choose another"
                " directory"
            ) from None
        yield


def cache_directory(given: str | os.PathLike = "") -> pathlib.Path:
    """The cache, made if it does not exist.

    Args:
      given: its path; "": $DGA_JAX_CACHE, else dga_jax in $XDG_CACHE_HOME, else
        ~/.cache/dga_jax.

    Raises:
      UserError: it is behind a URL, in a home that nobody knows, or cannot be written
        to.
    """
    if given:
        name, chosen = "the cache", os.fspath(given)
    elif chosen := os.environ.get(CACHE_VARIABLE, ""):
        name = CACHE_VARIABLE
    else:
        name, chosen = "XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        chosen = f"{chosen}/dga_jax"
    path = local_path(name, chosen, "name a directory that is")
    try:
        cache = path.expanduser().absolute()
    except RuntimeError:  # no HOME, and the system does not know the user
        raise UserError(
            f"no home directory is known for the cache {chosen}; set {CACHE_VARIABLE}"
            " to a directory that can be written to"
        ) from None
    if not made_writable(cache):
        raise UserError(
            f"cannot write to the cache {cache}; set {CACHE_VARIABLE} to a directory"
            " that can be written to"
        )
    return cache
