"""How often what becomes a row is written."""

import pathlib

import pytest
from steps import corpus_of

from dga_jax.data.store import Store
from dga_jax.prepare.assemble import prepare_store
from dga_jax.tokenizer import BytesTokenizer

IO = pathlib.Path("/proc/self/io")  # of this process, as Linux counts it


def written() -> int:
    """Bytes that this process has written so far."""
    counts = dict(line.split(": ") for line in IO.read_text().splitlines())
    return int(counts["wchar"])


@pytest.mark.skipif(not IO.exists(), reason="no one counts what is written")
def test_tokens_reach_the_disk_three_times(tmp_path):
    """As they are made, on their way to their file, and in it."""
    corpus = corpus_of(tmp_path, generic=["a few words of text " * 400] * 400)
    target = corpus_of(tmp_path, target=["a target"] * 30)
    before = written()
    prepare_store(
        generic=corpus,
        target=target,
        tokenizer=BytesTokenizer(),
        seq_len=1023,
        output=tmp_path / "store",
    )
    times = written() - before
    store = Store.open(tmp_path / "store")
    rows = sum(store.num_rows(split) for split in ("train", "heldout"))
    assert 2.9 < times / (rows * 1024 * store.dtype.itemsize) < 3.4
