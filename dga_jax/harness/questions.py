"""Multiple-choice questions in JSON lines: question, choices, answer, subject."""

import contextlib
import gzip
import io
import json
import lzma
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any, TextIO

from dga_jax.data import mmlu
from dga_jax.errors import UserError
from dga_jax.streams import DamagedError, Streams

Questions = dict[str, list[dict[str, Any]]]  # by subject, in the file's order

_DAMAGE = (EOFError, lzma.LZMAError, zlib.error, DamagedError, UnicodeDecodeError)
_FIELDS = (*mmlu.FIELDS, "subject")


def read_questions(flag: str, path: str) -> Questions:
    """The questions of a file, by subject with underscores.

    Args:
      flag: what named the file, for errors.
      path: of JSON lines, plain, .gz or .xz.

    Raises:
      UserError: it cannot be read, a line is broken, or there is none.
    """
    questions = {}
    for number, line in _lines(flag, path):
        try:
            item = json.loads(line)
            question = _question(item)
        except ValueError as error:
            said = "is not JSON" if isinstance(error, json.JSONDecodeError) else error
            raise UserError(
                f"{flag}={path}: line {number}: {said}; give JSON lines with"
                f" {', '.join(_FIELDS)}"
            ) from None
        questions.setdefault(question["subject"], []).append(question)
    if not questions:
        raise UserError(f"{flag}={path}: has no question; give another file")
    return questions


def _question(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise ValueError("is no JSON object")
    for field in _FIELDS:
        if field not in item:
            raise ValueError(f"has no field {field!r}")
    found = mmlu.question(item)
    if len(found.choices) < 2 or not all(map(str.strip, found.choices)):
        raise ValueError("field 'choices' must be two or more texts that are not empty")
    subject = item["subject"]
    if not isinstance(subject, str) or not subject.strip():
        raise ValueError("field 'subject' is not a name")
    return {
        "question": found.text,
        "choices": list(found.choices),
        "answer": found.answer,
        "subject": "_".join(subject.lower().replace("_", " ").split()),
    }


def _lines(flag: str, path: str) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers."""
    try:
        with _opened(pathlib.Path(path)) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise UserError(
            f"{flag}={path}: {error.strerror or error}; give a file of JSON lines"
        ) from None
    except _DAMAGE as error:
        raise UserError(
            f"{flag}={path}: is damaged, or no text ({error}); give another file"
        ) from None


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[TextIO]:
    with open(path, "rb") as file:
        plain = file
        if path.suffix == ".gz":
            plain = gzip.GzipFile(fileobj=file)
        elif path.suffix == ".xz":
            streams = Streams(file, lzma.LZMADecompressor, padding=4)
            plain = io.BufferedReader(streams)
        yield io.TextIOWrapper(plain, encoding="utf-8")
