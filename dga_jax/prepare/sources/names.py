"""Which files are parts of one: the domain that a file's name gives.

A domain is the name of a file up to its first dot; or, where more is needed to tell it
from others (wiki.en, wiki.de), without the suffixes of its format. What only numbers
the parts of a data set does not belong to it. That is told from the name where it can:

    -00000-of-00002, part-00000-UUID-c000, UUIDs and hashes
    a number with a leading zero, behind a separator: c4-0007, 000_00012, wiki_00
    a number behind nothing, or behind a word for parts: shard_3, chunk12, part.0

and otherwise from the files beside it: numbers that run through the files whose names
are otherwise equal, from 0 or 1 on, or eight and more of them. Dates (2023-06), years,
versions (3.11) and numbers that are a part of a word (books3) stay. Where nothing is
left, the name of the directory is the domain.
"""

import functools
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

_FORMATS = r"json|jsonl|jsonlines|ndjson|parquet|pq|arrow|csv|tsv"
_PACKINGS = r"gz|gzip|xz|lzma|zst|zstd|bz2|snappy|lz4|br|lzo|zip"
# From the first of these on; of others only at the end.
_SUFFIX = re.compile(rf"\.(?:(?:{_FORMATS}|{_PACKINGS})(?=\.|$)).*$", re.I)
_TEXT_SUFFIX = re.compile(r"\.(?:txt|text|md|rst)$", re.I)
_SEP = r"[-_.]"
_HEX = rf"(?:^|{_SEP})(?=[0-9a-f]*\d)(?:[0-9a-f]{{16}}|[0-9a-f]{{32,64}})(?={_SEP}|$)"
_UUID = (
    rf"(?:^|{_SEP})[0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}"
    rf"-[0-9a-f]{{12}}(?={_SEP}|$)"
)
_HASH = re.compile(f"{_UUID}|{_HEX}", re.I)
_OF = re.compile(rf"(?:^|{_SEP})\d+{_SEP}?of{_SEP}?\d+(?={_SEP}|$)", re.I)
_SPARK = re.compile(r"^part-(?:[rm]-)?\d+(?:[-.].*)?$")
_WORDS = r"parts?|shards?|chunks?|files?|pieces?|blocks?"
_WORD = re.compile(rf"^(?:{_WORDS})?$", re.I)
_WORD_AND_NUMBER = re.compile(rf"^(?:{_WORDS})?{_SEP}?(\d+)$", re.I)
# A number that is a part of its own: at the end, or with a leading zero and long.
_NUMBER = re.compile(rf"(?P<before>^|.*{_SEP})(?P<number>\d+)$", re.S)
_LONG_NUMBER = re.compile(rf"{_SEP}0\d{{4,}}(?={_SEP})")
_DATED = re.compile(rf"(?:^|\D)(?:19|20)\d\d(?:{_SEP}?\d\d)?{_SEP}$")
_VERSION = re.compile(r"\d\.$")
_YEARS = range(1900, 2100)
_MANY = 8  # of equal names, whose numbers need not begin at 0 or 1


class Name(NamedTuple):
    """What a file's place gives.

    Attributes:
      domain: see the module.
      source: the directory and the domain, without what numbers parts; files of one
        domain that differ in it come from different places.
    """

    domain: str
    source: str


def domains_of(paths: Iterable[str]) -> dict[str, Name]:
    """The domain of each file, given absolute paths or URLs of all of them."""
    stems = {path: _certain(_stem(path)) for path in paths}
    while True:
        running = _running(stems)
        if not running:
            break
        for path in running:
            stems[path] = _certain(_NUMBER.match(stems[path])["before"])
    stems = _shortened(stems)
    return {path: _named(path, stem) for path, stem in stems.items()}


def _shortened(stems: dict[str, str]) -> dict[str, str]:
    """Names up to their first dot, where what follows tells no two of them apart."""
    longer = defaultdict(set)
    for stem in stems.values():
        longer[stem.partition(".")[0]].add(stem)
    return {
        path: first if len(longer[first := stem.partition(".")[0]]) == 1 else stem
        for path, stem in stems.items()
    }


def _stem(path: str) -> str:
    """The name of a file without the suffixes of its format."""
    name = path.rpartition("/")[2]
    stem = _SUFFIX.sub("", name) or name
    return _TEXT_SUFFIX.sub("", stem) or stem


def _certain(stem: str) -> str:
    """A name without what is sure to number parts; "" if it does nothing else."""
    if _SPARK.match(stem):
        return ""
    whole = stem
    while True:
        shorter = _LONG_NUMBER.sub("", _OF.sub("", _HASH.sub("", stem)))
        number = _NUMBER.match(shorter)
        if number and _numbers_parts(number["before"], number["number"]):
            shorter = number["before"]
        elif _WORD_AND_NUMBER.match(shorter) and not _is_year(shorter):
            return ""
        shorter = shorter.strip("-_. ")
        if shorter == stem:
            return "" if _WORD.match(stem) and stem != whole else stem
        stem = shorter


def _numbers_parts(before: str, number: str) -> bool:
    """Whether a number behind something counts parts, by itself."""
    return len(number) > 1 and number.startswith("0") and not _means(before)


def _means(before: str) -> bool:
    """Whether a number behind this is the rest of a date or a version."""
    return bool(_DATED.search(before) or _VERSION.search(before))


def _is_year(text: str) -> bool:
    return text.isdecimal() and int(text) in _YEARS


def _running(stems: dict[str, str]) -> list[str]:
    """Files whose last numbers run through those whose names are otherwise equal."""
    alike = defaultdict(lambda: defaultdict(list))
    for path, stem in stems.items():
        number = _NUMBER.match(stem)
        if number and not _means(number["before"]):
            key = _directory(path.rpartition("/")[0]), number["before"]
            alike[key][int(number["number"])].append(path)
    beside = {
        (_directory(path.rpartition("/")[0]), stem) for path, stem in stems.items()
    }
    found = []
    for (folder, before), by_number in alike.items():
        numbers = sorted(by_number)
        dense = numbers[-1] - numbers[0] < 2 * len(numbers)
        runs = len(numbers) > 1 and dense and not all(n in _YEARS for n in numbers)
        # Others may have been told already: of wiki_00 to wiki_12, the first ten.
        rest = (folder, before.strip("-_. ")) in beside and numbers[0] not in _YEARS
        if rest or (runs and (numbers[0] <= 1 or len(numbers) >= _MANY)):
            found += [path for paths in by_number.values() for path in paths]
    return found


def _named(path: str, stem: str) -> Name:
    folder = _directory(path.rpartition("/")[0])
    if stem:
        return Name(stem, f"{folder}/{stem}")
    top = folder.rstrip("/").rpartition("/")[2]
    return Name(top or _stem(path), folder)


@functools.lru_cache(maxsize=4096)
def _directory(folder: str) -> str:
    """A directory without those parts of it that number parts of a data set."""
    scheme, sign, rest = folder.rpartition("://")
    first, *parts = rest.split("/")
    kept = [_certain(part) for part in parts]
    return "/".join([f"{scheme}{sign}{first}", *filter(None, kept)])
