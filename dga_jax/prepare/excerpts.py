"""Excerpts of a corpus, in bounded memory; drawn by chance, yet reproducible."""

import hashlib
import heapq
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dga_jax.prepare.sources import Document

_LENGTH = 4096  # characters; a longer document is as many excerpts as it takes
_MEASURED_EVERY = 20  # one document in so many is not learnt from
_MEASURED_SHARE = 16  # what is measured on has this part of the bytes


class Excerpt(NamedTuple):
    """A document, or a part of a long one; the order of excerpts is by chance.

    Attributes:
      chance: a random number of 64 bits.
      place: of the excerpt in the corpus: of its document, and of its first character.
      domain: of the document.
      num_bytes: UTF-8 bytes of the text.
      text: at most `_LENGTH` characters.
    """

    chance: int
    place: tuple[int, int]
    domain: str
    num_bytes: int
    text: str


class Reservoir:
    """Those excerpts to which chance gave the smallest numbers, as many as fit.

    What is kept does not depend on the order in which excerpts come.

    Attributes:
      num_bytes: UTF-8 bytes of the excerpts that are kept.
    """

    def __init__(self, max_bytes: int):
        """An empty reservoir of at most `max_bytes`."""
        self._max_bytes, self.num_bytes = max_bytes, 0
        self._heap: list[tuple[int, Excerpt]] = []
        self._bound = 1 << 64

    def add(self, excerpt: Excerpt) -> None:
        """Offers an excerpt."""
        if excerpt.chance < self._bound:
            heapq.heappush(self._heap, (-excerpt.chance, excerpt))
            self.num_bytes += excerpt.num_bytes
            self.limit(self._max_bytes)

    def limit(self, max_bytes: int) -> None:
        """Keeps only what fits into so many bytes, from now on."""
        self._max_bytes = max_bytes
        while self.num_bytes > max_bytes:
            _, excerpt = heapq.heappop(self._heap)
            self.num_bytes -= excerpt.num_bytes
            self._bound = excerpt.chance

    def excerpts(self) -> list[Excerpt]:
        """What is kept, in the order of the corpus."""
        return sorted((one for _, one in self._heap), key=lambda one: one.place)


class Excerpts:
    """Excerpts of a corpus to learn from, and others to measure on.

    One document in twenty, by chance, is never learnt from. Of the others every excerpt
    has the same chance, so that a domain has the part of what is learnt that it has of
    the corpus; or, if `even`, every domain has the same share, as far as its text goes.

    Attributes:
      sizes: UTF-8 bytes of all documents of each domain, in order of appearance.
      documents: how many with text each has.
    """

    def __init__(
        self, documents: Iterable[Document], max_bytes: int, seed: int, even: bool
    ):
        """Draws from a corpus, read once; keeps `max_bytes` and a sixteenth more."""
        self.sizes: dict[str, int] = {}
        self.documents: dict[str, int] = {}
        self._learnt, self._measured = (
            _Shares(max_bytes),
            _Shares(max_bytes // _MEASURED_SHARE),
        )
        for position, document in enumerate(documents):
            name = document.domain
            if not document.num_bytes:
                continue
            self.sizes[name] = self.sizes.get(name, 0) + document.num_bytes
            self.documents[name] = self.documents.get(name, 0) + 1
            if _chance(seed, position, "measured") % _MEASURED_EVERY == 0:
                reservoir = self._measured.of(name)
            else:
                reservoir = self._learnt.of(name if even else "")
            for start in range(0, len(document.text), _LENGTH):
                text = document.text[start : start + _LENGTH]
                chance = _chance(seed, position, start)
                size = len(text.encode())
                reservoir.add(Excerpt(chance, (position, start), name, size, text))

    def learnt(self) -> Iterator[Excerpt]:
        """What to learn from."""
        return self._learnt.excerpts()

    def measured(self) -> Iterator[Excerpt]:
        """What to measure on; nothing of a domain that has few documents."""
        return self._measured.excerpts()


class _Shares:
    """Reservoirs that share a number of bytes evenly."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._reservoirs: dict[str, Reservoir] = {}

    def of(self, name: str) -> Reservoir:
        """The reservoir of some name, a new one if need be."""
        if name not in self._reservoirs:
            self._reservoirs[name] = Reservoir(0)
            count = len(self._reservoirs)
            self._reservoirs[name].limit(self._max_bytes // count)
            # To shrink all of them each time would take quadratic time.
            if count & (count - 1) == 0:
                self._shrink()
        return self._reservoirs[name]

    def excerpts(self) -> Iterator[Excerpt]:
        self._shrink()
        return itertools.chain.from_iterable(
            reservoir.excerpts() for reservoir in self._reservoirs.values()
        )

    def _shrink(self) -> None:
        for reservoir in self._reservoirs.values():
            reservoir.limit(self._max_bytes // len(self._reservoirs))


def _chance(seed: int, position: int, what: int | str) -> int:
    text = f"{seed} {position} {what}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
