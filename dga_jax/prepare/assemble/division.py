"""How the corpora of a job are divided: domains, splits, files of rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dga_jax.data.store import SPLITS
from dga_jax.prepare.assemble.documents import Documents, Named
from dga_jax.prepare.assemble.engine import Engine
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.layout import Layout, Plan, lay_out, segments
from dga_jax.prepare.assemble.rows import Split
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Shard
from dga_jax.prepare.store_writer import FILE_BYTES, rows_per_file

HELDOUT_EVERY = 20  # of a domain's documents, one in so many is held out
TARGET_EVAL_EVERY = 5  # of the target's, unless it comes with an eval part of its own


class Texts(NamedTuple):
    """What a job reads."""

    generic: Corpus
    target: Corpus
    target_eval: Corpus | None

    @property
    def corpora(self) -> list[Corpus]:
        """Those that are given."""
        return [corpus for corpus in self if corpus]

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets, sorted; () where there is one, whatever its name."""
        names = self.target.given_names
        return tuple(names) if len(names) > 1 else ()

    @property
    def shards(self) -> list[Shard]:
        """Of all of them."""
        return [shard for corpus in self.corpora for shard in corpus.shards]


class GroupedDomains(NamedTuple):
    """Domains of the finest level, `group` of which make one of the coarsest.

    Attributes:
      names: of the coarsest level.
      branching: children of each cluster by level; empty where domains are named.
      group: finest domains of each.
    """

    names: Sequence[str]
    branching: tuple[int, ...]
    group: int


def divided(
    texts: Texts,
    documents: Documents,
    domains: GroupedDomains,
    folder: Folder,
    engine: Engine,
    seq_len: int,
) -> list[Layout]:
    """Where tokens go: of the corpus, the target, its evaluation part if given.

    Args:
      texts: what is read.
      documents: of the corpus.
      domains: of the corpus.
      folder: for tables.
      engine: counts.
      seq_len: L.
    """
    target = Documents(documents.tokenized, Named(texts.targets))
    separate = texts.target_eval is not None
    given = [
        ("generic", documents, HELDOUT_EVERY, (0, 1)),
        ("target", target, 0 if separate else TARGET_EVAL_EVERY, (2, 3)),
        ("target_eval", target, 0, (3, 3)),
    ]
    plans = [
        Plan(
            found,
            splits,
            segments(corpus.shards),
            size=len(domains.names) * domains.group
            if name == "generic"
            else max(1, len(texts.targets)),
            group=domains.group if name == "generic" else 1,
            every=every,
            folder=folder / f"{name}-counts",
        )
        for corpus, (name, found, every, splits) in zip(
            texts.corpora, given, strict=False
        )
    ]
    return lay_out(plans, engine, seq_len)


def splits_of(layouts: Sequence[Layout], seq_len: int, dtype: np.dtype) -> list[Split]:
    """The splits of the store; tokens are of type `dtype`."""
    rows = [0] * len(SPLITS)
    for layout in layouts:
        for side, split in enumerate(layout.plan.splits):
            rows[split] += int(layout.rows[side].sum())
    per_file = rows_per_file(seq_len, dtype, FILE_BYTES)
    return [
        Split(name, count, seq_len + 1, dtype, per_file)
        for name, count in zip(SPLITS, rows, strict=True)
    ]
