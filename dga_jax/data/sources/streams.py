"""Bytes of a file: counted as they are read, decompressed as its suffix asks for."""

import contextlib
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import zstandard

from dga_jax.data.sources import remote

BUFFER = 1 << 20
COMPRESSED = (".gz", ".xz", ".zst")
DAMAGE = (
    EOFError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    zstandard.ZstdError,
)


@contextlib.contextmanager
def opened(
    path: str, on_bytes: Callable[[int], object], buffer: int = BUFFER
) -> Iterator[io.BufferedReader]:
    """A file, decompressed; `on_bytes` is told what is read of it as it lies there.

    It is read `buffer` bytes at a time.

    Raises:
      OSError: it cannot be read; for a URL, whatever the storage's client raises.
      DAMAGE: while it is read, if it is not what its suffix says, or cut.
    """
    with _raw(path) as file:
        counted = io.BufferedReader(_Counted(file, on_bytes), buffer)
        try:
            yield _decompressed(counted, path)
        except SystemError as error:  # what CPython's readline may make of Ctrl-C
            if isinstance(error.__cause__, KeyboardInterrupt):
                raise error.__cause__ from None
            raise


@contextlib.contextmanager
def opened_raw(path: str) -> Iterator[tuple[BinaryIO, int]]:
    """A file as it lies there, to seek in, and its length in bytes."""
    with _raw(path) as file:
        num_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        yield file, num_bytes


def _raw(path: str) -> BinaryIO:
    if remote.is_remote(path):
        return remote.open_file(path)
    return open(path, "rb", buffering=0)


def _decompressed(file: BinaryIO, path: str) -> io.BufferedReader:
    if path.endswith(".gz"):
        return io.BufferedReader(gzip.GzipFile(fileobj=file), BUFFER)
    if path.endswith(".xz"):
        return io.BufferedReader(lzma.LZMAFile(file), BUFFER)
    if path.endswith(".zst"):
        return io.BufferedReader(_Zstd(file), BUFFER)
    return file


class _Counted(io.RawIOBase):
    """A raw file that reports how much is read from it."""

    def __init__(self, file: io.RawIOBase, on_bytes: Callable[[int], object]):
        self._file, self._on_bytes = file, on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self._file.readinto(buffer)
        self._on_bytes(count)
        return count


class _Zstd(io.RawIOBase):
    """Zstandard frames as a raw file; unlike `zstandard.open`, it notices a cut."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._frame, self._data, self._next = None, memoryview(b""), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._data:
            chunk = self._next or self._file.read(BUFFER // 8)
            self._next = b""
            if not chunk:
                if self._frame:
                    raise EOFError("the last frame is not complete")
                return 0
            if not self._frame:
                decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
                self._frame = decompressor.decompressobj()
            self._data = memoryview(self._frame.decompress(chunk))
            if self._frame.eof:
                self._next, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._data))
        buffer[:count], self._data = self._data[:count], self._data[count:]
        return count
