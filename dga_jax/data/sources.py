"""Documents from JSON lines: plain, .gz, .xz or .zst, read as a stream."""

import glob
import gzip
import io
import json
import lzma
import os
import pathlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple

import zstandard

from dga_jax.data import mmlu
from dga_jax.errors import UserError

DOMAIN = "domain"
_BUFFER = 1 << 20
_DAMAGE = (
    EOFError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    zstandard.ZstdError,
)


class Document(NamedTuple):
    """A text, its domain, and its length in bytes of UTF-8; a blank text has 0."""

    text: str
    domain: str
    num_bytes: int


def expand(patterns: Iterable[str]) -> list[pathlib.Path]:
    """Files that glob patterns match, each once, sorted by path.

    Args:
      patterns: globs (`**` descends); each may hold several, separated by commas.

    Raises:
      UserError: a pattern that matches nothing, or a directory.
    """
    found = set()
    for pattern in patterns:
        parts = [pattern] if os.path.exists(pattern) else pattern.split(",")
        for part in filter(None, map(str.strip, parts)):
            found.update(_expand_one(part))
    return sorted(found)


def _expand_one(pattern: str) -> list[pathlib.Path]:
    if os.path.isdir(pattern):
        raise UserError(f"{pattern} is a directory; write '{pattern}/*.jsonl.gz'")
    names = [pattern] if os.path.exists(pattern) else glob.glob(pattern, recursive=True)
    names = [name for name in names if not os.path.isdir(name)]
    if not names:
        raise UserError(f"no file matches {pattern!r}; check the path, quote the glob")
    for name in names:
        if not os.path.exists(name):
            raise UserError(f"cannot read {name}: the link leads nowhere; remove it")
    return [pathlib.Path(name) for name in names]


def read_documents(
    path: pathlib.Path,
    on_bytes: Callable[[int], object] = lambda count: None,
    domain_field: str = DOMAIN,
) -> Iterator[Document]:
    """Streams the documents of one file of JSON objects, one a line.

    An object has the text under `text`, or is a question of MMLU (see `mmlu`). Where it
    has no `domain`, that is the name of the file up to its first dot; another
    `domain_field` must be there. Other fields and blank lines are passed over.

    Args:
      path: the file; its suffix says how it is compressed.
      on_bytes: called with the number of bytes read from disk, as they are read.
      domain_field: names the domain of a document.

    Yields:
      Documents in the order of the file, those with a blank text too.

    Raises:
      UserError: cannot be read, is damaged, or a line is not as above; it names both.
    """
    domain = path.name.split(".")[0]
    number = 0
    try:
        with open(path, "rb", buffering=0) as file:
            counted = io.BufferedReader(_Counted(file, on_bytes), _BUFFER)
            for number, line in enumerate(_decompressed(counted, path), 1):
                if not line.isspace():
                    yield _parse(line, domain_field, domain, path, number)
    except _DAMAGE as error:
        raise UserError(
            f"{path} is truncated or damaged after line {number}: {error}; copy or"
            " compress it again"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _parse(
    line: bytes, domain_field: str, domain: str, path: pathlib.Path, number: int
) -> Document:
    try:
        item = _object(line, number)
        text = _text_of(item)
        if domain_field == mmlu.SUPERCATEGORY and "subject" in item:
            domain = mmlu.supercategory(item["subject"])
        elif item.get(domain_field) is not None:
            domain = item[domain_field]
        elif domain_field != DOMAIN:
            raise ValueError(f"no field {domain_field!r}, only {_fields(item)}")
        if not isinstance(domain, str) or not domain or not domain.isprintable():
            raise ValueError(
                f"the {domain_field} must be a name that can be printed, not {domain!r}"
            )
    except ValueError as error:
        raise UserError(f"{path}, line {number}: {error}") from error
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise UserError(
            f"{path}, line {number}: its text is not valid Unicode: {error.reason}"
        ) from error
    return Document(text, domain, 0 if text.isspace() else size)


def _object(line: bytes, number: int) -> dict:
    """The JSON object of a line.

    Raises:
      ValueError: it is none; said in words for the user.
    """
    try:
        item = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        what = f"not UTF-8 ({error.reason}); convert the file to UTF-8"
        raise ValueError(what) from error
    except (ValueError, RecursionError) as error:
        what = f"broken JSON ({error}); each line must be one object"
        raise ValueError(what) from error
    if not isinstance(item, dict):
        raise ValueError(
            "not a JSON object; each line must be one, with a field 'text'"
        )
    return item


def _text_of(item: dict) -> str:
    """The text of an object, or the prompt of a multiple-choice question."""
    if "text" in item:
        if not isinstance(item["text"], str):
            kind = type(item["text"]).__name__
            raise ValueError(f"field 'text' is not a string but {kind}")
        return item["text"]
    if mmlu.is_question(item):
        return mmlu.render(item)
    raise ValueError(f"no field 'text', only {_fields(item)}")


def _fields(item: dict) -> str:
    return ", ".join(map(repr, item)) or "nothing"


def _decompressed(file: BinaryIO, path: pathlib.Path) -> Iterable[bytes]:
    """The lines of a file, decompressed as its suffix asks for."""
    if path.suffix == ".gz":
        return gzip.GzipFile(fileobj=file)
    if path.suffix == ".xz":
        return lzma.LZMAFile(file)
    if path.suffix == ".zst":
        return io.BufferedReader(_Zstd(file), _BUFFER)
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
            chunk = self._next or self._file.read(_BUFFER // 8)
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
