"""What a job is asked for, and what it tells."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dga_jax.files import OnBytes
from dga_jax.prepare.assemble.contamination import Contamination


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one domain of the coarsest level, or of the target.

    Attributes:
      name: the domain.
      documents: documents with text.
      blank: documents of which no token comes, which are left out.
      text_bytes: UTF-8 bytes of the documents.
      text_tokens: tokens of the documents, end of text not counted.
      unknown: of these, the tokens of what the tokenizer cannot spell.
      tokens: tokens that its training rows predict.
      rows: training rows (of the target, those it steers by).
      heldout_rows: held-out rows (of the target, those it is evaluated on).
      padding: share of the training rows that is padding.
    """

    name: str
    documents: int
    blank: int
    text_bytes: int
    text_tokens: int
    unknown: int
    tokens: int
    rows: int
    heldout_rows: int
    padding: float


@dataclasses.dataclass(frozen=True)
class LeaveOut:
    """Which documents of the corpus are left out.

    Attributes:
      duplicates: those whose text an earlier one has.
      memory_bytes: that a process may use to find them.
      contamination: None; "report", which only counts those that share n-grams with
        the evaluation documents; or "drop".
      ngram: n, words.
      listed: where to write those left out, a JSON object a line; None: nowhere.
      max_bad: documents of all texts, the target's too, that may be left out for they
        cannot be used, where their shards' fields say `skip_bad`; None: any number.
    """

    duplicates: bool = False
    memory_bytes: int = 1 << 28
    contamination: str | None = None
    ngram: int = 13
    listed: str | None = None
    max_bad: int | None = 0


class PassedOver(NamedTuple):
    """What gave the store nothing.

    Attributes:
      bad: documents that cannot be used, by reason.
      files: of all texts, those without text that meets the filters.
      read: how many files there are.
      domains: named domains without text, or of which all of it is left out.
    """

    bad: dict[str, int]
    files: list[str]
    read: int
    domains: list[str]


class Prepared(NamedTuple):
    """What became of a corpus.

    Attributes:
      outcomes: each domain of the coarsest level, by name, then the target.
      levels: int64 [k], training rows by domain, for each level.
      documents: int64 [k], documents with text of each domain of the finest level.
      branching: children of each cluster by level; empty where domains are named.
      duplicates: documents left out because an earlier one has their text.
      contamination: what was found, if it was looked for.
      passed_over: what gave the store nothing.
      single: domains that are one file each, and have their names from it.
      targets: each target by itself, where there are several.
    """

    outcomes: list[Outcome]
    levels: list[np.ndarray]
    documents: np.ndarray
    branching: tuple[int, ...]
    duplicates: int
    contamination: Contamination | None
    passed_over: PassedOver
    single: list[str]
    targets: list[Outcome]


class Progress(NamedTuple):
    """Who is told how the job goes on.

    Attributes:
      stage: called with what is about to be done.
      on_bytes: called with the number of bytes read, as they are read.
    """

    stage: Callable[[str], object] = lambda name: None
    on_bytes: OnBytes = lambda count: None
