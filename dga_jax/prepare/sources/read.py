"""The documents of a shard, whatever its format."""

import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from typing import Any

from dga_jax import remote
from dga_jax.errors import UserError
from dga_jax.files import OnBytes
from dga_jax.prepare.sources import json_lines, lego, redpajama, text_files, tfds
from dga_jax.prepare.sources.document import (
    BadDocument,
    Document,
    DocumentError,
    Picker,
    columns,
)
from dga_jax.prepare.sources.packed import IsParquetError
from dga_jax.prepare.sources.shard import Format, Shard, is_parquet

# What it is called, its number, itself, and what its format says besides.
_Record = tuple[str, tuple[int, Any, ...]]


def read_documents(
    shard: Shard, on_bytes: OnBytes = lambda count: None
) -> Iterator[Document | BadDocument]:
    """Yields the documents of a shard in order, those with a blank text too.

    Where the shard's fields say `skip_bad`, a `BadDocument` is in the place of each
    that cannot be used. Damage to a compressed file or to Parquet is an error all the
    same, for nobody knows how many documents are lost. A file may hold none.

    Args:
      shard: what to read.
      on_bytes: called with the number of bytes read, as they are read; in all, about
        the shard's `num_bytes`.

    Raises:
      UserError: a file cannot be read, or is damaged; or a document cannot be used, if
        those are not skipped. It names the file and the record.
    """
    picker = Picker(shard.fields, shard.domain, shard.source, shard.named)
    read = _texts if shard.format is Format.TEXT else _picked
    path = shard.paths[0]
    try:
        if remote.is_remote(path):
            # The client reads on while documents are taken, and may fail anywhere.
            with remote.explained(path):
                yield from read(shard, picker, on_bytes)
        else:
            yield from read(shard, picker, on_bytes)
    except OSError as error:
        path = error.filename or path
        raise UserError(
            f"cannot read {path}: {error.strerror or error}; see to it or leave it out"
        ) from error
    try:
        picker.check_filters()
    except ValueError as error:
        raise UserError(f"{shard.name}: {error}") from error


def _bad(
    shard: Shard, path: str, error: DocumentError, unit: str = "", number: int = 0
) -> BadDocument:
    """What stands for a document that cannot be used; raises if none may."""
    said = f"{path}, {unit} {number}: {error}" if unit else f"{path}{error}"
    if not shard.fields.skip_bad:
        raise UserError(said) from error
    return BadDocument(error.reason, said, unit, number)


def _picked(
    shard: Shard, picker: Picker, on_bytes: OnBytes
) -> Iterator[Document | BadDocument]:
    """The documents of records that have fields."""
    fields = shard.fields
    in_redpajama = shard.format is Format.REDPAJAMA
    in_place = in_redpajama and redpajama.locate(shard.paths[0]) is not None
    check_filters = in_redpajama and bool(fields.filters)
    for unit, (number, item, *extra) in _records(shard, on_bytes):
        try:
            if isinstance(item, DocumentError):
                raise item
            if in_redpajama and not in_place:
                extra = redpajama.inline(item)
            if check_filters:
                _check_known(shard, unit, number, extra[1])
                check_filters = False
            document = picker.pick(item, *extra)
        except DocumentError as error:
            yield _bad(shard, shard.paths[0], error, unit, number)
            continue
        if document is not None:
            yield document


def _check_known(
    shard: Shard, unit: str, number: int, signals: Mapping[str, Any] | None
) -> None:
    try:
        redpajama.check_known(shard.fields.filters, signals)
    except ValueError as error:
        raise UserError(f"{shard.paths[0]}, {unit} {number}: {error}") from error


def _records(shard: Shard, on_bytes: OnBytes) -> Iterator[_Record]:
    """What the records of a shard are called, and each with its number."""
    path, fields = shard.paths[0], shard.fields
    if shard.format is Format.TFDS:
        examples = tfds.records(
            path,
            *shard.examples,
            fields,
            shard.named,
            on_bytes,
            shard.num_bytes,
        )
        yield from zip(itertools.repeat("example"), examples)
        return
    if shard.format is Format.LEGO:
        made = lego.records(path, *shard.examples, on_bytes)
        yield from zip(itertools.repeat("document"), made)
        return
    lines = partial(_lines, shard, on_bytes)
    rows = partial(_rows, shard, on_bytes)
    first, second = (rows, lines) if is_parquet(path) else (lines, rows)
    if not (yield from first()):  # its name says something else than its content
        yield from second()


def _rows(shard: Shard, on_bytes: OnBytes) -> Generator[_Record, None, bool]:
    """Records of Parquet; returns whether it is that."""
    from dga_jax.prepare.sources import parquet  # PyArrow takes a while to import

    found = parquet.records(shard.paths[0], partial(_columns, shard), on_bytes)
    try:
        yield from zip(itertools.repeat("row"), found)
    except parquet.NotParquetError:
        return False
    return True


def _lines(shard: Shard, on_bytes: OnBytes) -> Generator[_Record, None, bool]:
    """Records of JSON lines; returns whether it is that, and not Parquet."""
    path, limit = shard.paths[0], shard.fields.max_document_bytes
    if shard.format is Format.REDPAJAMA and redpajama.locate(path):
        found = redpajama.records(shard.paths, limit, on_bytes)
    else:
        found = json_lines.records(path, limit, on_bytes)
    try:
        yield from zip(itertools.repeat("line"), found)
    except IsParquetError:
        return False
    return True


def _columns(shard: Shard, has: Callable[[str], bool]) -> list[str]:
    fields = shard.fields
    if shard.format is not Format.REDPAJAMA:
        return columns(fields, shard.named, has)
    found = columns(dataclasses.replace(fields, filters=()), shard.named, has)
    extra = filter(has, redpajama.COLUMNS)
    return list(dict.fromkeys([*found, *extra]))


def _texts(
    shard: Shard, picker: Picker, on_bytes: OnBytes
) -> Iterator[Document | BadDocument]:
    """The documents of files of plain text."""
    limit = shard.fields.max_document_bytes
    for path in shard.paths:
        try:
            text = text_files.read(path, limit, on_bytes)
            yield picker.pick_text(text, shard.identifier_of(path))
        except DocumentError as error:
            yield _bad(shard, path, error)
