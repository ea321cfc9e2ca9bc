"""Bytes of a file: counted as they are read, decompressed as they show they must be."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

import zstandard

from dga_jax import remote
from dga_jax.files import OnBytes
from dga_jax.prepare.sources import content
from dga_jax.prepare.sources.content import Packing

BUFFER = 1 << 20
_CHUNK = BUFFER // 8  # of what is compressed


class DamagedError(Exception):
    """Compressed data that are not as they should be."""


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
        Packing.XZ: lambda: _Streams(file, lzma.LZMADecompressor, padding=4),
        Packing.ZSTD: lambda: _Streams(file, _ZstdFrame),
        Packing.BZIP2: lambda: _Streams(file, bz2.BZ2Decompressor),
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


class _Decompressor(Protocol):
    """Of one stream, as Python's own are."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """What comes of some more data."""


class _Streams(io.RawIOBase):
    """Compressed streams, one after another, as a raw file.

    Python's files of xz and bzip2 end in silence where a stream after the first is not
    as it should be, and `zstandard.open` where one is cut.
    """

    def __init__(
        self, file: BinaryIO, new: Callable[[], _Decompressor], padding: int = 0
    ):
        """Of `file`; NULs may follow a stream, in multiples of `padding`, if any."""
        self._file, self._new, self._padding = file, new, padding
        self._stream, self._data, self._next = None, memoryview(b""), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._data:
            if self._stream is None or self._stream.needs_input:
                chunk, self._next = self._next or self._file.read(_CHUNK), b""
                if not chunk and self._stream:
                    raise EOFError("the last stream is not complete")
                if not chunk:
                    return 0
            else:
                chunk = b""  # the decompressor has some
            self._stream = self._stream or self._new()
            self._data = memoryview(self._unpacked(chunk))
            if self._stream.eof:
                self._next, self._stream = self._stream.unused_data, None
                if self._padding:
                    self._pass_over_padding()
        count = min(len(buffer), len(self._data))
        buffer[:count], self._data = self._data[:count], self._data[count:]
        return count

    def _unpacked(self, chunk: bytes) -> bytes:
        try:
            return self._stream.decompress(chunk, BUFFER)
        except OSError as error:  # bzip2's, of data, not of a file
            raise DamagedError(str(error)) from error

    def _pass_over_padding(self) -> None:
        count = 0
        while chunk := self._next or self._file.read(_CHUNK):
            self._next = chunk.lstrip(b"\0")
            count += len(chunk) - len(self._next)
            if self._next:
                break
        if count % self._padding:
            raise DamagedError(f"{count} NULs after a stream")


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
