"""Documents into clusters: interrupted anywhere, it goes on where it was."""

import json

import numpy as np
import pytest

from dga_jax import files
from dga_jax.clusters import tfidf
from dga_jax.clusters.tree import Tree
from dga_jax.data import clustering, corpus
from dga_jax.data.clustering import ClusterOptions, cluster_documents
from dga_jax.data.corpus import Corpus
from dga_jax.data.sample import SAMPLE
from dga_jax.data.sources import Shard, read_documents
from dga_jax.errors import UserError

KINDS = ("austen", "dm_math", "factbook", "python_code")
OPTIONS = ClusterOptions((8, 3))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """400 documents of four kinds in one file, in turn, and their kinds."""
    path = tmp_path_factory.mktemp("text") / "all.jsonl"
    shards = [Shard.of(SAMPLE / "generic" / f"{kind}.jsonl.xz") for kind in KINDS]
    kinds = [[d.text for d in read_documents(shard)][:100] for shard in shards]
    texts = [text for texts in zip(*kinds, strict=True) for text in texts]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return Corpus((Shard.of(path),)), np.tile(np.arange(4), 100)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(corpus, "_BATCH_DOCUMENTS", 50)


def test_clusters_recover_the_kinds(labelled, tmp_path):
    documents, kinds = labelled
    found = cluster_documents(documents, OPTIONS, tmp_path / "work")
    assert found.assignments.shape == (400,)
    assert 0 <= found.assignments.min() <= found.assignments.max() < 24
    table = np.zeros((8, 4))
    np.add.at(table, (found.assignments // 3, kinds), 1)
    assert table.max(axis=1).sum() / 400 > 0.9


class Stopped(BaseException):
    """Stands for a `kill -9`."""


@pytest.mark.parametrize("stage", ["fit", "embed", "level", "assign"])
def test_goes_on_where_it_was(labelled, tmp_path, monkeypatch, stage):
    documents, _ = labelled
    whole = cluster_documents(documents, OPTIONS, tmp_path / "whole")
    calls = {"fit": 0, "embed": 0, "level": 0, "assign": 0}
    armed = [stage]

    def counting(name, function, limit):
        def call(*arguments, **options):
            calls[name] += 1
            if name in armed and calls[name] == limit:
                raise Stopped
            return function(*arguments, **options)

        return call

    embedder = tfidf.TfidfEmbedder
    monkeypatch.setattr(embedder, "fit", counting("fit", embedder.fit, 1))
    monkeypatch.setattr(embedder, "embed", counting("embed", embedder.embed, 4))
    monkeypatch.setattr(Tree, "fit_level", counting("level", Tree.fit_level, 2))
    monkeypatch.setattr(Tree, "assign", counting("assign", Tree.assign, 3))
    with pytest.raises(Stopped):
        cluster_documents(documents, OPTIONS, tmp_path / "work")
    armed.clear()
    found = cluster_documents(documents, OPTIONS, tmp_path / "work")
    np.testing.assert_array_equal(found.assignments, whole.assignments)
    assert found.embedder.digest == whole.embedder.digest
    # What was done was not done again, but for what was being done.
    assert calls["fit"] == 1 + (stage == "fit")
    assert calls["embed"] == 8 + (stage == "embed")
    assert calls["level"] == 2 + (stage == "level")
    before = dict(calls)
    cluster_documents(documents, OPTIONS, tmp_path / "work")
    assert calls == before


def test_other_clusters_of_the_same_embeddings(labelled, tmp_path, monkeypatch):
    documents, _ = labelled
    cluster_documents(documents, OPTIONS, tmp_path)
    monkeypatch.setattr(tfidf.TfidfEmbedder, "embed", None)
    found = cluster_documents(documents, ClusterOptions((2, 2, 2)), tmp_path)
    assert found.assignments.max() < 8


def test_a_work_directory_has_one_job(labelled, tmp_path, monkeypatch):
    documents, _ = labelled
    work = tmp_path / "work"
    cluster_documents(documents, OPTIONS, work)
    with pytest.raises(UserError, match="its corpus changed"):
        cluster_documents(documents.without(np.array([3])), OPTIONS, work)
    job = json.loads((work / "job.json").read_text())
    (work / "job.json").write_text(json.dumps(job | {"embedding": "minilm abc"}))
    with pytest.raises(UserError, match="was 'minilm abc' and is now 'tfidf'"):
        cluster_documents(documents, OPTIONS, work)


def test_a_lost_embedding_is_made_again(labelled, tmp_path):
    documents, _ = labelled
    whole = cluster_documents(documents, OPTIONS, tmp_path)
    for path in tmp_path.glob("tree-*/*"):
        path.unlink()
    (tmp_path / "embeddings-00000002.npy").unlink()
    found = cluster_documents(documents, OPTIONS, tmp_path)
    np.testing.assert_array_equal(found.assignments, whole.assignments)


def test_a_sample_smaller_than_the_tree(labelled, tmp_path):
    documents, _ = labelled
    with pytest.raises(UserError, match="--cluster_sample=20: 24 clusters"):
        cluster_documents(documents, ClusterOptions((8, 3), sample=20), tmp_path)


def test_more_clusters_than_documents_before_any_is_embedded(labelled, tmp_path):
    documents, _ = labelled
    with pytest.raises(UserError, match="512 clusters of 400 documents"):
        cluster_documents(documents, ClusterOptions((8, 8, 8)), tmp_path)
    assert not list(tmp_path.glob("embeddings*"))


@pytest.mark.parametrize("shape", [(50, 7), (49, 128), (50,)])
@pytest.mark.parametrize("complete", [True, False])
def test_embeddings_of_something_else(labelled, tmp_path, shape, complete):
    documents, _ = labelled
    cluster_documents(documents, OPTIONS, tmp_path)
    for path in tmp_path.glob("tree-*/*"):
        path.unlink()
    if not complete:
        (tmp_path / "with_text.npy").unlink()
    np.save(tmp_path / "embeddings-00000002.npy", np.zeros(shape, np.float32))
    with pytest.raises(UserError, match="expected") as error:
        cluster_documents(documents, OPTIONS, tmp_path)
    assert "remove" in str(error.value)


@pytest.mark.parametrize(
    "name", ["embeddings-00000002.npy", "with_text.npy", "embedder.npz", "job.json"]
)
def test_damaged_files(labelled, tmp_path, name):
    documents, _ = labelled
    cluster_documents(documents, OPTIONS, tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for tree in tmp_path.glob("tree-*/*"):
        tree.unlink()
    with pytest.raises(UserError, match=name):
        cluster_documents(documents, OPTIONS, tmp_path)


def test_imbalance():
    """Four documents in one of two clusters; of the one inside the other, nothing."""
    assignments = np.array([0, 0, 0, 1, 2])
    assert clustering.imbalance(assignments, (2, 2)) == [1.6, 1.5]
    assert clustering.imbalance(assignments[4:], (2, 2)) == [0, 0]


@pytest.mark.parametrize("bound", [1.5, 2.0])
def test_a_bound_on_imbalance(labelled, tmp_path, bound):
    documents, _ = labelled
    options = ClusterOptions((5,), max_imbalance=bound)
    found = cluster_documents(documents, options, tmp_path)
    (reached,) = clustering.imbalance(found.assignments, (5,))
    assert reached <= bound


def test_only_one_process_at_a_time(labelled, tmp_path):
    documents, _ = labelled
    with (
        files.locked(tmp_path, "work", ""),
        pytest.raises(UserError, match="in use by another process"),
    ):
        cluster_documents(documents, OPTIONS, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branching": ()}, "--cluster="),
        ({"branching": (64, 1)}, "--cluster=64,1"),
        ({"branching": (4,), "embedding": "glove"}, "'glove' is none of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        ClusterOptions(**options)
