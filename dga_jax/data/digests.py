"""The hashes of a store: one formula each, to write them and to check them."""

import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np

BLOCK_ROWS = 1024
# Of the manifest: what follows from the rest, and what depends on how it is stored.
_NOT_CONTENT = ("content_hash", "files", "end_of_text")


class RowsDigest:
    """SHA-256 of each block of `BLOCK_ROWS` rows of a split, as they lie on disk.

    A file of the store holds whole blocks, so that files can be written in any order.
    """

    def __init__(self):
        """Of no row yet."""
        self._blocks: list[str] = []
        self._block, self._rows = hashlib.sha256(), 0

    def update(self, rows: np.ndarray) -> int:
        """Adds rows [n, L+1]; returns how many bytes they have."""
        size = rows.nbytes
        while len(rows):
            here = rows[: BLOCK_ROWS - self._rows]
            self._block.update(np.ascontiguousarray(here).view(np.uint8).data)
            self._rows, rows = self._rows + len(here), rows[len(here) :]
            if self._rows == BLOCK_ROWS:
                self._end_block()
        return size

    def blocks(self) -> list[str]:
        """Hex digests of the blocks; the last may have fewer rows, and ends them."""
        if self._rows:
            self._end_block()
        return self._blocks

    def _end_block(self) -> None:
        self._blocks.append(self._block.hexdigest())
        self._block, self._rows = hashlib.sha256(), 0


def rows_digest(blocks: Iterable[str]) -> str:
    """Hex SHA-256 of the rows of a split: of the digests of its blocks."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, blocks))).hexdigest()


def level_digest(
    names: Sequence[str] | None,
    offsets: np.ndarray,
    heldout_offsets: np.ndarray,
    tokens: np.ndarray,
) -> str:
    """Hex SHA-256 of a level: names, where they are not numbers, and int64 arrays."""
    text = "" if names is None else "\n".join(names)
    digest = hashlib.sha256(text.encode())
    for array in (offsets, heldout_offsets, tokens):
        digest.update(np.asarray(array).astype("<i8").tobytes())
    return digest.hexdigest()


def content_hash(manifest: dict) -> str:
    """Hash of rows, domains and tokenizer, whatever the files they lie in."""
    content = {k: v for k, v in manifest.items() if k not in _NOT_CONTENT}
    content["splits"] = {
        split: {key: value for key, value in entry.items() if key != "shards"}
        for split, entry in manifest["splits"].items()
    }
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
