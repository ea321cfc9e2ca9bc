"""What makes rows a store: domains, embedder and tree, the manifest; and a report."""

import collections
import itertools
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dga_jax.data.domains import ClusterNames, Domains, coarsened
from dga_jax.data.store import MANIFEST, TARGET_HISTOGRAM, TREE
from dga_jax.errors import UserError
from dga_jax.prepare.assemble import bad
from dga_jax.prepare.assemble.division import GroupedDomains, Texts
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.layout import ASIDE, KEPT, Layout
from dga_jax.prepare.assemble.options import Outcome, PassedOver
from dga_jax.prepare.assemble.rows import WriteRows
from dga_jax.prepare.assemble.tokenizing import Tokenized
from dga_jax.prepare.sources.shard import Format
from dga_jax.prepare.store_writer import StoreWriter
from dga_jax.tokenizer import Tokenizer

if TYPE_CHECKING:  # it imports JAX and scikit-learn, which takes a second
    from dga_jax.prepare.assemble.clustering import Clustered

_TARGET = "target"


def finish_store(
    staged: Folder,
    tokenizer: Tokenizer,
    seq_len: int,
    gather: WriteRows,
    layouts: Sequence[Layout],
    domains: GroupedDomains,
    clustered: "Clustered | None",
    texts: Texts,
) -> None:
    """Writes all that is no row; the manifest comes last.

    Raises:
      UserError: rows are not those of the layout, as after damage to files on the way.
    """
    wanted = [0] * len(gather.splits)
    for layout in layouts:
        for side, split in enumerate(layout.plan.splits):
            wanted[split] += int(layout.predicted[side].sum())
    for number, (split, tokens) in enumerate(zip(gather.splits, wanted, strict=True)):
        found = sum(report["tokens"] for report in gather.of_split(number))
        if found != tokens:
            raise UserError(
                f"the rows of {split.name} hold {found:,} tokens, not {tokens:,}: what"
                f" was made on the way is damaged; remove {gather.reports} and run"
                " again"
            )
    try:
        with tempfile.TemporaryDirectory() as aside:
            directory = pathlib.Path(aside)
            writer = StoreWriter(directory, tokenizer, seq_len)
            for number, split in enumerate(gather.splits):
                writer.add_split(
                    split.name,
                    split.rows,
                    gather.of_split(number),
                    gather.row_bytes(number),
                )
            for level in levels_of(layouts[0], domains):
                writer.write_level(level)
            if texts.targets:
                writer.add_targets(texts.targets, *_target_offsets(layouts))
            if clustered:
                _add_clusters(writer, directory, clustered, texts, layouts)
            writer.add_counts(_counts(outcomes_of(layouts, domains)))
            writer.finish()
            names = sorted(os.listdir(directory), key=lambda name: name == MANIFEST)
            for name in names:
                staged.write(name, (directory / name).read_bytes())
    except OSError as error:
        raise UserError(
            f"cannot write the store: {error}; free some space and run again"
        ) from error


def levels_of(layout: Layout, domains: GroupedDomains) -> list[Domains]:
    """The domains of every level, the coarsest first."""
    offsets = layout.offsets
    if not domains.branching:
        here = present(layout)
        ends = np.append(0, here + 1)
        return [
            Domains(
                names=tuple(domains.names[i] for i in here),
                offsets=offsets[KEPT, ends],
                heldout_offsets=offsets[ASIDE, ends],
                tokens=layout.predicted[KEPT, here],
            )
        ]
    finest = Domains(
        names=domains.names,
        offsets=offsets[KEPT],
        heldout_offsets=offsets[ASIDE],
        tokens=layout.predicted[KEPT],
    )
    return [
        coarsened(finest, ClusterNames(domains.branching[: level + 1]))
        for level in range(len(domains.branching))
    ]


def present(layout: Layout) -> np.ndarray:
    """The domains that have a token to predict, int64."""
    return np.flatnonzero(layout.predicted[KEPT])


def outcomes_of(layouts: Sequence[Layout], domains: GroupedDomains) -> list[Outcome]:
    """What became of each domain of the coarsest level, and of the target."""
    generic, target, *_ = layouts
    outcomes = list(_outcomes(generic, domains.names, generic.rows[ASIDE]))
    if not domains.branching:
        outcomes = [outcomes[i] for i in present(generic)]
    return [*outcomes, *_outcomes(target, [_TARGET], _evaluated(layouts))]


def targets_of(layouts: Sequence[Layout], names: Sequence[str]) -> list[Outcome]:
    """What became of each target, where there are several of these names."""
    shown = [f"{_TARGET} {name}" for name in names]
    return list(_outcomes(layouts[1], shown, _evaluated(layouts))) if names else []


def _evaluated(layouts: Sequence[Layout]) -> np.ndarray:
    """int64 [n], rows that each target is evaluated on."""
    return np.diff(_target_offsets(layouts)[1])


def _target_offsets(layouts: Sequence[Layout]) -> tuple[np.ndarray, np.ndarray]:
    """int64 [n+1], which rows are each target's: those it steers by, and the others."""
    _, target, *evaluation = layouts
    aside = evaluation[0].offsets[KEPT] if evaluation else target.offsets[ASIDE]
    return target.offsets[KEPT], aside


def _outcomes(
    layout: Layout, names: Sequence[str], heldout: np.ndarray
) -> Iterator[Outcome]:
    counts, L = layout.counts, layout.seq_len
    fields = (
        counts.documents,
        counts.blank,
        counts.text_bytes,
        counts.text_tokens,
        counts.unknown,
        layout.predicted[KEPT],
        layout.rows[KEPT],
        heldout,
    )
    sums = [field.reshape(len(names), -1).sum(axis=1).tolist() for field in fields]
    for name, *values in zip(names, *sums, strict=True):
        *_, tokens, rows, _ = values
        yield Outcome(name, *values, padding=1 - tokens / (rows * L) if rows else 0.0)


def passed_over(
    tokenized: Tokenized, texts: Texts, domains: GroupedDomains, layout: Layout
) -> PassedOver:
    """What gave the store nothing; of files of text, those are blank documents."""
    shards = texts.shards
    summaries = tokenized.summaries(shards)
    empty = [
        shard.name
        for shard, summary in zip(shards, summaries, strict=True)
        if not summary["with_text"] and shard.format is not Format.TEXT
    ]
    absent = []
    if not domains.branching:
        numbers = np.setdiff1d(np.arange(len(domains.names)), present(layout))
        absent = [domains.names[i] for i in numbers]
    return PassedOver(
        bad.total_of(summaries, limit=None),
        empty,
        sum(len(shard.paths) for shard in shards),
        absent,
    )


def single_files(
    tokenized: Tokenized, texts: Texts, domains: GroupedDomains
) -> list[str]:
    """Domains that are one file each, and have their names from it; sorted."""
    if domains.branching:
        return []
    files: collections.Counter[str] = collections.Counter()
    shards = texts.generic.shards
    summaries = tokenized.summaries(shards)
    for shard, summary in zip(shards, summaries, strict=True):
        for name, sources in summary["domains"].items():
            by_name = shard.source in sources and not shard.named
            files[name] += len(shard.paths) if by_name else 2  # not to be counted
    return sorted(name for name, count in files.items() if count == 1)


def _counts(outcomes: Sequence[Outcome]) -> dict:
    """Sums over the domains, and what the target has, for the manifest."""
    *domains, target = outcomes
    fields = ("documents", "blank", "text_bytes", "text_tokens", "unknown")
    return {
        name: {field: sum(getattr(one, field) for one in given) for field in fields}
        for name, given in (("generic", domains), (_TARGET, [target]))
    }


def _add_clusters(
    writer: StoreWriter,
    directory: pathlib.Path,
    clustered: "Clustered",
    texts: Texts,
    layouts: Sequence[Layout],
) -> None:
    """What it takes to put more documents into the clusters, and the targets' own."""
    from dga_jax.prepare.clusters.counting import count_documents  # imports JAX

    embedder, tree, _ = clustered
    tree.save(directory / TREE)
    ranks = layouts[1].ranks
    next_rank = ranks.first.copy()
    steering = itertools.chain.from_iterable(
        ((piece.lengths > 0) & ~ranks.aside(piece, next_rank)).tolist()
        for shard in texts.target.shards
        for piece in layouts[1].plan.documents.of(shard)
    )
    batches = (
        [
            (document.domain if texts.targets else _TARGET, document.text)
            for document, steers in zip(batch, steering, strict=False)
            if steers
        ]
        for batch in texts.target.batches()
    )
    histogram = count_documents(
        embedder,
        tree,
        filter(None, batches),
        allowed=layouts[0].predicted[KEPT] > 0,
    )
    np.savez(directory / TARGET_HISTOGRAM, **histogram.arrays())
    files = [*embedder.save(directory), TREE, TARGET_HISTOGRAM]
    writer.add_clusters(tree.branching, embedder.kind, embedder.digest, files)
