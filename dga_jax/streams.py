"""Files of several compressed streams, none of which may be lost in silence."""

import io
from collections.abc import Callable
from typing import BinaryIO, Protocol

_BUFFER = 1 << 20  # bytes of what comes of a stream at a time
_CHUNK = _BUFFER // 8  # of what is compressed


class DamagedError(Exception):
    """Compressed data that are not as they should be."""


class Decompressor(Protocol):
    """Of one stream, as Python's own are."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """What comes of some more data."""


class Streams(io.RawIOBase):
    """Compressed streams, one after another, as a raw file.

    Python's files of xz and bzip2 end in silence where a stream after the first is not
    as it should be, and `zstandard.open` where one is cut.
    """

    def __init__(
        self, file: BinaryIO, new: Callable[[], Decompressor], padding: int = 0
    ):
        """Of `file`; NULs may follow a stream, in multiples of `padding`, if any."""
        self._file, self._new, self._padding = file, new, padding
        self._stream, self._data, self._next = None, memoryview(b""), b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:
        """See the base class.

        Raises:
          DamagedError, EOFError, or what the decompressor raises: it is damaged or cut.
        """
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
            return self._stream.decompress(chunk, _BUFFER)
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
