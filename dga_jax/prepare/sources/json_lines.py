"""Records from JSON lines, compressed or not, read line by line."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

from dga_jax.errors import UserError
from dga_jax.files import OnBytes
from dga_jax.prepare.sources import content, packed
from dga_jax.prepare.sources.document import (
    BROKEN_JSON,
    NOT_UTF8,
    TOO_LONG,
    DocumentError,
    too_long,
)

# In JSON, escapes make a text up to six times longer, and other fields come on top.
_LINE_PER_DOCUMENT = 8

Record = dict[str, Any] | DocumentError


def records(
    path: str, max_document_bytes: int, on_bytes: OnBytes
) -> Iterator[tuple[int, Record]]:
    """Streams the objects of a file, one a line; blank lines are passed over.

    Args:
      path: the file, compressed or not.
      max_document_bytes: a line above eight times that is not read whole.
      on_bytes: called with the number of bytes read of the file, as they are read.

    Yields:
      Line numbers, from 1, and objects, or what is the matter with a line.

    Raises:
      UserError: the file is damaged, or of a kind that is not read.
      packed.IsParquetError: it is Parquet; nothing was read.
      OSError: it cannot be read.
    """
    limit = _LINE_PER_DOCUMENT * max_document_bytes
    number = 0
    try:
        with packed.opened(path, on_bytes) as file:
            if found := content.unknown(packed.peek(file), path):
                raise packed.ForeignError(f"is {found.what}; {found.remedy}")
            lines = iter(partial(file.readline, limit), b"")
            for number, line in enumerate(lines, 1):
                if len(line) >= limit:
                    said = too_long(len(line), limit, "the line is at least")
                    yield number, DocumentError(TOO_LONG, said)
                    _pass_over_rest(file, line, limit)
                elif not line.isspace():
                    yield number, _parsed(line, number)
    except packed.IsParquetError:
        raise
    except packed.ForeignError as error:
        raise UserError(f"{path} {error}") from error
    except packed.DAMAGE as error:
        raise UserError(
            f"{path} is truncated or damaged after line {number}: {error}; copy or"
            " compress it again, or leave it out"
        ) from error


def _pass_over_rest(file: BinaryIO, line: bytes, limit: int) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(limit)


def _parsed(line: bytes, number: int) -> Record:
    """The JSON object of a line, or what is the matter with it."""
    found = _object(line, number)
    if isinstance(found, DocumentError) and number == 1:
        hint = content.not_lines(line[: content.HEAD])
        return DocumentError(found.reason, hint) if hint else found
    return found


def _object(line: bytes, number: int) -> Record:
    try:
        item = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        said = f"not UTF-8 ({error.reason}); convert the file to UTF-8"
        return DocumentError(NOT_UTF8, said)
    except (ValueError, RecursionError) as error:
        said = f"broken JSON ({error}); each line must be one object"
        return DocumentError(BROKEN_JSON, said)
    if not isinstance(item, dict):
        return DocumentError(
            "no object", "not a JSON object; each line must be one, with a field 'text'"
        )
    return item
