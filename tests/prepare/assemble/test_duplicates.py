"""Exact duplicates, against a search by hand."""

import json
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import corpus_of, tokenized

from dga_jax.data.store import Store
from dga_jax.prepare import corpus as corpus_module
from dga_jax.prepare.assemble import LeaveOut, prepare_store
from dga_jax.prepare.assemble.duplicates import _RECORD, FindInBucket, find_duplicates
from dga_jax.prepare.assemble.engine import Local
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Fields, Shard
from dga_jax.tokenizer import BytesTokenizer

texts = st.lists(st.sampled_from(["a", "b", "ü", " ", "", "a ", "longer"]), max_size=30)


@settings(max_examples=40, deadline=None)
@given(st.lists(texts, min_size=1, max_size=3), st.sampled_from([100, 500, 10**6]))
def test_the_first_of_equal_texts_stays(files, memory):
    files = [[*items, "some text"] for items in files]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "_PIECE_DOCUMENTS", 4)
        path = pathlib.Path(folder)
        corpus = corpus_of(path, **{f"f{i}": items for i, items in enumerate(files)})
        documents = tokenized(corpus, path)
        dropped, count = find_duplicates(
            documents.tokenized,
            corpus.shards,
            Local(),
            Folder.of(path / "duplicates"),
            memory,
        )
        found = [dropped.of(shard).tolist() for shard in corpus.shards]
    seen, expected = set(), []
    for items in files:
        expected.append([])
        for place, text in enumerate(items):
            if text.strip() and text in seen:
                expected[-1].append(place)
            seen.add(text)
    assert found == expected
    assert count == sum(map(len, expected))


def test_what_comes_twice_is_no_duplicate_of_itself(tmp_path):
    """Engines may run a step again whose results they have."""
    folder = Folder.of(tmp_path)
    record = np.zeros(3, _RECORD)
    record["low"], record["place"] = [5, 5, 7], [1, 4, 2]
    FindInBucket(folder)(0, [record.tobytes(), record[::-1].tobytes()])
    assert np.unique(folder.load("000000.npz")["place"]).tolist() == [4]


def test_a_store_without_duplicates(tmp_path):
    """The store is the one of the texts without them; a list tells which they were."""
    words = [f"word {i % 60}" for i in range(100)]
    path = tmp_path / "words.jsonl"
    lines = [json.dumps({"text": w, "id": f"#{i}"}) for i, w in enumerate(words)]
    path.write_text("\n".join(lines))
    corpus = Corpus((Shard.of(path, Fields(identifier="id")),))
    target = corpus_of(tmp_path, target=["a target " * 4] * 20)
    for name, generic, leave_out in [
        ("dropped", corpus, LeaveOut(True, listed=str(tmp_path / "list.jsonl"))),
        ("unique", corpus_of(tmp_path / "..", words=words[:60]), LeaveOut()),
    ]:
        prepared = prepare_store(
            generic=generic,
            target=target,
            tokenizer=BytesTokenizer(),
            seq_len=16,
            output=tmp_path / name,
            leave_out=leave_out,
        )
        assert prepared.outcomes[0].documents == 60
        assert prepared.duplicates == 40 * leave_out.duplicates
    hashes = {
        Store.open(tmp_path / name).content_hash for name in ("dropped", "unique")
    }
    assert len(hashes) == 1
    lines = (tmp_path / "list.jsonl").read_text().splitlines()
    listed = [json.loads(line) for line in lines]
    assert [item["place"] for item in listed] == list(range(60, 100))
    assert listed[0] == {
        "file": str(path),
        "place": 60,
        "id": "#60",
        "reason": "duplicate",
    }
