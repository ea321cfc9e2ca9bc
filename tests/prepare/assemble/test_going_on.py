"""Jobs that share a work directory, or were stopped, are as fresh ones."""

import json
import shutil

import fsspec
import pytest
from steps import corpus_of

from dga_jax.data.store import MANIFEST, Store
from dga_jax.errors import UserError
from dga_jax.prepare.assemble import LeaveOut, job, prepare_store
from dga_jax.prepare.assemble.beam import BeamEngine
from dga_jax.prepare.assemble.clustering import ClusterOptions
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.rows import ScatterTokens
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Shard, expand
from dga_jax.tokenizer import BytesTokenizer

WORDS = [f"word number {i}" for i in range(12)]


class Killed(BaseException):
    """Stands for a `kill -9`."""


@pytest.fixture
def make(tmp_path):
    """Makes a store of some words and returns its manifest."""
    corpus = corpus_of(tmp_path, a=WORDS * 5, b=[f"{word} more" for word in WORDS])
    target = corpus_of(tmp_path, target=["a target"] * 30)

    def make_store(output="store", work=tmp_path / "work", **options):
        if "://" not in output:
            output = str(tmp_path / output)
        prepare_store(
            generic=corpus,
            target=target,
            tokenizer=BytesTokenizer(),
            seq_len=4,
            output=output,
            work=work,
            **options,
        )
        return Folder.of(output).read_json(MANIFEST)

    return make_store


def killed_after(monkeypatch, name):
    """Inside, a job is killed once `job.NAME` has run."""
    function = getattr(job, name)

    def call(*arguments):
        function(*arguments)
        raise Killed

    monkeypatch.setattr(job, name, call)


def test_a_store_that_was_published_and_removed_is_made_again(
    make, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        killed_after(patch, "publish")
        with pytest.raises(Killed):
            make()
    first = json.loads((tmp_path / "store" / MANIFEST).read_text())
    shutil.rmtree(tmp_path / "store")
    assert make() == first
    Store.open(tmp_path / "store")


def test_another_bound_on_memory_after_a_stop(make, monkeypatch):
    fresh = make("fresh", work=None, leave_out=LeaveOut(duplicates=True))
    with monkeypatch.context() as patch:
        killed_after(patch, "find_duplicates")
        with pytest.raises(Killed):
            make(leave_out=LeaveOut(duplicates=True, memory_bytes=700))
    assert make(leave_out=LeaveOut(duplicates=True, memory_bytes=10**6)) == fresh


def test_two_jobs_that_leave_out_as_many_documents(tmp_path):
    words = [f"{word} " * 20 for word in WORDS]
    corpus = corpus_of(tmp_path, generic=words)
    options = {
        "generic": corpus,
        "tokenizer": BytesTokenizer(),
        "seq_len": 16,
        "clusters": ClusterOptions((3,)),
        "leave_out": LeaveOut(contamination="drop", ngram=5),
    }
    hashes = {}
    for place in ("fresh", "shared"):
        for word in WORDS[:2]:
            target = corpus_of(tmp_path, target=[f"{word} " * 6] * 30)
            output = tmp_path / f"{place}-{word}"
            work = tmp_path / "work" if place == "shared" else None
            prepare_store(target=target, output=output, work=work, **options)
            hashes[place, word] = Store.open(output).content_hash
    for word in WORDS[:2]:
        assert hashes["shared", word] == hashes["fresh", word]


def remote(url):
    fsspec.filesystem("memory").store.clear()
    work = f"{url}/work"
    options = "--runner=DirectRunner --direct_running_mode=in_memory"
    return {"work": work, "engine": BeamEngine(options, Folder.of(work))}


@pytest.mark.slow
def test_a_scatter_that_fails_leaves_nothing_incomplete(make, monkeypatch):
    expected = make("local", work=None)
    options = remote("memory://bucket")
    scatter = ScatterTokens.__call__

    def fail(self, item):
        yield next(scatter(self, item))
        raise UserError("the network is gone")

    with monkeypatch.context() as patch:
        patch.setattr(ScatterTokens, "__call__", fail)
        with pytest.raises(UserError, match="the network is gone"):
            make("memory://bucket/store", **options)
    assert not Folder.of("memory://bucket/store").has(MANIFEST)
    assert make("memory://bucket/store", **options) == expected
    assert not Folder.of("memory://bucket/store").has(".job")


@pytest.mark.slow
def test_jobs_of_one_url_do_not_mix(make, monkeypatch):
    options = remote("memory://bucket")
    expected = make("local", work=None)
    stopped = [LeaveOut(), LeaveOut(duplicates=True)]
    for leave_out in stopped:
        with monkeypatch.context() as patch:
            killed_after(patch, "finish_store")
            patch.setattr(job, "finish_store", _kill)
            with pytest.raises(Killed):
                make("memory://bucket/store", leave_out=leave_out, **options)
    assert make("memory://bucket/store", **options) == expected


def _kill(*arguments):
    raise Killed


def test_one_file_by_two_names(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a b c"}\n' * 30)
    with pytest.raises(UserError, match="is in both"):
        job.check_distinct(
            Corpus((Shard.of(path),)), Corpus(tuple(expand([f"file://{path}"]))), None
        )
