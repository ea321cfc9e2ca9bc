"""From what a user writes to shards: NAME=KIND:PATTERN, the last alone required."""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dga_jax import remote
from dga_jax.errors import UserError
from dga_jax.prepare.sources import files, globs, lego, redpajama, tfds
from dga_jax.prepare.sources.document import DEFAULTS, Fields, is_name, not_a_name
from dga_jax.prepare.sources.files import Found
from dga_jax.prepare.sources.shard import (
    COMPRESSED,
    Format,
    Shard,
    is_text,
    real,
    renamed,
)

_KINDS = ("text", "tfds", "redpajama", "pile", "lego")
_DATA = (".json", ".jsonl", ".jsonlines", ".ndjson", ".parquet", ".pq", *COMPRESSED)
# What lies beside data and is about them; beside texts they are texts.
_ABOUT = re.compile(
    r"(README|LICEN[CS]E|CHANGELOG|CITATION|NOTICE)(\.\w+)?|.+\.(crc|md5|sha\d+)"
    r"|(MD5|SHA\d+)SUMS?(\.txt)?",
    re.I,
)
_PILE_DOMAIN = "meta.pile_set_name"
# Small files of text are read together.
_SHARD_FILES = 1000
_SHARD_BYTES = 64 << 20


class _Spec(NamedTuple):
    """What a user writes, whole and in its parts; `name` and `kind` may be empty."""

    whole: str
    name: str
    kind: str
    pattern: str

    @classmethod
    def of(cls, text: str) -> "_Spec":
        name, equals, rest = text.partition("=")
        if not equals or "/" in name or ":" in name:
            name, rest = "", text
        kind, colon, pattern = rest.partition(":")
        if not colon or kind not in _KINDS:
            kind, pattern = "", rest
        return cls(text, name, kind, os.path.expanduser(pattern))


def expand(
    patterns: Iterable[str],
    fields: Fields = DEFAULTS,
    passed_over: list[str] | None = None,
    made: Iterable[str] = (),
) -> list[Shard]:
    """The shards that patterns stand for, each file once, sorted by path.

    Args:
      patterns: each `[NAME=][KIND:]PATTERN`, or several with commas between them.
        PATTERN is a glob (see `globs`), a directory or a file, here or at a URL. KIND
        is `text`, `tfds`, `redpajama`, `pile`, `lego`, or left out where suffixes tell.
        NAME becomes the domain of every document.
      fields: which fields are read.
      passed_over: gets the files that patterns match and that are no data, such as
        _SUCCESS.
      made: directories of which nothing is taken, though a pattern matches it: what
        is made of the shards may lie among them.

    Raises:
      UserError: a pattern that matches nothing or cannot be read, two of one name, or
        a file that two patterns want to be read in different ways.
    """
    found: dict[str, tuple[Shard, _Spec]] = {}
    names: dict[str, str] = {}
    made = tuple(f"{real(place)}/" for place in made)
    for spec in _split(patterns):
        if spec.name and names.setdefault(spec.name, spec.whole) != spec.whole:
            raise UserError(
                f"{names[spec.name]} and {spec.whole} have one name; give each its own"
            )
        for shard in _shards(spec, fields, passed_over, made):
            if spec.name:
                shard = dataclasses.replace(
                    shard, domain=spec.name, source=spec.whole, named=True
                )
            key = f"{real(shard.paths[0])} {shard.examples}"
            before = found.get(key)
            if before is None or _chosen(before, (shard, spec)):
                found[key] = shard, spec
    shards = sorted(
        (shard for shard, _ in found.values()), key=lambda x: (x.paths, x.examples)
    )
    shards = renamed(shards)
    for shard in shards:
        if not is_name(shard.domain):
            raise UserError(
                f"{shard.paths[0]!r}: {not_a_name(shard.domain)}; rename it, or give it"
                " a name with NAME=PATTERN"
            )
    return list(_merged(shards))


def _split(patterns: Iterable[str]) -> list[_Spec]:
    specs = []
    for text in patterns:
        whole = os.path.exists(_Spec.of(text.strip()).pattern)
        parts = [text] if whole else globs.split_outside_braces(text)
        specs += [_Spec.of(part) for part in filter(None, map(str.strip, parts))]
    for spec in specs:
        if not spec.pattern or (spec.name == "" and spec.whole.startswith("=")):
            raise UserError(f"{spec.whole!r} is not [NAME=][KIND:]PATTERN")
        if spec.name and not is_name(spec.name):
            raise UserError(f"{spec.whole!r}: {not_a_name(spec.name)}; choose another")
    return specs


def _chosen(before: tuple[Shard, _Spec], after: tuple[Shard, _Spec]) -> bool:
    """Whether the second of two shards of one file is the one to read."""
    (one, first), (other, second) = before, after
    same = (one.format, one.domain, one.fields) == (
        other.format,
        other.domain,
        other.fields,
    )
    if one.named != other.named and one.format == other.format:
        return other.named
    if same or first.whole == second.whole:
        return False
    raise UserError(
        f"{one.paths[0]} is matched by both {first.whole} (domain {one.domain!r},"
        f" {one.format}) and {second.whole} (domain {other.domain!r}, {other.format});"
        " a file can be only one of them"
    )


def _shards(
    spec: _Spec, fields: Fields, passed_over: list[str] | None, made: tuple[str, ...]
) -> Iterator[Shard]:
    if spec.kind == "tfds":
        return _tfds_shards(spec.pattern, fields)
    if spec.kind == "lego":
        return _lego_shards(spec.pattern, fields)
    if spec.kind == "pile" and fields.domain is None:
        fields = dataclasses.replace(fields, domain=_PILE_DOMAIN)
    found = _without(_find(spec), made)
    if not found.files:
        raise UserError(f"{spec.whole} matches only what this job itself made")
    if len(found.files) > 1 and not spec.kind:
        found = _without_about(found)
    if passed_over is not None:
        passed_over.extend(found.passed_over)
    if spec.kind == "redpajama":
        text = fields.text or redpajama.TEXT
        return _redpajama_shards(found, dataclasses.replace(fields, text=text))
    if spec.kind == "text":
        form = Format.TEXT
    else:
        form = None
        if found.is_directory:
            _check_alike(spec.pattern, found)
    shards = [Shard.of_file(file, found.root, fields, form) for file in found.files]
    if fields.filters and any(shard.format is Format.TEXT for shard in shards):
        raise UserError(f"{spec.whole}: files of text have no fields to filter by")
    return iter(shards)


def _find(spec: _Spec) -> Found:
    try:
        return files.find(spec.pattern)
    except UserError as error:
        if spec.name and os.path.isdir(spec.whole.split("/")[0]):
            raise UserError(
                f"{error}. {spec.name!r} was taken for the domain's name; of a path,"
                f" write ./{spec.whole}"
            ) from error
        raise


def _without(found: Found, made: tuple[str, ...]) -> Found:
    """What a pattern stands for, without what lies below some directories."""
    return found._replace(
        files=[x for x in found.files if not real(x.path).startswith(made)],
        passed_over=tuple(
            path for path in found.passed_over if not real(path).startswith(made)
        ),
    )


def _without_about(found: Found) -> Found:
    """Several files without those that are about the data, if there are data."""
    about = {
        file.path
        for file in found.files
        if _ABOUT.fullmatch(file.path.rpartition("/")[2])
    }
    if not any(_is_data(file.path) for file in found.files):
        return found
    return found._replace(
        files=[file for file in found.files if file.path not in about],
        passed_over=(*found.passed_over, *sorted(about)),
    )


def _is_data(path: str) -> bool:
    return path.lower().endswith(_DATA) and not is_text(path)


def _check_alike(pattern: str, found: Found) -> None:
    """A directory is read as what all its files are."""
    kinds = {
        "text": [file for file in found.files if is_text(file.path)],
        "data": [file for file in found.files if _is_data(file.path)],
    }
    known = {file.path for files_of in kinds.values() for file in files_of}
    other = [file.path for file in found.files if file.path not in known]
    if other or all(kinds.values()):
        odd = other[0] if other else min(kinds.values(), key=len)[0].path
        raise UserError(
            f"{pattern} holds files of several kinds, such as {odd}; write"
            f" 'text:{pattern}' to read all of them as text, or a glob such as"
            f" '{pattern.rstrip('/')}/**/*.jsonl.gz'"
        )


def _redpajama_shards(found: Found, fields: Fields) -> Iterator[Shard]:
    chosen = [
        file for file in found.files if not file.path.endswith(redpajama.SIGNALS_SUFFIX)
    ]
    if found.is_directory:  # which has signals, hashes and lists of duplicates too
        chosen = [file for file in chosen if redpajama.locate(file.path)] or chosen
    for file in chosen:
        shard = Shard.of_file(file, found.root, fields, Format.REDPAJAMA)
        location = redpajama.locate(file.path)
        if location is not None:
            base = real(location.base or ".").rstrip("/")
            shard = dataclasses.replace(
                shard, domain=location.bucket, source=f"redpajama:{base}"
            )
            if fields.filters:
                shard = _with_signals(shard, location)
        yield shard


def _with_signals(shard: Shard, location: redpajama.Location) -> Shard:
    try:
        if remote.is_remote(location.signals):
            with remote.explained(location.signals):
                signals = files.remote_file(location.signals)
        else:
            signals = files.local_file(location.signals)
    except UserError as error:
        raise UserError(
            f"{shard.paths[0]} has no quality signals to filter by: {error}; get them,"
            " leave it out (the tail has none), or do without --filter"
        ) from error
    return dataclasses.replace(
        shard,
        paths=(*shard.paths, signals.path),
        versions=(*shard.versions, signals.version),
        num_bytes=shard.num_bytes + signals.num_bytes,
    )


def _tfds_shards(pattern: str, fields: Fields) -> Iterator[Shard]:
    split = tfds.find(pattern)
    for start, stop, num_bytes in split.ranges:
        yield Shard(
            paths=(split.path,),
            format=Format.TFDS,
            domain=split.name,
            source=re.sub(r"/[^/@]*@", "@", split.path),
            fields=fields,
            versions=(split.version,),
            num_bytes=num_bytes,
            examples=(start, stop),
        )


def _lego_shards(pattern: str, fields: Fields) -> Iterator[Shard]:
    made = lego.parse(pattern)
    document_bytes = made.document_bytes
    for skill, (start, stop) in itertools.product(made.skills, made.ranges):
        yield Shard(
            paths=(made.path(skill),),
            format=Format.LEGO,
            domain=f"skill_{skill}",
            source=made.source,
            fields=fields,
            versions=(lego.VERSION,),
            num_bytes=(stop - start) * document_bytes,
            examples=(start, stop),
        )


def _merged(shards: list[Shard]) -> Iterator[Shard]:
    """The shards, with neighbours of text together where they are small."""
    several: list[Shard] = []
    size = 0
    for shard in shards:
        full = len(several) >= _SHARD_FILES or size + shard.num_bytes > _SHARD_BYTES
        if several and (full or not _together(several[0], shard)):
            yield _joined(several)
            several, size = [], 0
        several.append(shard)
        size += shard.num_bytes
    if several:
        yield _joined(several)


def _together(one: Shard, other: Shard) -> bool:
    def of(shard: Shard) -> tuple[str, str, bool, str]:
        return shard.domain, shard.source, shard.named, shard.root

    return one.format is other.format is Format.TEXT and of(one) == of(other)


def _joined(several: list[Shard]) -> Shard:
    if len(several) == 1:
        return several[0]
    return dataclasses.replace(
        several[0],
        paths=tuple(itertools.chain(*(shard.paths for shard in several))),
        versions=tuple(itertools.chain(*(shard.versions for shard in several))),
        num_bytes=sum(shard.num_bytes for shard in several),
    )
