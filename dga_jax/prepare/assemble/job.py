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
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dga_jax.data.domains import ClusterNames
from dga_jax.data.store import FORMAT_VERSION, MANIFEST
from dga_jax.errors import UserError
from dga_jax.files import locked
from dga_jax.prepare.assemble import bad
from dga_jax.prepare.assemble.checks import (
    CLAIM,
    check_distinct,
    check_enough_text,
    check_some_text,
    check_space_for_rows,
    check_space_for_tokens,
    check_targets,
    check_work,
    claim,
)
from dga_jax.prepare.assemble.contamination import Contamination, find_contamination
from dga_jax.prepare.assemble.division import (
    HELDOUT_EVERY,
    TARGET_EVAL_EVERY,
    GroupedDomains,
    Texts,
    divided,
    splits_of,
)
from dga_jax.prepare.assemble.documents import Documents, Named
from dga_jax.prepare.assemble.duplicates import find_duplicates
from dga_jax.prepare.assemble.engine import Engine, Local
from dga_jax.prepare.assemble.finish import (
    finish_store,
    levels_of,
    outcomes_of,
    passed_over,
    single_files,
    targets_of,
)
from dga_jax.prepare.assemble.folder import Folder, side_by_side
from dga_jax.prepare.assemble.layout import Layout, Segment, segments
from dga_jax.prepare.assemble.listing import list_left_out
from dga_jax.prepare.assemble.options import LeaveOut, Prepared, Progress
from dga_jax.prepare.assemble.publish import publish
from dga_jax.prepare.assemble.rows import ScatterTokens, Split, WriteRows
from dga_jax.prepare.assemble.tokenizing import Tokenize, domain_names
from dga_jax.prepare.corpus import Corpus
from dga_jax.tokenizer import Tokenizer

if TYPE_CHECKING:  # it imports JAX and scikit-learn, which takes a second
    from dga_jax.prepare.assemble.clustering import Clustered, ClusterOptions


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
    progress: Progress = Progress(),  # noqa: B008 (a tuple)
) -> Prepared:
    """Turns documents into a store, whole or not at all.

    The same documents in the same order give the same bytes. A job that is stopped
    goes on where it was when it is called again.

    Args:
      generic: the documents to train on.
      target: those to steer by; several targets where shards have several names.
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
      progress: who is told.

    Raises:
      UserError: a file or document that cannot be used, a text without anything in it,
        too little of the target, too little space.
      FileExistsError: `output` exists.
    """
    if seq_len < 1:
        raise UserError(f"seq_len must be at least 1, not {seq_len}")
    check_distinct(generic, target, target_eval)
    check_targets(target, target_eval)
    engine = engine or Local()
    final = Folder.of(output)
    given = Folder.of(work) if work else None
    folder = given or Folder.of(f"{os.fspath(output).rstrip('/')}.work")
    check_work(folder, final, is_given=given is not None)
    exists = os.path.lexists(final.url) if final.is_local else final.has(MANIFEST)
    if exists:
        raise FileExistsError(f"{final} exists")
    texts = Texts(generic, target, target_eval)
    with _held(folder):
        job = _Job(
            texts,
            tokenizer,
            seq_len,
            final,
            clusters,
            leave_out,
            folder,
            engine,
            progress,
        )
        try:
            prepared = job.run()
        except (UserError, KeyboardInterrupt):
            if not given and not job.has_results:
                folder.remove()
            raise
        (job.folder if given else folder).remove()
    return prepared


def _held(folder: Folder) -> contextlib.AbstractContextManager:
    """Holds a local work directory for this job."""
    if folder.is_local:
        return locked(folder.path, "work", "in use by another process")
    return contextlib.nullcontext()


class _Job:
    """The steps of a job, in their order; `folder` is of no use once it is done."""

    def __init__(
        self,
        texts: Texts,
        tokenizer: Tokenizer,
        seq_len: int,
        output: Folder,
        clusters: "ClusterOptions | None",
        leave_out: LeaveOut,
        work: Folder,
        engine: Engine,
        progress: Progress,
    ):
        self._texts, self._tokenizer, self._seq_len = texts, tokenizer, seq_len
        self._output, self._clusters, self._leave_out = output, clusters, leave_out
        self._work, self._engine, self._progress = work, engine, progress
        made_of = f"{Tokenize.written} {tokenizer.digest}"
        made_of = hashlib.sha256(made_of.encode()).hexdigest()
        tokens = work / f"tokens-{made_of[:16]}"
        self._tokenize = Tokenize(tokens, tokenizer, leave_out.max_bad)
        self.folder = work / f"job-{self._digest()}"
        self._duplicates, self._contamination = 0, None

    def _digest(self) -> str:
        """Of all that decides the store."""
        digests = [
            [shard.identity for shard in corpus.shards] if corpus else None
            for corpus in self._texts
        ]
        leave_out = dataclasses.asdict(self._leave_out)
        for passing in ("memory_bytes", "listed", "max_bad"):
            del leave_out[passing]
        parts = [FORMAT_VERSION, Tokenize.written, WriteRows.written, HELDOUT_EVERY]
        parts += [TARGET_EVAL_EVERY, digests]
        parts += [self._tokenizer.digest, self._seq_len, leave_out]
        if self._clusters:
            from dga_jax.prepare.assemble.clustering import model_digest

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
        check_space_for_tokens(self._tokenize.result, self._texts.shards)
        if not self._output.is_local:
            claim(self._output, self.folder)
        self._progress.stage("tokenizing")
        self._engine.map(self._tokenize, self._texts.shards, self._progress.on_bytes)
        self._check_texts()
        documents = self._without_left_out()
        documents, domains, clustered = self._with_domains(documents)
        self._progress.stage("counting")
        layouts = divided(
            self._texts, documents, domains, self.folder, self._engine, self._seq_len
        )
        check_enough_text(layouts, self._texts.targets)
        splits = splits_of(layouts, self._seq_len, self._tokenize.result.dtype)
        self._progress.stage("writing")
        check_space_for_rows(self.folder, splits)
        gather = WriteRows(splits, self._staged, self.folder / "reports")
        items = [
            (number, segment)
            for number in range(len(layouts))
            for segment in segments(self._texts.corpora[number].shards)
        ]
        self._write(layouts, splits, items, gather)
        self._list_left_out(documents)
        self._finish(gather, layouts, domains, clustered)
        return Prepared(
            outcomes_of(layouts, domains),
            [level.num_rows for level in levels_of(layouts[0], domains)],
            layouts[0].counts.documents,
            domains.branching,
            self._duplicates,
            self._contamination,
            passed_over(documents.tokenized, self._texts, domains, layouts[0]),
            single_files(documents.tokenized, self._texts, domains),
            targets_of(layouts, self._texts.targets),
        )

    def _check_texts(self) -> None:
        """Raises UserError if too little can be used of what was tokenized."""
        tokenized = self._tokenize.result
        summaries = tokenized.summaries(self._texts.shards)
        bad.total_of(summaries, self._leave_out.max_bad)
        check_some_text(tokenized, self._texts.corpora)

    def _list_left_out(self, documents: Documents) -> None:
        if self._leave_out.listed:
            others = Documents(documents.tokenized, Named())
            generic, *rest = self._texts.corpora
            corpora = [(generic, documents), *((corpus, others) for corpus in rest)]
            list_left_out(corpora, self._leave_out.listed)

    def _write(
        self,
        layouts: Sequence[Layout],
        splits: Sequence[Split],
        items: Sequence[tuple[int, Segment]],
        gather: WriteRows,
    ) -> None:
        """Writes all files of rows."""
        rows = self.folder / "rows"
        for _ in range(2):
            scatter = ScatterTokens(layouts, splits, self._tokenizer.token_bytes)
            self._engine.shuffle(scatter, items, gather, rows)
            if all(side_by_side(gather.done, gather.keys)):
                return
            # Files that were written before are gone, and so is what they were made of.
            rows.remove()
        raise UserError(
            f"files of rows disappear from {self._staged} as they are written; is"
            " another job at work there?"
        )

    def _finish(
        self,
        gather: WriteRows,
        layouts: Sequence[Layout],
        domains: GroupedDomains,
        clustered: "Clustered | None",
    ) -> None:
        finish_store(
            self._staged,
            self._tokenizer,
            self._seq_len,
            gather,
            layouts,
            domains,
            clustered,
            self._texts,
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
            self._progress.stage("contamination")
            self._contamination = self._find_contamination()
            if options.contamination == "drop":
                dropped.append(self._contamination.places)
        if options.duplicates:
            self._progress.stage("duplicates")
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
            self._progress.on_bytes,
        )
        if options.contamination == "drop" and found.found == found.documents:
            raise UserError(
                "--contamination=drop: every document of --generic shares"
                f" {found.ngram} words in a row with the evaluation documents, none is"
                " left; raise --ngram"
            )
        return found

    def _with_domains(
        self, documents: Documents
    ) -> "tuple[Documents, GroupedDomains, Clustered | None]":
        """The documents with their domains."""
        shards = self._texts.generic.shards
        if not self._clusters:
            names = tuple(domain_names(documents.tokenized, shards))
            documents = dataclasses.replace(documents, domains=Named(names))
            return documents, GroupedDomains(names, (), 1), None
        from dga_jax.prepare.assemble.clustering import cluster_documents

        clustered = cluster_documents(
            documents,
            shards,
            self._clusters,
            self._work,
            self._engine,
            self._progress.stage,
            self._progress.on_bytes,
        )
        documents = dataclasses.replace(documents, domains=clustered.assigned)
        branching = self._clusters.branching
        group = int(np.prod(branching[1:]))
        domains = GroupedDomains(ClusterNames(branching[:1]), branching, group)
        return documents, domains, clustered
