"""Evaluation documents that share long n-grams with the text to train on.

As for GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C): n-grams of lower-case
words without punctuation, n = 13.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from dga_jax.files import OnBytes
from dga_jax.prepare.assemble.documents import Dropped, file_of
from dga_jax.prepare.assemble.engine import Engine
from dga_jax.prepare.assemble.folder import Folder, side_by_side
from dga_jax.prepare.corpus import Corpus, read_pieces
from dga_jax.prepare.sources import BadDocument, Shard

_WORD = re.compile(r"\w+")


class Contamination(NamedTuple):
    """What two corpora share.

    Attributes:
      ngram: n, words.
      evaluated: evaluation documents of at least n words.
      short: shorter ones, which cannot be looked for.
      shared: evaluation documents that share an n-gram with the corpus.
      documents: of the corpus, with text.
      found: documents of the corpus that share an n-gram with an evaluation document.
      places: which those are.
    """

    ngram: int
    evaluated: int
    short: int
    shared: int
    documents: int
    found: int
    places: Dropped

    def describe(self, dropped: bool) -> str:
        """What was found, and what becomes of it, on one line."""
        short = f" ({self.short:,} shorter ones were not looked for)" * bool(self.short)
        done = "are dropped" if dropped else "stay"
        return (
            f"contamination: {self.shared:,} of {self.evaluated:,} evaluation documents"
            f"{short} share {self.ngram} words in a row with the corpus;"
            f" {self.found:,} of its {self.documents:,} documents {done}"
        )


class _Index(NamedTuple):
    """The n-grams of evaluation documents, and which documents hold each."""

    owners: dict[tuple[str, ...], list[int]]
    evaluated: int
    short: int
    # Few words are in the middle of such an n-gram: most places cost one look.
    keys: set[tuple[str, ...]]


def find_contamination(
    shards: Sequence[Shard],
    evaluation: Corpus,
    ngram: int,
    engine: Engine,
    folder: Folder,
    on_bytes: OnBytes = lambda count: None,
) -> Contamination:
    """Looks for n-grams of evaluation documents in a corpus.

    Args:
      shards: of the corpus; read once.
      evaluation: held in memory as n-grams.
      ngram: n, words.
      engine: runs the search.
      folder: for what is found.
      on_bytes: called with the number of bytes read.
    """
    engine.map(Search(evaluation, ngram, folder), shards, on_bytes)

    def of_shard(shard: Shard) -> tuple[set[int], int, int]:
        part = folder.load(file_of(shard))
        with_text = int(part["with_text"])
        return set(part["shared"].tolist()), with_text, len(part["documents"])

    shared, with_text, found = zip(*side_by_side(of_shard, shards), strict=True)
    index = _index(evaluation, ngram)
    return Contamination(
        ngram,
        index.evaluated,
        index.short,
        len(set().union(*shared)),
        sum(with_text),
        sum(found),
        Dropped(folder, "contamination"),
    )


@dataclasses.dataclass(frozen=True)
class Search:
    """The step: writes which documents of a shard share n-grams, and with which."""

    divided: ClassVar = True  # may run in several processes

    evaluation: Corpus
    ngram: int
    folder: Folder

    def __call__(self, shard: Shard, on_bytes: OnBytes) -> None:
        """Searches a shard."""
        if self.folder.has(file_of(shard)):
            on_bytes(shard.num_bytes)
            return
        index = _index(self.evaluation, self.ngram)
        shared, places, place, with_text = set(), [], 0, 0
        for piece in read_pieces(shard, on_bytes):
            for document in piece:
                with_text += document.num_bytes > 0
                hits = _hits(_words(document.text), index, self.ngram)
                shared |= hits
                if hits:
                    places.append(place)
                place += 1
        self.folder.save(
            file_of(shard),
            documents=np.array(places, np.int64),
            shared=np.array(sorted(shared), np.int64),
            with_text=np.array(with_text),
        )


@functools.lru_cache(maxsize=1)
def _index(evaluation: Corpus, ngram: int) -> _Index:
    owners: dict[tuple[str, ...], list[int]] = {}
    evaluated = short = 0
    for document in evaluation.documents():
        if isinstance(document, BadDocument):
            continue
        words = _words(document.text)
        short += len(words) < ngram
        evaluated += len(words) >= ngram
        for gram in _grams(words, ngram):
            owners.setdefault(gram, []).append(evaluated)
    middle = ngram // 2
    keys = {gram[middle : middle + 2] for gram in owners}
    return _Index(owners, evaluated, short, keys)


def _hits(words: list[str], index: _Index, ngram: int) -> set[int]:
    """Evaluation documents that share an n-gram with these words."""
    middle, hits = ngram // 2, set()
    pairs = zip(words[middle:], words[middle + 1 :], strict=False)
    for start, pair in enumerate(pairs):
        if pair in index.keys:
            hits.update(index.owners.get(tuple(words[start : start + ngram]), ()))
    return hits


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams(words: list[str], ngram: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(ngram)), strict=False)
