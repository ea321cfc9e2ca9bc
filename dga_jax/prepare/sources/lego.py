"""LEGO: text whose skills build on each other, made up as it is read.

The data of Skill-it (Chen et al. 2023, arXiv 2307.14430, section 2; after Zhang et al.
2022, arXiv 2206.04301): a chain of k variables, the first of which is given and each
other one is the one before it or its opposite. A document states the clauses in any
order and says what one variable is: the s-th of the chain, where the skill is s, so
that skill s takes s steps of reasoning.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dga_jax.errors import UserError
from dga_jax.files import OnBytes

VERSION = "1"  # raise it where the same options come to give other documents
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MOST = 1 << 40  # documents of a skill, and seeds
_SHARD, _BLOCK = 1 << 16, 1 << 10  # documents of a shard, and made at a time
_NUMBER = re.compile(r"\d{1,13}")
_DEFAULTS = {"k": 5, "clauses": 0, "documents": 10_000, "seed": 0, "ordered": 0}
_DEFAULTS["letters"] = len(_LETTERS)
_FORM = "lego:skills=1-5[/k=5][/clauses=5][/letters=26][/ordered=0]"
_FORM += "[/documents=10000][/seed=0]"


class Lego(NamedTuple):
    """Documents of some skills.

    Attributes:
      k: variables of the chain.
      clauses: that a document states; those above k are of a second chain.
      seed: of the draw; documents of another one are others.
      skills: from 1 to k, each a domain.
      documents: of each skill.
      letters: of the alphabet, the first so many, that name variables.
      ordered: clauses stand in the order of the chain, or from its end to its
        beginning, and each variable is named by its own share of the letters.
    """

    k: int
    clauses: int
    seed: int
    skills: tuple[int, ...]
    documents: int
    letters: int = len(_LETTERS)
    ordered: bool = False

    @property
    def source(self) -> str:
        """What all of it comes from."""
        source = f"lego:k={self.k}/clauses={self.clauses}/seed={self.seed}"
        few = self.letters < len(_LETTERS)
        return source + f"/letters={self.letters}" * few + "/ordered=1" * self.ordered

    def path(self, skill: int) -> str:
        """What the documents of a skill come from."""
        return f"{self.source}/skill={skill}"

    @property
    def document_bytes(self) -> int:
        """Of a document: all are of one length."""
        return len(_text(*_drawn(self.path(self.skills[0]), 0, 1)[0]))

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Parts of a skill's documents: the first, one past the last."""
        starts = range(0, self.documents, _SHARD)
        return [(first, min(first + _SHARD, self.documents)) for first in starts]


def parse(pattern: str) -> Lego:
    """What a user writes after `lego:`, options with slashes between them.

    Raises:
      UserError: an option that is not there, or not as it should be.
    """
    given: dict[str, str] = {}
    for part in pattern.split("/"):
        name, equals, value = part.partition("=")
        if not equals or name not in (*_DEFAULTS, "skills"):
            raise UserError(f"lego:{pattern}: {part!r} is no option; write {_FORM}")
        if name in given:
            raise UserError(f"lego:{pattern}: {name} is given twice; leave one out")
        given[name] = value
    whole = dict(_DEFAULTS)
    for name in _DEFAULTS.keys() & given.keys():
        if not _NUMBER.fullmatch(given[name]):
            raise UserError(f"lego:{pattern}: {name} is no whole number; write {_FORM}")
        whole[name] = int(given[name])
    k, clauses, letters = whole["k"], whole["clauses"] or whole["k"], whole["letters"]
    if letters > len(_LETTERS):
        raise UserError(
            f"lego:{pattern}: letters={letters}: there are {len(_LETTERS)}; lower it"
        )
    if not 1 <= k <= clauses <= letters:
        raise UserError(
            f"lego:{pattern}: k={k} and clauses={clauses}: it must be 1 ≤ k ≤ clauses ≤"
            f" {letters}, for each variable is a letter"
        )
    if whole["ordered"] > 1:
        raise UserError(f"lego:{pattern}: ordered is 1, or 0 where it is left out")
    if not 0 < whole["documents"] < _MOST or whole["seed"] >= _MOST:
        raise UserError(
            f"lego:{pattern}: documents must be from 1, and it and seed below {_MOST:,}"
        )
    skills = _skills(given.get("skills", f"1-{k}"), k, pattern)
    named = letters, bool(whole["ordered"])
    return Lego(k, clauses, whole["seed"], skills, whole["documents"], *named)


def _skills(text: str, k: int, pattern: str) -> tuple[int, ...]:
    """The skills of `3`, or of `1-5`."""
    first, dash, last = text.partition("-")
    bounds = (first, last if dash else first)
    if not all(map(_NUMBER.fullmatch, bounds)):
        raise UserError(
            f"lego:{pattern}: skills={text} is neither a number nor two, as in 1-5"
        )
    low, high = map(int, bounds)
    if not 1 <= low <= high <= k:
        raise UserError(
            f"lego:{pattern}: skills={text}: they go from 1 to k={k}; raise k, or name"
            " others"
        )
    return tuple(range(low, high + 1))


def records(
    path: str, start: int, stop: int, on_bytes: OnBytes
) -> Iterator[tuple[int, dict[str, str]]]:
    """Streams the documents of one skill, from number `start` until before `stop`.

    Args:
      path: as of `Lego.path`.
      start: the first.
      stop: one past the last.
      on_bytes: called with the bytes of the documents.

    Yields:
      Numbers of documents, from 0, and records with a `text`. Which one it is depends
      on path and number alone.
    """
    for block in range(start // _BLOCK, -(-stop // _BLOCK)):
        first = max(start, block * _BLOCK)
        last = min(stop, (block + 1) * _BLOCK)
        for number, drawn in enumerate(_drawn(path, first, last), first):
            text = _text(*drawn)
            on_bytes(len(text))
            yield number, {"text": text}


# Of a document: letters of its variables, which value and clauses are negative, the
# order of the clauses, how long the chain is, and the variable it asks for.
_Drawn = tuple[np.ndarray, np.ndarray, np.ndarray, int, int]


def _drawn(path: str, first: int, last: int) -> list[_Drawn]:
    """Documents of one block; only uniform numbers are drawn, which NumPy keeps."""
    given = {name: int(x) for name, x in re.findall(r"(\w+)=(\d+)", path)}
    k, clauses, seed, skill = (given[x] for x in ("k", "clauses", "seed", "skill"))
    size = given.get("letters", len(_LETTERS))
    block = first // _BLOCK
    key = np.random.SeedSequence([seed, k, clauses, skill, block]).generate_state(
        2, np.uint64
    )
    rng = np.random.Generator(np.random.Philox(key=key))
    drawn = rng.random((_BLOCK, size))
    negative = rng.random((_BLOCK, clauses)) < 0.5
    order = np.argsort(rng.random((_BLOCK, clauses)), axis=1)
    letters = np.argsort(drawn, axis=1)[:, :clauses]
    if given.get("ordered"):
        share, place = size // clauses, np.arange(clauses)
        letters = place * share + (drawn[:, :clauses] * share).astype(int)
        backwards = rng.random((_BLOCK, 1)) < 0.5
        order = np.where(backwards, place[::-1], place)
    here = range(first - block * _BLOCK, last - block * _BLOCK)
    return [(letters[i], negative[i], order[i], k, skill) for i in here]


def _text(
    letters: np.ndarray, negative: np.ndarray, order: np.ndarray, k: int, skill: int
) -> str:
    names = [_LETTERS[i] for i in letters]
    clauses = []
    for i, name in enumerate(names):
        if i in (0, k):  # a chain begins
            clauses.append(f"{name} = val {int(not negative[i])}")
        else:
            clauses.append(f"{name} = {'not' if negative[i] else 'val'} {names[i - 1]}")
    value = int(negative[:skill].sum() % 2 == 0)
    stated = ", ".join(clauses[i] for i in order)
    return f"Input: {stated}. Output: {names[skill - 1]} = {value}"
