"""Rereads a store, compares it with its manifest: dga_jax.prepare verify STORE."""

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

import numpy as np

from dga_jax.data.digests import (
    RowsDigest,
    content_hash,
    level_digest,
    rows_digest,
)
from dga_jax.data.remote_store import local_store
from dga_jax.data.store import (
    BASES,
    EVALUATED,
    MANIFEST,
    OFFSETS,
    PAD,
    ROW_BYTES,
    TARGET_HISTOGRAM,
    TOKEN_BYTES,
    TREE,
    Store,
)
from dga_jax.errors import UserError
from dga_jax.files import OnBytes, file_digest, read_arrays
from dga_jax.logs.console import duration, progress

_BATCH_BYTES = 1 << 24  # of rows that are in memory at a time
_PAGE = "describe.html"
_LEVEL_ARRAYS = ("offsets", "heldout_offsets", "tokens")
_REMEDY = "copy the store again, or prepare it again"


class Verified(NamedTuple):
    """What was found to be as it should be.

    Attributes:
      files: that the manifest lists.
      num_bytes: of these files.
      rows: of all splits.
      tokens: that the rows predict.
      extra: paths in the store that no part of this program put there.
    """

    files: int
    num_bytes: int
    rows: int
    tokens: int
    extra: list[str]


class _Level(NamedTuple):
    """The arrays of a level: int64 [k+1] twice, and [k]."""

    offsets: np.ndarray
    heldout_offsets: np.ndarray
    tokens: np.ndarray


def main(argv: Sequence[str]) -> None:
    """Prints one line if all is well; raises UserError at the first problem."""
    if len(argv) != 2:
        raise UserError("verify takes one store: dga_jax.prepare verify STORE")
    began = time.monotonic()
    store = Store.open(local_store(argv[1]))
    with progress(
        total=work(store), unit="B", unit_scale=True, desc="verifying"
    ) as bar:
        found = verify(store, bar.update)
    for name in found.extra:
        print(f"not part of the store: {name}")
    print(
        f"verified: {found.files:,} files, {found.num_bytes / 1e6:,.1f} MB,"
        f" {found.rows:,} rows that predict {found.tokens:,} tokens, in"
        f" {duration(time.monotonic() - began)}; content {store.content_hash[:16]}"
    )


def work(store: Store) -> int:
    """Bytes that `verify` reads, the rows twice."""
    row = (store.seq_len + 1) * store.dtype.itemsize
    rows = sum(entry["rows"] for entry in store.manifest["splits"].values())
    return sum(file["bytes"] for file in store.manifest["files"].values()) + rows * row


def verify(store: Store, on_bytes: OnBytes = lambda count: None) -> Verified:
    """Rereads all files, then all rows, in bounded memory.

    Args:
      store: an opened store.
      on_bytes: called with the number of bytes read, as they are read.

    Raises:
      UserError: the first thing that is not as the manifest says, or not as a store
        should be; it names the file, and the row where there is one.
    """
    manifest = store.manifest
    if content_hash(manifest) != store.content_hash:
        _fail(store, MANIFEST, "its contents do not have the content_hash it states")
    if missing := _expected(store).difference(manifest["files"]):
        _fail(store, MANIFEST, f"its files are without {min(missing)}")
    for name, entry in manifest["files"].items():
        try:
            found = file_digest(store.path / name, on_bytes)
        except OSError as error:
            _fail(store, name, f"it cannot be read: {error.strerror}")
        stated = str(entry.get("sha256"))
        if found != stated:
            what = f"its SHA-256 is {found[:16]}..., not {stated[:16]}..."
            _fail(store, name, what)
    _verify_tokenizer(store)
    levels = [_read_level(store, level) for level in range(store.num_levels)]
    _verify_nesting(store, levels)
    predicted = {
        split: _verify_rows(store, split, levels[-1], on_bytes)
        for split in manifest["splits"]
    }
    return Verified(
        files=len(manifest["files"]),
        num_bytes=sum(entry["bytes"] for entry in manifest["files"].values()),
        rows=sum(entry["rows"] for entry in manifest["splits"].values()),
        tokens=sum(predicted.values()),
        extra=list(extra_files(store)),
    )


def extra_files(store: Store) -> Iterator[str]:
    """Files in a store that are neither in its manifest nor made from it later."""
    known = {MANIFEST, _PAGE, *store.manifest["files"]}
    for path in sorted(store.path.rglob("*")):
        name = path.relative_to(store.path)
        basis = name.parts[0] == BASES and name.suffix == ".npz"
        if not (path.is_dir() or basis or str(name) in known):
            yield str(name)


def _fail(store: Store, name: str, problem: str) -> NoReturn:
    raise UserError(f"store {store.path}: {name}: {problem}; {_REMEDY}")


def _expected(store: Store) -> set[str]:
    """Files that a manifest must list."""
    names = {OFFSETS.format(level=level) for level in range(store.num_levels)}
    if store.has_row_bytes:
        names |= {ROW_BYTES.format(split=split) for split in EVALUATED}
    names |= {TOKEN_BYTES, *([TREE, TARGET_HISTOGRAM] if store.branching else [])}
    if file_name := store.tokenizer().file_name:
        names.add(file_name)
    for entry in store.manifest["splits"].values():
        names |= {str(shard.get("name")) for shard in entry["shards"]}
    return names


def _verify_tokenizer(store: Store) -> None:
    tokenizer, entry = store.tokenizer(), store.manifest["tokenizer"]
    name = tokenizer.file_name or MANIFEST
    for what, found, stated in [
        ("digest", tokenizer.digest, entry["sha256"]),
        ("vocabulary", tokenizer.vocab_size, store.vocab_size),
        ("end of text", tokenizer.end_of_text, entry["end_of_text"]),
    ]:
        if found != stated:
            _fail(store, name, f"the tokenizer's {what} is {found}, not {stated}")
    said = store.manifest.get("end_of_text", tokenizer.end_of_text_name)
    if said != tokenizer.end_of_text_name:
        what = f"the end of text is {tokenizer.end_of_text_name}, not {said}"
        _fail(store, MANIFEST, what)
    if not np.array_equal(store.token_bytes, tokenizer.token_bytes):
        _fail(store, TOKEN_BYTES, "these are not the bytes of its tokenizer")


def _read_level(store: Store, level: int) -> _Level:
    """A level that agrees with the manifest and covers the rows."""
    name = OFFSETS.format(level=level)
    table = read_arrays(store.path / name, _REMEDY)
    entry = store.manifest["levels"][level]
    if missing := [key for key in _LEVEL_ARRAYS if key not in table]:
        _fail(store, name, f"it has no array {missing[0]!r}")
    arrays = _Level(*(table[key] for key in _LEVEL_ARRAYS))
    names = table["names"].tolist() if "names" in table else None
    if level_digest(names, *arrays) != entry["sha256"]:
        _fail(store, name, "its domains are not those of the manifest")
    count = entry["domains"]
    for key, split in (("offsets", "train"), ("heldout_offsets", "heldout")):
        offsets = getattr(arrays, key)
        if offsets.shape != (count + 1,) or len(arrays.tokens) != count:
            _fail(store, name, f"{key} is not of {count:,} domains")
        rows = store.num_rows(split)
        if offsets[0] != 0 or offsets[-1] != rows:
            _fail(store, name, f"{key} does not cover the {rows:,} rows of {split}")
        if (falls := np.flatnonzero(np.diff(offsets) < 0)).size:
            _fail(store, name, f"{key} falls after domain {falls[0]}")
    return arrays


def _verify_nesting(store: Store, levels: list[_Level]) -> None:
    """Every domain is made of equally many domains of the next level."""
    for i, (coarse, fine) in enumerate(itertools.pairwise(levels)):
        name = OFFSETS.format(level=i)
        stride, rest = divmod(len(fine.tokens), len(coarse.tokens))
        if rest:
            _fail(store, name, f"level {i + 1} does not divide its domains evenly")
        for key in ("offsets", "heldout_offsets"):
            if not np.array_equal(getattr(coarse, key), getattr(fine, key)[::stride]):
                _fail(store, name, f"{key} does not follow from level {i + 1}")
        if not np.array_equal(coarse.tokens, fine.tokens.reshape(-1, stride).sum(1)):
            _fail(store, name, f"tokens do not add up from level {i + 1}")


def _verify_rows(store: Store, split: str, finest: _Level, on_bytes: OnBytes) -> int:
    """Rows of one split against the manifest and the domains; tokens they predict."""
    entry = store.manifest["splits"][split]
    digest = RowsDigest()
    counted = store.has_row_bytes and split in EVALUATED
    exact = store.tokenizer().is_exact
    predicted = 0
    by_domain = np.zeros_like(finest.tokens)
    for first, rows in _batches(store, split):
        padding = rows == store.padding
        _verify_batch(store, split, first, rows, padding)
        on_bytes(digest.update(rows))
        if counted:
            targets = np.where(padding, PAD, rows.astype(np.int64))
            _verify_bytes(store, split, first, targets, exact)
        tokens = np.count_nonzero(~padding[:, 1:], axis=1)
        predicted += int(tokens.sum())
        if split == "train":
            ids = np.arange(first, first + len(rows))
            owners = np.searchsorted(finest.offsets, ids, side="right") - 1
            np.add.at(by_domain, owners, tokens)
    if rows_digest(digest.blocks()) != entry["sha256"]:
        _fail(store, f"the rows of {split}", "their hash is not that of the manifest")
    if predicted != entry["tokens"]:
        what = f"they predict {predicted:,} tokens, not {entry['tokens']:,}"
        _fail(store, f"the rows of {split}", what)
    if split == "train":
        wrong = np.flatnonzero(by_domain != finest.tokens)
        if wrong.size:
            name = OFFSETS.format(level=store.num_levels - 1)
            i = wrong[0]
            what = f"domain {i} has {by_domain[i]:,} tokens, not {finest.tokens[i]:,}"
            _fail(store, name, what)
    return predicted


def _batches(store: Store, split: str) -> Iterator[tuple[int, np.ndarray]]:
    """Rows in order, as stored [n, L+1], with the number of the first; by shard."""
    size = max(1, _BATCH_BYTES // ((store.seq_len + 1) * store.dtype.itemsize))
    begin = 0
    for shard in store.manifest["splits"][split]["shards"]:
        found = store.records(shard["name"])
        if found != shard["rows"]:
            _fail(store, shard["name"], f"it has {found:,} rows, not {shard['rows']:,}")
        end = begin + shard["rows"]
        for first in range(begin, end, size):
            ids = np.arange(first, min(first + size, end))
            yield first, store.read_stored(split, ids)
        begin = end
    if begin != store.num_rows(split):
        what = f"the shards of {split} have {begin:,} rows, not the split's"
        _fail(store, MANIFEST, f"{what} {store.num_rows(split):,}")


def _verify_batch(
    store: Store, split: str, first: int, rows: np.ndarray, padding: np.ndarray
) -> None:
    """Every row begins with a token, pads only at its end, and knows its tokens."""
    known = padding | (rows < store.vocab_size)
    if not known.all():
        row, place = np.argwhere(~known)[0]
        what = f"token {rows[row, place]} of a vocabulary of {store.vocab_size:,}"
        _fail_row(store, split, first + row, f"{what}, at {place}")
    if padding[:, 0].any():
        _fail_row(store, split, first + np.argmax(padding[:, 0]), "it has no token")
    gaps = (padding[:, :-1] & ~padding[:, 1:]).any(axis=1)
    if gaps.any():
        _fail_row(store, split, first + np.argmax(gaps), "padding before a token")


def _verify_bytes(
    store: Store, split: str, first: int, rows: np.ndarray, exact: bool
) -> None:
    """Rows, as they are read, have bytes; where tokens say how many, these."""
    found = store.row_bytes(split, np.arange(first, first + len(rows)))
    wrong = found < 0
    if exact:
        wrong |= found != store.token_sums(rows)
    if wrong.any():
        row = int(np.argmax(wrong))
        what = f"row {first + row:,} has {found[row]:,.0f} bytes"
        name = ROW_BYTES.format(split=split)
        _fail(store, name, f"{what}, which are not those of its tokens")


def _fail_row(store: Store, split: str, row: int, problem: str) -> NoReturn:
    """Names the shard of a row, and the row by its place in the split."""
    end = 0
    for shard in store.manifest["splits"][split]["shards"]:
        end += shard["rows"]
        if row < end:
            _fail(store, shard["name"], f"row {row:,} of {split}: {problem}")
    raise IndexError(row)
