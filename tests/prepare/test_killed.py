"""`kill -9` in each step of prepare: the same store, and nothing is done twice."""

import os
import signal
import time

import forks
import pytest
from test_clusters import flags_of
from test_prepare import ROOT, command, run
from texts import write_corpus

from dga_jax.data.store import Store

pytestmark = pytest.mark.slow
# What appears in the work directory once a step has begun, in their order.
STEPS = {
    "tokenizing": "tokens-*/*/000000.npz",
    "contamination": "job-*/contamination/*.npz",
    "duplicates, by hash": "job-*/duplicates/*/buckets/*.npz",
    "duplicates, by shard": "job-*/duplicates/*/dropped/*.npz",
    "sample of texts": "tfidf-*/sample/*",
    "embedder": "tfidf-*/embedder/embedder.json",
    "embedding": "tfidf-*/embeddings/*/000000.npy",
    "level of the tree": "tree-*/tree.npz",
    "assignment": "tree-*/clusters/*.npz",
    "documents counted": "job-*/generic-counts/documents-*",
    "tokens counted": "job-*/generic-counts/tokens-*",
    "rows on their way": "job-*/rows/000000",
    "rows written": "job-*/reports/*.json",
    "store": "job-*/store/manifest.json",
}


def kill_at(flags, work, pattern, output, how=signal.SIGKILL):
    """Starts a job, and ends it as soon as a file appears; whether it was in time."""
    process = forks.Process(command(*flags), ROOT)
    while not list(work.glob(pattern)) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(how)
    process.communicate()
    status = process.returncode
    # 143 says: start me again.
    assert status in (0, 143 if how == signal.SIGTERM else -how)
    return status != 0 and not output.exists()


def written(work):
    """When each file was written that a step leaves for others."""
    found = {}
    for path in work.rglob("*"):
        try:
            if path.is_file() and not path.name.startswith("."):
                found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # it was removed meanwhile
            continue
    return found


def test_in_every_step(tmp_path, monkeypatch):
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    monkeypatch.setenv("XLA_FLAGS", flags)
    options = {
        "generic": write_corpus(tmp_path),
        "cluster": "4,3",
        "contamination": "drop",
        "dedup": "true",
    }
    whole = run(*flags_of(tmp_path / "whole", **options))
    assert whole.returncode == 0, whole.stderr
    output, work = tmp_path / "store", tmp_path / "work"
    flags = flags_of(output, work=str(work), **options)
    reached = [
        step for step, pattern in STEPS.items() if kill_at(flags, work, pattern, output)
    ]
    assert len(reached) >= len(STEPS) - 2  # the last may be too quick to be caught
    if not output.exists():
        before = written(work)
        result = run(*flags)
        assert result.returncode == 0, result.stderr
        after = written(work)
        again = {
            path for path in before.keys() & after.keys() if before[path] != after[path]
        }
        assert not again - {work / ".lock"}
    one, other = (Store.open(tmp_path / name) for name in ("whole", "store"))
    assert one.manifest == other.manifest
    assert not list(work.glob("job-*"))


def test_named_domains(tmp_path):
    output, work = tmp_path / "store", tmp_path / "store.work"
    flags = flags_of(output, cluster=None)
    assert kill_at(flags, work, "tokens-*/*/shard.json", output)
    before = {p: t for p, t in written(work).items() if p.name == "shard.json"}
    assert before
    late = "job-*/reports/*.json"
    assert kill_at(flags, work, late, output, signal.SIGTERM)
    assert before.items() <= written(work).items()
    assert run(*flags).returncode == 0
    assert not work.exists()
    assert run(*flags_of(tmp_path / "whole", cluster=None)).returncode == 0
    one, other = (Store.open(tmp_path / name) for name in ("whole", "store"))
    assert one.manifest == other.manifest
