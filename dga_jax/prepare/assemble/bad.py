"""Documents that cannot be used: kept beside tokens, counted, limited."""

import collections
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dga_jax.errors import UserError
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.sources import BadDocument, Document, Shard
from dga_jax.prepare.sources.document import TOO_LONG

_SAID = 500  # characters of a message that is kept
_CUT_AT = "cut_at.json"  # in the folder of a shard of which something is too long


class Bad(NamedTuple):
    """A document that is left out because it cannot be used.

    Attributes:
      place: in its piece or shard, from 0.
      reason: a few words.
      unit: "line", "row" or "example"; "" where the file is the document.
      number: of the line and the like.
    """

    place: int
    reason: str
    unit: str
    number: int


def to_array(piece: Sequence[Document | BadDocument]) -> np.ndarray:
    """Those of a piece, as bytes of JSON."""
    found = [
        Bad(i, one.reason, one.unit, one.number)
        for i, one in enumerate(piece)
        if isinstance(one, BadDocument)
    ]
    return np.frombuffer(json.dumps(found).encode(), np.uint8)


def from_array(array: np.ndarray) -> list[Bad]:
    """What `to_array` wrote."""
    return [Bad(*one) for one in json.loads(array.tobytes())]


class Counted:
    """Counts the documents of a shard that cannot be used.

    Args:
      shard: that is read.
      limit: so many are left out before it is an error; None: any number.
    """

    def __init__(self, shard: Shard, limit: int | None):
        self._shard, self._limit = shard, limit
        self._reasons: collections.Counter[str] = collections.Counter()
        self._first: str | None = None
        self._longest = 0

    def add(self, document: Document | BadDocument) -> None:
        """Counts a document.

        Raises:
          UserError: it is one too many.
        """
        self._longest = max(self._longest, document.num_bytes)
        if not isinstance(document, BadDocument):
            return
        self._reasons[document.reason] += 1
        self._first = self._first or document.said[:_SAID]
        check_limit(self._reasons, self._first, self._limit)

    def cuts(self, folder: Folder) -> None:
        """Notes in the folder of the shard that some are too long, before a piece."""
        if self._reasons[TOO_LONG]:
            folder.write_json(_CUT_AT, self._shard.fields.max_document_bytes)

    @property
    def summary(self) -> dict[str, Any]:
        """For the summary of the shard, ready for JSON."""
        return {
            "bad": dict(self._reasons),
            "first_bad": self._first,
            "longest": self._longest,
            "cut_at": self._shard.fields.max_document_bytes
            if self._reasons[TOO_LONG]
            else None,
        }


def is_of(summary: dict[str, Any], shard: Shard) -> bool:
    """Whether what was made of a shard is what its limit of length makes of it now."""
    limit = shard.fields.max_document_bytes
    return summary["longest"] <= limit and summary["cut_at"] in (None, limit)


def remove_others(folder: Folder, shard: Shard) -> None:
    """Removes what was made of a shard under a limit that made something else of it."""
    limit, names = shard.fields.max_document_bytes, folder.names()
    other = _CUT_AT in names and folder.read_json(_CUT_AT) != limit
    pieces = [name for name in names if name.endswith(".npz")]
    if other or any(_longest(folder, name) > limit for name in pieces):
        folder.remove()


def _longest(folder: Folder, name: str) -> int:
    return int(folder.load(name)["text_bytes"].max(initial=0))


def check_limit(reasons: dict[str, int], first: str | None, limit: int | None) -> None:
    """Raises UserError if there are more than may be left out.

    Args:
      reasons: how many there are by reason.
      first: what was said of one, the whole message.
      limit: how many may be left out; None: any number.
    """
    if limit is None or sum(reasons.values()) <= limit:
        return
    if not limit:
        raise UserError(first)
    raise UserError(
        f"more than --skip_bad={limit} documents cannot be used ({described(reasons)}),"
        f" such as {first}; mend them, or raise the limit"
    )


def described(reasons: dict[str, int]) -> str:
    """How many there are by reason, the most first, on one line."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {count:,}" for reason, count in ordered)


def total_of(summaries: Iterable[dict[str, Any]], limit: int | None) -> dict[str, int]:
    """How many documents of some shards were left out, by reason.

    Raises:
      UserError: more than the limit.
    """
    reasons: collections.Counter[str] = collections.Counter()
    first = None
    for summary in summaries:
        reasons.update(summary["bad"])
        first = first or summary["first_bad"]
    check_limit(reasons, first, limit)
    return dict(reasons)
