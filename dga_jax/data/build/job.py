"""Builds a store from text, in steps that any engine runs and that are done once.

A work directory holds

    tokens-TOKENIZER/   see `tokenizing`
    tfidf-..., minilm-..., tree-...   see `clustering`
    job-DIGEST/         of all that decides the store: what is left out, tables of
                        counts, rows on their way, and the store as far as it is made

Names of files and folders depend on what their content depends on, so what belongs to
another job is never taken for this one's.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dga_jax.data.build.checks import (
    CLAIM,
    check_distinct,
    check_enough_text,
    check_space_for_rows,
    check_space_for_tokens,
    check_work,
    claim,
)
from dga_jax.data.build.contamination import Contamination, find_contamination
from dga_jax.data.build.contract import LeaveOut, Prepared, Watch
from dga_jax.data.build.documents import Documents, Named
from dga_jax.data.build.duplicates import find_duplicates
from dga_jax.data.build.engine import Engine, Local
from dga_jax.data.build.finish import (
    GroupedDomains,
    finish_store,
    levels_of,
    list_left_out,
    parts_of,
)
from dga_jax.data.build.folder import Folder, side_by_side
from dga_jax.data.build.layout import Plan, lay_out, segments
from dga_jax.data.build.rows import Gather, Place, Placed, Split
from dga_jax.data.build.staging import publish
from dga_jax.data.build.tokenizing import Tokenize, check_some_left, domain_names
from dga_jax.data.corpus import Corpus
from dga_jax.data.sources import Shard
from dga_jax.data.store import FORMAT_VERSION, MANIFEST, SPLITS, ClusterNames
from dga_jax.data.store_writer import SHARD_BYTES, rows_per_file
from dga_jax.data.tokenizer import Tokenizer
from dga_jax.errors import UserError
from dga_jax.files import locked

if TYPE_CHECKING:  # it imports JAX and scikit-learn, which takes a second
    from dga_jax.data.build.clustering import Clustered, ClusterOptions

HELDOUT_EVERY = 20  # of a domain's documents, one in so many is held out
TARGET_EVAL_EVERY = 5  # of the target's, unless it comes with an eval part of its own


def prepare_store(
    *,
    generic: Corpus,
    target: Corpus,
    target_eval: Corpus | None = None,
    tokenizer: Tokenizer,
    seq_len: int,
    output: str | os.PathLike,
    clusters: "ClusterOptions | None" = None,
    leave_out: LeaveOut = LeaveOut(),  # noqa: B008 (frozen)
    work: str | os.PathLike | None = None,
    engine: Engine | None = None,
    watch: Watch = Watch(),  # noqa: B008 (a tuple)
) -> Prepared:
    """Turns documents into a store, whole or not at all.

    The same documents in the same order give the same bytes. A job that is stopped
    goes on where it was when it is called again.

    Args:
      generic: the documents to train on.
      target: those to steer by.
      target_eval: those to evaluate the target on; without them, every fifth document
        of the target.
      tokenizer: makes tokens of text.
      seq_len: L; rows have L + 1 tokens.
      output: where the store will be; must not exist.
      clusters: make clusters the domains; None: documents name theirs.
      leave_out: documents of `generic` that are not used.
      work: keeps tokens, embeddings and trees; None: OUTPUT.work, removed at the end,
        and after an error that leaves nothing in it.
      engine: runs the steps; None: this process.
      watch: who is told.

    Raises:
      UserError: a file that cannot be used, a domain or target without enough text, too
        little space.
      FileExistsError: `output` exists.
    """
    if seq_len < 1:
        raise UserError(f"seq_len must be at least 1, not {seq_len}")
    check_distinct(generic, target, target_eval)
    engine = engine or Local()
    final = Folder.of(output)
    kept = Folder.of(work) if work else None
    folder = kept or Folder.of(f"{os.fspath(output).rstrip('/')}.work")
    check_work(folder, final, is_given=kept is not None)
    exists = os.path.lexists(final.url) if final.is_local else final.has(MANIFEST)
    if engine.agree(exists):
        raise FileExistsError(f"{final} exists")
    texts = _Texts(generic, target, target_eval)
    with _held(folder, engine):
        job = _Job(
            texts, tokenizer, seq_len, final, clusters, leave_out, folder, engine, watch
        )
        try:
            prepared = job.run()
        except (UserError, KeyboardInterrupt):
            if not kept and engine.is_main and not job.has_results:
                folder.remove()
            raise
        if engine.is_main:
            (job.folder if kept else folder).remove()
    return prepared


def _held(folder: Folder, engine: Engine):
    """Holds a local work directory for this job."""
    if folder.is_local and engine.is_main:
        return locked(folder.path, "work", "in use by another process")
    return contextlib.nullcontext()


class _Texts(NamedTuple):
    """What a job reads."""

    generic: Corpus
    target: Corpus
    target_eval: Corpus | None

    @property
    def corpora(self) -> list[Corpus]:
        return [corpus for corpus in self if corpus]

    @property
    def shards(self) -> list[Shard]:
        return [shard for corpus in self.corpora for shard in corpus.shards]


class _Job:
    """The steps of a job, in their order; `folder` is of no use once it is done."""

    def __init__(
        self,
        texts,
        tokenizer,
        seq_len,
        output,
        clusters,
        leave_out,
        work,
        engine,
        watch,
    ):
        self._texts, self._tokenizer, self._seq_len = texts, tokenizer, seq_len
        self._output, self._clusters, self._leave_out = output, clusters, leave_out
        self._work, self._engine, self._watch = work, engine, watch
        made_of = f"{Tokenize.written} {tokenizer.digest}"
        made_of = hashlib.sha256(made_of.encode()).hexdigest()
        self._tokenize = Tokenize(work / f"tokens-{made_of[:16]}", tokenizer)
        self.folder = work / f"job-{self._digest()}"
        self._duplicates, self._contamination = 0, None

    def _digest(self) -> str:
        """Of all that decides the store."""
        digests = [
            [shard.digest for shard in corpus.shards] if corpus else None
            for corpus in self._texts
        ]
        leave_out = dataclasses.asdict(self._leave_out)
        for passing in ("memory_bytes", "listed"):
            del leave_out[passing]
        parts = [FORMAT_VERSION, Tokenize.written, Gather.written, HELDOUT_EVERY]
        parts += [TARGET_EVAL_EVERY, digests]
        parts += [self._tokenizer.digest, self._seq_len, leave_out]
        if self._clusters:
            from dga_jax.data.build.clustering import model_digest

            options = dataclasses.asdict(self._clusters)
            parts += [options | {"model": model_digest(self._clusters)}]
        if not self._output.is_local:
            parts.append(self._output.url)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @property
    def has_results(self) -> bool:
        """Whether there is something to go on from."""
        tokenized = self._tokenize.result
        return any(tokenized.of(shard).names() for shard in self._texts.shards)

    def run(self) -> Prepared:
        """Runs all steps."""
        if self._engine.is_main:
            check_space_for_tokens(self._tokenize.result, self._texts.shards)
            if not self._output.is_local:
                claim(self._output, self.folder)
        self._watch.stage("tokenizing")
        self._engine.map(self._tokenize, self._texts.shards, self._watch.on_bytes)
        check_some_left(self._tokenize.result, self._texts.generic.shards)
        documents = self._without_left_out()
        documents, domains, clustered = self._grouped(documents)
        self._watch.stage("counting")
        placed = self._laid_out(documents, domains)
        splits = self._splits(placed)
        self._watch.stage("writing")
        if self._engine.is_main:
            check_space_for_rows(self.folder, splits)
        gather = Gather(splits, self._staged, self.folder / "reports")
        items = [
            (number, segment)
            for number, one in enumerate(placed)
            for segment in segments(self._texts.corpora[number].shards)
        ]
        self._write(placed, splits, items, gather)
        if self._engine.is_main:
            if self._leave_out.listed:
                shards = self._texts.generic.shards
                list_left_out(documents, shards, self._leave_out.listed)
            self._finish(gather, placed, domains, clustered)
        self._engine.meet("end")
        return Prepared(
            parts_of(placed, domains),
            [level.num_rows for level in levels_of(placed[0].layout, domains)],
            placed[0].layout.counts.documents,
            domains.branching,
            self._duplicates,
            self._contamination,
        )

    def _write(self, placed, splits, items, gather) -> None:
        """Writes all files of rows."""
        rows = self.folder / "rows"
        for _ in range(2):
            place = Place(placed, splits, self._tokenizer.token_bytes)
            self._engine.shuffle(place, items, gather, rows)
            missing = not all(side_by_side(gather.done, gather.keys))
            if not self._engine.agree(missing):
                return
            # Files that were written before are gone, and so is what they were made of.
            if self._engine.is_main:
                rows.remove()
            self._engine.meet("once more")
        raise UserError(
            f"files of rows disappear from {self._staged} as they are written; is"
            " another job at work there?"
        )

    def _finish(self, gather, placed, domains, clustered) -> None:
        finish_store(
            self._staged,
            self._tokenizer,
            self._seq_len,
            gather,
            placed,
            domains,
            clustered,
            self._texts.target,
        )
        if self._output.is_local:
            for path in self._staged.path.glob(".*"):  # of a write that was killed
                path.unlink()
            publish(self._staged.path, self._output.path)
        else:
            self._output.delete(CLAIM)

    @property
    def _staged(self) -> Folder:
        """Where the files of the store are until all are there."""
        return self.folder / "store" if self._output.is_local else self._output

    def _without_left_out(self) -> Documents:
        """The documents of the corpus, each a domain of its own name yet."""
        tokenized, dropped = self._tokenize.result, []
        options, shards = self._leave_out, self._texts.generic.shards
        if options.contamination:
            self._watch.stage("contamination")
            self._contamination = self._find_contamination()
            if options.contamination == "drop":
                dropped.append(self._contamination.places)
        if options.duplicates:
            self._watch.stage("duplicates")
            found, self._duplicates = find_duplicates(
                tokenized,
                shards,
                self._engine,
                self.folder / "duplicates",
                options.memory_bytes,
            )
            dropped.append(found)
        return Documents(tokenized, Named(), tuple(dropped))

    def _find_contamination(self) -> Contamination:
        options = self._leave_out
        found = find_contamination(
            self._texts.generic.shards,
            self._texts.target_eval or self._texts.target,
            options.ngram,
            self._engine,
            self.folder / "contamination",
            self._watch.on_bytes,
        )
        if options.contamination == "drop" and found.found == found.documents:
            raise UserError(
                "--contamination=drop: every document of --generic shares"
                f" {found.ngram} words in a row with the evaluation documents, none is"
                " left; raise --ngram"
            )
        return found

    def _grouped(
        self, documents
    ) -> "tuple[Documents, GroupedDomains, Clustered | None]":
        """The documents with their domains."""
        shards = self._texts.generic.shards
        if not self._clusters:
            names = tuple(domain_names(documents.tokenized, shards))
            documents = dataclasses.replace(documents, grouping=Named(names))
            return documents, GroupedDomains(names, (), 1), None
        from dga_jax.data.build.clustering import cluster_documents

        clustered = cluster_documents(
            documents,
            shards,
            self._clusters,
            self._work,
            self._engine,
            self._watch.stage,
            self._watch.on_bytes,
        )
        documents = dataclasses.replace(documents, grouping=clustered.assigned)
        branching = self._clusters.branching
        group = int(np.prod(branching[1:]))
        domains = GroupedDomains(ClusterNames(branching[:1]), branching, group)
        return documents, domains, clustered

    def _laid_out(self, documents: Documents, domains: GroupedDomains) -> list[Placed]:
        """Where tokens go: of the corpus, the target, its evaluation part if given."""
        target = Documents(documents.tokenized, Named())
        separate = self._texts.target_eval is not None
        given = [
            ("generic", documents, HELDOUT_EVERY, (0, 1)),
            ("target", target, 0 if separate else TARGET_EVAL_EVERY, (2, 3)),
            ("target_eval", target, 0, (3, 3)),
        ]
        plans = [
            Plan(
                found,
                segments(corpus.shards),
                size=len(domains.names) * domains.group if name == "generic" else 1,
                group=domains.group if name == "generic" else 1,
                every=every,
                folder=self.folder / f"{name}-counts",
            )
            for corpus, (name, found, every, _) in zip(
                self._texts.corpora, given, strict=False
            )
        ]
        placed = [
            Placed(found, layout, splits)
            for layout, (_, found, _, splits) in zip(
                lay_out(plans, self._engine, self._seq_len), given, strict=False
            )
        ]
        check_enough_text(placed, domains)
        return placed

    def _splits(self, placed: list[Placed]) -> list[Split]:
        rows = [0] * len(SPLITS)
        for one in placed:
            for side, split in enumerate(one.splits):
                rows[split] += int(one.layout.rows[side].sum())
        dtype = self._tokenize.result.dtype
        per_file = rows_per_file(self._seq_len, dtype, SHARD_BYTES)
        return [
            Split(name, count, self._seq_len + 1, dtype, per_file)
            for name, count in zip(SPLITS, rows, strict=True)
        ]
