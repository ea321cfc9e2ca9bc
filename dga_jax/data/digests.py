"""The hashes of a store: one formula each, to write them and to check them."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

_CHUNK = 1 << 22
# Of the manifest: what follows from the rest, and what depends on how it is stored.
_NOT_CONTENT = ("content_hash", "files")


def file_digest(
    path: pathlib.Path, on_bytes: Callable[[int], object] = lambda count: None
) -> str:
    """Hex SHA-256 of a file; `on_bytes` is told how many bytes have been read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest()


class RowsDigest:
    """SHA-256 of the rows of a split, one after another, as they lie on disk."""

    def __init__(self, dtype: np.dtype):
        """Of rows of `dtype`, none yet."""
        self._dtype, self._digest = dtype, hashlib.sha256()

    def update(self, rows: np.ndarray) -> bytes:
        """Adds rows [n, L+1], or one [L+1]; returns their bytes."""
        content = rows.astype(self._dtype, copy=False).tobytes()
        self._digest.update(content)
        return content

    def hexdigest(self) -> str:
        """Of all rows so far."""
        return self._digest.hexdigest()


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
