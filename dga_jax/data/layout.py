"""Which documents make up which rows: domains, nested in groups, and what is held out.

Domains are those of the finest level, `group` (a stride) of them in a row make a domain
of the coarsest level. Where there is one level the two are the same.
"""

import dataclasses

import numpy as np

from dga_jax.data.token_log import count_rows


@dataclasses.dataclass(frozen=True)
class Streams:
    """What each of k domains has in one split: tokens of its documents, joined.

    Attributes:
      documents: int64 [n], positions in the log, sorted by domain, then as they came.
      bounds: int64 [k+1]; documents[bounds[i]:bounds[i+1]] are domain i's.
      starts: int64 [k], first token of the joined documents that is in the split.
      stops: int64 [k], the end of what is.
    """

    documents: np.ndarray
    bounds: np.ndarray
    starts: np.ndarray
    stops: np.ndarray

    @classmethod
    def of(
        cls, chosen: np.ndarray, domains: np.ndarray, lengths: np.ndarray, count: int
    ) -> "Streams":
        """All tokens of the documents `chosen` (bool [n]) of `count` domains."""
        (documents,) = np.nonzero(chosen)
        documents = documents[np.argsort(domains[documents], kind="stable")]
        owners = domains[documents]
        tokens = np.bincount(owners, lengths[documents], count).astype(np.int64)
        bounds = np.searchsorted(owners, np.arange(count + 1))
        return cls(documents, bounds, np.zeros(count, np.int64), tokens)

    @property
    def tokens(self) -> np.ndarray:
        """int64 [k], tokens of each stream, the first of which no row predicts."""
        return self.stops - self.starts

    @property
    def predicted(self) -> np.ndarray:
        """int64 [k], tokens that the rows predict."""
        return np.maximum(self.tokens - 1, 0)

    def num_rows(self, seq_len: int) -> np.ndarray:
        """int64 [k], rows of each domain."""
        return count_rows(self.tokens, seq_len)


def split_documents(
    domains: np.ndarray,
    lengths: np.ndarray,
    *,
    count: int,
    group: int,
    every: int,
    seq_len: int,
) -> tuple[Streams, Streams, np.ndarray]:
    """Holds out one in `every` documents of each group of domains.

    Groups are gone through domain by domain, so what is held out comes from large and
    small domains alike. From a group with fewer than `every` documents the end of its
    largest stream is held out, in whole rows where it has several: the token at the
    border is in both, and predicted in one.

    Args:
      domains: int64 [n], the finest domain of each document.
      lengths: int64 [n], tokens of each document; those with none are left out.
      count: k, domains.
      group: domains of one group.
      every: of a group's documents, one in so many is held out.
      seq_len: L.

    Returns:
      Streams to keep, streams held out, and the groups that have text but too little
      of it for both, int64.
    """
    held = lengths > 0
    (documents,) = np.nonzero(held)
    documents = documents[np.argsort(domains[documents], kind="stable")]
    groups = domains[documents] // group
    first = np.searchsorted(groups, groups)
    held[documents] = (np.arange(len(documents)) - first) % every == every - 1
    kept = Streams.of(~held & (lengths > 0), domains, lengths, count)
    without = np.setdiff1d(groups, domains[held] // group)
    tails, too_small = {}, []
    for i in without.tolist():
        largest = i * group + int(np.argmax(kept.stops[i * group : (i + 1) * group]))
        tails[largest] = _border(int(kept.stops[largest]), seq_len, every)
        if tails[largest] < 1:
            too_small.append(i)
            del tails[largest]
    cut, borders = (np.array(list(x), np.int64) for x in (tails, tails.values()))
    held |= (lengths > 0) & np.isin(domains, cut)
    aside = Streams.of(held, domains, lengths, count)
    kept.stops[cut], aside.starts[cut] = borders + 1, borders
    return kept, aside, np.array(too_small, np.int64)


def _border(tokens, seq_len, every):
    """Where the held-out part of a stream begins; below 1 if it is too short."""
    rows = int(count_rows(tokens, seq_len))
    if rows > 1:
        return (rows - max(1, rows // every)) * seq_len
    return tokens - 1 - max(1, (tokens - 1) // every)
