"""What is checked before a job takes its time."""

import os
from collections.abc import Sequence

import numpy as np

from dga_jax.errors import UserError
from dga_jax.files import LOCK
from dga_jax.prepare.assemble.folder import Folder, side_by_side
from dga_jax.prepare.assemble.layout import ASIDE, KEPT, Layout
from dga_jax.prepare.assemble.rows import Split
from dga_jax.prepare.assemble.tokenizing import Tokenized
from dga_jax.prepare.corpus import Corpus, no_text
from dga_jax.prepare.sources import Shard
from dga_jax.prepare.sources.shard import real

CLAIM = ".job"  # at a URL, says whose unfinished store it is


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
        for shard in corpus.shards if corpus else ():
            for path in shard.paths:
                if seen.setdefault(real(path), flag) != flag:
                    raise UserError(
                        f"{path} is in both {seen[real(path)]} and {flag}; a text can"
                        " be only one of them"
                    )
    for corpus in filter(None, (generic, target, target_eval)):
        # What is left out of a shard is known by its digest alone.
        if len({shard.digest for shard in corpus.shards}) < len(corpus.shards):
            raise UserError(f"{corpus.shards[0].name}: a file is given twice")


def check_targets(target: Corpus, target_eval: Corpus | None) -> None:
    """Raises UserError if of several targets one has no name, or no evaluation part."""
    names = set(target.given_names)
    checked = {"target": target} if names else {}
    if target_eval and len(names) > 1:
        checked["target_eval"] = target_eval
    for flag, corpus in checked.items():
        if unnamed := [shard.name for shard in corpus.shards if not shard.named]:
            raise UserError(
                f"--{flag}={unnamed[0]} has no name and another target has one; give"
                f" each its own, --{flag}=NAME={unnamed[0]}, or none any"
            )
        if odd := sorted(names.symmetric_difference(corpus.given_names)):
            flags = ("target", "target_eval")
            given, lacking = flags if odd[0] in names else flags[::-1]
            raise UserError(
                f"--{given} names {odd[0]!r} and --{lacking} does not; give each target"
                " to both, or leave --target_eval out"
            )


def check_work(work: Folder, output: Folder, is_given: bool) -> None:
    """Raises UserError if a work directory will not do, or is not ours to remove."""
    if output.is_local and not work.is_local:
        raise UserError(
            f"--work={work} is a URL and --output={output} is not; rows go from one to"
            " the other as files, so give a URL for both or for none"
        )
    if not is_given and work.is_local and os.path.lexists(work.url):
        names = os.listdir(work.url) if os.path.isdir(work.url) else ["a file"]
        if names and LOCK not in names:
            raise UserError(
                f"{work} is there and was not made by this program, which would use and"
                " remove it; move it, or choose another --output or --work"
            )


def check_space_for_tokens(tokenized: Tokenized, shards: Sequence[Shard]) -> None:
    """Raises UserError if there is too little for the tokens of some shards."""
    if tokenized.folder.is_local:
        waiting = [shard for shard in shards if not tokenized.is_done(shard)]
        size = sum(shard.num_bytes for shard in waiting)
        tokenized.folder.check_space(size, "the text")


def check_space_for_rows(folder: Folder, splits: Sequence[Split]) -> None:
    """Raises UserError if a job that has no rows yet has too little space for them."""
    if not (folder / "rows").names():
        sizes = [x.rows * x.record_bytes for x in splits]
        largest = max(x.record_bytes * min(x.rows, x.rows_per_file) for x in splits)
        needed = sum(sizes) + largest
        folder.check_space(needed, "the store, and its rows on their way")


def claim(output: Folder, job: Folder) -> None:
    """Clears what another job left at a URL, where files have their last names."""
    if not output.has(CLAIM) or output.read(CLAIM) != job.url.encode():
        output.remove()
        output.write(CLAIM, job.url.encode())


def check_some_text(tokenized: Tokenized, corpora: Sequence[Corpus]) -> None:
    """Raises UserError if a corpus, or a domain that a user named, has no text."""
    for corpus in corpora:
        counts = side_by_side(tokenized.with_text, corpus.shards)
        if not any(counts):
            raise no_text(corpus)
        named: dict[str, int] = {}
        for shard, count in zip(corpus.shards, counts, strict=True):
            if shard.named:
                named[shard.source] = named.get(shard.source, 0) + count
        for pattern, count in named.items():
            if not count:
                shards = tuple(x for x in corpus.shards if x.source == pattern)
                raise no_text(Corpus(shards, pattern))


def check_enough_text(layouts: Sequence[Layout], targets: Sequence[str] = ()) -> None:
    """Raises UserError if nothing is left of the corpus, or a target has too little.

    A domain that has too little for a part to be held out is trained on as a whole.

    Args:
      layouts: of the corpora.
      targets: their names, where there are several.
    """
    if not layouts[0].predicted[KEPT].any():
        raise UserError(
            "all text of --generic is left out; leave out less, or add some"
        )
    predicted = [layout.predicted for layout in layouts[1:]]
    evaluated = predicted[1][KEPT] if len(predicted) > 1 else predicted[0][ASIDE]
    lacking = np.flatnonzero((predicted[0][KEPT] == 0) | (evaluated == 0))
    for i in lacking.tolist():
        counts = layouts[1].counts
        tokens = int(counts.text_tokens[i] + counts.documents[i])
        name = f" {targets[i]!r}" if targets else ""
        raise UserError(
            f"the target{name} has too little text: {tokens} tokens, of which a part"
            " must be held out for evaluation; add text or leave it out"
        )
