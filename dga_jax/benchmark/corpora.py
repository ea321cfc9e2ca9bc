"""Text of any size in several formats: the sample, over and over, and never the same.

Every document begins with a number of its own, and one word in fifty is a new one. Of
the sample, read in random order, one word in twenty is new at its end; of larger
corpora fewer are. Without new words a tokenizer would do nothing but remember.
"""

import contextlib
import gzip
import itertools
import json
import lzma
import pathlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import BinaryIO

from dga_jax.data.sample import SAMPLE
from dga_jax.errors import UserError

GZ, PLAIN, PARQUET, FOLDER = "gz", "jsonl", "parquet", "folder"
FORMATS = (GZ, PLAIN, PARQUET, FOLDER)
TARGET = SAMPLE / "target" / "python_docs.steer.jsonl.xz"
_FILE_BYTES = 16 << 20  # of text in a file
_GROUP_BYTES = 8 << 20  # of text in a row group
_GZ_LEVEL = 3
_NEW_WORDS = 50
_ALPHABET = "etaoinshrdlucmfw"
_Add = Callable[[str], object]  # a document to a file


def write_corpus(
    directory: pathlib.Path, num_bytes: int, formats: tuple[str, ...] = FORMATS
) -> tuple[Mapping[str, str], int]:
    """Writes the same documents in some formats.

    Args:
      directory: gets a directory for each format.
      num_bytes: of text, about; all domains have as much.
      formats: of `FORMATS`.

    Returns:
      What to give as --generic, by format; and the UTF-8 bytes of text.
    """
    domains = {
        path.name.partition(".")[0]: _texts(path)
        for path in sorted((SAMPLE / "generic").glob("*.jsonl.xz"))
    }
    if not domains:
        raise UserError(f"{SAMPLE} holds no text; run from a clone of the repository")
    for name in formats:
        (directory / name).mkdir(parents=True)
    written, end = 0, num_bytes // len(domains)
    numbers, made = itertools.count(), itertools.count(1 << 16)
    for domain, texts in domains.items():
        documents = _endless(texts, numbers, made)
        size = 0
        for part in itertools.count():
            if size >= end:
                break
            with contextlib.ExitStack() as stack:
                add = [
                    stack.enter_context(_WRITERS[name](directory / name, domain, part))
                    for name in formats
                ]
                stop = min(end, size + _FILE_BYTES)
                while size < stop:
                    text = next(documents)
                    size += len(text.encode())
                    for one in add:
                        one(text)
        written += size
    return {name: f"{directory / name}{_GLOBS[name]}" for name in formats}, written


def target_bytes() -> int:
    """UTF-8 bytes of text of the sample's target."""
    return sum(len(text.encode()) for text in _texts(TARGET))


def _texts(path: pathlib.Path) -> list[str]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def _endless(
    texts: list[str], numbers: Iterator[int], made: Iterator[int]
) -> Iterator[str]:
    for text in itertools.cycle(texts):
        number = next(numbers)
        words = text.split(" ")
        for i in range(number % _NEW_WORDS, len(words), _NEW_WORDS):
            words[i] += _letters(next(made))
        yield f"{number} {' '.join(words)}"


def _letters(number: int) -> str:
    """A number as a word's end."""
    return "".join(_ALPHABET[int(digit, 16)] for digit in f"{number:x}")


@contextlib.contextmanager
def _json_lines(opened: BinaryIO) -> Iterator[_Add]:
    with opened as file:
        yield lambda text: file.write(json.dumps({"text": text}).encode() + b"\n")


def _gz(
    directory: pathlib.Path, domain: str, part: int
) -> AbstractContextManager[_Add]:
    path = directory / f"{domain}.{part:04d}.jsonl.gz"
    return _json_lines(gzip.open(path, "wb", compresslevel=_GZ_LEVEL))


def _plain(
    directory: pathlib.Path, domain: str, part: int
) -> AbstractContextManager[_Add]:
    return _json_lines(open(directory / f"{domain}.{part:04d}.jsonl", "wb"))


@contextlib.contextmanager
def _parquet(directory: pathlib.Path, domain: str, part: int) -> Iterator[_Add]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = directory / f"{domain}.{part:04d}.parquet"
    schema, texts, size = pa.schema([("text", pa.string())]), [], 0

    def flush() -> None:
        if texts:
            writer.write_table(pa.table({"text": texts}, schema))
            texts.clear()

    def add(text: str) -> None:
        nonlocal size
        texts.append(text)
        size += len(text)
        if size >= _GROUP_BYTES:
            flush()
            size = 0

    with pq.ParquetWriter(path, schema) as writer:
        yield add
        flush()


@contextlib.contextmanager
def _folder(directory: pathlib.Path, domain: str, part: int) -> Iterator[_Add]:
    inside = directory / domain / f"{part:04d}"
    inside.mkdir(parents=True)
    numbers = itertools.count()

    def add(text: str) -> None:
        (inside / f"{next(numbers):06d}.txt").write_bytes(text.encode())

    yield add


_WRITERS = {GZ: _gz, PLAIN: _plain, PARQUET: _parquet, FOLDER: _folder}
_GLOBS = {GZ: "/*.gz", PLAIN: "/*.jsonl", PARQUET: "/*.parquet", FOLDER: ""}
