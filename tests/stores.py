"""Stores of the corpora of bytes with a domain more, or with another target."""

import json
from pathlib import Path

from dga_jax.data.store import Store
from dga_jax.prepare.assemble import prepare_store
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Shard
from dga_jax.tokenizer import BytesTokenizer


def shard_of(folder, name, text, size=1000):
    path = folder / f"{name}.jsonl"
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    path.write_text("".join(json.dumps({"text": piece}) + "\n" for piece in pieces))
    return Shard.of(path)


def text_of(corpus):
    (shard,) = corpus.shards
    lines = Path(shard.paths[0]).read_text(encoding="utf-8").splitlines()
    return "".join(json.loads(line)["text"] for line in lines)


def store_with(folder, corpora, more=(), **replaced):
    """The store of bytes with further domains, or with another target."""
    folder.mkdir()
    more = [shard_of(folder, *domain) for domain in more]
    parts = dict(corpora)
    parts["generic"] = Corpus((*corpora["generic"].shards, *more))
    for name, text in replaced.items():
        parts[name] = Corpus((shard_of(folder, name, text),))
    path = folder / "store"
    prepare_store(**parts, tokenizer=BytesTokenizer(), seq_len=32, output=path)
    return Store.open(path)
