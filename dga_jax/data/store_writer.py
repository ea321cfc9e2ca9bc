"""Writes what `dga_jax.data.store.Store` reads."""

import contextlib
import itertools
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from dga_jax.data import store
from dga_jax.data.digests import RowsDigest, content_hash, file_digest, level_digest
from dga_jax.data.store import ClusterNames, Domains
from dga_jax.data.tokenizer import Tokenizer
from dga_jax.errors import UserError

_SHARD_BYTES = 1 << 30
# Rows are read at random, one by one, so each is a group of its own. Compression would
# save 14% of the space (11-bit ids in 16) and reading would take 1.7 times as long.
_OPTIONS = "group_size:1,uncompressed"


def row_dtype(vocab_size: int) -> np.dtype:
    """The type of tokens on disk; its largest value is padding."""
    return np.dtype("<u2" if vocab_size <= np.iinfo(np.uint16).max else "<u4")


class StoreWriter:
    """Fills a directory with a store; the manifest, written last, makes it one.

    The same calls give the same bytes.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        tokenizer: Tokenizer,
        seq_len: int,
        shard_bytes: int = _SHARD_BYTES,
    ):
        """Writes into an existing directory, in shards of about `shard_bytes`."""
        self._directory = directory
        self._tokenizer = tokenizer
        self._seq_len = seq_len
        self.dtype = row_dtype(tokenizer.vocab_size)
        self.pad = int(np.iinfo(self.dtype).max)
        record_bytes = (seq_len + 1) * self.dtype.itemsize
        self._rows_per_shard = max(1, shard_bytes // record_bytes)
        self._splits, self._levels, self._names = {}, [], []
        self._clusters: dict | None = None

    def write_split(
        self, split: str, num_rows: int, blocks: Iterable[np.ndarray]
    ) -> None:
        """Writes all rows of a split.

        Args:
          split: one of `store.SPLITS`.
          num_rows: how many rows the blocks hold together.
          blocks: rows [m, L+1] of `dtype`, padded with `pad`.
        """
        digest, tokens = RowsDigest(self.dtype), 0
        rows = itertools.chain.from_iterable(blocks)
        shards = self._shards(split, num_rows)
        for shard in shards:
            with _array_record(self._directory / shard["name"]) as sink:
                for row in itertools.islice(rows, shard["rows"]):
                    sink.write(digest.update(row))
                    tokens += int(np.count_nonzero(row[1:] != self.pad))
        self._splits[split] = {
            "rows": num_rows,
            "tokens": tokens,
            "sha256": digest.hexdigest(),
            "shards": shards,
        }
        self._names += [shard["name"] for shard in shards]

    def write_level(self, domains: Domains) -> None:
        """Writes the domains of the next level; the coarsest comes first."""
        name = store.OFFSETS.format(level=len(self._levels))
        table = {
            "offsets": np.asarray(domains.offsets, np.int64),
            "heldout_offsets": np.asarray(domains.heldout_offsets, np.int64),
            "tokens": np.asarray(domains.tokens, np.int64),
        }
        names = None if isinstance(domains.names, ClusterNames) else domains.names
        digest = level_digest(names, **table)
        if names is not None:
            table["names"] = np.array(names, np.str_)
        np.savez(self._directory / name, **table)
        self._names.append(name)
        self._levels.append({"domains": len(domains), "sha256": digest})

    def add_clusters(
        self, branching: Sequence[int], embedding: str, digest: str, files: list[str]
    ) -> None:
        """Says how the domains came about.

        Args:
          branching: children of each cluster by level.
          embedding: kind of the embedder.
          digest: of the embedder.
          files: already in the directory: embedder, tree, histogram of the target.
        """
        self._clusters = {
            "branching": list(branching),
            "embedding": embedding,
            "embedder_sha256": digest,
        }
        self._names += files

    def finish(self) -> None:
        """Writes the tokenizer and, last, the manifest with the hashes of all files."""
        tokenizer = self._tokenizer
        np.save(self._directory / store.TOKEN_BYTES, tokenizer.token_bytes)
        self._names.append(store.TOKEN_BYTES)
        if tokenizer.content is not None:
            (self._directory / tokenizer.file_name).write_bytes(tokenizer.content)
            self._names.append(tokenizer.file_name)
        content = {
            "format_version": store.FORMAT_VERSION,
            "tokenizer": {
                "kind": tokenizer.kind,
                "sha256": tokenizer.digest,
                "end_of_text": tokenizer.end_of_text,
            },
            "seq_len": self._seq_len,
            "vocab_size": tokenizer.vocab_size,
            "dtype": self.dtype.str,
            "levels": self._levels,
            "splits": self._splits,
        }
        if self._clusters:
            content["clusters"] = self._clusters
        manifest = content | {
            "content_hash": content_hash(content),
            "files": {name: self._describe(name) for name in sorted(self._names)},
        }
        text = json.dumps(manifest, indent=1) + "\n"
        (self._directory / store.MANIFEST).write_text(text, encoding="utf-8")

    def _shards(self, split: str, num_rows: int) -> list[dict]:
        count = -(-num_rows // self._rows_per_shard)
        return [
            {
                "name": f"{split}-{i:05d}-of-{count:05d}.array_record",
                "rows": min(self._rows_per_shard, num_rows - i * self._rows_per_shard),
            }
            for i in range(count)
        ]

    def _describe(self, name: str) -> dict:
        path = self._directory / name
        return {"bytes": path.stat().st_size, "sha256": file_digest(path)}


@contextlib.contextmanager
def _array_record(path: pathlib.Path) -> Iterator[ArrayRecordWriter]:
    """A file to write records to, closed at the end of the block."""
    try:
        sink = ArrayRecordWriter(str(path), _OPTIONS)
        yield sink
        sink.close()
    except RuntimeError as error:  # the library's, when the disk is full
        raise UserError(
            f"cannot write {path.name} in {path.parent.parent}: {error}; free some"
            " space or choose another disk"
        ) from error
