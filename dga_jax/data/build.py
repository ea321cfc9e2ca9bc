"""Builds a store from files of text: group, tokenize, split, cut into rows, write."""

import dataclasses
import itertools
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dga_jax.data.corpus import Corpus
from dga_jax.data.layout import Streams, split_documents
from dga_jax.data.staging import staged
from dga_jax.data.store import (
    TARGET_HISTOGRAM,
    TREE,
    ClusterNames,
    Domains,
    coarsened,
)
from dga_jax.data.store_writer import StoreWriter
from dga_jax.data.token_log import TokenLog, TokenReader, cut_rows
from dga_jax.data.tokenizer import Tokenizer
from dga_jax.errors import UserError

if TYPE_CHECKING:  # it imports JAX and scikit-learn, which takes a second
    from dga_jax.data.clustering import Clustered

HELDOUT_EVERY = 20  # of a domain's documents, one in so many is held out
TARGET_EVAL_EVERY = 5  # of the target's, unless it comes with an eval part of its own
_TARGET = "target"


@dataclasses.dataclass(frozen=True)
class Part:
    """What became of one domain of the coarsest level, or of the target.

    Attributes:
      name: the domain.
      documents: documents with text.
      blank: documents without, which are left out.
      text_bytes: UTF-8 bytes of the documents.
      text_tokens: tokens of the documents, end of text not counted.
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
    tokens: int
    rows: int
    heldout_rows: int
    padding: float


def prepare_store(
    *,
    generic: Corpus,
    target: Corpus,
    target_eval: Corpus | None = None,
    tokenizer: Tokenizer,
    seq_len: int,
    output: pathlib.Path,
    clustered: "Clustered | None" = None,
) -> list[Part]:
    """Turns documents into a store, whole or not at all.

    The same documents in the same order give the same bytes.

    Args:
      generic: the documents to train on.
      target: those to steer by.
      target_eval: those to evaluate the target on; without them, every fifth document
        of the target.
      tokenizer: makes tokens of text.
      seq_len: L; rows have L + 1 tokens.
      output: where the store will be; must not exist.
      clustered: makes clusters the domains; without it, documents name theirs.

    Returns:
      Each domain of the coarsest level, by name, then the target.

    Raises:
      UserError: a file that cannot be used, a domain or target without enough text, too
        little space.
      FileExistsError: `output` exists.
    """
    if seq_len < 1:
        raise UserError(f"seq_len must be at least 1, not {seq_len}")
    check_distinct(generic, target, target_eval)
    corpora = [generic, target, *([target_eval] if target_eval else [])]
    shards = itertools.chain.from_iterable(corpus.shards for corpus in corpora)
    with staged(output) as staging:
        _check_space(staging, sum(shard.num_bytes for shard in shards), "the text")
        writer = StoreWriter(staging, tokenizer, seq_len)
        build = _Build(writer, staging / "tokens.log", tokenizer, seq_len)
        domains = build.generic(generic, clustered)
        steered = build.target(target, target_eval)
        parts = build.write(domains, steered)
        if clustered:
            _add_clusters(writer, staging, clustered, target, domains, steered)
        writer.finish()
        (staging / "tokens.log").unlink()
    return parts


def check_distinct(generic: Corpus, target: Corpus, target_eval: Corpus | None) -> None:
    """No file may be trained on and steered by, or steered by and evaluated on.

    Raises:
      UserError: one is, or there is no file at all.
    """
    seen = {}
    for flag, corpus in [
        ("generic", generic),
        ("target", target),
        ("target_eval", target_eval),
    ]:
        if corpus and not corpus.shards:
            raise UserError(f"no file given for {flag}")
        shards = corpus.shards if corpus else ()
        for path in itertools.chain.from_iterable(shard.paths for shard in shards):
            if seen.setdefault(os.path.realpath(path), flag) != flag:
                raise UserError(
                    f"{path} is in both {seen[os.path.realpath(path)]} and {flag}; a"
                    " text can be only one of them"
                )


def _check_space(directory: pathlib.Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise UserError(
            f"not enough disk in {directory.parent}: {what} takes {needed / 1e6:,.0f}"
            f" MB, {free / 1e6:,.0f} MB are free; free some or choose another disk"
        )


class _Texts(NamedTuple):
    """Documents in the log: domain, UTF-8 bytes and tokens of each, int64 [n]."""

    domains: np.ndarray
    text_bytes: np.ndarray
    lengths: np.ndarray


class _Grouped(NamedTuple):
    """Domains, `group` of which make one of the coarsest level, and what they hold."""

    names: Sequence[str]
    branching: tuple[int, ...]
    group: int
    texts: _Texts
    reader: TokenReader
    kept: Streams
    aside: Streams


class _Build:
    """Tokenizes documents and writes them as rows."""

    def __init__(self, writer, log_path, tokenizer, seq_len):
        self._writer, self._path = writer, log_path
        self._tokenizer, self._seq_len = tokenizer, seq_len

    def generic(self, corpus: Corpus, clustered: "Clustered | None") -> _Grouped:
        """Tokenizes the corpus; one document in twenty is set aside."""
        names: dict[str, int] = {}
        log = TokenLog(self._path, self._writer.dtype)
        domains, text_bytes = self._tokenize(corpus, log, names)
        if clustered:
            branching = clustered.tree.branching
            names, group = ClusterNames(branching[:1]), int(np.prod(branching[1:]))
            domains = np.asarray(clustered.assignments)
        else:
            order = sorted(names)
            rank = np.argsort([names[name] for name in order])
            branching, group, domains = (), 1, rank[domains]
            names = order
        texts = _Texts(domains, text_bytes, log.lengths)
        kept, aside, too_small = self._split(
            texts, len(names) * group, group, HELDOUT_EVERY
        )
        too_small = np.append(too_small, np.flatnonzero(kept.predicted == 0))
        if too_small.size and not clustered:
            raise _too_little(f"domain {names[too_small[0]]!r}", texts, too_small[0])
        reader = log.reader()
        return _Grouped(names, branching, group, texts, reader, kept, aside)

    def target(self, corpus: Corpus, evaluation: Corpus | None) -> _Grouped:
        """Tokenizes the target; its evaluation part follows it in one log."""
        log = TokenLog(self._path.with_name("target.log"), self._writer.dtype)
        _, text_bytes = self._tokenize(corpus, log, {})
        count = len(text_bytes)
        if evaluation:
            text_bytes = np.append(text_bytes, self._tokenize(evaluation, log, {})[1])
        texts = _Texts(np.zeros(len(text_bytes), np.int64), text_bytes, log.lengths)
        if evaluation:
            first = np.arange(len(text_bytes)) < count
            kept, aside = (
                Streams.of(chosen & (texts.lengths > 0), *texts[::2], 1)
                for chosen in (first, ~first)
            )
            texts = _Texts(*(x[:count] for x in texts))
        else:
            kept, aside, _ = self._split(texts, 1, 1, TARGET_EVAL_EVERY)
        if not (kept.predicted.all() and aside.predicted.all()):
            raise _too_little("the target", texts, 0)
        return _Grouped([_TARGET], (), 1, texts, log.reader(), kept, aside)

    def write(self, generic: _Grouped, target: _Grouped) -> list[Part]:
        """Writes rows and domains."""
        record_bytes = (self._seq_len + 1) * self._writer.dtype.itemsize
        splits = {
            "train": (generic.kept, generic.reader),
            "heldout": (generic.aside, generic.reader),
            "target": (target.kept, target.reader),
            "target_eval": (target.aside, target.reader),
        }
        rows = {k: v.num_rows(self._seq_len) for k, (v, _) in splits.items()}
        total = sum(int(x.sum()) for x in rows.values())
        _check_space(self._path.parent, total * record_bytes, "the store")
        for split, (streams, reader) in splits.items():
            blocks = self._rows(streams, reader)
            self._writer.write_split(split, int(rows[split].sum()), blocks)
        finest = Domains(
            names=generic.names,
            offsets=np.cumsum([0, *rows["train"]]),
            heldout_offsets=np.cumsum([0, *rows["heldout"]]),
            tokens=generic.kept.predicted,
        )
        self._write_levels(finest, generic.branching)
        self._path.with_name("target.log").unlink()
        return [*self._parts(generic), *self._parts(target)]

    def _write_levels(self, finest: Domains, branching: tuple[int, ...]) -> None:
        for level in range(max(len(branching), 1)):
            if branching:
                names = ClusterNames(branching[: level + 1])
                self._writer.write_level(coarsened(finest, names))
            else:
                self._writer.write_level(finest)

    def _tokenize(self, corpus, log, names) -> tuple[np.ndarray, np.ndarray]:
        """Appends a corpus to a log; int64 [n] numbers of domains, and bytes."""
        domains, text_bytes = [], []
        for batch in corpus.batches():
            texts = [document.text if document.num_bytes else "" for document in batch]
            encoded = self._tokenizer.encode_batch(texts)
            end = self._tokenizer.end_of_text
            log.append([np.append(x, end) if len(x) else x for x in encoded])
            domains += [names.setdefault(d.domain, len(names)) for d in batch]
            text_bytes += [d.num_bytes for d in batch]
        return np.array(domains, np.int64), np.array(text_bytes, np.int64)

    def _split(self, texts: _Texts, count: int, group: int, every: int):
        return split_documents(
            texts.domains,
            texts.lengths,
            count=count,
            group=group,
            every=every,
            seq_len=self._seq_len,
        )

    def _rows(self, streams: Streams, reader: TokenReader) -> Iterator[np.ndarray]:
        for i in np.flatnonzero(streams.predicted):
            documents = streams.documents[streams.bounds[i] : streams.bounds[i + 1]]
            pieces = reader.read(documents, streams.starts[i], streams.stops[i])
            yield from cut_rows(pieces, self._seq_len, self._writer.pad)

    def _parts(self, grouped: _Grouped) -> Iterator[Part]:
        texts, count = grouped.texts, len(grouped.names)
        owner, has_text = texts.domains // grouped.group, texts.lengths > 0

        def by_document(values):
            return np.bincount(owner, values, count).astype(np.int64).tolist()

        def by_domain(values):
            return values.reshape(count, -1).sum(axis=1).tolist()

        columns = zip(
            grouped.names,
            by_document(has_text),
            by_document(~has_text),
            by_document(texts.text_bytes),
            by_document(np.maximum(texts.lengths - 1, 0)),
            by_domain(grouped.kept.predicted),
            by_domain(grouped.kept.num_rows(self._seq_len)),
            by_domain(grouped.aside.num_rows(self._seq_len)),
            strict=True,
        )
        for *counts, tokens, rows, heldout_rows in columns:
            padding = 1 - tokens / (rows * self._seq_len) if rows else 0.0
            yield Part(*counts, tokens, rows, heldout_rows, padding)


def _too_little(what: str, texts: _Texts, domain: int) -> UserError:
    tokens = int(texts.lengths[texts.domains == domain].sum())
    return UserError(
        f"{what} has too little text: {tokens} tokens, of which a part must be held out"
        " for evaluation; add text or leave it out"
    )


def _add_clusters(writer, staging, clustered, corpus, domains, steered) -> None:
    """What it takes to put more documents into the clusters, and the target's own."""
    from dga_jax.clusters.histogram import count_documents  # imports JAX

    embedder, tree, _ = clustered
    tree.save(staging / TREE)
    steers = set(steered.kept.documents.tolist())
    position = itertools.count()
    batches = (
        [(_TARGET, document.text) for document in batch if next(position) in steers]
        for batch in corpus.batches()
    )
    allowed = domains.kept.predicted > 0
    histogram = count_documents(embedder, tree, filter(None, batches), allowed)
    np.savez(staging / TARGET_HISTOGRAM, **histogram.arrays())
    files = [*embedder.save(staging), TREE, TARGET_HISTOGRAM]
    writer.add_clusters(tree.branching, embedder.kind, embedder.digest, files)
