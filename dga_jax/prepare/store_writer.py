"""Writes what `dga_jax.data.store.Store` reads."""

import contextlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from dga_jax.data import digests, store
from dga_jax.data.digests import (
    RowsDigest,
    content_hash,
    level_digest,
    rows_digest,
)
from dga_jax.data.domains import ClusterNames, Domains
from dga_jax.errors import UserError
from dga_jax.files import file_digest
from dga_jax.tokenizer import Tokenizer

FILE_BYTES = 1 << 30
# Rows are read at random, one by one, so each is a group of its own. Compression would
# save 14% of the space (11-bit ids in 16) and reading would take 1.7 times as long.
_OPTIONS = "group_size:1,uncompressed"


def row_dtype(vocab_size: int) -> np.dtype:
    """The type of tokens on disk; its largest value is padding."""
    return np.dtype("<u2" if vocab_size <= np.iinfo(np.uint16).max else "<u4")


def rows_per_file(seq_len: int, dtype: np.dtype, file_bytes: int = FILE_BYTES) -> int:
    """Rows in files of at most `file_bytes`, whole blocks of them."""
    row_bytes = (seq_len + 1) * dtype.itemsize
    blocks = file_bytes // (row_bytes * digests.BLOCK_ROWS)
    return max(1, blocks) * digests.BLOCK_ROWS


def file_names(split: str, num_rows: int, per_file: int) -> list[tuple[str, int]]:
    """Names of the files of a split, and the rows in each."""
    count = -(-num_rows // per_file)
    return [
        (
            f"{split}-{i:05d}-of-{count:05d}.array_record",
            min(per_file, num_rows - i * per_file),
        )
        for i in range(count)
    ]


def write_records(path: str | os.PathLike, blocks: Iterable[np.ndarray]) -> dict:
    """Writes one file of rows.

    Args:
      path: of the file.
      blocks: rows [m, L+1] as they are on disk.

    Returns:
      `rows`, `tokens` that they predict, `bytes` and `sha256` of the file, and
      `blocks`, the digests of its rows.

    Raises:
      UserError: it cannot be written.
    """
    digest, rows, tokens = RowsDigest(), 0, 0
    with _array_record(pathlib.Path(path)) as sink:
        for block in blocks:
            digest.update(block)
            rows += len(block)
            padding = store.padding_of(block.dtype)
            tokens += int(np.count_nonzero(block[:, 1:] != padding))
            for row in block:
                sink.write(row.tobytes())
    return {
        "rows": rows,
        "tokens": tokens,
        **_described(pathlib.Path(path)),
        "blocks": digest.blocks(),
    }


class StoreWriter:
    """Fills a directory with a store; the manifest, written last, makes it one.

    The same calls give the same bytes.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        tokenizer: Tokenizer,
        seq_len: int,
        file_bytes: int = FILE_BYTES,
    ):
        """Writes into an existing directory, in files of at most `file_bytes`."""
        self._directory = directory
        self._tokenizer = tokenizer
        self._seq_len = seq_len
        self.dtype = row_dtype(tokenizer.vocab_size)
        self.pad = store.padding_of(self.dtype)
        self.rows_per_file = rows_per_file(seq_len, self.dtype, file_bytes)
        self._splits, self._levels, self._files = {}, [], {}
        self._clusters: dict | None = None
        self._targets: dict | None = None

    def write_split(
        self,
        split: str,
        num_rows: int,
        blocks: Iterable[np.ndarray],
        row_bytes: np.ndarray | None = None,
    ) -> None:
        """Writes all rows of a split.

        Args:
          split: one of `store.SPLITS`.
          num_rows: how many rows the blocks hold together.
          blocks: rows [m, L+1] of `dtype`, padded with `pad`.
          row_bytes: see `add_split`.
        """
        rows = (row[None] for block in blocks for row in block)
        reports = []
        for name, count in file_names(split, num_rows, self.rows_per_file):
            records = itertools.islice(rows, count)
            reports.append(write_records(self._directory / name, records))
        self.add_split(split, num_rows, reports, row_bytes)

    def add_split(
        self,
        split: str,
        num_rows: int,
        reports: Iterable[dict],
        row_bytes: np.ndarray | None = None,
    ) -> None:
        """Says what is in the files of a split.

        Args:
          split: one of `store.SPLITS`.
          num_rows: of the split.
          reports: what `write_records` returned of each file.
          row_bytes: int64 [num_rows], where the split is one of `store.EVALUATED`:
            bytes of text that the predicted tokens of each row stand for. Of rows that
            were never text there are none.
        """
        if row_bytes is not None:
            name = store.ROW_BYTES.format(split=split)
            np.save(self._directory / name, np.asarray(row_bytes, np.int64))
            self._describe(name)
        shards, blocks, tokens = [], [], 0
        names = file_names(split, num_rows, self.rows_per_file)
        for (name, rows), report in zip(names, reports, strict=True):
            self._files[name] = {key: report[key] for key in ("bytes", "sha256")}
            shards.append({"name": name, "rows": rows})
            blocks += report["blocks"]
            tokens += report["tokens"]
        self._splits[split] = {
            "rows": num_rows,
            "tokens": tokens,
            "sha256": rows_digest(blocks),
            "shards": shards,
        }

    def write_level(self, domains: Domains) -> None:
        """Writes the domains of the next level; the coarsest comes first."""
        table = {
            "offsets": np.asarray(domains.offsets, np.int64),
            "heldout_offsets": np.asarray(domains.heldout_offsets, np.int64),
            "tokens": np.asarray(domains.tokens, np.int64),
        }
        names = None if isinstance(domains.names, ClusterNames) else domains.names
        digest = level_digest(names, **table)
        if names is not None:
            table["names"] = np.array(names, np.str_)
        name = store.OFFSETS.format(level=len(self._levels))
        np.savez(self._directory / name, **table)
        self._describe(name)
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
        for name in files:
            self._describe(name)

    def add_targets(
        self,
        names: Sequence[str],
        offsets: Sequence[int],
        eval_offsets: Sequence[int],
    ) -> None:
        """Says which rows are whose, where there are several targets.

        Args:
          names: of n targets.
          offsets: [n+1]; rows offsets[i]:offsets[i+1] of "target" are target i's.
          eval_offsets: the same of "target_eval".
        """
        self._targets = {
            "names": list(names),
            "offsets": [int(row) for row in offsets],
            "eval_offsets": [int(row) for row in eval_offsets],
        }

    def add_counts(self, counts: dict) -> None:
        """Says what was counted of the text, for those who look at the store."""
        text = json.dumps(counts, indent=1) + "\n"
        (self._directory / store.COUNTS).write_text(text, encoding="utf-8")
        self._describe(store.COUNTS)

    def finish(self) -> None:
        """Writes the tokenizer and, last, the manifest with the hashes of all files."""
        tokenizer = self._tokenizer
        np.save(self._directory / store.TOKEN_BYTES, tokenizer.token_bytes)
        self._describe(store.TOKEN_BYTES)
        if tokenizer.content is not None:
            (self._directory / tokenizer.file_name).write_bytes(tokenizer.content)
            self._describe(tokenizer.file_name)
        manifest = {
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
        if tokenizer.begin_of_text is not None:
            manifest["tokenizer"]["begin_of_text"] = tokenizer.begin_of_text
        if self._targets:
            manifest["targets"] = self._targets
        if self._clusters:
            manifest["clusters"] = self._clusters
        if tokenizer.end_of_text_name:
            manifest["end_of_text"] = tokenizer.end_of_text_name
        manifest["content_hash"] = content_hash(manifest)
        manifest["files"] = dict(sorted(self._files.items()))
        text = json.dumps(manifest, indent=1) + "\n"
        (self._directory / store.MANIFEST).write_text(text, encoding="utf-8")

    def _describe(self, name: str) -> None:
        self._files[name] = _described(self._directory / name)


def _described(path: pathlib.Path) -> dict:
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
            f"cannot write {path}: {error}; free some space or choose another disk"
        ) from error
