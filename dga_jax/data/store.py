"""A store: rows of tokens, grouped by domain, that are read in any order.

A directory holds

    manifest.json                       format, tokenizer, counts; size and SHA-256 of
                                        every file below
    tokenizer.json or tokenizer.model   unless the tokens are bytes
    token_bytes.npy                     int32 [vocab_size]
    bytes-SPLIT.npy                     int64 [rows] of heldout and target_eval; see
                                        `Store.row_bytes`
    counts.json                         of documents and tokens
    offsets-level0.npz                  the domains of level 0; coarsest level first
    embedder.*, tree.npz                where domains are clusters: what makes vectors
                                        of text, and clusters of vectors
    target_histogram.npz                the target's documents by finest cluster
    bases/NAME.npz                      bases made later; not in the manifest
    SPLIT-00000-of-00001.array_record   rows of train, heldout, target, target_eval;
                                        of several targets one behind the other

A row is L + 1 tokens of one domain's documents, each followed by an end of text: one
document behind the other, cut where a row ends. The last token of a row is the first of
the next, so that every token but the first of a domain is predicted once. Where one
document ends and the next begins, the end of text alone says. A row never mixes domains
of the finest level. On disk it is little-endian uint16, or uint32 where the vocabulary
needs it, and the largest value is padding. `store_writer` makes stores.
"""

import contextlib
import functools
import json
import pathlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from dga_jax.data.domains import ClusterNames, Domains, Targets
from dga_jax.errors import UserError
from dga_jax.files import read_arrays

if TYPE_CHECKING:
    from dga_jax.data.answers import Answers
    from dga_jax.tokenizer import Tokenizer

FORMAT_VERSION = 2
# Padding in rows as they are read. A token t that is only read, and never predicted, is
# -2 - t there, see `answers`: below 0 is all that no loss counts.
PAD = -1
SPLITS = ("train", "heldout", "target", "target_eval")
MANIFEST = "manifest.json"
TOKEN_BYTES = "token_bytes.npy"
ROW_BYTES = "bytes-{split}.npy"
EVALUATED = ("heldout", "target_eval")  # the splits that have one
COUNTS = "counts.json"
OFFSETS = "offsets-level{level}.npz"
TREE = "tree.npz"
TARGET_HISTOGRAM = "target_histogram.npz"
BASES = "bases"


def padding_of(dtype: np.dtype) -> int:
    """What stands on disk where a row holds no token."""
    return int(np.iinfo(dtype).max)


def filled(rows: np.ndarray, parts: int) -> np.ndarray:
    """The rows, and empty ones until they are a multiple of `parts`."""
    fill = -len(rows) % parts
    return np.pad(rows, ((0, fill), (0, 0)), constant_values=PAD)


class Store:
    """An opened store; `Store.open` makes one. Safe to read from several threads.

    Attributes:
      path: where it lies.
      manifest: what manifest.json holds.
      seq_len: L; rows have L + 1 tokens.
      vocab_size: one more than the largest token id.
      end_of_text: id of the token behind each document.
      dtype: of tokens on disk.
      padding: its largest value, which stands for no token.
      content_hash: hex; equal for equal rows, domains and tokenizer.
      num_levels: how many granularities of domains there are.
      branching: children of each cluster by level; empty where domains are named.
      targets: whose the rows of "target" and "target_eval" are.
      answers: what is predicted of rows that are read; None: all of it.
    """

    answers: "Answers | None" = None

    def __init__(self, path: pathlib.Path, manifest: dict):
        self.path = path
        self.manifest = manifest
        self.seq_len: int = manifest["seq_len"]
        self.vocab_size: int = manifest["vocab_size"]
        self.end_of_text: int = manifest["tokenizer"]["end_of_text"]
        self.content_hash: str = manifest["content_hash"]
        self.num_levels: int = len(manifest["levels"])
        self.branching = tuple(manifest.get("clusters", {}).get("branching", ()))
        self.dtype = np.dtype(manifest["dtype"])
        self.padding = padding_of(self.dtype)
        rows = self.num_rows("target"), self.num_rows("target_eval")
        self.targets = Targets.of(manifest.get("targets"), *rows)
        self._shard_ends = {
            split: np.cumsum([shard["rows"] for shard in entry["shards"]], dtype=int)
            for split, entry in manifest["splits"].items()
        }
        self._readers: dict[str, ArrayRecordReader] = {}
        self._opening = threading.Lock()

    @classmethod
    def open(cls, path: str | pathlib.Path) -> "Store":
        """Opens a store without reading its rows.

        Raises:
          UserError: no store there, of another format version, or files missing or cut.
        """
        path = pathlib.Path(path)
        manifest = _read_manifest(path)
        for name, expected in _sizes(path, manifest).items():
            try:
                size = (path / name).stat().st_size
            except OSError as error:
                raise UserError(
                    f"store {path}: cannot read {name} ({error.strerror}); prepare the"
                    " store again"
                ) from error
            if size != expected:
                raise UserError(
                    f"store {path} is truncated: {name} has {size:,} bytes, its"
                    f" manifest says {expected:,}; prepare the store again"
                )
        try:
            return cls(path, manifest)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _damaged(path, error) from error

    def domains(self, level: int = 0) -> Domains:
        """The domains of a level; 0 is the coarsest.

        Raises:
          UserError: the store has no such level, or its file is damaged.
        """
        if not 0 <= level < self.num_levels:
            raise UserError(
                f"data.level {level}: store {self.path} has levels 0 to"
                f" {self.num_levels - 1}"
            )
        path = self.path / OFFSETS.format(level=level)
        table = read_arrays(path, "prepare the store again")
        try:
            if self.branching:
                names = ClusterNames(self.branching[: level + 1])
            else:
                names = tuple(table["names"].tolist())
            return Domains(
                names=names,
                offsets=table["offsets"],
                heldout_offsets=table["heldout_offsets"],
                tokens=table["tokens"],
            )
        except KeyError as error:
            raise UserError(
                f"cannot read {path} (it lacks {error}); prepare the store again"
            ) from error

    def num_rows(self, split: str) -> int:
        """Rows of "train", "heldout", "target" or "target_eval"."""
        return self.manifest["splits"][split]["rows"]

    def read(self, split: str, ids: np.ndarray) -> np.ndarray:
        """Reads rows in the order asked for.

        Args:
          split: "train", "heldout", "target" or "target_eval".
          ids: int64 [n], each in [0, num_rows(split)); may repeat.

        Returns:
          int32 [n, L+1], with PAD where a row holds no token; below it what is only
          read, if `answers` says so.

        Raises:
          IndexError: an id out of range.
          UserError: a file is damaged, or holds a token that is not in the vocabulary.
        """
        rows = self.read_stored(split, ids)
        # The padding, the largest value, wraps to 0 and so ends at PAD.
        rows += rows.dtype.type(1)
        # As an input such a token is NaN, but as the last of its row it is only read as
        # a target, and the loss of one that the vocabulary lacks is log Z.
        if (largest := int(rows.max(initial=0)) - 1) >= self.vocab_size:
            raise UserError(
                f"store {self.path}: {split} holds token {largest} of a vocabulary of"
                f" {self.vocab_size:,}; prepare the store again"
            )
        found = rows.astype(np.int32) - 1
        return self.answers.only(found) if self.answers else found

    def spread(self, split: str, most: int) -> np.ndarray:
        """Ids of at most so many rows of a split, with both ends: int64 [n]."""
        count = self.num_rows(split)
        ids = np.linspace(0, count - 1, min(count, most))
        return np.unique(ids.astype(np.int64))

    def read_stored(self, split: str, ids: np.ndarray) -> np.ndarray:
        """The same as it lies on disk: `dtype` [n, L+1], padded with `padding`."""
        ids = np.asarray(ids, np.int64)
        if ids.size and not 0 <= ids.min() <= ids.max() < self.num_rows(split):
            raise IndexError(f"{split} has {self.num_rows(split)} rows, not {ids}")
        rows = np.empty((len(ids), self.seq_len + 1), self.dtype)
        shards, ends = self.manifest["splits"][split]["shards"], self._shard_ends[split]
        owners = np.searchsorted(ends, ids, side="right")
        for i in np.unique(owners):
            here = np.flatnonzero(owners == i)
            start = ends[i] - shards[i]["rows"]
            rows[here] = self._read_shard(shards[i]["name"], ids[here] - start)
        return rows

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        """int32 [vocab_size], UTF-8 bytes by token; 0 for end of text."""
        return np.load(self.path / TOKEN_BYTES)

    @property
    def has_row_bytes(self) -> bool:
        """Whether bytes of text were counted when the store was made."""
        return ROW_BYTES.format(split=EVALUATED[0]) in self.manifest["files"]

    def row_bytes(self, split: str, ids: np.ndarray) -> np.ndarray:
        """UTF-8 bytes of text that the predicted tokens of rows stand for.

        A tokenizer may change text, lose some, or put some in, so tokens do not say how
        long a text was: `prepare` counts the bytes of the rows that are evaluated.

        Args:
          split: "heldout" or "target_eval".
          ids: int64 [n].

        Returns:
          float64 [n]; NaN where they were not counted, as in stores of older programs
          or of answers alone, unless they follow from the tokens.

        Raises:
          UserError: a file is damaged.
        """
        if self.has_row_bytes and not self.answers:
            return self._counted_bytes(split)[ids].astype(np.float64)
        if not self.tokenizer().is_exact:
            return np.full(len(ids), np.nan)
        return self.token_sums(self.read(split, ids)).astype(np.float64)

    def token_sums(self, rows: np.ndarray) -> np.ndarray:
        """Sums of `token_bytes` over what rows [n, L+1] predict: int64 [n]."""
        targets = rows[:, 1:]
        sizes = np.where(targets < 0, 0, self.token_bytes[np.maximum(targets, 0)])
        return sizes.sum(axis=1, dtype=np.int64)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Sums over `generic` and `target`; empty in a store of an older program.

        Of each its `documents` with text, those `blank`, their `text_bytes`, their
        `text_tokens`, and how many of these are `unknown`.

        Raises:
          UserError: the file is damaged.
        """
        if COUNTS not in self.manifest["files"]:
            return {}
        try:
            return json.loads((self.path / COUNTS).read_bytes())
        except (OSError, ValueError) as error:
            raise _unreadable(self.path, COUNTS, error) from error

    def tokenizer(self) -> "Tokenizer":
        """The tokenizer that made the rows.

        Raises:
          UserError: its file is damaged, or its kind unknown.
        """
        from dga_jax.tokenizer import stored_tokenizer  # rows are read without

        entry = self.manifest["tokenizer"]
        return stored_tokenizer(
            entry["kind"], self.path, entry["end_of_text"], entry.get("begin_of_text")
        )

    def records(self, name: str) -> int:
        """Rows in one of the files of rows.

        Raises:
          UserError: it is damaged.
        """
        with self._damage_told(name):
            return self._reader(name).num_records()

    def _counted_bytes(self, split: str) -> np.ndarray:
        name, rows = ROW_BYTES.format(split=split), self.num_rows(split)
        try:
            found = np.load(self.path / name, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise _unreadable(self.path, name, error) from error
        if found.shape != (rows,) or found.dtype != np.int64:
            raise UserError(
                f"store {self.path}: {name} is not int64 of {rows:,} rows; prepare the"
                " store again"
            )
        return found

    def _read_shard(self, name: str, positions: np.ndarray) -> np.ndarray:
        with self._damage_told(name):
            # One call for many records: array_record reads them in parallel.
            records = self._reader(name).read(positions.tolist())
            rows = np.frombuffer(b"".join(records), self.dtype)
            return rows.reshape(len(positions), self.seq_len + 1)

    def _reader(self, name: str) -> ArrayRecordReader:
        with self._opening:
            if name not in self._readers:
                self._readers[name] = ArrayRecordReader(str(self.path / name))
            return self._readers[name]

    @contextlib.contextmanager
    def _damage_told(self, name: str) -> Iterator[None]:
        try:
            yield
        except (IndexError, RuntimeError, ValueError) as error:
            raise UserError(
                f"store {self.path}: {name} is damaged ({error}); prepare the store"
                " again"
            ) from error


def _read_manifest(path: pathlib.Path) -> dict:
    """The manifest of a store whose format is ours."""
    if not path.is_dir():
        raise UserError(
            f"no store at {path}; make one with python -m dga_jax.prepare --output"
        )
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version = manifest["format_version"]
    except FileNotFoundError as error:
        raise UserError(f"{path} is not a store: it has no {MANIFEST}") from error
    except OSError as error:
        raise UserError(
            f"store {path}: cannot read {MANIFEST}: {error.strerror}; change that, or"
            " prepare the store again"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"store {path} has format version {version}, this program reads"
            f" {FORMAT_VERSION}; prepare the store again"
        )
    return manifest


def _sizes(path: pathlib.Path, manifest: dict) -> dict[str, int]:
    """Bytes of each file, by the manifest."""
    try:
        return {name: int(entry["bytes"]) for name, entry in manifest["files"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _unreadable(path: pathlib.Path, name: str, error: Exception) -> UserError:
    return UserError(
        f"store {path}: cannot read {name} ({error}); prepare the store again"
    )


def _damaged(path: pathlib.Path, error: Exception) -> UserError:
    reason = f"no {error}" if isinstance(error, KeyError) else error
    return UserError(
        f"store {path}: {MANIFEST} is damaged ({reason}); prepare the store again"
    )
