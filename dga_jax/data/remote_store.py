"""Stores behind a URL, by way of a copy on this machine.

array_record reads files of this machine alone. The copy is one of content, whatever the
URL: a store that is made anew is copied anew, and all processes of a machine share one.
"""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator
from typing import NoReturn

from dga_jax import remote
from dga_jax.data.store import BASES, MANIFEST, Store
from dga_jax.errors import UserError
from dga_jax.files import (
    CACHE_VARIABLE,
    appear,
    cache_directory,
    file_digest,
    local_path,
    replaced,
)

_CHUNK = 1 << 22
_FILES_AT_A_TIME = 8
_Files = dict[str, tuple[int, str]]  # size and SHA-256 by name


def local_store(path: str, cache: str | os.PathLike = "") -> pathlib.Path:
    """The path of a store on this machine; one behind a URL is copied, once.

    The copy is made whole or not at all: a process that is killed leaves what it has
    copied to the next, and nothing counts before its size and its hash are those of the
    manifest. Bases, which are made later, are looked for every time.

    Args:
      path: of the store, or its URL: file:///PATH, or whatever fsspec knows.
      cache: where copies are kept; "" for the default, see `cache_directory`.

    Raises:
      UserError: it cannot be read, is no store, or does not fit on the disk.
    """
    if not remote.is_remote(path) or path.startswith("file:///"):
        return local_path("store", path, "")
    url = path.rstrip("/")
    manifest = _read(f"{url}/{MANIFEST}")
    files = _files_of(url, manifest)
    directory = cache_directory(cache)
    copy = directory / f"store-{hashlib.sha256(manifest).hexdigest()[:16]}"
    with _locked(directory / f".{copy.name}.lock"):
        if not copy.exists():
            _copy(url, manifest, files, copy)
        _copy_bases(url, copy)
    try:
        Store.open(copy)
    except UserError as error:
        raise UserError(f"{error}: remove {copy} and run again") from error
    return copy


def _files_of(url: str, manifest: bytes) -> _Files:
    """Size and SHA-256 of each file, by name."""
    try:
        files = {
            name: (int(entry["bytes"]), str(entry["sha256"]))
            for name, entry in json.loads(manifest)["files"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _fail(url, f"its {MANIFEST} is damaged ({type(error).__name__}: {error})")
    for name in files:
        parts = pathlib.PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            _fail(url, f"its {MANIFEST} names {name!r}")
    return files


def _copy(url: str, manifest: bytes, files: _Files, copy: pathlib.Path) -> None:
    """Copies what an earlier attempt has not; the manifest last, then all appears."""
    aside = copy.with_name(f".{copy.name}.partial")
    aside.mkdir(exist_ok=True)
    missing = {
        name: entry
        for name, entry in files.items()
        if not _is_whole(aside / name, *entry)
    }
    needed = sum(size for size, _ in missing.values())
    free = shutil.disk_usage(aside).free
    if free < needed:
        raise UserError(
            f"store {url}: a copy takes {needed / 1e6:,.1f} MB, but in {copy.parent}"
            f" {free / 1e6:,.1f} MB are free; free some, or set config.data.cache or"
            f" {CACHE_VARIABLE} to a directory on another disk"
        )
    print(f"copying {url} ({needed / 1e6:,.1f} MB) to {copy}", flush=True)
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(_FILES_AT_A_TIME) as pool:
        copies = [
            pool.submit(_copy_file, url, aside, name, *entry, stop)
            for name, entry in missing.items()
        ]
        try:
            for done in concurrent.futures.as_completed(copies):
                done.result()
        finally:
            stop.set()
    with replaced(aside / MANIFEST) as file:
        file.write(manifest)
    appear(aside, copy)


def _is_whole(path: pathlib.Path, size: int, digest: str) -> bool:
    try:
        return path.stat().st_size == size and file_digest(path) == digest
    except OSError:
        return False


def _copy_file(
    url: str,
    aside: pathlib.Path,
    name: str,
    size: int,
    digest: str,
    stop: threading.Event,
) -> None:
    path = aside / name
    path.parent.mkdir(parents=True, exist_ok=True)
    found, length = hashlib.sha256(), 0
    with replaced(path) as file:
        for chunk in _chunks(f"{url}/{name}"):
            if stop.is_set():
                raise InterruptedError
            file.write(chunk)
            found.update(chunk)
            length += len(chunk)
        if (length, found.hexdigest()) != (size, digest):
            what = f"{name} has {length:,} bytes with SHA-256 {found.hexdigest()[:16]}"
            _fail(url, f"{what}..., not {size:,} with {digest[:16]}...")


def _copy_bases(url: str, copy: pathlib.Path) -> None:
    """Bases are no part of the manifest: they may be added, and replaced."""
    bases = []
    # Not every storage lists files; and a store without bases has no such folder.
    with contextlib.suppress(UserError), remote.explained(url):
        bases = remote.find(f"{url}/{BASES}", depth=1)
    for info in bases:
        if not info["name"].endswith(".npz"):
            continue
        path = copy / BASES / info["name"].rpartition("/")[2]
        path.parent.mkdir(exist_ok=True)
        content = _read(info["name"])
        if not path.exists() or path.read_bytes() != content:
            with replaced(path) as file:
                file.write(content)


def _read(url: str) -> bytes:
    return b"".join(_chunks(url))


def _chunks(url: str) -> Iterator[bytes]:
    with remote.explained(url), remote.open_file(url) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    """Waits until no other process of this machine copies the same."""
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that holds {path}", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fail(url: str, problem: str) -> NoReturn:
    raise UserError(f"store {url}: {problem}; copy it there again, or prepare it again")
