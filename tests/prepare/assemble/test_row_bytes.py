"""The bytes of rows are those of the text that they hold, whatever the tokenizer."""

import itertools
import json
import pathlib
import tarfile

import numpy as np
import pytest
import vocabularies
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import corpus_of

from dga_jax.data.sample import SAMPLE
from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.files import file_digest
from dga_jax.prepare.assemble import engine, prepare_store, rows
from dga_jax.prepare.assemble.byte_counts import spread_bytes
from dga_jax.prepare.assemble.engine import Local
from dga_jax.prepare.commands.verify import verify
from dga_jax.tokenizer import HuggingFaceTokenizer, load_tokenizer

KINDS = vocabularies.kinds()
real_text = st.text(st.characters(exclude_categories=["Cs"]))
text = st.one_of(
    real_text,
    st.lists(st.sampled_from([*"the ▁ﬁé語Ⅷ\n\t", "  ", " größer ", "<eos>", "e"])).map(
        "".join
    ),
)
SEQ_LEN = 9
BEFORE = pathlib.Path(__file__).parents[2] / "before" / "store.tar.xz"


def encoded(tokenizer, texts):
    """Tokens of each document, its end of text with them; none of some."""
    end = [tokenizer.end_of_text]
    found = tokenizer.encode_batch([t if t.strip() else "" for t in texts])
    return [np.append(ids, end).astype(np.int64) for ids in found if len(ids)]


def spread(tokenizer, documents, sizes):
    return spread_bytes(
        np.concatenate(documents),
        np.array([len(ids) for ids in documents]),
        np.array(sizes, np.int64),
        tokenizer.token_bytes,
    )


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(text, min_size=1, max_size=4))
def test_the_tokens_of_a_document_have_its_bytes(kind, texts):
    tokenizer = KINDS[kind]
    for one in texts:
        for ids in encoded(tokenizer, [one]):
            size = len(one.encode())
            found = spread(tokenizer, [ids], [size])
            assert found.sum() == size
            assert (found >= 0).all()
            if tokenizer.is_exact:
                assert found.tolist() == tokenizer.token_bytes[ids].tolist()
    every = [(one, ids) for one in texts for ids in encoded(tokenizer, [one])]
    if every:
        together = spread(
            tokenizer,
            [ids for _, ids in every],
            [len(one.encode()) for one, _ in every],
        )
        alone = [
            spread(tokenizer, [ids], [len(one.encode())]).tolist() for one, ids in every
        ]
        assert together.tolist() == list(itertools.chain(*alone))


def test_bytes_where_the_vocabulary_says_nothing():
    token_bytes = np.array([0, 0, 3])
    assert spread_bytes(
        np.array([0, 0, 0, 1, 0, 1, 1, 2, 0, 1]),
        np.array([4, 2, 1, 3]),
        np.array([10, 7, 4, 5]),
        token_bytes,
    ).tolist() == [3, 3, 4, 0, 7, 0, 4, 5, 0, 0]


TEXTS = {
    "large": [
        f"{'ab ' * (i % 5)}the cat {i} sat on größer  語 ﬁ\n <eos> {'e' * (i % 3)} end"
        for i in range(43)
    ],
    "small": ["the ünïcode and the rest of it; " * 9 + "Ⅷ 語語  \n the  end"],
    "odd": ["", " \n ", "the cat", "é", "e", "語 ünïcode <eos>", "sat   on the mat"],
}
TARGET = ["the mat, the end", "", "ab ab ﬁ ab", "sat  größer  on 語", "the cat"]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts")
    return {
        "generic": corpus_of(path, **TEXTS),
        "target": corpus_of(path, steer=TARGET[:2]),
        "target_eval": corpus_of(path, evaluation=TARGET),
    }


def made(tokenizer, corpora, path, **options):
    prepare_store(
        **corpora, tokenizer=tokenizer, seq_len=SEQ_LEN, output=path, **options
    )
    return Store.open(path)


def by_hand(tokenizer, texts, every=0):
    """Bytes of the tokens that are predicted: of all, or of what is held out."""
    documents = [(t, ids) for t in texts for ids in encoded(tokenizer, [t])]
    if every and len(documents) >= every:
        documents = documents[every - 1 :: every]
    sizes = [len(t.encode()) for t, _ in documents]
    return spread(tokenizer, [ids for _, ids in documents], sizes)


def of_rows(stream):
    """Sums of rows: the first token of a stream is in none."""
    return [stream[i : i + SEQ_LEN].sum() for i in range(1, len(stream), SEQ_LEN)]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_the_bytes_of_their_text(kind, corpora, tmp_path):
    tokenizer = KINDS[kind]
    store = made(tokenizer, corpora, tmp_path / "store")
    evaluated = store.row_bytes("target_eval", np.arange(store.num_rows("target_eval")))
    stream = by_hand(tokenizer, TARGET)
    assert stream.sum() == sum(
        len(t.encode()) for t in TARGET if encoded(tokenizer, [t])
    )
    assert evaluated.tolist() == of_rows(stream)
    domains = store.domains()
    for i, name in enumerate(domains.names):
        low, high = domains.heldout_offsets[i : i + 2]
        stream = by_hand(tokenizer, TEXTS[name], 20)
        if name != "large":  # documents are cut: the last tokens are held out
            held = store.read("heldout", np.arange(low, high))
            stream = stream[-np.count_nonzero(held[:, 1:] >= 0) - 1 :]
        found = store.row_bytes("heldout", np.arange(low, high))
        assert found.tolist() == of_rows(stream), name
    assert {"bytes-heldout.npy", "bytes-target_eval.npy"} < set(store.manifest["files"])
    verify(store)


def test_workers_and_a_job_that_was_stopped_give_the_same(
    corpora, tmp_path, monkeypatch
):
    tokenizer = KINDS["unigram"]
    store = made(tokenizer, corpora, tmp_path / "whole")
    write, written = rows.store_writer.write_records, []

    def stopping(path, blocks):
        if len(written) == 3:  # of train, heldout, target, target_eval
            raise UserError("stopped")
        written.append(path)
        return write(path, blocks)

    work = tmp_path / "work"
    with monkeypatch.context() as patch:
        patch.setattr(rows.store_writer, "write_records", stopping)
        with pytest.raises(UserError, match="stopped"):
            made(tokenizer, corpora, tmp_path / "other", work=work)
    monkeypatch.setattr(engine, "_WORTH_BYTES", 0)
    workers = Local(workers=2)
    other = made(tokenizer, corpora, tmp_path / "other", work=work, engine=workers)
    afresh = made(tokenizer, corpora, tmp_path / "afresh", engine=workers)
    for split in ("heldout", "target_eval"):
        name = f"bytes-{split}.npy"
        expected = (store.path / name).read_bytes()
        assert (other.path / name).read_bytes() == expected
        assert (afresh.path / name).read_bytes() == expected
    assert other.content_hash == afresh.content_hash == store.content_hash


def test_what_was_tokenized_for_one_end_is_not_taken_for_another(corpora, tmp_path):
    content = vocabularies.bare("byte-level").encode()
    for name in ("the", "Ġthe", "at"):
        tokenizer = HuggingFaceTokenizer(content, eos_token=name)
        store = made(tokenizer, corpora, tmp_path / name, work=tmp_path / "work")
        assert store.manifest["end_of_text"] == name
        assert store.tokenizer().end_of_text == tokenizer.end_of_text
        rows = store.read("target_eval", np.arange(store.num_rows("target_eval")))
        documents = sum(1 for text in TARGET if text)
        assert (rows[:, 1:] == tokenizer.end_of_text).sum() == documents
        verify(store)


def test_damaged_bytes_are_found(corpora, tmp_path):
    store = made(KINDS["byte-level"], corpora, tmp_path / "store")
    path = store.path / "bytes-heldout.npy"
    counted = np.load(path)
    counted[3] += 1
    np.save(path, counted)
    with pytest.raises(UserError, match=r"bytes-heldout\.npy: its SHA-256"):
        verify(store)
    store.manifest["files"]["bytes-heldout.npy"]["sha256"] = file_digest(path)
    with pytest.raises(UserError, match=r"bytes-heldout\.npy: row 3 has \d+ bytes"):
        verify(store)
    np.save(path, counted[1:])
    with pytest.raises(UserError, match=r"bytes-heldout\.npy is not int64 of"):
        store.row_bytes("heldout", np.arange(2))


def without_bytes(store):
    """The store as a program that did not count bytes left it."""
    manifest = json.loads((store.path / "manifest.json").read_text())
    for split in ("heldout", "target_eval"):
        (store.path / f"bytes-{split}.npy").unlink()
        del manifest["files"][f"bytes-{split}.npy"]
    (store.path / "counts.json").unlink()
    del manifest["files"]["counts.json"]
    manifest.pop("end_of_text", None)
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    return Store.open(store.path)


@pytest.mark.parametrize("kind", ["bytes", "byte-level", "added tokens", "unigram"])
def test_stores_of_before(kind, corpora, tmp_path):
    store = made(KINDS[kind], corpora, tmp_path / "store")
    ids = np.arange(store.num_rows("heldout"))
    found = store.row_bytes("heldout", ids)
    before = without_bytes(store)
    verify(before)
    assert before.counts == {}
    if kind in ("bytes", "byte-level"):
        assert before.row_bytes("heldout", ids).tolist() == found.tolist()
    else:
        assert np.isnan(before.row_bytes("heldout", ids)).all()


def test_the_sample_is_exact():
    assert load_tokenizer(SAMPLE / "tokenizer.json").is_exact


def test_a_store_that_the_code_of_before_made(tmp_path):
    with tarfile.open(BEFORE) as archive:
        archive.extractall(tmp_path, filter="data")
    store = Store.open(tmp_path / "store")
    for split in ("heldout", "target_eval"):
        ids = np.arange(store.num_rows(split))
        targets = store.read(split, ids)[:, 1:]
        expected = ((targets >= 0) & (targets < 256)).sum(axis=1)
        assert store.row_bytes(split, ids).tolist() == expected.tolist()
