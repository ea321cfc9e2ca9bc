"""Which documents make up which rows: domains, nested in groups, and what is held out.

Domains are those of the finest level, `group` of them in a row make a domain of the
coarsest level. Where there is one level the two are the same. In each split a domain is
a *stream*: the tokens of its documents, joined in their order.

Where a token lies depends on all documents before it. So the corpus is gone through
three times, each time in segments that do not wait for each other: documents are
counted by domain, which tells every segment the ranks of its documents; ranks tell what
is held out, and tokens are counted by domain and split; then tokens are placed. Between
two passes the counts of the segments are summed up, a blocked prefix sum (Blelloch
1990). Memory grows with the number of domains, not of documents.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dga_jax.data import sampler
from dga_jax.files import OnBytes
from dga_jax.prepare.assemble.documents import Documents
from dga_jax.prepare.assemble.engine import Engine
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.tokenizing import DocumentTable
from dga_jax.prepare.sources import Shard

_SEGMENTS = 1024  # of a corpus at most: each costs a table of its domains
KEPT, ASIDE = 0, 1
_DOCUMENTS, _TOKENS = "documents", "tokens"  # tables


class Segment(NamedTuple):
    """Shards of a corpus in a row.

    Attributes:
      number: of the segment.
      first: number of its first shard in the corpus.
      shards: in order.
    """

    number: int
    first: int
    shards: tuple[Shard, ...]


def segments(shards: Sequence[Shard]) -> list[Segment]:
    """Cuts a corpus into segments of about equally many shards."""
    count = min(len(shards), _SEGMENTS)
    bounds = [i * len(shards) // count for i in range(count + 1)]
    return [
        Segment(i, bounds[i], tuple(shards[bounds[i] : bounds[i + 1]]))
        for i in range(count)
    ]


# The domains of some documents, and what each document adds to the fields: int64 [n].
_Weighted = tuple[np.ndarray, Sequence[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class DomainTable:
    """Numbers by segment, field and domain, as files; 0 where there is no entry.

    Attributes:
      folder: holds a file a segment.
      name: of the table.
      size: k, domains.
    """

    folder: Folder
    name: str
    size: int

    def count(self, segment: Segment, fields: int, found: Iterable[_Weighted]) -> None:
        """Sums up what is found in a segment, unless that was done."""
        if self.folder.has(self._file(segment)):
            return
        totals = np.zeros((fields, self.size), np.int64)
        for domains, weights in found:
            for total, weight in zip(totals, weights, strict=True):
                total += np.bincount(domains, weight, self.size).astype(np.int64)
        self.write(segment, totals)

    def write(self, segment: Segment, values: np.ndarray) -> None:
        """Writes int64 [fields, k] of a segment; only what is not 0 takes space."""
        (domains,) = np.nonzero(values.any(axis=0))
        self.folder.save(
            self._file(segment), domains=domains, values=values[:, domains]
        )

    def read(self, segment: Segment) -> np.ndarray:
        """Gives back what was written."""
        arrays = self.folder.load(self._file(segment))
        values = np.zeros((len(arrays["values"]), self.size), np.int64)
        values[:, arrays["domains"]] = arrays["values"]
        return values

    def _file(self, segment: Segment) -> str:
        return f"{self.name}-{segment.number:05d}.npz"


@dataclasses.dataclass(frozen=True)
class Counts:
    """Of each domain of a corpus, int64 [k].

    Attributes:
      documents: with text.
      blank: documents without.
      text_bytes: UTF-8 bytes of the documents.
      text_tokens: tokens of the documents, end of text not counted.
      unknown: of these, the tokens of what cannot be spelled.
    """

    documents: np.ndarray
    blank: np.ndarray
    text_bytes: np.ndarray
    text_tokens: np.ndarray
    unknown: np.ndarray


class Plan(NamedTuple):
    """A corpus, and how it is to be divided.

    Attributes:
      documents: of the corpus.
      splits: numbers of the splits for what is kept and what is set aside.
      segments: its shards, in segments.
      size: k, domains.
      group: domains of one group.
      every: of a group's documents, one in so many is set aside. From a group with
        fewer documents the end of its largest stream is, in whole rows where it has
        several; nothing is, where that leaves no token to predict. 0: never anything.
      folder: for tables.
    """

    documents: Documents
    splits: tuple[int, int]
    segments: Sequence[Segment]
    size: int
    group: int
    every: int
    folder: Folder

    def table(self, name: str) -> DomainTable:
        """A table by domain."""
        return DomainTable(self.folder, name, self.size)

    def pieces(self, segment: Segment) -> Iterator[DocumentTable]:
        """The documents of a segment, piece by piece."""
        for shard in segment.shards:
            yield from self.documents.of(shard)


@dataclasses.dataclass(frozen=True)
class CountDocuments:
    """First pass: an item is the number of a plan, and a segment."""

    plans: Sequence[Plan]

    def __call__(self, item: tuple[int, Segment], on_bytes: OnBytes) -> None:
        """Writes `Counts` of a segment as a table."""
        number, segment = item
        plan = self.plans[number]
        around = plan.documents.tokenized.around
        found = (
            (
                piece.domains,
                (
                    piece.lengths > 0,
                    piece.blank,
                    piece.text_bytes,
                    np.maximum(piece.lengths - around, 0),
                    piece.unknown,
                ),
            )
            for piece in plan.pieces(segment)
        )
        fields = len(dataclasses.fields(Counts))
        plan.table(_DOCUMENTS).count(segment, fields, found)


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Ranks of documents in their groups, and so which are set aside.

    Groups are gone through domain by domain, so what is held out comes from large and
    small domains alike.

    Attributes:
      first: int64 [k], rank of a domain's first document in its group.
      every: of a group's documents, the last of each so many is set aside; 0: none.
      before: for each segment, the documents before it by domain.
    """

    first: np.ndarray
    every: int
    before: DomainTable

    def start(self, segment: Segment) -> np.ndarray:
        """The rank of the next document of each domain: int64 [k], to be moved on."""
        return self.first + self.before.read(segment)[0]

    def aside(self, piece: DocumentTable, next_rank: np.ndarray) -> np.ndarray:
        """Which documents are set aside, bool [n]; moves `next_rank` on."""
        chosen = np.zeros(len(piece.lengths), bool)
        (used,) = np.nonzero(piece.lengths)
        domains = piece.domains[used]
        ranks = next_rank[domains] + sampler.ranks(domains)
        np.add.at(next_rank, domains, 1)
        if self.every:
            chosen[used] = ranks % self.every == self.every - 1
        return chosen


@dataclasses.dataclass(frozen=True)
class CountTokens:
    """Second pass: an item is the number of a plan, and a segment."""

    plans: Sequence[Plan]
    ranks: Sequence[Ranks]

    def __call__(self, item: tuple[int, Segment], on_bytes: OnBytes) -> None:
        """Writes the tokens kept and set aside by a segment, a table of two fields."""
        number, segment = item
        self.plans[number].table(_TOKENS).count(segment, 2, self._found(*item))

    def _found(self, number: int, segment: Segment) -> Iterator[_Weighted]:
        ranks = self.ranks[number]
        next_rank = ranks.start(segment)
        for piece in self.plans[number].pieces(segment):
            aside = ranks.aside(piece, next_rank)
            yield piece.domains, (piece.lengths * ~aside, piece.lengths * aside)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a corpus becomes rows.

    Attributes:
      plan: of the corpus.
      counts: of each domain.
      ranks: say what is set aside.
      before: for each segment, the tokens before it by split and domain.
      starts: int64 [2, k], by split and domain the first token of the stream that is in
        the split.
      stops: int64 [2, k], the end of what is.
      cut: bool [k], domains whose documents are in both splits: the end of the stream
        is set aside. The token at the border is in both, and predicted in one.
      seq_len: L.
    """

    plan: Plan
    counts: Counts
    ranks: Ranks
    before: DomainTable
    starts: np.ndarray
    stops: np.ndarray
    cut: np.ndarray
    seq_len: int

    @property
    def predicted(self) -> np.ndarray:
        """int64 [2, k], tokens that the rows predict: all of a stream but the first."""
        return np.maximum(self.stops - self.starts - 1, 0)

    @property
    def rows(self) -> np.ndarray:
        """int64 [2, k], rows of each domain in each split."""
        return -(-self.predicted // self.seq_len)

    @functools.cached_property
    def offsets(self) -> np.ndarray:
        """int64 [2, k+1]; rows offsets[s, i]:offsets[s, i+1] are domain i's."""
        return np.pad(np.cumsum(self.rows, axis=1), ((0, 0), (1, 0)))


def lay_out(plans: Sequence[Plan], engine: Engine, seq_len: int) -> list[Layout]:
    """Counts documents and tokens, and says where each token goes.

    Args:
      plans: a corpus each.
      engine: runs the passes.
      seq_len: L.
    """
    items = [(i, one) for i, plan in enumerate(plans) for one in plan.segments]
    # Steps travel: they do not take the segments with them.
    light = [plan._replace(segments=()) for plan in plans]
    engine.map(CountDocuments(light), items, lambda count: None)
    ranks, counts = [], []
    for plan, (before, totals) in zip(
        plans, _summed_up(plans, _DOCUMENTS), strict=True
    ):
        counts.append(Counts(*totals))
        by_group = counts[-1].documents.reshape(-1, plan.group)
        first = (np.cumsum(by_group, axis=1) - by_group).ravel()
        ranks.append(Ranks(first, plan.every, before))
    engine.map(CountTokens(light, ranks), items, lambda count: None)
    summed_up = _summed_up(plans, _TOKENS)
    return [
        _layout(plan, *known, *tokens, seq_len)
        for plan, *known, tokens in zip(plans, counts, ranks, summed_up, strict=True)
    ]


def _layout(
    plan: Plan,
    counts: Counts,
    ranks: Ranks,
    before: DomainTable,
    tokens: np.ndarray,
    seq_len: int,
) -> Layout:
    stops, starts = tokens, np.zeros_like(tokens)
    cut = np.zeros(plan.size, bool)
    has_documents = counts.documents.reshape(-1, plan.group).any(axis=1)
    has_aside = stops[ASIDE].reshape(-1, plan.group).any(axis=1)
    for i in np.flatnonzero(has_documents & ~has_aside) if plan.every else ():
        domains = np.arange(i * plan.group, (i + 1) * plan.group)
        largest = domains[np.argmax(stops[KEPT, domains])]
        border = _border(int(stops[KEPT, largest]), seq_len, plan.every)
        if border < 1:  # too little for both splits
            continue
        cut[largest] = True
        starts[ASIDE, largest], stops[ASIDE, largest] = border, stops[KEPT, largest]
        stops[KEPT, largest] = border + 1
    # A step that travels does not take the segments with it.
    plan = plan._replace(segments=())
    return Layout(plan, counts, ranks, before, starts, stops, cut, seq_len)


def _summed_up(
    plans: Sequence[Plan], name: str
) -> list[tuple[DomainTable, np.ndarray]]:
    """For each segment of a plan the sums of those before it, and the sums of all.

    Sums before a segment are kept of the domains that it has.
    """
    found = []
    for plan in plans:
        table, before = plan.table(name), plan.table(f"before-{name}")
        running = np.int64(0)
        for segment in plan.segments:
            here = table.read(segment)
            known = here.any(axis=0)
            before.write(segment, np.where(known, running, np.zeros_like(here)))
            running = running + here
        found.append((before, running))
    return found


def _border(tokens: int, seq_len: int, every: int) -> int:
    """Where the part of a stream set aside begins; below 1 if it is too short."""
    rows = -(-(tokens - 1) // seq_len)
    if rows > 1:
        return (rows - max(1, rows // every)) * seq_len
    return tokens - 1 - max(1, (tokens - 1) // every)
