"""Bytes of a file: counted as they are read, decompressed as they show they must be."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import zstandard

from dga_jax import remote
from dga_jax.files import OnBytes
from dga_jax.prepare.sources import content
from dga_jax.prepare.sources.content import Packing
from dga_jax.streams import DamagedError, Streams

BUFFER = 1 << 20


DAMAGE = (
    EOFError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    zstandard.ZstdError,
    DamagedError,
)


class ForeignError(Exception):
    """A file is of a kind that is not read; the message says which, and what to do."""


class IsParquetError(ForeignError):
    """It is Parquet, which is not read from front to back."""


@contextlib.contextmanager
def opened(
    path: str,
    on_bytes: OnBytes,
    buffer: int = BUFFER,
) -> Iterator[io.BufferedReader]:
    """A file, decompressed if it is compressed, whatever its name says.

    Args:
      path: the file.
      on_bytes: told what is read of it as it lies there.
      buffer: bytes that are read at a time.

    Raises:
      ForeignError: it is an archive, or compressed as nothing here reads, or no text.
        IsParquetError: it is that, not compressed as a whole.
      OSError: it cannot be read; for a URL, whatever the storage's client raises.
      DAMAGE: while it is read, if it is damaged or cut.
    """
    with _raw(path) as file:
        counted = io.BufferedReader(_Counted(file, on_bytes), buffer)
        try:
            plain, kind = _decompressed(counted)
            head = peek(plain)
            if content.is_parquet(head):
                if kind:
                    raise ForeignError(f"is Parquet inside {kind}; unpack it")
                raise IsParquetError(
                    "is Parquet; give a name or pattern that is not text's"
                )
            if kind and (again := content.packing(head)):
                raise ForeignError(
                    f"is compressed twice, by {again} inside; unpack it once"
                )
            if found := content.foreign(head):
                inside = f"holds what is {found.what}, in {kind}" if kind else None
                raise ForeignError(f"{inside or f'is {found.what}'}; {found.remedy}")
            yield plain
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


def peek(file: io.BufferedReader) -> bytes:
    """The first bytes of a file at its beginning, which stay to be read."""
    return file.peek(content.HEAD)[: content.HEAD]


def _raw(path: str) -> BinaryIO:
    if remote.is_remote(path):
        return remote.open_file(path)
    return open(path, "rb", buffering=0)


def _decompressed(file: io.BufferedReader) -> tuple[io.BufferedReader, Packing | None]:
    kind = content.packing(peek(file))
    if kind is None:
        return file, None
    unpack = {
        Packing.GZIP: lambda: gzip.GzipFile(fileobj=file),
        Packing.XZ: lambda: Streams(file, lzma.LZMADecompressor, padding=4),
        Packing.ZSTD: lambda: Streams(file, _ZstdFrame),
        Packing.BZIP2: lambda: Streams(file, bz2.BZ2Decompressor),
    }
    return io.BufferedReader(_Whole(unpack[kind]()), BUFFER), kind


class _Whole(io.RawIOBase):
    """A raw file whose reads fill the buffer, so that what is peeked at is enough."""

    def __init__(self, file: io.IOBase):
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        view, filled = memoryview(buffer), 0
        while filled < content.HEAD and (
            count := self._file.readinto(view[filled:])  # none at the end
        ):
            filled += count
        return filled


class _Counted(_Whole):
    """A raw file that reports how much is read from it."""

    def __init__(self, file: io.RawIOBase, on_bytes: OnBytes):
        super().__init__(file)
        self._on_bytes = on_bytes

    def readinto(self, buffer: memoryview) -> int:
        count = super().readinto(buffer)
        self._on_bytes(count)
        return count


class _ZstdFrame:
    """A Zstandard frame; it gives all that comes of some data."""

    needs_input = True

    def __init__(self):
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        self._frame = decompressor.decompressobj()

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._frame.decompress(data)
