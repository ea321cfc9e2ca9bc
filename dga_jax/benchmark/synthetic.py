"""Stores of random tokens: as fast or slow to read as any text."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dga_jax.data.domains import ClusterNames, Domains, coarsened
from dga_jax.data.store import EVALUATED, SPLITS, Store
from dga_jax.prepare.store_writer import StoreWriter
from dga_jax.tokenizer import Tokenizer

_BLOCK = 1024  # rows made at a time


class RandomTokens(Tokenizer):
    """A vocabulary without words.

    Args:
      vocab_size: one more than the largest id.
    """

    kind = "random"

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size
        self.end_of_text = vocab_size - 1

    @property
    def token_bytes(self) -> np.ndarray:
        """See the base class."""
        return np.ones(self.vocab_size, np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """No text has these tokens: each gives none."""
        return [np.zeros(0, np.uint32) for _ in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """No text."""
        return ""


def write_store(
    directory: pathlib.Path,
    *,
    domains: int,
    rows: int,
    seq_len: int,
    vocab_size: int,
    other_rows: int = 64,
) -> Store:
    """Makes a store in an existing directory.

    Args:
      directory: to be filled.
      domains: k, of equal size; at most `rows` and `other_rows`.
      rows: for training, over all domains.
      seq_len: L.
      vocab_size: V.
      other_rows: of each of the other splits.
    """
    counts = dict.fromkeys(SPLITS, other_rows) | {"train": rows}
    writer = _write_rows(directory, counts, seq_len, vocab_size)
    names = tuple(f"domain{i}" for i in range(domains))
    writer.write_level(_equal(names, counts, seq_len))
    writer.finish()
    return Store.open(directory)


def write_cluster_store(
    directory: pathlib.Path,
    branching: Sequence[int],
    seq_len: int,
    vocab_size: int = 2048,
    other_rows: int = 64,
) -> Store:
    """The same with clusters for domains, one row in each of the finest.

    There is no embedder: nothing can be added to the clusters.
    """
    finest = ClusterNames(branching)
    counts = dict.fromkeys(SPLITS, other_rows) | {"train": len(finest)}
    writer = _write_rows(directory, counts, seq_len, vocab_size)
    domains = _equal(finest, counts, seq_len)
    for level in range(len(branching)):
        writer.write_level(coarsened(domains, ClusterNames(branching[: level + 1])))
    writer.add_clusters(branching, "random", "", [])
    writer.finish()
    return Store.open(directory)


def _equal(names: Sequence[str], counts: Mapping[str, int], seq_len: int) -> Domains:
    """Domains of equal size."""
    place = np.arange(len(names) + 1)
    offsets, heldout = (place * counts[k] // len(names) for k in ("train", "heldout"))
    return Domains(names, offsets, heldout, np.diff(offsets) * seq_len)


def _write_rows(
    directory: pathlib.Path, counts: Mapping[str, int], seq_len: int, vocab_size: int
) -> StoreWriter:
    rng = np.random.default_rng(0)
    writer = StoreWriter(directory, RandomTokens(vocab_size), seq_len)

    def blocks(count: int) -> Iterator[np.ndarray]:
        for start in range(0, count, _BLOCK):
            shape = (min(_BLOCK, count - start), seq_len + 1)
            yield rng.integers(0, vocab_size, shape, writer.dtype)

    for split, count in counts.items():
        row_bytes = np.full(count, seq_len) if split in EVALUATED else None
        writer.write_split(split, count, blocks(count), row_bytes)
    return writer
