"""Puts the documents of a corpus into clusters; stopped, it goes on where it was.

A work directory holds

    job.json                  corpus and embedding; another job is refused
    embedder.json, ...        the embedder, once it is fitted
    embeddings-00000000.npy   float32 [n_i, d], one file a batch, written as it is made
    with_text.npy             bool [n], which documents have text; all are embedded then
    tree-DIGEST/              centroids by level, and tree.npz, assignments.npy at last

Every file appears whole or not at all.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dga_jax.clusters import tfidf
from dga_jax.clusters.embedders import EMBEDDINGS, load_embedder
from dga_jax.clusters.embedding import SPEC, Embedder
from dga_jax.clusters.minilm import MiniLM
from dga_jax.clusters.tree import Tree, check_enough
from dga_jax.data.corpus import Corpus
from dga_jax.errors import UserError
from dga_jax.files import locked, replaced

_JOB, _WITH_TEXT = "job.json", "with_text.npy"
_TREE, _ASSIGNMENTS = "tree.npz", "assignments.npy"
_FITTED = 20_000  # documents that the light embedder learns from
_SEED = 0
_LEAST_IMBALANCE = 1.05  # even clusters of real text come at any price


@dataclasses.dataclass(frozen=True)
class ClusterOptions:
    """How documents are put into clusters.

    Attributes:
      branching: children of each cluster, level by level; (64, 64) is 4,096 clusters.
      embedding: "tfidf" or "minilm".
      model: directory with MiniLM's weights; None: the installed package's.
      sample: documents that k-means is trained on, at most.
      max_imbalance: size of the largest cluster over the mean of its siblings, at most,
        on that sample; 0: no bound.
      start: of k-means, "kmeans++" or "sample".
    """

    branching: tuple[int, ...]
    embedding: str = "tfidf"
    model: str | None = None
    sample: int = 1_000_000
    max_imbalance: float = 0.0
    start: str = "kmeans++"

    def __post_init__(self):
        if self.embedding not in EMBEDDINGS:
            raise UserError(
                f"embedding {self.embedding!r} is none of {', '.join(EMBEDDINGS)}"
            )
        if not self.branching or min(self.branching) < 2:
            raise UserError(
                f"--cluster={','.join(map(str, self.branching))}: every level must"
                " divide clusters into 2 or more, as in --cluster=64,64"
            )
        if self.max_imbalance and self.max_imbalance < _LEAST_IMBALANCE:
            raise UserError(
                f"max_imbalance {self.max_imbalance:g}: must be at least"
                f" {_LEAST_IMBALANCE}, or 0 for no bound"
            )


class Clustered(NamedTuple):
    """Documents in clusters.

    Attributes:
      embedder: makes vectors of text.
      tree: makes clusters of vectors.
      assignments: int64 [n], the finest cluster of each document of the corpus.
    """

    embedder: Embedder
    tree: Tree
    assignments: np.ndarray


def imbalance(assignments: np.ndarray, branching: tuple[int, ...]) -> list[float]:
    """By level, the most documents of a cluster over the mean of its siblings.

    Of clusters with fewer documents than children are wanted nothing can be said; they
    do not count. 0 where no other is left.
    """
    found = []
    for level in range(len(branching)):
        finer = math.prod(branching[level + 1 :])
        groups = math.prod(branching[:level])
        counts = np.bincount(assignments // finer, minlength=groups * branching[level])
        counts_GxK = counts.reshape(groups, branching[level])
        large = counts_GxK[counts_GxK.sum(axis=1) >= branching[level]]
        ratios = large.max(axis=1) / large.mean(axis=1)
        found.append(float(ratios.max(initial=0)))
    return found


def cluster_documents(
    corpus: Corpus,
    options: ClusterOptions,
    work: pathlib.Path,
    on_stage: Callable[[str], object] = lambda name: None,
) -> Clustered:
    """Embeds all documents, trains k-means on a sample, assigns every document.

    Args:
      corpus: the documents; read twice by "tfidf", once by "minilm".
      options: see the class.
      work: directory for what is made on the way; made if it does not exist.
      on_stage: called with what is about to be done.

    Raises:
      UserError: `work` belongs to another job or is in use, a file in it is damaged,
        or there are more clusters than documents.
    """
    with locked(work, "work", "in use by another process"):
        on_stage("embedding")
        embedder = _embedder(corpus, options, work)
        with_text = _embed(corpus, embedder, work)
        on_stage("clustering")
        tree, folder = _tree(options, work, with_text, embedder.dim)
        path = folder / _ASSIGNMENTS
        if not path.exists():
            shards = _shards(work, embedder.dim)
            parts = [tree.assign(np.load(shard)) for shard in shards]
            _save(path, np.concatenate(parts))
        assignments = np.array(_load(path, with_text.shape))
        return Clustered(embedder, tree, assignments)


def _embedder(corpus, options, work) -> Embedder:
    """The embedder of this job, fitted on a sample if it needs to be."""
    light = options.embedding == tfidf.KIND
    model = None if light else MiniLM.load(options.model)
    name = tfidf.KIND if light else f"{options.embedding} {model.digest[:16]}"
    _check_same_job(work, {"embedding": name, "corpus": corpus.identity()})
    if not (work / SPEC).exists():
        embedder = model or _fitted(corpus, options)
        embedder.save(work)
        return embedder
    try:
        return model or load_embedder(work)
    except UserError as error:
        raise UserError(
            f"the embedder in {work} is damaged ({error}); remove {work} and run again"
        ) from error


def _check_same_job(work, job):
    path = work / _JOB
    if not path.exists():
        with replaced(path) as file:
            file.write(json.dumps(job, indent=1).encode())
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {path} ({error}); remove {work} and run again"
        ) from error
    for key, value in job.items():
        if before.get(key) == value:
            continue
        change = ""
        if key == "embedding":
            change = f" was {before.get(key)!r} and is now {value!r}"
        raise UserError(
            f"{work} holds embeddings of another job: its {key}{change or ' changed'};"
            " remove it, or choose another --work"
        )


def _fitted(corpus, options) -> Embedder:
    """The light embedder; says early that there are more clusters than documents."""
    texts, documents = _sample_texts(corpus)
    check_enough(options.branching, documents)
    return tfidf.TfidfEmbedder.fit(texts, _SEED)


def _sample_texts(corpus) -> tuple[list[str], int]:
    """A uniform sample of texts, cut to what counts, and how many there are.

    Vitter's algorithm R (1985).
    """
    rng = np.random.default_rng(_SEED)
    sample, seen = [], 0
    for document in corpus.documents():
        if not document.num_bytes:
            continue
        seen += 1
        text = document.text[: tfidf.CHARACTERS]
        if len(sample) < _FITTED:
            sample.append(text)
        elif (place := int(rng.integers(seen))) < _FITTED:
            sample[place] = text
    if not sample:
        raise UserError("no document of --generic holds any text")
    return sample, seen


def _embed(corpus, embedder, work) -> np.ndarray:
    """Embeds batch by batch what is not embedded yet; bool [n], who has text."""
    path = work / _WITH_TEXT
    shards = _shards(work, embedder.dim)
    if path.exists() and len(_open(path)) == sum(len(_open(x)) for x in shards):
        return _load(path, (None,))
    with_text = []
    for i, batch in enumerate(corpus.batches()):
        shard = work / f"embeddings-{i:08d}.npy"
        if shard.exists():
            _load(shard, (len(batch), embedder.dim))
        else:
            texts = [document.text for document in batch]
            _save(shard, embedder.embed(texts))
        with_text += [document.num_bytes > 0 for document in batch]
    _save(path, np.array(with_text))
    return np.array(with_text)


def _tree(options, work, with_text, dim) -> tuple[Tree, pathlib.Path]:
    """The tree, level by level, and the directory for all that depends on it."""
    check_enough(options.branching, int(with_text.sum()))
    leaves = math.prod(options.branching)
    if leaves > options.sample:
        raise UserError(
            f"--cluster_sample={options.sample}: {leaves:,} clusters cannot be trained"
            f" on fewer documents than that; give {leaves:,} or more"
        )
    how = dataclasses.asdict(options)
    text = json.dumps(
        [how[k] for k in ("branching", "sample", "max_imbalance", "start")]
    )
    folder = work / f"tree-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    folder.mkdir(exist_ok=True)
    path = folder / _TREE
    tree = Tree.load(path) if path.exists() else Tree(options.branching)
    if tree.fitted < len(options.branching):
        sample = _sample_vectors(_shards(work, dim), with_text, options.sample)
        while tree.fitted < len(options.branching):
            tree = tree.fit_level(
                sample,
                start=options.start,
                max_imbalance=options.max_imbalance,
                seed=_SEED,
            )
            tree.save(path)
    return tree, folder


def _sample_vectors(shards, with_text, count) -> np.ndarray:
    """At most `count` vectors of documents with text, drawn without replacement."""
    (chosen,) = np.nonzero(with_text)
    if len(chosen) > count:
        rng = np.random.default_rng(_SEED)
        chosen = np.sort(rng.choice(chosen, count, replace=False))
    arrays = [_open(shard) for shard in shards]
    starts = np.cumsum([0, *map(len, arrays)])
    places = np.searchsorted(chosen, starts)
    parts = [
        array[chosen[low:high] - start]
        for array, start, (low, high) in zip(
            arrays, starts, itertools.pairwise(places), strict=False
        )
    ]
    return np.concatenate(parts)


def _shards(work, dim) -> list[pathlib.Path]:
    """All files of embeddings, each of which has the right width."""
    shards = sorted(work.glob("embeddings-*.npy"))
    for shard in shards:
        _load(shard, (None, dim))
    return shards


def _load(path, shape) -> np.ndarray:
    """An array of ours; None in `shape` is any length."""
    array = _open(path)
    fits = len(array.shape) == len(shape) and all(
        b in (None, a) for a, b in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = " x ".join("any" if b is None else f"{b:,}" for b in shape)
        found = " x ".join(f"{a:,}" for a in array.shape)
        raise UserError(
            f"{path} is {found}, expected {wanted}: it was made of other documents or"
            f" by another model; remove {path.parent} and run again"
        )
    return array


def _open(path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"cannot read {path} ({error}); remove it and run again"
        ) from error


def _save(path: pathlib.Path, array: np.ndarray) -> None:
    with replaced(path) as file:
        np.save(file, array)
