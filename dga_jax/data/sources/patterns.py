"""From what a user writes to shards: globs, and names for what they match."""

import dataclasses
import glob
import os
from collections.abc import Iterable

from dga_jax.data.sources.document import DEFAULTS, Fields
from dga_jax.data.sources.shard import Shard
from dga_jax.errors import UserError


def expand(patterns: Iterable[str], fields: Fields = DEFAULTS) -> list[Shard]:
    """The shards that patterns match, each file once, sorted by path.

    Args:
      patterns: globs (`**` descends); each may hold several, separated by commas.
        `NAME=GLOB` makes NAME the domain of all that the glob matches.
      fields: which fields are read.

    Raises:
      UserError: a pattern that matches nothing, or a directory; two of one name.
    """
    found: dict[str, Shard] = {}
    names: dict[str, str] = {}
    for spec in _split(patterns):
        name, pattern = _named(spec)
        if names.setdefault(name, spec) != spec and name:
            raise UserError(
                f"{names[name]} and {spec} have one name; give each its own"
            )
        for path in _expand_one(pattern):
            shard = Shard.of(path, fields)
            if name:
                shard = dataclasses.replace(shard, domain=name, source=spec, named=True)
            found[os.path.realpath(path)] = shard
    return sorted(found.values(), key=lambda shard: shard.paths)


def _split(patterns: Iterable[str]) -> list[str]:
    specs = []
    for pattern in patterns:
        parts = [pattern] if os.path.exists(pattern) else pattern.split(",")
        specs += filter(None, map(str.strip, parts))
    return specs


def _named(spec: str) -> tuple[str, str]:
    name, equals, pattern = spec.partition("=")
    if not equals or "/" in name or ":" in name:
        return "", spec
    return name, pattern


def _expand_one(pattern: str) -> list[str]:
    if os.path.isdir(pattern):
        raise UserError(f"{pattern} is a directory; write '{pattern}/*.jsonl.gz'")
    names = [pattern] if os.path.exists(pattern) else glob.glob(pattern, recursive=True)
    names = [name for name in names if not os.path.isdir(name)]
    if not names:
        raise UserError(f"no file matches {pattern!r}; check the path, quote the glob")
    for name in names:
        if not os.path.exists(name):
            raise UserError(f"cannot read {name}: the link leads nowhere; remove it")
    return names
