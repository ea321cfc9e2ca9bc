"""Records from JSON lines: plain, .gz, .xz or .zst, read as a stream."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from dga_jax.data.sources import streams
from dga_jax.data.sources.document import too_long
from dga_jax.errors import UserError

# In JSON, escapes make a text up to six times longer, and other fields come on top.
_LINE_PER_DOCUMENT = 8


def records(
    path: str, max_document_bytes: int, on_bytes: Callable[[int], object]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Streams the objects of a file, one a line; blank lines are passed over.

    Args:
      path: the file; its suffix says how it is compressed.
      max_document_bytes: a line above eight times that is not read whole.
      on_bytes: called with the number of bytes read of the file, as they are read.

    Yields:
      Line numbers, from 1, and objects.

    Raises:
      UserError: the file is damaged, or a line holds no object; it names both.
      OSError: it cannot be read.
    """
    limit = _LINE_PER_DOCUMENT * max_document_bytes
    number = 0
    try:
        with streams.opened(path, on_bytes) as file:
            lines = iter(partial(file.readline, limit), b"")
            for number, line in enumerate(lines, 1):
                if not line.isspace():
                    yield number, _object(line, number, limit, path)
    except streams.DAMAGE as error:
        raise UserError(
            f"{path} is truncated or damaged after line {number}: {error}; copy or"
            " compress it again"
        ) from error


def _object(line: bytes, number: int, limit: int, path: str) -> dict[str, Any]:
    try:
        if len(line) >= limit:
            raise ValueError(too_long(len(line), limit, "the line is at least"))
        return parsed(line, number)
    except ValueError as error:
        raise UserError(f"{path}, line {number}: {error}") from error


def parsed(line: bytes, number: int) -> dict[str, Any]:
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
