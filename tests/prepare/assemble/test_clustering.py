"""Documents into clusters: interrupted anywhere, it goes on where it was."""

import json
import pickle
import shutil

import numpy as np
import pytest
from steps import clustered

from dga_jax.data.sample import SAMPLE
from dga_jax.errors import UserError
from dga_jax.prepare import corpus
from dga_jax.prepare.assemble import clustering
from dga_jax.prepare.assemble.clustering import ClusterOptions
from dga_jax.prepare.assemble.documents import Dropped, file_of
from dga_jax.prepare.assemble.engine import Local
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.imbalance import imbalance
from dga_jax.prepare.clusters import tfidf
from dga_jax.prepare.clusters.tree import Tree
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Shard, read_documents

KINDS = ("austen", "dm_math", "factbook", "python_code")
OPTIONS = ClusterOptions((8, 3))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """400 documents of four kinds in two files, in turn, and their kinds."""
    folder = tmp_path_factory.mktemp("text")
    shards = [Shard.of(SAMPLE / "generic" / f"{kind}.jsonl.xz") for kind in KINDS]
    kinds = [[d.text for d in read_documents(shard)][:100] for shard in shards]
    texts = [text for texts in zip(*kinds, strict=True) for text in texts]
    for name, half in (("a", texts[:200]), ("b", texts[200:])):
        lines = [json.dumps({"text": text}) + "\n" for text in half]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    shards = tuple(Shard.of(folder / f"{name}.jsonl") for name in "ab")
    return Corpus(shards), np.tile(np.arange(4), 100)


@pytest.fixture(scope="module")
def whole(labelled, tmp_path_factory):
    """Of a job that nothing disturbed: the clusters, what it found, its folder."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(corpus, "_PIECE_DOCUMENTS", 50)
        return *clustered(labelled[0], OPTIONS, folder), folder


@pytest.fixture
def work(whole, tmp_path):
    """A copy of its folder."""
    return shutil.copytree(whole[2], tmp_path / "work")


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(corpus, "_PIECE_DOCUMENTS", 50)
    clustering._load_embedder.cache_clear()
    clustering._cached_tree.cache_clear()


def test_clusters_recover_the_kinds(labelled, whole):
    kinds, clusters = labelled[1], whole[0]
    assert clusters.shape == (400,)
    assert 0 <= clusters.min() <= clusters.max() < 24
    table = np.zeros((8, 4))
    np.add.at(table, (clusters // 3, kinds), 1)
    assert table.max(axis=1).sum() / 400 > 0.9


class Elsewhere(Local):
    """Runs steps as another machine would: of their pickles, the last item first."""

    def __init__(self):
        super().__init__()
        self.ran = []

    def map(self, step, items, on_bytes):
        self.ran.append(type(step).__name__)
        step, items = pickle.loads(pickle.dumps((step, items[::-1])))
        super().map(step, items, on_bytes)


def test_an_engine_embeds_and_assigns(labelled, whole, tmp_path):
    """The tree alone is trained here; the steps read it where they run."""
    engine = Elsewhere()
    found, _ = clustered(labelled[0], OPTIONS, tmp_path, engine=engine)
    assert engine.ran == ["SampleTexts", "Vectors", "Assign"]
    np.testing.assert_array_equal(found, whole[0])


class Stopped(BaseException):
    """Stands for a `kill -9`."""


@pytest.mark.parametrize("stage", ["fit", "embed", "level", "assign"])
def test_goes_on_where_it_was(labelled, whole, tmp_path, monkeypatch, stage):
    documents, _ = labelled
    expected, first, _ = whole
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
    monkeypatch.setattr(Tree, "assign", counting("assign", Tree.assign, 6))
    with pytest.raises(Stopped):
        clustered(documents, OPTIONS, tmp_path / "work")
    armed.clear()
    clusters, found = clustered(documents, OPTIONS, tmp_path / "work")
    np.testing.assert_array_equal(clusters, expected)
    assert found.embedder.digest == first.embedder.digest
    # What was done was not done again, but for what was being done.
    assert calls["fit"] == 1 + (stage == "fit")
    assert calls["embed"] == 8 + (stage == "embed")
    assert calls["level"] == 2 + (stage == "level")
    # Two of a shard's four pieces when it is stopped.
    assert calls["assign"] == 8 + (stage == "assign") * 2
    before = dict(calls)
    clustered(documents, OPTIONS, tmp_path / "work")
    assert calls == before


def test_other_clusters_of_the_same_embeddings(labelled, work, monkeypatch):
    monkeypatch.setattr(tfidf.TfidfEmbedder, "embed", None)
    clusters, _ = clustered(labelled[0], ClusterOptions((2, 2, 2)), work)
    assert clusters.max() < 8


def test_what_is_left_out_is_not_learned_from(labelled, tmp_path):
    """Clusters of half of the documents are those of a corpus of that half."""
    documents, _ = labelled
    half = Corpus(documents.shards[:1])
    expected, _ = clustered(half, OPTIONS, tmp_path / "half")
    dropped = Dropped(Folder.of(tmp_path / "dropped"))
    dropped.write(file_of(documents.shards[1]), np.arange(200))
    clusters, _ = clustered(documents, OPTIONS, tmp_path / "all", (dropped,))
    np.testing.assert_array_equal(clusters[:200], expected)


def test_a_lost_embedding_is_made_again(labelled, whole, work):
    documents, _ = labelled
    for path in work.glob("tree-*/*.npz"):
        path.unlink()
    shard = documents.shards[0].stem
    (folder,) = work.glob(f"tfidf-*/embeddings/{shard}")
    (folder / "000001.npy").unlink()
    (folder / "done").unlink()
    found, _ = clustered(documents, OPTIONS, work)
    np.testing.assert_array_equal(found, whole[0])


def test_a_sample_smaller_than_the_tree(labelled, tmp_path):
    documents, _ = labelled
    with pytest.raises(UserError, match="--cluster_sample=20: 24 clusters"):
        clustered(documents, ClusterOptions((8, 3), sample=20), tmp_path)


def test_a_sample_is_spread_over_the_shards(labelled, tmp_path):
    documents, kinds = labelled
    clusters, _ = clustered(documents, ClusterOptions((8,), sample=100), tmp_path)
    table = np.zeros((8, 4))
    np.add.at(table, (clusters, kinds), 1)
    assert table.max(axis=1).sum() / 400 > 0.9


def test_more_clusters_than_documents_before_any_is_embedded(labelled, tmp_path):
    documents, _ = labelled
    with pytest.raises(UserError, match="512 clusters of 400 documents"):
        clustered(documents, ClusterOptions((8, 8, 8)), tmp_path)
    assert not list(tmp_path.glob("tfidf-*"))


@pytest.mark.parametrize("shape", [(50, 7), (49, 128), (50,)])
def test_embeddings_of_something_else(labelled, work, shape):
    for path in work.glob("tree-*/*.npz"):
        path.unlink()
    path = next(work.glob("tfidf-*/embeddings/*/000001.npy"))
    np.save(path, np.zeros(shape, np.float32))
    with pytest.raises(UserError, match="expected") as error:
        clustered(labelled[0], OPTIONS, work)
    assert f"remove {path.parent}" in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "tfidf-*/embeddings/*/000001.npy",
        "tfidf-*/embedder/embedder.npz",
        "tfidf-*/embedder/embedder.json",
        "tree-*/tree.npz",
        "tokens/*/000001.npz",
    ],
)
def test_damaged_files(labelled, work, name):
    path = next(work.glob(name))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for folder in work.glob("tree-*"):
        for part in folder.iterdir():
            if part != path and part.is_file():
                part.unlink()
    clustering._load_embedder.cache_clear()
    for clusters in work.glob("tree-*/clusters/*"):
        clusters.unlink()
    with pytest.raises(UserError, match=r"damaged|cannot read") as error:
        clustered(labelled[0], OPTIONS, work)
    assert path.name in str(error.value)


def test_imbalance():
    """Four documents in one of two clusters; of the one inside the other, nothing."""
    assert imbalance(np.array([3, 1, 1, 0]), (2, 2)) == [1.6, 1.5]
    assert imbalance(np.array([0, 0, 1, 0]), (2, 2)) == [0, 0]


@pytest.mark.parametrize("bound", [1.5, 2.0])
def test_a_bound_on_imbalance(labelled, tmp_path, bound):
    documents, _ = labelled
    options = ClusterOptions((5,), max_imbalance=bound)
    clusters, _ = clustered(documents, options, tmp_path)
    (reached,) = imbalance(np.bincount(clusters, minlength=5), (5,))
    assert reached <= bound


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
