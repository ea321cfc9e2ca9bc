"""The list of the documents that are left out."""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from dga_jax.errors import UserError
from dga_jax.files import replaced
from dga_jax.prepare.assemble.documents import Documents
from dga_jax.prepare.assemble.folder import NOT_UTF8
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Shard


def list_left_out(corpora: Sequence[tuple[Corpus, Documents]], path: str) -> None:
    """Writes a JSON object a line for each document that is left out.

    With the `file`, the `place` of the document in it, counted from 0; its `id` if it
    has one, or the `line`, `row` or `example` of one that cannot be used; and the
    `reason`.

    Raises:
      UserError: it cannot be written.
    """
    try:
        with replaced(pathlib.Path(path)) as file:
            for corpus, documents in corpora:
                for shard in corpus.shards:
                    for item in _left_out(documents, shard):
                        line = json.dumps(item, ensure_ascii=False) + "\n"
                        file.write(line.encode(errors=NOT_UTF8))
    except OSError as error:
        raise UserError(
            f"--dropped={path}: cannot write it: {error.strerror}; choose another"
        ) from error


def _left_out(documents: Documents, shard: Shard) -> Iterator[dict[str, Any]]:
    reasons = documents.reasons(shard)
    if not reasons and not documents.tokenized.summary(shard)["bad"]:
        return
    start = 0
    for piece in documents.tokenized.pieces(shard):
        bad = {start + one.place: one for one in piece.bad}
        stop = start + len(piece.lengths)
        dropped = [place for place in reasons if start <= place < stop]
        for place in sorted([*dropped, *bad]):
            file, number = shard.place_of(place)
            item = {"file": file, "place": number}
            if place in bad:
                found = bad[place]
                item |= {found.unit: found.number} if found.unit else {}
                item["reason"] = found.reason
            else:
                if piece.identifiers:
                    item["id"] = piece.identifiers[place - start]
                item["reason"] = reasons[place]
            yield item
        start = stop
