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
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dga_jax.data import sampler
from dga_jax.prepare.assemble.documents import Documents, View
from dga_jax.prepare.assemble.engine import Engine, OnBytes
from dga_jax.prepare.assemble.folder import Folder
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


@dataclasses.dataclass(frozen=True)
class Table:
    """Numbers by segment, field and domain, as files; 0 where there is no entry.

    Attributes:
      folder: holds a file a segment.
      name: of the table.
      size: k, domains.
    """

    folder: Folder
    name: str
    size: int

    def has(self, segment: Segment) -> bool:
        """Whether the numbers of a segment are there."""
        return self.folder.has(self._file(segment))

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
      parts: its segments.
      size: k, domains.
      group: domains of one group.
      every: of a group's documents, one in so many is set aside. From a group with
        fewer documents the end of its largest stream is, in whole rows where it has
        several; nothing is, where that leaves no token to predict. 0: never anything.
      folder: for tables.
    """

    documents: Documents
    parts: Sequence[Segment]
    size: int
    group: int
    every: int
    folder: Folder

    def table(self, name: str) -> Table:
        """A table by domain."""
        return Table(self.folder, name, self.size)


@dataclasses.dataclass(frozen=True)
class CountDocuments:
    """First pass: an item is the number of a plan, and a segment."""

    plans: Sequence[Plan]

    def __call__(self, item: tuple[int, Segment], on_bytes: OnBytes) -> None:
        """Writes `Counts` of a segment as a table."""
        number, segment = item
        documents, _, size, *_ = plan = self.plans[number]
        table = plan.table(_DOCUMENTS)
        if table.has(segment):
            return
        totals = np.zeros((len(dataclasses.fields(Counts)), size), np.int64)
        for shard in segment.shards:
            for view in documents.of(shard):
                weights = (
                    view.lengths > 0,
                    view.blank,
                    view.text_bytes,
                    np.maximum(view.lengths - 1, 0),
                    view.unknown,
                )
                for field, weight in enumerate(weights):
                    counts = np.bincount(view.domains, weight, size)
                    totals[field] += counts.astype(np.int64)
        table.write(segment, totals)


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
    before: Table

    def start(self, segment: Segment) -> np.ndarray:
        """The rank of the next document of each domain: int64 [k], to be moved on."""
        return self.first + self.before.read(segment)[0]

    def aside(self, view: View, next_rank: np.ndarray) -> np.ndarray:
        """Which documents are set aside, bool [n]; moves `next_rank` on."""
        chosen = np.zeros(len(view.lengths), bool)
        (documents,) = np.nonzero(view.lengths)
        domains = view.domains[documents]
        ranks = next_rank[domains] + sampler.ranks(domains)
        np.add.at(next_rank, domains, 1)
        if self.every:
            chosen[documents] = ranks % self.every == self.every - 1
        return chosen


@dataclasses.dataclass(frozen=True)
class CountTokens:
    """Second pass: an item is the number of a plan, and a segment."""

    plans: Sequence[Plan]
    ranks: Sequence[Ranks]

    def __call__(self, item: tuple[int, Segment], on_bytes: OnBytes) -> None:
        """Writes the tokens kept and set aside by a segment, a table of two fields."""
        number, segment = item
        documents, _, size, *_ = plan = self.plans[number]
        ranks, table = self.ranks[number], plan.table(_TOKENS)
        if table.has(segment):
            return
        next_rank = ranks.start(segment)
        totals = np.zeros(2 * size, np.int64)
        for shard in segment.shards:
            for view in documents.of(shard):
                place = ranks.aside(view, next_rank) * size + view.domains
                counts = np.bincount(place, view.lengths, 2 * size)
                totals += counts.astype(np.int64)
        table.write(segment, totals.reshape(2, size))


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a corpus becomes rows.

    Attributes:
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

    counts: Counts
    ranks: Ranks
    before: Table
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
    items = [(i, part) for i, plan in enumerate(plans) for part in plan.parts]
    # Steps travel: they do not take the segments with them.
    light = [plan._replace(parts=()) for plan in plans]
    engine.map(CountDocuments(light), items, lambda count: None)
    ranks, counts = [], []
    for plan, (before, totals) in zip(
        plans, _summed_up(plans, _DOCUMENTS, engine), strict=True
    ):
        counts.append(Counts(*totals))
        by_group = counts[-1].documents.reshape(-1, plan.group)
        first = (np.cumsum(by_group, axis=1) - by_group).ravel()
        ranks.append(Ranks(first, plan.every, before))
    engine.map(CountTokens(light, ranks), items, lambda count: None)
    summed_up = _summed_up(plans, _TOKENS, engine)
    return [
        _layout(plan, *known, *tokens, seq_len)
        for plan, *known, tokens in zip(plans, counts, ranks, summed_up, strict=True)
    ]


def _layout(plan, counts, ranks, before, tokens, seq_len) -> Layout:
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
    return Layout(counts, ranks, before, starts, stops, cut, seq_len)


def _summed_up(plans, name, engine) -> list[tuple[Table, np.ndarray]]:
    """For each segment of a plan the sums of those before it, and the sums of all.

    Sums before a segment are kept of the domains that it has.
    """
    found = []
    for plan in plans:
        table, before = plan.table(name), plan.table(f"before-{name}")
        running = np.int64(0)
        for segment in plan.parts:
            here = table.read(segment)
            if engine.is_main:
                known = here.any(axis=0)
                before.write(segment, np.where(known, running, np.zeros_like(here)))
            running = running + here
        found.append((before, running))
    engine.meet(f"sums of {name}")
    return found


def _border(tokens, seq_len, every):
    """Where the part of a stream set aside begins; below 1 if it is too short."""
    rows = -(-(tokens - 1) // seq_len)
    if rows > 1:
        return (rows - max(1, rows // every)) * seq_len
    return tokens - 1 - max(1, (tokens - 1) // every)
