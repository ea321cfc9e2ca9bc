"""What a compiled program moves between devices, read from its HLO text."""

import collections
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

# Results of an asynchronous start hold its operands in front; an all-reduce's do not.
_COLLECTIVE = re.compile(
    r" = (?P<type>.*?) (?P<op>all-gather|all-reduce|reduce-scatter|all-to-all"
    r"|ragged-all-to-all|collective-permute|collective-broadcast)(?P<start>-start)?"
    r"\((?P<operands>[^)]*)\)"
)
_SHAPE = re.compile(r"\b(pred|bf16|[suf]\d+\w*|c64|c128)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) \(.*\{$")
_WHILE = re.compile(r" while\(.*condition=%?([\w.-]+), body=%?([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLS = re.compile(
    r"\b(?:calls|to_apply|true_computation|false_computation)=%?([\w.-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_ENDS = re.compile(r"-(?:done|update)\(")  # of an asynchronous call, already counted


class Collective(NamedTuple):
    """One collective operation of a program.

    Attributes:
      op: as HLO calls it, such as "all-reduce".
      shapes: of its results on one device; several where operations were combined.
      bytes: of these results.
      executions: how often it runs: the product of the trip counts of the loops around
        it, where a loop whose count the compiler does not know counts once.
    """

    op: str
    shapes: tuple[tuple[int, ...], ...]
    bytes: int
    executions: int

    @property
    def total_bytes(self) -> int:
        """Bytes over all executions."""
        return self.bytes * self.executions


def collectives(hlo_text: str) -> list[Collective]:
    """All collectives of a program.

    Args:
      hlo_text: of an optimised module, `jax.jit(f).lower(...).compile().as_text()`.
    """
    computations, entry = _split(hlo_text)
    executions = _executions(computations, entry)
    return [
        _parse(match, executions[name])
        for name, lines in computations.items()
        for match in filter(None, map(_COLLECTIVE.search, lines))
        if executions[name]
    ]


def collective_bytes(hlo_text: str) -> int:
    """Bytes that all collectives of a program deliver to one device."""
    return sum(one.total_bytes for one in collectives(hlo_text))


def _split(text: str) -> tuple[dict[str, list[str]], str | None]:
    """Lines of each computation, by name, and the name of the entry."""
    computations, entry, lines = {}, None, []
    for line in text.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            lines = computations.setdefault(header["name"], [])
            entry = header["name"] if header["entry"] else entry
        else:
            lines.append(line)
    return computations, entry


def _executions(
    computations: Mapping[str, list[str]], entry: str | None
) -> Mapping[str, int]:
    """How often each computation runs. HLO lists callees before their callers."""
    executions = collections.Counter({entry: 1})
    for name in reversed(computations):
        for line in computations[name]:
            for callee, times in _callees(line):
                executions[callee] += executions[name] * times
    return executions


def _callees(line: str) -> list[tuple[str, int]]:
    """The computations that a line of HLO runs, and how often."""
    if _ENDS.search(line):
        return []
    loop = _WHILE.search(line)
    if loop:
        trips = _TRIPS.search(line)
        return [(name, int(trips[1]) if trips else 1) for name in loop.groups()]
    names = _CALLS.findall(line)
    for branches in _BRANCHES.findall(line):
        names += [name.strip(" %") for name in branches.split(",")]
    return [(name, 1) for name in names]


def _parse(match: re.Match, executions: int) -> Collective:
    shapes = _SHAPE.findall(match["type"])
    if match["start"] and match["op"] != "all-reduce":
        operands = match["operands"].count("%")
        shapes = shapes[operands : 2 * operands]
    sizes = [tuple(int(n) for n in dims.split(",") if n) for _, dims in shapes]
    total = sum(
        math.prod(size) * _item_bytes(kind)
        for size, (kind, _) in zip(sizes, shapes, strict=True)
    )
    return Collective(match["op"], tuple(sizes), total, executions)


def _item_bytes(kind: str) -> int:
    """Bytes of an element, such as 4 of "f32"; at least 1."""
    digits = re.search(r"\d+", kind)
    return max(int(digits[0]) // 8, 1) if digits else 1
