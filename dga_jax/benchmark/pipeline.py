"""Reading rows of a store, in the order that the sampler plans."""

import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Iterator

import grain
import numpy as np

from dga_jax.benchmark.synthetic import write_store
from dga_jax.benchmark.tables import Check, Table, interleaved
from dga_jax.data.pipeline import batches
from dga_jax.data.sampler import Cumulative, Sampler
from dga_jax.data.store import Store

BATCHES = "pipeline"
ONE_BY_ONE = "grain, record by record"
_GOAL = 10e6  # tokens per second, on two cores


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
      rows: of the store.
      seq_len: L.
      domains: k.
      batch_size: rows of a batch.
      steps: batches read in a round.
      rounds: in which the variants take turns.
    """

    rows: int = 32_768
    seq_len: int = 1024
    domains: int = 64
    batch_size: int = 512
    steps: int = 48
    rounds: int = 3


QUICK = Size(rows=8192, steps=16)


def run(size: Size) -> Iterator[Table]:
    """Tokens per second from a store of random tokens in a temporary directory."""
    with tempfile.TemporaryDirectory() as directory:
        store = write_store(
            pathlib.Path(directory),
            domains=size.domains,
            rows=size.rows,
            seq_len=size.seq_len,
            vocab_size=32_768,
        )
        timings = interleaved(
            {
                BATCHES: functools.partial(_read_batches, store, size),
                ONE_BY_ONE: functools.partial(_read_one_by_one, store, size),
            },
            size.rounds,
        )
    tokens = size.steps * size.batch_size * size.seq_len
    rates = {name: tokens / timings[name] for name in (BATCHES, ONE_BY_ONE)}
    yield Table(
        f"pipeline: {size.batch_size} rows x {size.seq_len:,} tokens a batch,"
        f" {size.rows:,} rows in the store",
        ("tokens/s", "ms a batch", f"time / {ONE_BY_ONE}"),
        {
            name: (
                rate,
                timings[name] * 1e3 / size.steps,
                timings.ratio(name, ONE_BY_ONE),
            )
            for name, rate in rates.items()
        },
        (
            Check(
                "at least 10M tokens/s from the store",
                rates[BATCHES],
                _GOAL,
                at_least=True,
            ),
        ),
    )


def _read_batches(store: Store, size: Size) -> None:
    """The pipeline of a run: ids drawn, rows read, ahead of who takes them."""
    offsets = store.domains().offsets
    cursors = np.zeros(size.domains, np.int64)
    uniform = Cumulative.of(np.full(size.domains, 1 / size.domains))
    steps = range(1, size.steps + 1)
    sampler = Sampler(0, offsets)
    for _ in batches(store, sampler, uniform, cursors, steps, size.batch_size):
        pass


def _read_one_by_one(store: Store, size: Size) -> None:
    """The usual pipeline: records are shuffled, read and decoded each by itself."""
    shards = store.manifest["splits"]["train"]["shards"]
    paths = [str(store.path / shard["name"]) for shard in shards]
    dtype = np.dtype(store.manifest["dtype"])
    rows = (
        grain.MapDataset.source(grain.sources.ArrayRecordDataSource(paths))
        .shuffle(seed=0)
        .repeat()
        .map(lambda record: np.frombuffer(record, dtype).astype(np.int32))
        .batch(size.batch_size)
    )
    options = grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)
    for _ in rows[: size.steps].to_iter_dataset(options):
        pass
