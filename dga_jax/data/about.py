"""What the text of domains is about: telling words, and beginnings of documents."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

from dga_jax.data.domains import Domains
from dga_jax.data.store import PAD, Store

_ROWS = 64  # of a domain that are read for its terms
_TERMS = 8
_EXAMPLES = 3
_LONGEST = 240  # characters of an example, and tokens that are read for it
_SEARCHED = 32  # rows in which the beginning of a document is looked for
# Words of three letters or more; numbers and operators tell little.
_WORD = re.compile(r"\b[^\W\d_]{3,}\b")


class Texts:
    """The text of a store's rows; a tokenizer is loaded once.

    Args:
      store: of the rows.

    Raises:
      UserError: its tokenizer cannot be read; and so can rows, when they are.
    """

    def __init__(self, store: Store):
        self._store, self._tokenizer = store, store.tokenizer()
        self._finest = store.domains(store.num_levels - 1)

    def some(self, domains: Domains, i: int, most: int = _ROWS) -> list[str]:
        """Texts of at most `most` training rows of a domain, spread evenly."""
        first, count = domains.offsets[i], domains.num_rows[i]
        chosen = np.unique((np.arange(most) * 2 + 1) * count // (2 * most))
        rows = self._store.read("train", first + chosen)
        return [self._tokenizer.decode(row[row != PAD]) for row in rows]

    def examples(self, domains: Domains, i: int) -> list[str]:
        """Beginnings of documents: of the largest finest domains, or spread over this.

        Args:
          domains: of some level.
          i: one of them that has rows.
        """
        group = len(self._finest) // len(domains)
        inside = slice(i * group, (i + 1) * group)
        sizes = self._finest.num_rows[inside]
        largest = np.argsort(-sizes, kind="stable")[:_EXAMPLES]
        starts = self._finest.offsets[inside][largest[sizes[largest] > 0]]
        low, high = domains.offsets[i : i + 2]
        found = [self._beginning("train", x, high, begins=True) for x in starts]
        return _distinct([*found, *self._spread("train", low, high)])

    def examples_of(self, split: str, start: int, stop: int) -> list[str]:
        """Beginnings of documents, spread over the rows from `start` to `stop`."""
        return _distinct(self._spread(split, start, stop))

    def _spread(self, split: str, start: int, stop: int) -> list[str]:
        places = (np.arange(_EXAMPLES) * 2 + 1) * (stop - start) // (2 * _EXAMPLES)
        return [self._beginning(split, start + x, stop, begins=False) for x in places]

    def _beginning(self, split: str, start: int, stop: int, *, begins: bool) -> str:
        """The beginning of the next document from a row on; "" if none is near."""
        rows = np.arange(start, min(start + _SEARCHED, stop))
        rows = self._store.read(split, rows)
        tokens = np.append(rows[0, 0], rows[:, 1:].ravel())
        tokens = tokens[tokens != PAD]
        end_of_text = self._tokenizer.end_of_text
        ends = np.append(np.flatnonzero(tokens == end_of_text), len(tokens))
        if not begins:
            tokens, ends = tokens[ends[0] + 1 :], ends[1:] - ends[0] - 1
        if not len(tokens):
            return ""
        text = self._tokenizer.decode(tokens[: min(ends[0], _LONGEST)])
        text = " ".join(text.split())
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]}.."


def _distinct(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, texts)))[:_EXAMPLES]


def telling_terms(texts: Sequence[Sequence[str]]) -> list[list[str]]:
    """Of each domain the words that tell it from the others, at most `_TERMS`.

    A term t is ranked by (1 + log n) log(p(t | domain) / p(t)): n of the domain's texts
    hold it, a share p(t | domain), and p(t) is the mean over the domains. This is
    sublinear TF-IDF, texts for terms, the lift for inverse document frequency.

    Args:
      texts: some of each domain.
    """
    counts = [
        Counter(chain.from_iterable(set(_WORD.findall(t.lower())) for t in of_domain))
        for of_domain in texts
    ]
    overall: Counter[str] = Counter()
    for held, of_domain in zip(counts, texts, strict=True):
        for word, count in held.items():
            overall[word] += count / len(of_domain) / len(texts)
    return [
        _best(held, len(of_domain), overall)
        for held, of_domain in zip(counts, texts, strict=True)
    ]


def _best(held: Counter[str], size: int, overall: Counter[str]) -> list[str]:
    words = sorted(held)
    count = np.array([held[word] for word in words], float)
    lift = count / size / np.array([overall[word] for word in words])
    scores = ((1 + np.log(count)) * np.log(lift)).round(9)  # equal ones by the word
    return [words[i] for i in np.argsort(-scores, kind="stable")[:_TERMS]]
