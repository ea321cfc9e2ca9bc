"""What a pattern means: one meaning, whatever lists the files.

`*`, `?` and `[...]` match within one name; `**`, as a whole part of the path, any
number of directories, none too; `{a,b}` either, `{00..12}` the numbers between. What
begins with a dot or an underscore, as tools leave it beside data, is matched only by a
part of the pattern that begins so too, and `dataset_info.json` only by its name.
"""

import fnmatch
import functools
import itertools
import re
from collections.abc import Iterator

_WILD = re.compile(r"[*?\[]")
_WILD_OF_URL = re.compile(r"[*\[]")  # in one of http, "?" begins the query
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_IN_BRACES = 100_000
# They lie beside data sets, or in file systems, and look like data.
_NEVER_DATA = {"lost+found", "dataset_info.json", "dataset_infos.json"}
_NEVER_DATA |= {"dataset_dict.json"}


def is_wild(pattern: str) -> bool:
    """Whether a pattern may stand for several files."""
    return _first_sign(pattern) < len(pattern)


def counts(name: str) -> bool:
    """Whether a file or directory may be data, if nobody named it."""
    return not name.startswith((".", "_")) and name not in _NEVER_DATA


def fixed(pattern: str) -> str:
    """The directories of a pattern before its first wildcard; of the root, "/"."""
    found = pattern[: pattern.rfind("/", 0, _first_sign(pattern)) + 1]
    return found.rstrip("/") or found[:1]


def without_braces(pattern: str) -> list[str]:
    """The patterns that one with braces stands for, in its order; itself without any.

    >>> without_braces("{a,b}/{08..10}.gz")[:4]
    ['a/08.gz', 'a/09.gz', 'a/10.gz', 'b/08.gz']
    """
    choice = _first_braces(pattern)
    if choice is None:
        return [pattern]
    start, stop, options = choice
    found = (
        pattern[:start] + option + rest
        for option in options
        for rest in without_braces(pattern[stop:])
    )
    inner = itertools.chain.from_iterable(map(without_braces, found))
    return list(dict.fromkeys(itertools.islice(inner, _MOST_IN_BRACES)))


def split_outside_braces(text: str) -> list[str]:
    """The parts of a text between commas, but for those in braces."""
    parts, depth = [""], 0
    closing = text.count("}")
    for sign in text:
        closing -= sign == "}"
        depth += (sign == "{" and closing > depth) - (sign == "}" and depth > 0)
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


class Matcher:
    """Which paths below `fixed(pattern)` a pattern without braces matches.

    Attributes:
      depth: parts of the path that it matches, at most; None: any number.
    """

    def __init__(self, pattern: str):
        below = pattern[len(fixed(pattern)) :].lstrip("/")
        self._parts = tuple(part for part in below.split("/") if part not in ("", "."))
        self.depth = None if "**" in self._parts else len(self._parts)
        if pattern.endswith("/"):  # directories, which nobody reads so
            self._parts = ()

    def matches(self, path: str) -> bool:
        """Whether a file's path, relative to the fixed directories, is matched."""
        return any(not rest for rest in self._after(path.split("/"), is_file=True))

    def passes_over(self, path: str) -> bool:
        """Whether a file is not matched only because its name is that of no data."""
        left = self._after(path.split("/"), is_file=True, any_name=True)
        return any(not rest for rest in left) and not self.matches(path)

    def leads_to(self, path: str) -> bool:
        """Whether something in this directory may be matched."""
        return any(self._after(path.split("/"), is_file=False))

    def _after(
        self, names: list[str], is_file: bool, any_name: bool = False
    ) -> set[tuple[str, ...]]:
        """What may be left of the pattern when these names are matched.

        Args:
          names: the parts of a path.
          is_file: the last of them is a file's.
          any_name: that one counts, whatever it is.
        """
        states = {self._parts}
        for i, name in enumerate(names):
            last = is_file and i == len(names) - 1
            is_data = counts(name) or (last and any_name)
            states = {
                rest for state in states for rest in _step(state, name, last, is_data)
            }
        return states


def _step(
    parts: tuple[str, ...], name: str, last: bool, is_data: bool
) -> Iterator[tuple[str, ...]]:
    """What is left of the parts of a pattern when a name is matched."""
    if not parts:
        return
    first, *rest = parts
    if first == "**":
        if is_data:
            # At the end of a pattern it matches files.
            yield () if last and not rest else parts
        if rest:
            yield from _step(tuple(rest), name, last, is_data)
    elif _regex(first).match(name) and (is_data or _names(first, name)):
        yield tuple(rest)


def _names(part: str, name: str) -> bool:
    """Whether a part of a pattern names what does not count else."""
    return part == name or (name[:1] in "._" and part[:1] == name[:1])


@functools.lru_cache(maxsize=1024)
def _regex(part: str) -> re.Pattern:
    return re.compile(fnmatch.translate(part))


def _first_sign(pattern: str) -> int:
    """Where the first wildcard or choice is; the length if there is none."""
    wild = _WILD_OF_URL if pattern.startswith(("http://", "https://")) else _WILD
    found = wild.search(pattern)
    first = found.start() if found else len(pattern)
    choice = _first_braces(pattern)
    return min(first, choice[0]) if choice else first


def _first_braces(pattern: str) -> tuple[int, int, list[str]] | None:
    """Start and end of the first braces that are a choice, and the options."""
    for start in (i for i, sign in enumerate(pattern) if sign == "{"):
        depth = 0
        for stop in range(start, len(pattern)):
            depth += (pattern[stop] == "{") - (pattern[stop] == "}")
            if not depth:
                inside = pattern[start + 1 : stop]
                options = _numbers(inside) or split_outside_braces(inside)
                if len(options) > 1:
                    return start, stop + 1, options
                break
    return None


def _numbers(inside: str) -> list[str] | None:
    match = _RANGE.fullmatch(inside)
    if not match:
        return None
    first, last = match.groups()
    padded = first.startswith("0") or last.startswith("0")
    width = max(len(first), len(last)) if padded else 0
    numbers = range(int(first), min(int(last), int(first) + _MOST_IN_BRACES) + 1)
    return [f"{number:0{width}}" for number in numbers]
