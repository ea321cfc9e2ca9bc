"""The documents of a shard, whatever its format."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from dga_jax.data.sources import (
    json_lines,
    redpajama,
    remote,
    text_files,
    tfds,
)
from dga_jax.data.sources.document import Document, Picker, columns
from dga_jax.data.sources.shard import Format, Shard, is_parquet
from dga_jax.errors import UserError

_UNIT = {Format.PARQUET: "row", Format.TFDS: "example"}


def read_documents(
    shard: Shard, on_bytes: Callable[[int], object] = lambda count: None
) -> Iterator[Document]:
    """Streams the documents of a shard in order, those with a blank text too.

    Args:
      shard: what to read.
      on_bytes: called with the number of bytes read, as they are read; in all, about
        the shard's `num_bytes`.

    Raises:
      UserError: a file cannot be read, is damaged, or holds no text at all, or a record
        is not as it should be; it names the file and the record.
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
    if not picker.num_texts:
        raise UserError(f"{shard.name} holds no text; add some or leave it out")


def _picked(shard: Shard, picker: Picker, on_bytes) -> Iterator[Document]:
    """The documents of records that have fields."""
    fields, unit = shard.fields, _UNIT.get(shard.format, "line")
    in_redpajama = shard.format is Format.REDPAJAMA
    in_place = in_redpajama and redpajama.place(shard.paths[0]) is not None
    check_filters = in_redpajama and bool(fields.filters)
    for number, item, *extra in _records(shard, on_bytes):
        try:
            if in_redpajama and not in_place:
                extra = redpajama.inline(item)
            if check_filters:
                redpajama.check_known(fields.filters, extra[1])
                check_filters = False
            document = picker.pick(item, *extra)
        except ValueError as error:
            raise UserError(f"{shard.paths[0]}, {unit} {number}: {error}") from error
        if document is not None:
            yield document


def _records(shard: Shard, on_bytes) -> Iterator[tuple[int, dict[str, Any], ...]]:
    path, fields = shard.paths[0], shard.fields
    if shard.format is Format.TFDS:
        return tfds.records(
            path,
            *shard.examples,
            fields,
            shard.named,
            on_bytes,
            shard.num_bytes,
        )
    if is_parquet(path):
        from dga_jax.data.sources import parquet  # PyArrow takes a while to import

        return parquet.records(path, partial(_columns, shard), on_bytes)
    limit = fields.max_document_bytes
    if shard.format is Format.REDPAJAMA and redpajama.place(path):
        return redpajama.records(shard.paths, limit, on_bytes)
    return json_lines.records(path, limit, on_bytes)


def _columns(shard: Shard, has: Callable[[str], bool]) -> list[str]:
    fields = shard.fields
    if shard.format is not Format.REDPAJAMA:
        return columns(fields, shard.named, has)
    found = columns(dataclasses.replace(fields, filters=()), shard.named, has)
    extra = filter(has, redpajama.COLUMNS)
    return list(dict.fromkeys([*found, *extra]))


def _texts(shard: Shard, picker: Picker, on_bytes) -> Iterator[Document]:
    """The documents of files of plain text."""
    for path in shard.paths:
        text = text_files.read(path, shard.fields.max_document_bytes, on_bytes)
        yield picker.pick_text(text, shard.identifier_of(path))
