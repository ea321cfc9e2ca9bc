"""What gave the store nothing, and what may be parts of one: for the user to know."""

import collections

import numpy as np

from dga_jax.prepare.assemble import bad
from dga_jax.prepare.assemble.division import Texts
from dga_jax.prepare.assemble.finish import GroupedDomains, present
from dga_jax.prepare.assemble.layout import Layout
from dga_jax.prepare.assemble.options import PassedOver
from dga_jax.prepare.assemble.tokenizing import Tokenized
from dga_jax.prepare.sources.shard import Format


def passed_over(
    tokenized: Tokenized, texts: Texts, domains: GroupedDomains, layout: Layout
) -> PassedOver:
    """What gave the store nothing; of files of text, those are blank documents."""
    shards = texts.shards
    summaries = bad.summaries_of(tokenized, shards)
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
    summaries = bad.summaries_of(tokenized, shards)
    for shard, summary in zip(shards, summaries, strict=True):
        for name, sources in summary["domains"].items():
            by_name = shard.source in sources and not shard.named
            files[name] += len(shard.paths) if by_name else 2  # not to be counted
    return sorted(name for name, count in files.items() if count == 1)
