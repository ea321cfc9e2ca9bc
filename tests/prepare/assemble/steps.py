"""Steps of a job by themselves, for their tests."""

import json
import pathlib

import numpy as np

from dga_jax.prepare.assemble.clustering import ClusterOptions, cluster_documents
from dga_jax.prepare.assemble.documents import Documents, Named, file_of
from dga_jax.prepare.assemble.engine import Engine, Local
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.tokenizing import Tokenize
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Shard
from dga_jax.tokenizer import BytesTokenizer


def corpus_of(directory, **texts):
    """A corpus with a file a keyword, which is its name and domain."""
    shards = []
    for name, items in texts.items():
        path = directory / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in items))
        shards.append(Shard.of(path))
    return Corpus(tuple(shards))


def tokenized(corpus: Corpus, work: pathlib.Path, dropped=()) -> Documents:
    """The documents of a corpus as bytes, in one domain."""
    step = Tokenize(Folder.of(work / "tokens"), BytesTokenizer())
    Local().map(step, corpus.shards, lambda count: None)
    return Documents(step.result, Named(), dropped)


def clustered(
    corpus: Corpus,
    options: ClusterOptions,
    work: pathlib.Path,
    dropped=(),
    engine: Engine | None = None,
):
    """Clusters of all documents, int64 [n], and what `cluster_documents` returned."""
    documents = tokenized(corpus, work, dropped)
    found = cluster_documents(
        documents, corpus.shards, options, Folder.of(work), engine or Local()
    )
    folder = found.assigned.folder
    parts = [folder.load(file_of(x))["clusters"] for x in corpus.shards]
    return np.concatenate(parts).astype(np.int64), found
