"""A directory of a job, on this machine or behind a URL, whose files appear whole."""

import concurrent.futures
import dataclasses
import io
import json
import os
import pathlib
import secrets
import shutil
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import fsspec
import numpy as np

from dga_jax.errors import UserError
from dga_jax.files import replaced

_READERS = 32
# Names of files may be any bytes; what Python makes of them is an escape of JSON.
NOT_UTF8 = "backslashreplace"


@dataclasses.dataclass(frozen=True)
class Folder:
    """Files by name; what is read again after a `kill -9` is whole or not there.

    Attributes:
      url: an absolute path, or PROTOCOL://... that fsspec knows.
    """

    url: str

    @classmethod
    def of(cls, path: str | os.PathLike) -> "Folder":
        """The folder of a path or URL; it need not exist."""
        text = os.fspath(path).rstrip("/").removeprefix("file://")
        return cls(text if "://" in text else os.path.abspath(text))

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return "://" not in self.url

    @property
    def path(self) -> pathlib.Path:
        """The path of a local folder."""
        return pathlib.Path(self.url)

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.url}/{name}")

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        if self.is_local:
            return os.path.exists(f"{self.url}/{name}")
        return self._remote(lambda fs, path: fs.exists(f"{path}/{name}"), "read")

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        if not self.has(name):
            return None
        if self.is_local:
            return os.path.getsize(f"{self.url}/{name}")
        return self._remote(lambda fs, path: fs.size(f"{path}/{name}"), "read")

    def names(self) -> list[str]:
        """Names of all that is in it, sorted; those in the making left out."""
        if self.is_local:
            found = os.listdir(self.url) if os.path.isdir(self.url) else []
        else:
            found = self._remote(_names, "read")
        return sorted(name for name in found if not name.startswith("."))

    def write(self, name: str, *data: bytes | memoryview) -> None:
        """Writes a file of some bytes.

        Raises:
          UserError: it cannot be written; a full disk is one reason.
        """
        if not self.is_local:
            content = b"".join(data)
            self._remote(lambda fs, path: _pipe(fs, path, name, content), "write")
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with replaced(self.path / name, secrets.token_hex(8)) as file:
                for part in data:
                    file.write(part)
        except OSError as error:
            raise UserError(self._cannot("write", name, error)) from error

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
          UserError: it cannot be read.
        """
        if not self.is_local:
            return self._remote(lambda fs, path: fs.cat_file(f"{path}/{name}"), "read")
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise UserError(self._cannot("read", name, error)) from error

    def save(self, name: str, **arrays: np.ndarray) -> None:
        """Writes an `.npz` file."""
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        self.write(name, buffer.getbuffer())

    def load(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an `.npz` file.

        Raises:
          UserError: it cannot be read, or is damaged.
        """
        try:
            with np.load(io.BytesIO(self.read(name)), allow_pickle=False) as file:
                return dict(file)
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(self._damaged(name, error)) from error

    def write_json(self, name: str, value: Any) -> None:
        """Writes a value as JSON."""
        text = json.dumps(value, indent=1, ensure_ascii=False)
        self.write(name, text.encode(errors=NOT_UTF8))

    def read_json(self, name: str) -> Any:
        """What `write_json` wrote.

        Raises:
          UserError: it cannot be read, or is damaged.
        """
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise UserError(self._damaged(name, error)) from error

    def put(self, path: pathlib.Path, name: str) -> None:
        """Moves a file of this machine here."""
        if not self.is_local:
            self._remote(lambda fs, url: _put(fs, url, name, path), "write")
            path.unlink()
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            os.replace(path, self.path / name)
        except OSError as error:
            raise UserError(self._cannot("write", name, error)) from error

    def fetch(self, directory: pathlib.Path) -> pathlib.Path:
        """A directory of this machine with these files: `directory`, if it is remote.

        Libraries that read files by path are served this way.
        """
        if self.is_local:
            return self.path
        for name in self.names():
            self.fetch_file(name, directory)
        return directory

    def delete(self, name: str) -> None:
        """Removes a file, if there is one."""
        if self.is_local:
            (self.path / name).unlink(missing_ok=True)
        elif self.has(name):
            self._remote(lambda fs, path: fs.rm(f"{path}/{name}"), "write")

    def fetch_file(self, name: str, directory: pathlib.Path) -> pathlib.Path:
        """The path of one file; a remote one is copied to `directory`."""
        if self.is_local:
            return self.path / name
        (directory / name).write_bytes(self.read(name))
        return directory / name

    def check_space(self, needed: int, what: str) -> None:
        """Raises UserError if so many bytes more do not fit; a URL has no limit."""
        if not self.is_local:
            return
        directory = self.path
        while not directory.exists():
            directory = directory.parent
        free = shutil.disk_usage(directory).free
        if free < needed:
            raise UserError(
                f"not enough disk in {directory}: {what} may take {needed / 1e6:,.0f}"
                f" MB, {free / 1e6:,.0f} MB are free; free some or choose another disk"
            )

    def remove(self) -> None:
        """Removes it and all that is in it, if it exists."""
        if self.is_local:
            shutil.rmtree(os.path.realpath(self.url), ignore_errors=True)
        else:
            self._remote(_remove, "write")

    def _remote(self, action, verb):
        """What `action(file system, path)` gives; libraries raise what they like."""
        try:
            fs, path = fsspec.core.url_to_fs(self.url)
            return action(fs, path)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"cannot {verb} {self.url}: {reason}; check the address, the network"
                " and your credentials"
            ) from error

    def _cannot(self, verb, name, error) -> str:
        remedy = "free some space, or choose another disk or directory,"
        if verb == "read":
            remedy = f"remove the folder {self.url}"
        return (
            f"cannot {verb} {self.url}/{name}: {error.strerror or error}; {remedy} and"
            " run again"
        )

    def _damaged(self, name, error) -> str:
        return (
            f"{self.url}/{name} is damaged ({error}); remove the folder {self.url} and"
            " run again"
        )


def side_by_side(function: Callable[[Any], Any], items: Sequence[Any]) -> list:
    """function(item) of all items: many small files are read at a time.

    Of a bucket, each takes its time to come.
    """
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(function, items))


def _names(fs, path) -> list[str]:
    if not fs.exists(path):
        return []
    return [os.path.basename(found.rstrip("/")) for found in fs.ls(path, detail=False)]


def _pipe(fs, path, name, content) -> None:
    try:
        fs.pipe(f"{path}/{name}", content)
    except FileNotFoundError:  # a file system with directories
        fs.makedirs(path, exist_ok=True)
        fs.pipe(f"{path}/{name}", content)


def _put(fs, path, name, file) -> None:
    try:
        fs.put_file(str(file), f"{path}/{name}")
    except FileNotFoundError:  # likewise
        fs.makedirs(path, exist_ok=True)
        fs.put_file(str(file), f"{path}/{name}")


def _remove(fs, path) -> None:
    if fs.exists(path):
        fs.rm(path, recursive=True)
