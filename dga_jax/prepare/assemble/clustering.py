"""Puts the documents of a corpus into clusters; stopped, it goes on where it was.

A folder holds

    sample/                    texts that the light embedder learns from, by shard
    embedder/                  the embedder, once it is fitted
    embeddings/SHARD/          float32 [n_i, d] for each piece of a shard
    tree/                      centroids, by level as they are made
    clusters/                  int32 [n] for each shard, the clusters of its documents
"""

import dataclasses
import functools
import hashlib
import io
import json
import math
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dga_jax.errors import UserError
from dga_jax.files import OnBytes
from dga_jax.prepare.assemble.documents import (
    SEED,
    Assigned,
    Documents,
    Remaining,
    file_of,
    places_of,
)
from dga_jax.prepare.assemble.engine import Engine
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.clusters import tfidf
from dga_jax.prepare.clusters.embedders import EMBEDDINGS, load_embedder
from dga_jax.prepare.clusters.embedding import Embedder
from dga_jax.prepare.clusters.minilm import MiniLM
from dga_jax.prepare.clusters.tree import Tree, check_enough
from dga_jax.prepare.corpus import PIECES, read_pieces
from dga_jax.prepare.sources import Shard

_TREE = "tree.npz"
_FITTED = 20_000  # documents that the light embedder learns from
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

    @property
    def decisive(self) -> list:
        """What the tree depends on, but for the embedding; ready for JSON."""
        return [list(self.branching), self.sample, self.max_imbalance, self.start]

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
      assigned: the finest cluster of each document of the corpus.
    """

    embedder: Embedder
    tree: Tree
    assigned: Assigned


def cluster_documents(
    documents: Documents,
    shards: Sequence[Shard],
    options: ClusterOptions,
    work: Folder,
    engine: Engine,
    on_stage: Callable[[str], object] = lambda name: None,
    on_bytes: OnBytes = lambda count: None,
) -> Clustered:
    """Embeds all documents, trains k-means on a sample, assigns every document.

    Args:
      documents: of the corpus; those left out are not learned from.
      shards: of the corpus, in order; read twice by "tfidf", once by "minilm".
      options: see the class.
      work: for what is made on the way.
      engine: runs the steps.
      on_stage: called with what is about to be done.
      on_bytes: called with the number of bytes read.

    Raises:
      UserError: a file in `work` is damaged, or there are more clusters than documents.
    """
    remaining = Remaining.of(documents, shards)
    check_enough(options.branching, remaining.total)
    leaves = math.prod(options.branching)
    if leaves > options.sample:
        raise UserError(
            f"--cluster_sample={options.sample}: {leaves:,} clusters cannot be trained"
            f" on fewer documents than that; give {leaves:,} or more"
        )
    on_stage("embedding")
    folder, model = _embedder_folder(remaining, options, work, engine, on_bytes)
    vectors = Vectors(documents, folder / "embeddings", folder / "embedder", model)
    engine.map(vectors, shards, on_bytes)
    on_stage("clustering")
    made_of = _digest(vectors.embedder.digest, remaining.identity, options.decisive)
    trees = work / f"tree-{made_of}"
    tree = _tree(remaining, vectors, options, trees)
    assigned = Assigned(trees / "clusters")
    engine.map(Assign(vectors, trees, assigned), shards, lambda count: None)
    return Clustered(vectors.embedder, tree, assigned)


def model_digest(options: ClusterOptions) -> str | None:
    """Of the weights of an embedder that has some.

    Raises:
      UserError: they cannot be used.
    """
    if options.embedding == tfidf.KIND:
        return None
    return MiniLM.load(options.model).digest


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _embedder_folder(
    remaining: Remaining,
    options: ClusterOptions,
    work: Folder,
    engine: Engine,
    on_bytes: OnBytes,
) -> tuple[Folder, str | None]:
    """The folder of the embedder, fitted on a sample if need be; where its model is."""
    if options.embedding == tfidf.KIND:
        made_of = [PIECES, remaining.identity, _FITTED, tfidf.FEATURES, tfidf.DIM]
        folder = work / f"tfidf-{_digest(made_of)}"
        if not folder.has("fitted"):
            items = remaining.sample(_FITTED)
            texts = SampleTexts(remaining.documents, folder / "sample")
            engine.map(texts, items, on_bytes)
            found = [text for item in items for text in texts.read(item[0])]
            _save_embedder(tfidf.TfidfEmbedder.fit(found, SEED), folder)
    else:
        model = MiniLM.load(options.model)
        limits = sorted({x for shard in remaining.shards for x in shard.identity[1:]})
        made_of = [PIECES, model.digest, *limits]
        folder = work / f"{options.embedding}-{_digest(made_of)}"
        if not folder.has("fitted"):
            _save_embedder(model, folder)
    return folder, options.model


def _save_embedder(embedder: Embedder, folder: Folder) -> None:
    with tempfile.TemporaryDirectory() as aside:
        for name in embedder.save(pathlib.Path(aside)):
            (folder / "embedder").write(name, (pathlib.Path(aside) / name).read_bytes())
    folder.write("fitted")


@dataclasses.dataclass(frozen=True)
class SampleTexts:
    """The step: keeps the beginnings of some texts of a shard."""

    documents: Documents
    folder: Folder

    def __call__(self, item: tuple[Shard, np.ndarray], on_bytes: OnBytes) -> None:
        """Reads a shard for the documents of some ranks."""
        shard, ranks = item
        name = f"{shard.stem}.json"
        if self.folder.has(name):
            on_bytes(shard.num_bytes)
            return
        wanted = set(places_of(self.documents, shard, ranks).tolist())
        texts, place = [], 0
        for piece in read_pieces(shard, on_bytes):
            for document in piece:
                if place in wanted:
                    texts.append(document.text[: tfidf.CHARACTERS])
                place += 1
        self.folder.write_json(name, texts)

    def read(self, shard: Shard) -> list[str]:
        """What was kept of a shard."""
        return self.folder.read_json(f"{shard.stem}.json")


@dataclasses.dataclass(frozen=True)
class Vectors:
    """The step: embeds all documents of a shard, piece by piece.

    Attributes:
      documents: of the corpus.
      folder: for the vectors.
      saved: what the embedder saved.
      model: where its weights are, if not where they were.
    """

    documents: Documents
    folder: Folder
    saved: Folder
    model: str | None

    @property
    def embedder(self) -> Embedder:
        """The embedder, loaded once a process."""
        return _load_embedder(self.saved, self.model)

    def __call__(self, shard: Shard, on_bytes: OnBytes) -> None:
        """Reads a shard and writes the vectors that are not there yet."""
        folder = self.folder / shard.stem
        if folder.has("done"):
            on_bytes(shard.num_bytes)
            return
        for number, piece in enumerate(read_pieces(shard, on_bytes)):
            name = f"{number:06d}.npy"
            if not folder.has(name):
                buffer = io.BytesIO()
                texts = [document.text for document in piece]
                np.save(buffer, self.embedder.embed(texts))
                folder.write(name, buffer.getbuffer())
        folder.write("done")

    def read(self, shard: Shard) -> Iterator[np.ndarray]:
        """Yields the vectors of a shard's documents by piece, float32 [n_i, d].

        Raises:
          UserError: they are damaged, or of something else.
        """
        folder = self.folder / shard.stem
        for piece in self.documents.tokenized.pieces(shard):
            name = f"{piece.number:06d}.npy"
            yield _vectors(folder, name, len(piece.lengths), self.embedder.dim)


@functools.lru_cache(maxsize=1)
def _load_embedder(saved: Folder, model: str | None) -> Embedder:
    try:
        with tempfile.TemporaryDirectory() as aside:
            return load_embedder(saved.fetch(pathlib.Path(aside)), model)
    except UserError as error:
        raise UserError(
            f"the embedder in {saved} is damaged ({error}); remove its folder and run"
            " again"
        ) from error


def _vectors(folder: Folder, name: str, count: int, dim: int) -> np.ndarray:
    try:
        array = np.load(io.BytesIO(folder.read(name)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(
            f"{folder}/{name} is damaged ({error}); remove {folder} and run again"
        ) from error
    if array.shape != (count, dim):
        found = " x ".join(f"{a:,}" for a in array.shape)
        raise UserError(
            f"{folder}/{name} is {found}, expected {count:,} x {dim:,}: it was made of"
            f" other documents or by another model; remove {folder} and run again"
        )
    return array


def _tree(
    remaining: Remaining, vectors: Vectors, options: ClusterOptions, folder: Folder
) -> Tree:
    """The tree, trained level by level on a sample, on the devices of this process."""
    tree = _load_tree(folder) if folder.has(_TREE) else Tree(options.branching)
    if tree.fitted < len(options.branching):
        sample = _sample_vectors(remaining, vectors, options.sample)
        while tree.fitted < len(options.branching):
            tree = tree.fit_level(
                sample,
                start=options.start,
                max_imbalance=options.max_imbalance,
                seed=SEED,
            )
            folder.save(_TREE, **tree.to_arrays())
    return tree


def _sample_vectors(remaining: Remaining, vectors: Vectors, count: int) -> np.ndarray:
    """At most `count` vectors of documents that remain."""
    parts = []
    for shard, ranks in remaining.sample(count):
        places = places_of(remaining.documents, shard, ranks)
        start = 0
        for array in vectors.read(shard):
            low, high = np.searchsorted(places, (start, start + len(array)))
            parts.append(array[places[low:high] - start])
            start += len(array)
    return np.concatenate(parts)


def _load_tree(folder: Folder) -> Tree:
    return Tree.of_arrays(folder.load(_TREE))


_cached_tree = functools.lru_cache(maxsize=1)(_load_tree)


@dataclasses.dataclass(frozen=True)
class Assign:
    """The step: finds the finest cluster of each document of a shard."""

    vectors: Vectors
    trees: Folder
    assigned: Assigned

    def __call__(self, shard: Shard, on_bytes: OnBytes) -> None:
        """Writes int32 [n], the clusters of a shard."""
        if self.assigned.folder.has(file_of(shard)):
            return
        tree = _cached_tree(self.trees)
        clusters = [tree.assign(array) for array in self.vectors.read(shard)]
        clusters = np.concatenate([np.zeros(0, np.int32), *clusters])
        self.assigned.folder.save(file_of(shard), clusters=clusters.astype(np.int32))
