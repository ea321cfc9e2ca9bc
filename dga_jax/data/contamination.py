"""Evaluation documents that share long n-grams with the text to train on.

As for GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C): n-grams of lower-case
words without punctuation, n = 13.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dga_jax.data.corpus import Corpus

_WORD = re.compile(r"\w+")


class Contamination(NamedTuple):
    """What two corpora share.

    Attributes:
      ngram: n, words.
      evaluated: evaluation documents of at least n words.
      short: shorter ones, which cannot be looked for.
      shared: evaluation documents that share an n-gram with the corpus.
      documents: of the corpus, with text.
      positions: int64 [m], sorted: the documents of the corpus that share an n-gram
        with an evaluation document.
    """

    ngram: int
    evaluated: int
    short: int
    shared: int
    documents: int
    positions: np.ndarray

    def describe(self, dropped: bool) -> str:
        """What was found, and what becomes of it, on one line."""
        short = f" ({self.short:,} shorter ones were not looked for)" * bool(self.short)
        done = "are dropped" if dropped else "stay"
        return (
            f"contamination: {self.shared:,} of {self.evaluated:,} evaluation documents"
            f"{short} share {self.ngram} words in a row with the corpus;"
            f" {len(self.positions):,} of its {self.documents:,} documents {done}"
        )


def find(generic: Corpus, evaluation: Corpus, ngram: int) -> Contamination:
    """Looks for n-grams of evaluation documents in a corpus.

    Args:
      generic: the corpus; read once.
      evaluation: held in memory as n-grams.
      ngram: n, words.
    """
    owners: dict[tuple[str, ...], list[int]] = {}
    evaluated = short = 0
    for document in evaluation.documents():
        words = _words(document.text)
        short += len(words) < ngram
        evaluated += len(words) >= ngram
        for gram in _grams(words, ngram):
            owners.setdefault(gram, []).append(evaluated)
    # Few words are in the middle of such an n-gram: most places cost one look.
    middle = ngram // 2
    keys = {gram[middle : middle + 2] for gram in owners}
    shared, positions, documents = set(), [], 0
    for position, document in enumerate(generic.documents()):
        documents += document.num_bytes > 0
        words = _words(document.text)
        found = False
        for start, pair in enumerate(
            zip(words[middle:], words[middle + 1 :], strict=False)
        ):
            if pair in keys:
                hits = owners.get(tuple(words[start : start + ngram]), ())
                shared.update(hits)
                found = found or bool(hits)
        if found:
            positions.append(position)
    return Contamination(
        ngram, evaluated, short, len(shared), documents, np.array(positions, np.int64)
    )


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams(words: list[str], ngram: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(ngram)), strict=False)
