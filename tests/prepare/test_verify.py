import json
import re
import shutil

import numpy as np
import pytest
from test_prepare import fails, run

from dga_jax.data import digests
from dga_jax.data.digests import content_hash
from dga_jax.data.sample import SAMPLE
from dga_jax.data.store import SPLITS, Domains, Store
from dga_jax.errors import UserError
from dga_jax.files import file_digest
from dga_jax.prepare.commands.verify import verify, work
from dga_jax.prepare.store_writer import StoreWriter
from dga_jax.tokenizer import BytesTokenizer, load_tokenizer

SEQ_LEN = 7
ROWS = {"train": 40, "heldout": 6, "target": 5, "target_eval": 4}
FINE = Domains(
    ["a", "b", "c", "d"],
    np.array([0, 10, 20, 30, 40]),
    np.array([0, 2, 2, 4, 6]),
    np.full(4, 10 * SEQ_LEN),
)
COARSE = Domains(["ab", "cd"], np.array([0, 20, 40]), np.array([0, 2, 6]), [140, 140])


def rows_of(split, tokenizer=None):
    """Distinct rows [n, L+1] without padding."""
    rng = np.random.default_rng(SPLITS.index(split))
    vocab_size = (tokenizer or BytesTokenizer()).vocab_size
    return rng.integers(0, vocab_size, (ROWS[split], SEQ_LEN + 1))


def write(directory, tokenizer=None, levels=(COARSE, FINE), **changed):
    """A store; `changed` has other rows for some splits."""
    directory.mkdir()
    tokenizer = tokenizer or BytesTokenizer()
    writer = StoreWriter(directory, tokenizer, SEQ_LEN, file_bytes=20 * 16)
    for split in SPLITS:
        rows = changed.get(split, rows_of(split, tokenizer))
        writer.write_split(split, len(rows), [rows.astype(writer.dtype)])
    for level in levels:
        writer.write_level(level)
    writer.finish()
    return Store.open(directory)


def problem(store):
    with pytest.raises(UserError) as caught:
        verify(Store.open(store.path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["bytes", SAMPLE / "tokenizer.json"])
def test_a_sound_store(tmp_path, name):
    store = write(tmp_path / "s", load_tokenizer(name))
    seen = []
    found = verify(store, seen.append)
    assert sum(seen) == work(store)
    assert found.rows == sum(ROWS.values())
    assert found.tokens == sum(ROWS.values()) * SEQ_LEN
    assert found.files == len(store.manifest["files"])
    assert found.extra == []


def test_the_sample(sample_store):
    found = verify(sample_store)
    assert found.rows == sum(sample_store.num_rows(split) for split in SPLITS)


def test_one_bit_of_any_file(cluster_store, tmp_path):
    path = tmp_path / "s"
    shutil.copytree(cluster_store.path, path)
    (path / "bases").mkdir()
    (path / "bases" / "mine.npz").touch()
    (path / "describe.html").touch()
    (path / "notes.txt").touch()
    assert verify(Store.open(path)).extra == ["notes.txt"]
    names = cluster_store.manifest["files"]
    assert {"tree.npz", "target_histogram.npz", "token_bytes.npy"} < set(names)
    for name in names:
        whole = (path / name).read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            data = bytearray(whole)
            data[place] ^= 1
            (path / name).write_bytes(data)
            assert f": {name}: its SHA-256" in problem(Store.open(path))
        (path / name).write_bytes(whole)
    verify(Store.open(path))


def test_one_character_of_the_manifest(tmp_path):
    """Of a number, word or hash the first and the last."""
    store = write(tmp_path / "s", load_tokenizer(SAMPLE / "tokenizer.json"))
    path = store.path / "manifest.json"
    whole = path.read_text()
    found = [match.span() for match in re.finditer(r"\w+|[^\w\s]", whole)]
    for place in sorted({place for begin, end in found for place in (begin, end - 1)}):
        other = chr(ord(whole[place]) ^ 1)
        path.write_text(whole[:place] + other + whole[place + 1 :])
        with pytest.raises(UserError, match=str(store.path)):
            verify(Store.open(store.path))


def forge(store, split, rows):
    """Replaces rows behind the back of the manifest's hash of them."""
    aside = store.path.with_name(f"{store.path.name}-other")
    other = write(aside, **{split: rows})
    manifest = json.loads((store.path / "manifest.json").read_text())
    for shard in other.manifest["splits"][split]["shards"]:
        name = shard["name"]
        shutil.copy(aside / name, store.path / name)
        manifest["files"][name] = other.manifest["files"][name]
    (store.path / "manifest.json").write_text(json.dumps(manifest))


def test_rows_that_were_exchanged(tmp_path):
    store = write(tmp_path / "s")
    rows = rows_of("train")
    rows[[3, 4]] = rows[[4, 3]]
    forge(store, "train", rows)
    assert "the rows of train: their hash is not that" in problem(store)


def test_rows_that_cannot_be(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "BLOCK_ROWS", 10)  # so that there are two files
    pad = 65_535
    for i, (place, value, message) in enumerate(
        [
            ((25, 3), 257, "at 3"),
            ((25, 3), pad, "padding before a token"),
            ((25, slice(None)), pad, "it has no token"),
        ]
    ):
        store = write(tmp_path / f"s{i}")
        rows = rows_of("train")
        rows[place] = value
        forge(store, "train", rows)
        said = problem(store)
        assert message in said
        assert "train-00001-of-00002.array_record: row 25 of train" in said
        # A writer that makes such rows is found out as well.
        assert message in problem(write(tmp_path / f"w{i}", train=rows))


def test_a_shard_of_another_length(tmp_path):
    store = write(tmp_path / "s")
    name = "heldout-00000-of-00001.array_record"
    shutil.copy(store.path / "target-00000-of-00001.array_record", store.path / name)
    path = store.path / "manifest.json"
    manifest = json.loads(path.read_text())
    copy = store.path / name
    entry = {"bytes": copy.stat().st_size, "sha256": file_digest(copy)}
    manifest["files"][name] = entry
    path.write_text(json.dumps(manifest))
    assert f"{name}: it has 5 rows, not 6" in problem(store)


def test_domains_that_do_not_fit(tmp_path):
    def fine(**changes):
        return Domains(**(vars(FINE) | changes))

    falling = fine(offsets=np.array([0, 10, 30, 20, 40]))
    for i, (levels, message) in enumerate(
        [
            ([falling], "level0.npz: offsets falls after domain 2"),
            ([fine(offsets=np.arange(5))], "does not cover the 40 rows of train"),
            ([fine(tokens=np.array([1, 70, 70, 70]))], "domain 0 has 70 tokens, not 1"),
            ([fine(tokens=np.array([70, 70]))], "offsets is not of 2 domains"),
            (
                [COARSE, fine(offsets=np.array([0, 10, 21, 30, 40]))],
                "level0.npz: offsets does not follow from level 1",
            ),
            (
                [Domains(**(vars(COARSE) | {"tokens": [139, 141]})), FINE],
                "level0.npz: tokens do not add up",
            ),
        ]
    ):
        assert message in problem(write(tmp_path / f"s{i}", levels=levels))


def test_bytes_of_another_tokenizer(tmp_path):
    store = write(tmp_path / "s")
    path = store.path / "token_bytes.npy"
    np.save(path, np.full(257, 2, np.int32))
    manifest = json.loads((store.path / "manifest.json").read_text())
    manifest["files"][path.name]["sha256"] = file_digest(path)
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    assert "token_bytes.npy: these are not the bytes" in problem(store)
    manifest["tokenizer"]["end_of_text"] = 0
    manifest["content_hash"] = content_hash(manifest)
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    assert "end of text is 256, not 0" in problem(store)


def test_the_command(byte_store):
    result = run("verify", str(byte_store.path))
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    rows = sum(entry["rows"] for entry in byte_store.manifest["splits"].values())
    tokens = sum(entry["tokens"] for entry in byte_store.manifest["splits"].values())
    assert line.startswith("verified: ")
    assert f"{rows:,} rows that predict {tokens:,} tokens" in line
    assert "100%" in result.stderr


def test_a_file_too_many_and_one_that_is_damaged(byte_store, tmp_path):
    path = tmp_path / "store"
    shutil.copytree(byte_store.path, path)
    (path / "notes.txt").touch()
    result = run("verify", str(path))
    assert result.returncode == 0
    assert "not part of the store: notes.txt" in result.stdout
    name = next(name for name in Store.open(path).manifest["files"] if "train" in name)
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    assert f"{name}: its SHA-256 is" in fails("verify", str(path))


def test_errors_are_one_line(tmp_path):
    assert "verify takes one store" in fails("verify")
    assert "no store at" in fails("verify", str(tmp_path / "gone"))
