"""RedPajama-V2: documents, and beside them the quality signals to filter by.

The layout is that of https://github.com/togethercomputer/RedPajama-Data, version 2:
`documents/SNAPSHOT/NNNN/LANG_BUCKET.json.gz` has a document a line and
`quality_signals/SNAPSHOT/NNNN/LANG_BUCKET.signals.json.gz` its signals, line by line.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dga_jax.errors import UserError
from dga_jax.files import OnBytes
from dga_jax.prepare.sources import json_lines
from dga_jax.prepare.sources.document import DocumentError, names_of
from dga_jax.prepare.sources.filters import Filter

TEXT = "raw_content"
SIGNALS = "quality_signals"
SIGNALS_SUFFIX = ".signals.json.gz"
_IDENTIFIERS = ("doc_id", "id")
COLUMNS = (SIGNALS, *_IDENTIFIERS)  # of rows that carry their signals
_LAYOUT = re.compile(
    r"(?P<base>(?:.*/)?)documents/(?P<tag>[^/]+/[^/]+/(?P<bucket>[^/]+))\.json\.gz"
)


class Location(NamedTuple):
    """Where a file of documents lies.

    Attributes:
      base: what is before `documents`.
      tag: SNAPSHOT/NNNN/LANG_BUCKET.
      bucket: LANG_BUCKET, such as en_head.
    """

    base: str
    tag: str
    bucket: str

    @property
    def signals(self) -> str:
        """The path of the quality signals of these documents."""
        return f"{self.base}{SIGNALS}/{self.tag}{SIGNALS_SUFFIX}"


def locate(path: str) -> Location | None:
    """Where a file lies in the layout; None if its path is not of that form."""
    match = _LAYOUT.fullmatch(path)
    return Location(**match.groupdict()) if match else None


def records(
    paths: tuple[str, ...], max_document_bytes: int, on_bytes: OnBytes
) -> Iterator[tuple[int, json_lines.Record, str, dict[str, Any] | None]]:
    """Streams the documents of a file of the layout.

    Args:
      paths: the file, and where filters need them, that of its signals.
      max_document_bytes: a line much longer is not read whole.
      on_bytes: called with the number of bytes read, as they are read.

    Yields:
      Line numbers, objects or what is the matter with one or its signals, identifiers,
      and signals if there is a file of them.

    Raises:
      UserError: a file is damaged, or the two are not of the same documents.
      OSError: one cannot be read.
    """
    path, *others = paths
    tag = locate(path).tag
    signals = None
    if others:
        signals = json_lines.records(others[0], max_document_bytes, on_bytes)
    for number, item in json_lines.records(path, max_document_bytes, on_bytes):
        # The line is counted from 0 in the identifiers.
        identifier = f"{tag}.json.gz/{number - 1}"
        if signals is None:
            yield number, item, identifier, None
            continue
        _, found = next(signals, (0, None))
        if found is None:
            raise UserError(
                f"{path}, line {number}: {others[0]} ends before it; get both files"
                " again"
            )
        if isinstance(found, DocumentError):
            bad = DocumentError("unusable signals", f"its signals: {found}")
            yield number, bad, identifier, None
            continue
        if found.get("id") != identifier:
            raise UserError(
                f"{others[0]}, line {number}: signals of {found.get('id')!r}, where"
                f" those of {identifier!r} should be; get both files again"
            )
        signals_here = found.get(SIGNALS)
        if not isinstance(signals_here, dict):
            item = DocumentError(
                "unusable signals", f"{others[0]} has no object {SIGNALS!r} for it"
            )
        yield number, item, identifier, signals_here
    if signals is not None and next(signals, None):
        raise UserError(
            f"{others[0]} goes on after the last document of {path}; get both again"
        )


def inline(item: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """The identifier and the signals that a row carries itself, if it does.

    Raises:
      DocumentError: the signals cannot be read.
    """
    identifier = next((item[key] for key in _IDENTIFIERS if item.get(key)), "")
    signals = item.get(SIGNALS)
    if isinstance(signals, str | bytes):
        try:
            signals = json.loads(signals)
        except ValueError as error:
            raise DocumentError(
                "unusable signals", f"broken JSON in {SIGNALS!r} ({error})"
            ) from error
    if signals is not None and not isinstance(signals, dict):
        raise DocumentError("unusable signals", f"field {SIGNALS!r} is not an object")
    return str(identifier), signals


def check_known(filters: tuple[Filter, ...], signals: Mapping[str, Any] | None) -> None:
    """Every document has every signal, be it without a value.

    Raises:
      ValueError: a filter is on none of them, or there are no signals at all.
    """
    if signals is None:
        raise ValueError(
            f"no field {SIGNALS!r} to filter by, and the path is not"
            " documents/SNAPSHOT/NNNN/LANG_BUCKET.json.gz; get the signals, or do"
            " without --filter"
        )
    for one in filters:
        if one.field not in signals:
            raise ValueError(
                f"no quality signal {one.field!r}, only {names_of(signals)}; name one"
                " of them in --filter"
            )
