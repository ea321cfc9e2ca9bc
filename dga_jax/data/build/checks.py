"""What is checked before a job takes its time."""

import os
from collections.abc import Sequence

import numpy as np

from dga_jax.data.build.finish import GroupedDomains
from dga_jax.data.build.folder import Folder
from dga_jax.data.build.layout import ASIDE, KEPT, Layout
from dga_jax.data.build.rows import Placed, Split
from dga_jax.data.build.tokenizing import Tokenized
from dga_jax.data.corpus import Corpus
from dga_jax.data.sources import Shard
from dga_jax.data.sources.shard import real
from dga_jax.errors import UserError
from dga_jax.files import LOCK

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
        needed = sum(sizes) + 2 * largest
        folder.check_space(needed, "the store, and its rows on their way")


def claim(output: Folder, job: Folder) -> None:
    """Clears what another job left at a URL, where files have their last names."""
    if not output.has(CLAIM) or output.read(CLAIM) != job.url.encode():
        output.remove()
        output.write(CLAIM, job.url.encode())


def check_enough_text(placed: Sequence[Placed], domains: GroupedDomains) -> None:
    """Raises UserError if a named domain or the target has too little text."""
    layout = placed[0].layout
    nothing = np.flatnonzero(layout.predicted[KEPT] == 0)
    too_small = np.append(layout.too_small, nothing)
    if len(too_small) and not domains.branching:
        name = domains.names[too_small[0]]
        raise _too_little(f"domain {name!r}", layout, too_small[0])
    predicted = [one.layout.predicted for one in placed[1:]]
    enough = predicted[0][KEPT].all() and (
        predicted[1][KEPT] if len(predicted) > 1 else predicted[0][ASIDE]
    )
    if not enough:
        raise _too_little("the target", placed[1].layout, 0)


def _too_little(what: str, layout: Layout, domain: int) -> UserError:
    counts = layout.counts
    tokens = int(counts.text_tokens[domain] + counts.documents[domain])
    if not tokens:
        return UserError(
            f"{what} has no text, or all of it is left out; add text or leave it out"
        )
    return UserError(
        f"{what} has too little text: {tokens} tokens, of which a part must be held out"
        " for evaluation; add text or leave it out"
    )
