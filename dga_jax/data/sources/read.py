"""The documents of a shard, whatever its format."""

from collections.abc import Callable, Iterator

from dga_jax.data.sources import json_lines
from dga_jax.data.sources.document import Document, Picker
from dga_jax.data.sources.shard import Shard
from dga_jax.errors import UserError


def read_documents(
    shard: Shard, on_bytes: Callable[[int], object] = lambda count: None
) -> Iterator[Document]:
    """Streams the documents of a shard in order, those with a blank text too.

    Args:
      shard: what to read.
      on_bytes: called with the number of bytes read, as they are read; `num_bytes` of
        the shard in all.

    Raises:
      UserError: a file cannot be read, is damaged, or holds no text at all, or a record
        is not as it should be; it names the file and the record.
    """
    picker = Picker(shard.fields, shard.domain, shard.source, shard.named)
    path = shard.name
    try:
        for path in shard.paths:
            limit = shard.fields.max_document_bytes
            for number, item in json_lines.records(path, limit, on_bytes):
                try:
                    document = picker.pick(item)
                except ValueError as error:
                    raise UserError(f"{path}, line {number}: {error}") from error
                if document is not None:
                    yield document
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        picker.check_filters()
    except ValueError as error:
        raise UserError(f"{shard.name}: {error}") from error
    if not picker.num_texts:
        raise UserError(f"{shard.name} holds no text; add some or leave it out")
