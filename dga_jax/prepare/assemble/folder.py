"""A directory of a job, on this machine or behind a URL, whose files appear whole."""

import concurrent.futures
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dga_jax import remote
from dga_jax.errors import UserError
from dga_jax.files import DAMAGED, appear, replaced

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
        return cls(text if remote.is_remote(text) else os.path.abspath(text))

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return not remote.is_remote(self.url)

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
        exists = os.path.exists if self.is_local else remote.exists
        return exists(f"{self.url}/{name}")

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        if not self.has(name):
            return None
        size = os.path.getsize if self.is_local else remote.size
        return size(f"{self.url}/{name}")

    def names(self) -> list[str]:
        """Names of all that is in it, sorted; those in the making left out."""
        if self.is_local:
            found = os.listdir(self.url) if os.path.isdir(self.url) else []
        else:
            found = remote.names(self.url)
        return sorted(name for name in found if not name.startswith("."))

    def write(self, name: str, *data: bytes | memoryview) -> None:
        """Writes a file of some bytes.

        Raises:
          UserError: it cannot be written; a full disk is one reason.
        """
        if not self.is_local:
            return remote.write(f"{self.url}/{name}", b"".join(data))
        with self._written(name) as path, replaced(path, secrets.token_hex(8)) as file:
            for part in data:
                file.write(part)

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
          UserError: it cannot be read.
        """
        if not self.is_local:
            return remote.read(f"{self.url}/{name}")
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise UserError(
                f"cannot read {self.url}/{name}: {error.strerror or error}; remove the"
                f" folder {self.url} and run again"
            ) from error

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
        except DAMAGED as error:
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
            remote.upload(path, f"{self.url}/{name}")
            return path.unlink()
        with self._written(name) as place:
            appear(path, place)

    def fetch(self, directory: pathlib.Path) -> pathlib.Path:
        """A directory of this machine with these files: `directory`, if it is remote.

        Libraries that read files by path are served this way.
        """
        if self.is_local:
            return self.path
        for name in self.names():
            (directory / name).write_bytes(self.read(name))
        return directory

    def delete(self, name: str) -> None:
        """Removes a file, if there is one."""
        if self.is_local:
            (self.path / name).unlink(missing_ok=True)
        else:
            remote.remove(f"{self.url}/{name}")

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
            remote.remove(self.url)

    @contextlib.contextmanager
    def _written(self, name: str) -> Iterator[pathlib.Path]:
        """Where a local file is to be; the folder is made."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            yield self.path / name
        except OSError as error:
            raise UserError(
                f"cannot write {self.url}/{name}: {error.strerror or error}; free some"
                " space, or choose another disk or directory, and run again"
            ) from error

    def _damaged(self, name: str, error: Exception) -> str:
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
