"""Files elsewhere (gs://, s3://, hf:// ...): what is known of fsspec is known here."""

import contextlib
import datetime
import logging
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from dga_jax.errors import UserError
from dga_jax.files import is_remote as is_remote

if TYPE_CHECKING:  # to import it takes a while, which most programs can save
    import fsspec

_PACKAGES = {
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "s3": "s3fs",
    "s3a": "s3fs",
    "hf": "huggingface_hub",
    "http": "aiohttp",
    "https": "aiohttp",
    "abfs": "adlfs",
    "az": "adlfs",
}
# What stores say of an object that is different when the object is.
_VERSIONS = (
    "etag",
    "ETag",
    "ckey",
    "generation",
    "md5Hash",
    "blob_id",
    "oid",
    "sha256",
    "mtime",
    "last_modified",
    "LastModified",
    "updated",
    "created",
)
# Clients' own exception classes and messages, lower case, by what is the matter; the
# clients are not imported here, and none of their classes is an OSError for certain.
_REASONS = [
    (
        ("connect", "timeout", "timed out", "endpoint", "resolve", "unreachable"),
        "cannot be reached; check network, name and endpoint, and try again",
    ),
    (
        ("credential", "401", "unauthorized", "anonymous", "login", "token"),
        "no valid credentials; log in as the storage's own tools do",
    ),
    (
        ("403", "forbidden", "denied", "gated", "permission"),
        "permission denied; ask for access, or log in as somebody who has it",
    ),
    (
        ("filenotfound", "404", "nosuch", "not found", "notfound", "does not exist"),
        "no such file; check the path",
    ),
]
_SHOWN = 160  # characters of a client's own message


@contextlib.contextmanager
def explained(url: str, verb: str = "read") -> Iterator[None]:
    """Turns whatever a storage client raises into one line.

    Args:
      url: of what it is about.
      verb: what could not be done with it.

    Raises:
      UserError: what is the matter with the URL.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(_reason(url, verb, error)) from error


def open_file(url: str) -> BinaryIO:
    """A file to read, as the storage's client gives it; raises what that raises."""
    filesystem, path = _filesystem(url)
    return filesystem.open(path, "rb")


def describe(url: str) -> dict[str, Any]:
    """What the storage says of a file or directory; raises what its client raises.

    Returns:
      As `fsspec`'s `info`, with the URL as its `name`.
    """
    filesystem, path = _filesystem(url)
    return _with_url(url, filesystem.info(path))


def find(url: str, depth: int | None) -> list[dict[str, Any]]:
    """What the storage says of files and directories below a directory.

    Args:
      url: of the directory.
      depth: of what is looked for, 1 for what is in the directory itself; None: all.
    """
    filesystem, path = _filesystem(url)
    found = filesystem.find(path, maxdepth=depth, withdirs=True, detail=True)
    return [_with_url(url, info) for info in found.values()]


def exists(url: str) -> bool:
    """Whether there is a file or directory; a UserError says that nobody can tell."""
    with _explained_filesystem(url) as (filesystem, path):
        return filesystem.exists(path)


def size(url: str) -> int:
    """Bytes of a file; a UserError says why it cannot be read."""
    with _explained_filesystem(url) as (filesystem, path):
        return filesystem.size(path)


def names(url: str) -> list[str]:
    """Names in a directory, none if it does not exist; a UserError as in `exists`."""
    with _explained_filesystem(url) as (filesystem, path):
        found = filesystem.ls(path, detail=False) if filesystem.exists(path) else []
        return [os.path.basename(name.rstrip("/")) for name in found]


def read(url: str) -> bytes:
    """All of a file; a UserError says why it cannot be read."""
    with _explained_filesystem(url) as (filesystem, path):
        return filesystem.cat_file(path)


def write(url: str, content: bytes) -> None:
    """Makes or replaces a file; a UserError says why it cannot be written."""
    with _explained_filesystem(url, "write") as (filesystem, path):
        _in_directory(filesystem, path, lambda: filesystem.pipe(path, content))


def upload(file: os.PathLike, url: str) -> None:
    """Copies a file of this machine; a UserError says why it cannot be written."""
    with _explained_filesystem(url, "write") as (filesystem, path):
        local = os.fspath(file)
        _in_directory(filesystem, path, lambda: filesystem.put_file(local, path))


def remove(url: str) -> None:
    """Removes a file, or a directory and all that is in it, if it exists.

    Raises:
      UserError: it cannot be removed.
    """
    with _explained_filesystem(url, "remove") as (filesystem, path):
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)


def _in_directory(
    filesystem: "fsspec.AbstractFileSystem", path: str, put: Callable[[], object]
) -> None:
    """Calls `put`, which makes `path`; where there are directories, in its own."""
    try:
        put()
    except FileNotFoundError:
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        put()


def is_local_url(path: str) -> bool:
    """Whether a URL is of a file of this machine."""
    return path.startswith(("file://", "local://"))


def local_path(url: str) -> str:
    """The path of a file whose URL is of this machine."""
    return url.partition("://")[2]


def version(info: dict[str, Any]) -> str:
    """Of what a storage says of a file, what changes when the file does."""
    known = {key: info[key] for key in ("size", *_VERSIONS) if info.get(key)}
    return ", ".join(f"{key} {_stable(value)}" for key, value in known.items())


def _stable(value: object) -> object:
    """One form for times, which clients give as one type here and as another there."""
    return value.timestamp() if isinstance(value, datetime.datetime) else value


@contextlib.contextmanager
def _explained_filesystem(
    url: str, verb: str = "read"
) -> "Iterator[tuple[fsspec.AbstractFileSystem, str]]":
    with explained(url, verb):
        yield _filesystem(url)


def _filesystem(url: str) -> "tuple[fsspec.AbstractFileSystem, str]":
    """The client and what the URL is to it; raises what the client raises."""
    import fsspec

    # They log what they raise as well, with tracebacks.
    for client in ("gcsfs", "s3fs", "fsspec"):
        logging.getLogger(client).setLevel(logging.CRITICAL + 1)
    return fsspec.core.url_to_fs(url)


def normal(url: str) -> str:
    """A URL as those of `describe` and `find` are written."""
    return _join(url.partition("://")[0], _filesystem(url)[1])


def _with_url(url: str, info: dict[str, Any]) -> dict[str, Any]:
    return {**info, "name": _join(url.partition("://")[0], info["name"])}


def _join(protocol: str, path: str) -> str:
    if is_remote(path):  # of http, a path is a whole URL
        return path
    return f"{protocol}://{path if protocol == 'file' else path.lstrip('/')}"


def _reason(url: str, verb: str, error: Exception) -> str:
    protocol = url.partition("://")[0]
    said = " ".join(str(error).split())
    if isinstance(error, ImportError):
        package = _PACKAGES.get(protocol)
        return f"{url}: " + (
            f"{protocol}:// needs a package: pip install {package}"
            if package
            else f"{protocol}:// needs a package: {said}"
        )
    if isinstance(error, ValueError) and "Protocol not known" in said:
        known = ", ".join(f"{name}://" for name in _PACKAGES)
        return f"{url}: {protocol}:// is not known; what is: {known} and others"
    kinds = " ".join(
        kind.__name__
        for cause in (error, error.__cause__)
        for kind in type(cause).__mro__[:-1]
    )
    words = (word for word in said.split() if "/" not in word)  # paths mean nothing
    told = f"{kinds} {' '.join(words)}".lower()
    detail = f"{type(error).__name__}: {said}"[:_SHOWN].rstrip(": ")
    for signs, reason in _REASONS:
        if any(sign in told for sign in signs):
            return f"cannot {verb} {url}: {reason} ({detail})"
    return f"cannot {verb} {url}: {detail}; check the path and your access to it"
