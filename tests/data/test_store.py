import json
import shutil
from concurrent import futures

import numpy as np
import pytest

from dga_jax.data import digests
from dga_jax.data.domains import ClusterNames
from dga_jax.data.store import PAD, SPLITS, Domains, Store
from dga_jax.errors import UserError
from dga_jax.prepare import store_writer
from dga_jax.prepare.store_writer import StoreWriter, row_dtype
from dga_jax.tokenizer import BytesTokenizer

SEQ_LEN = 7


class WideTokenizer(BytesTokenizer):
    """Bytes, with a vocabulary that does not fit into 16 bits."""

    vocab_size = 100_000

    @property
    def token_bytes(self):
        return np.ones(self.vocab_size, np.int32)


@pytest.mark.parametrize("branching", [(3,), (12, 1, 101), (2, 10, 11)])
def test_names_of_clusters_are_the_same_all_at_once_and_one_by_one(branching):
    names = ClusterNames(branching)
    assert [*names] == [names[i] for i in range(len(names))]
    assert names[-1] == ".".join(str(count - 1) for count in branching)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """So that files may have as few rows."""
    monkeypatch.setattr(digests, "BLOCK_ROWS", 5)


def make(directory, num_rows=100, file_bytes=1 << 20, tokenizer=None):
    """A store of distinct rows; returns it and the rows as they should be read."""
    directory.mkdir()
    tokenizer = tokenizer or BytesTokenizer()
    writer = StoreWriter(directory, tokenizer, SEQ_LEN, file_bytes)
    rng = np.random.default_rng(0)
    rows = {}
    for split in SPLITS:
        count = num_rows if split == "train" else 3
        tokens = rng.integers(0, tokenizer.vocab_size, (count, SEQ_LEN + 1))
        tokens[-1, 4:] = writer.pad
        blocks = np.array_split(tokens.astype(writer.dtype), 3)
        writer.write_split(split, count, blocks)
        rows[split] = np.where(tokens == writer.pad, PAD, tokens)
    coarse = Domains(["all"], np.array([0, num_rows]), np.array([0, 3]), np.array([9]))
    fine = Domains(
        ["a", "ü/b"],
        np.array([0, 1, num_rows]),
        np.array([0, 0, 3]),
        np.array([7, (num_rows - 1) * SEQ_LEN - 4]),
    )
    writer.write_level(coarse)
    writer.write_level(fine)
    writer.finish()
    return Store.open(directory), rows


@pytest.mark.parametrize("file_bytes", [1, 16, 160, 1 << 20])
@pytest.mark.parametrize("tokenizer", [BytesTokenizer(), WideTokenizer()])
def test_reads_what_was_written(tmp_path, file_bytes, tokenizer):
    store, rows = make(tmp_path / "s", 40, file_bytes, tokenizer)
    rng = np.random.default_rng(1)
    for split in SPLITS:
        assert store.num_rows(split) == len(rows[split])
        ids = rng.integers(0, len(rows[split]), 50)
        read = store.read(split, ids)
        assert read.dtype == np.int32
        np.testing.assert_array_equal(read, rows[split][ids])
    assert store.read("train", np.zeros(0, np.int64)).shape == (0, SEQ_LEN + 1)


def test_shards_are_counted_in_their_names(tmp_path):
    store, _ = make(tmp_path / "s", 25, file_bytes=160)
    names = [shard["name"] for shard in store.manifest["splits"]["train"]["shards"]]
    assert names == [f"train-0000{i}-of-00003.array_record" for i in range(3)]


def test_the_hash_is_of_the_content_and_not_of_the_files(tmp_path):
    one, _ = make(tmp_path / "1")
    many, _ = make(tmp_path / "2", file_bytes=160)
    other, _ = make(tmp_path / "3", num_rows=99)
    assert one.content_hash == many.content_hash != other.content_hash


def test_largest_token_is_not_padding():
    assert row_dtype(65535) == np.dtype("<u2")
    assert row_dtype(65536) == np.dtype("<u4")


@pytest.mark.parametrize("ids", [[-1], [100], [0, 1000]])
def test_ids_out_of_range(tmp_path, ids):
    store, _ = make(tmp_path / "s")
    with pytest.raises(IndexError):
        store.read("train", np.array(ids))


def test_threads_read_at_once(sample_store):
    everything = sample_store.read("train", np.arange(2000))
    fresh = Store.open(sample_store.path)

    def check(seed):
        ids = np.random.default_rng(seed).integers(0, 2000, 200)
        return np.array_equal(fresh.read("train", ids), everything[ids])

    with futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, range(64)))


def test_levels(tmp_path):
    store, _ = make(tmp_path / "s")
    assert store.num_levels == 2
    assert store.domains(0).names == ("all",)
    fine = store.domains(1)
    assert fine.names == ("a", "ü/b")
    assert len(fine) == 2
    assert fine.num_rows.tolist() == [1, 99]
    assert fine.num_heldout.tolist() == [0, 3]
    assert fine.tokens.tolist() == [7, 99 * 7 - 4]
    for level in (-1, 2):
        with pytest.raises(UserError, match=f"level {level}: .* has levels 0 to 1"):
            store.domains(level)


def test_sample_is_sound(sample_store):
    domains = sample_store.domains()
    assert len(domains) >= 8
    assert sample_store.num_rows("train") == domains.offsets[-1]
    assert sample_store.num_rows("heldout") == domains.heldout_offsets[-1]
    assert (domains.num_rows > 0).all()
    assert (domains.num_heldout > 0).all()
    rows = sample_store.read("train", np.arange(sample_store.num_rows("train")))
    starts = domains.offsets[:-1]
    counts = np.add.reduceat((rows[:, 1:] != PAD).sum(axis=1), starts)
    assert counts.tolist() == domains.tokens.tolist()
    assert rows.max() < sample_store.vocab_size
    inner = np.setdiff1d(np.arange(1, len(rows)), starts)
    assert (rows[inner, 0] == rows[inner - 1, -1]).all()


def test_sample_decodes(sample_store):
    tokenizer = sample_store.tokenizer()
    names = sample_store.domains().names
    first = sample_store.domains().offsets[names.index("python_code")]
    row = sample_store.read("train", np.array([first]))[0]
    assert "    def " in tokenizer.decode(row)
    text_bytes = sample_store.token_bytes[row[row != PAD]].sum()
    assert text_bytes == len(tokenizer.decode(row).encode())


def test_what_is_not_a_store(tmp_path):
    with pytest.raises(UserError, match=r"no store at .*gone; make one with"):
        Store.open(tmp_path / "gone")
    with pytest.raises(UserError, match=r"not a store: it has no manifest\.json"):
        Store.open(tmp_path)
    for content in ("", '{"format_version": 1', "[]", "{}"):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(UserError, match=r"manifest\.json is damaged"):
            Store.open(tmp_path)


def test_another_version(tmp_path):
    make(tmp_path / "s")
    path = tmp_path / "s" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"format_version": 99}))
    with pytest.raises(UserError, match="format version 99"):
        Store.open(tmp_path / "s")


def test_any_file_cut_or_missing(tmp_path):
    store, _ = make(tmp_path / "s")
    assert len(store.manifest["files"]) == 4 + 2 + 1
    for name in store.manifest["files"]:
        path = store.path / name
        data = path.read_bytes()
        path.write_bytes(data[:-1])
        with pytest.raises(UserError, match=f"truncated: {name} has"):
            Store.open(store.path)
        path.unlink()
        with pytest.raises(UserError, match=f"cannot read {name}"):
            Store.open(store.path)
        path.write_bytes(data)
    Store.open(store.path)


def test_bytes_altered_inside_a_record(tmp_path):
    store, _ = make(tmp_path / "s")
    path = store.path / "train-00000-of-00001.array_record"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    fresh = Store.open(store.path)
    with pytest.raises(UserError, match=r"train-.* is damaged .*prepare"):
        fresh.read("train", np.arange(100))


@pytest.mark.parametrize("tokenizer", [BytesTokenizer(), WideTokenizer()])
def test_a_token_beyond_the_vocabulary(tmp_path, tokenizer):
    """In the rows that are read; padding, the largest value, is none."""
    store, rows = make(tmp_path / "s", 40, 1 << 20, tokenizer)
    store.vocab_size = int(rows["train"].max())
    beyond = (rows["train"] == store.vocab_size).any(axis=1)
    within = np.flatnonzero(~beyond)
    np.testing.assert_array_equal(store.read("train", within), rows["train"][within])
    with pytest.raises(UserError, match=rf"train holds token {store.vocab_size} of"):
        store.read("train", np.flatnonzero(beyond))


def test_a_disk_that_fills_up(tmp_path, monkeypatch):
    class FullDisk:
        def __init__(self, path, options):
            pass

        def write(self, record):
            raise RuntimeError("write() failed: No space left on device")

    monkeypatch.setattr(store_writer, "ArrayRecordWriter", FullDisk)
    with pytest.raises(UserError, match="No space left on device; free some space"):
        make(tmp_path / "s")
    shutil.rmtree(tmp_path / "s")


def test_tokens_per_row_are_those_that_its_rows_predict(cluster_store):
    domains = cluster_store.domains(1)
    for i, mean in enumerate(domains.tokens_per_row):
        ids = np.arange(*domains.offsets[i : i + 2])
        rows = cluster_store.read("train", ids)
        expected = np.mean(np.sum(rows[:, 1:] != PAD, axis=1)) if len(ids) else 1.0
        np.testing.assert_allclose(mean, expected)
    assert domains.tokens_per_row.min() < cluster_store.seq_len
