"""Records from Parquet: only the columns that are asked for, a few rows at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dga_jax.errors import UserError
from dga_jax.files import OnBytes
from dga_jax.prepare.sources import content, packed
from dga_jax.prepare.sources.document import FLAGS, NOT_UTF8, DocumentError, names_of

_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 4096
# What PyArrow raises of a value for which Python has none, as of the year 10000.
_NO_VALUE = (ValueError, OverflowError, LookupError, pa.ArrowException)
_ColumnsOf = Callable[[Callable[[str], bool]], list[str]]


class NotParquetError(Exception):
    """A file is none, but of a kind that `json_lines` reads or names."""


def records(
    path: str,
    columns_of: _ColumnsOf,
    on_bytes: OnBytes,
) -> Iterator[tuple[int, dict[str, Any] | DocumentError]]:
    """Streams the rows of a file; some 4 MB of them are held at a time.

    Args:
      path: the file.
      columns_of: chooses columns, given what says whether there is one of a name; dots
        lead into structs. It raises KeyError for one that is missing.
      on_bytes: called with bytes of the file, in proportion to the rows read.

    Yields:
      Row numbers, from 1, and the columns by name, or what is the matter with a row.

    Raises:
      NotParquetError: see the class.
      UserError: the file is damaged, or has rows and lacks a column.
      OSError: it cannot be read.
    """
    number = 0
    try:
        with packed.opened_raw(path) as (file, num_bytes):
            head = file.read(content.HEAD)
            file.seek(0)
            if not content.is_parquet(head) and content.may_be_lines(head):
                raise NotParquetError
            # Without a buffer, a whole column of a row group is read at once.
            table = pq.ParquetFile(file, buffer_size=packed.BUFFER, pre_buffer=False)
            rows = table.metadata.num_rows
            if not rows:  # whatever the columns
                on_bytes(num_bytes)
                return
            batches = table.iter_batches(
                _rows_at_once(table), columns=_columns(table, columns_of, path)
            )
            told = 0
            for batch in batches:
                for item in _items(batch):
                    number += 1
                    yield number, item
                now = num_bytes * number // rows
                on_bytes(now - told)
                told = now
            on_bytes(num_bytes - told)
    except (pa.ArrowException, pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        said = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"{path} is not Parquet, or truncated or damaged after row {number}:"
            f" {said[:200]}; copy or write it again"
        ) from error


def _rows_at_once(table: pq.ParquetFile) -> int:
    metadata = table.metadata
    groups = range(metadata.num_row_groups)
    size = sum(metadata.row_group(group).total_byte_size for group in groups)
    row = max(1, size // max(1, metadata.num_rows))
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // row))


def _columns(table: pq.ParquetFile, columns_of: _ColumnsOf, path: str) -> list[str]:
    schema = table.schema_arrow
    try:
        return columns_of(lambda name: _has(schema, name))
    except KeyError as error:
        names = names_of(dict.fromkeys(schema.names))
        raise UserError(
            f"{path}: no column {error.args[0]!r}, only {names}; {FLAGS}"
        ) from error


def _has(schema: pa.Schema, name: str) -> bool:
    if name in schema.names:
        return True
    first, *rest = name.split(".")
    if first not in schema.names:
        return False
    kind = schema.field(first).type
    for part in rest:
        if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return False
        kind = kind.field(part).type
    return True


def _items(batch: pa.RecordBatch) -> list[dict[str, Any] | DocumentError]:
    try:
        return batch.to_pylist()
    except _NO_VALUE as error:
        if batch.num_rows > 1:
            rows = (batch.slice(i, 1) for i in range(batch.num_rows))
            return [item for row in rows for item in _items(row)]
        return [_unreadable(batch, error)]


def _unreadable(row: pa.RecordBatch, error: Exception) -> DocumentError:
    """What is the matter with a row of which PyArrow raised something."""
    if isinstance(error, UnicodeDecodeError):
        said = f"not UTF-8 ({error.reason}); convert the file to UTF-8"
        return DocumentError(NOT_UTF8, said)
    name, kind = next(
        (field.name, field.type)
        for field, column in zip(row.schema, row.columns, strict=True)
        if not _has_values(column)
    )
    why = " ".join(str(error).split())[:200]
    return DocumentError(
        "unreadable value",
        f"field {name!r} has a value of type {kind} that cannot be read ({why}); mend"
        " it or leave the row out",
    )


def _has_values(column: pa.Array) -> bool:
    try:
        column.to_pylist()
    except _NO_VALUE:
        return False
    return True
