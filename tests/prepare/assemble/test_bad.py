"""Documents that cannot be used: the store is that of the text without them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_going_on import remote

from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.prepare import corpus as corpus_module
from dga_jax.prepare.assemble import LeaveOut, engine, prepare_store
from dga_jax.prepare.assemble.engine import Local
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Fields, expand
from dga_jax.tokenizer import BytesTokenizer

LIMIT = 1000  # bytes of a document
BAD_LINES = {
    "null text": b'{"text": null}',
    "text is no string": b'{"text": [7, true]}',
    "no text field": b'{"body": "a"}',
    "lone surrogate": b'{"text": "\\ud800"}',
    "no object": b'["text"]',
    "broken JSON": b'{"text": "cut',
    "not UTF-8": b'{"text": "caf\xe9"}',
    "too long": b'{"text": "' + b"x" * (LIMIT + 1) + b'"}',
    "unusable domain": b'{"text": "a", "domain": 7}',
}
A_VERY_LONG_LINE = b'{"text": "' + b"y" * (9 * LIMIT) + b'"}'


def texts(kind, count):
    return [f"{kind} {i} " * (1 + i % 5) for i in range(count)]


def write_corpus(folder, with_bad):
    """JSON lines, Parquet and text, and a target; where the bad documents are."""
    folder.mkdir()
    where = []
    lines = [json.dumps({"text": text}).encode() for text in texts("line", 60)]
    for i, (reason, bad) in enumerate(BAD_LINES.items()):
        if with_bad:
            lines.insert(5 * i, bad)
            where.append(("a.jsonl", "line", 5 * i + 1, reason))
    if with_bad:
        lines.insert(50, A_VERY_LONG_LINE)
        where.append(("a.jsonl", "line", 51, "too long"))
    (folder / "a.jsonl").write_bytes(b"\n".join(lines))
    rows = texts("row", 30)
    if with_bad:
        rows.insert(7, None)
        where.append(("b.parquet", "row", 8, "null text"))
    pq.write_table(pa.table({"text": rows}), folder / "b.parquet")
    (folder / "c").mkdir()
    for i, text in enumerate(texts("file", 30)):
        (folder / "c" / f"{i:02}.txt").write_text(text)
    if with_bad:
        (folder / "c" / "05x.txt").write_bytes(b"caf\xe9")
        (folder / "c" / "06x.txt").write_bytes(b"%PDF-1.7\n")
        where.append(("c/05x.txt", None, None, "not UTF-8"))
        where.append(("c/06x.txt", None, None, "no text file"))
    target = [json.dumps({"text": text}).encode() for text in texts("target", 30)]
    if with_bad:
        target.insert(3, BAD_LINES["no object"])
        where.append(("t.jsonl", "line", 4, "no object"))
    (folder / "t.jsonl").write_bytes(b"\n".join(target))
    return where


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The folder with bad documents, where they are, and the store without them."""
    folder = tmp_path_factory.mktemp("bad")
    write_corpus(folder / "clean", with_bad=False)
    where = write_corpus(folder / "dirty", with_bad=True)
    prepare(folder / "clean", folder / "expected")
    return folder / "dirty", where, Store.open(folder / "expected").manifest


def prepare(folder, output, max_bad=0, max_bytes=LIMIT, **options):
    fields = Fields(max_document_bytes=max_bytes, skip_bad=max_bad != 0)
    generic = [f"{folder}/{name}" for name in ("a.jsonl", "b.parquet", "c")]
    leave_out = LeaveOut(max_bad=max_bad, listed=str(folder.parent / "list.jsonl"))
    return prepare_store(
        **{
            "generic": Corpus(tuple(expand(generic, fields))),
            "target": Corpus(tuple(expand([f"{folder}/t.jsonl"], fields))),
            "tokenizer": BytesTokenizer(),
            "seq_len": 16,
            "output": output,
            "leave_out": leave_out,
        }
        | options
    )


def check(given, output, prepared):
    """The store, the numbers and the list are as they must be."""
    folder, where, expected = given
    if output is not None:
        assert Store.open(output).manifest == expected
    reasons = [reason for *_, reason in where]
    assert prepared.passed_over.bad == {x: reasons.count(x) for x in reasons}
    assert sum(part.blank for part in prepared.outcomes) == 0
    lines = (folder.parent / "list.jsonl").read_text().splitlines()
    listed = [json.loads(line) for line in lines]
    assert [(one["file"], one["reason"]) for one in listed] == [
        (f"{folder}/{name}", reason) for name, _, _, reason in where
    ]
    for one, (_, unit, number, _) in zip(listed, where, strict=True):
        assert unit is None or one[unit] == number


def test_the_store_is_that_of_the_text_without_them(given, tmp_path):
    check(given, tmp_path / "store", prepare(given[0], tmp_path / "store", None))


def test_the_limit_is_exact(given, tmp_path):
    folder, where, _ = given
    count = len(where)
    prepare(folder, tmp_path / "store", count, work=tmp_path / "work")
    with pytest.raises(UserError) as caught:
        prepare(folder, tmp_path / "other", count - 1, work=tmp_path / "work")
    assert f"more than --skip_bad={count - 1} documents cannot" in str(caught.value)
    assert "not UTF-8 2" in str(caught.value)
    assert f"{folder}/a.jsonl, line 1: field 'text'" in str(caught.value)
    with pytest.raises(UserError, match=r"more than --skip_bad=3 documents cannot"):
        prepare(folder, tmp_path / "other", 3)
    # Without the flag one is too many, whatever lies in the work directory.
    for work in (tmp_path / "work", None):
        with pytest.raises(UserError, match=r"a\.jsonl, line 1: field 'text' is not"):
            prepare(folder, tmp_path / "other", 0, work=work)
    assert not (tmp_path / "other").exists()


class Stopped(BaseException):
    """Stands for a `kill -9`."""


class Stops(BytesTokenizer):
    """Is killed after some batches."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def encode_batch(self, batch):
        self.left -= 1
        if self.left < 0:
            raise Stopped
        return super().encode_batch(batch)


@pytest.mark.parametrize("after", range(0, 25, 4))
def test_stopped_anywhere_it_goes_on(given, tmp_path, monkeypatch, after):
    monkeypatch.setattr(corpus_module, "_PIECE_DOCUMENTS", 7)
    with pytest.raises((Stopped, UserError)):  # without the flag, to begin with
        prepare(given[0], tmp_path / "store", tokenizer=Stops(after))
    with pytest.raises(Stopped):
        prepare(given[0], tmp_path / "store", None, tokenizer=Stops(after))
    check(given, tmp_path / "store", prepare(given[0], tmp_path / "store", None))


@pytest.mark.parametrize("other", [LIMIT // 20, LIMIT * 20])
def test_another_limit_of_length_on_the_same_work(given, tmp_path, monkeypatch, other):
    monkeypatch.setattr(corpus_module, "_PIECE_DOCUMENTS", 7)
    work = tmp_path / "work"
    with pytest.raises(Stopped):
        prepare(given[0], tmp_path / "a", None, other, work=work, tokenizer=Stops(9))
    prepare(given[0], tmp_path / "b", None, other, work=work)
    prepared = prepare(given[0], tmp_path / "store", None, work=work)
    check(given, tmp_path / "store", prepared)


def test_only_bad_ones_are_an_error(tmp_path):
    write_corpus(tmp_path / "given", with_bad=True)
    (tmp_path / "given" / "t.jsonl").write_text('{"body": "a"}\n' * 30)
    with pytest.raises(UserError, match=r"t\.jsonl holds no text"):
        prepare(tmp_path / "given", tmp_path / "store", None)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_the_same_of_several_workers(given, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(engine, "_WORTH_BYTES", 0)
    local = Local(workers=workers)
    prepared = prepare(given[0], tmp_path / "store", None, engine=local)
    check(given, tmp_path / "store", prepared)
    with pytest.raises(UserError, match="more than --skip_bad=13 documents cannot"):
        prepare(given[0], tmp_path / "other", 13, engine=local)


@pytest.mark.slow
def test_the_same_by_beam(given):
    output = "memory://bucket/store"
    prepared = prepare(given[0], output, None, **remote("memory://bucket"))
    check(given, None, prepared)


def test_in_clusters(given, tmp_path):
    """Embeddings and samples are of the text that can be used alone."""
    from dga_jax.prepare.assemble.clustering import ClusterOptions

    options = {"clusters": ClusterOptions((3,))}
    (tmp_path / "given").symlink_to(given[0])
    (given[0] / "c" / "zz.txt").touch()
    try:
        prepare(given[0], tmp_path / "store", None, **options)
    finally:
        (given[0] / "c" / "zz.txt").unlink()
    prepare(given[0].parent / "clean", tmp_path / "clean", **options)
    one, other = (Store.open(tmp_path / name) for name in ("store", "clean"))
    np.testing.assert_array_equal(one.domains().offsets, other.domains().offsets)
    assert one.manifest["splits"] == other.manifest["splits"]
