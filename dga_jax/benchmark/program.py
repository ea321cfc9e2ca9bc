"""A compiled program as data: instructions of its HLO text, how often each runs.

The text is that of an optimised module, `jax.jit(f).lower(...).compile().as_text()`, of
any backend. What only some backends say is read where it is there: the memory that an
array is in (`S(1)` in a layout of TPU: on the chip, not in HBM), and the trip count of
a loop, which CPU and GPU note and TPU leaves to its condition.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(?P<root>ROOT )?%?(?P<name>[\w.-]+) = ")
_OP = re.compile(r"\s*([\w-]+)\(")
_PARENTHESIS = re.compile(r"[()]")
_OPERAND = re.compile(r"%([\w.-]+)")
_ARRAY = re.compile(
    r"\b(pred|bf16|[suf]\d+\w*|c64|c128)\[([\d,]*)\](?:\{([^}]*)\})?", re.ASCII
)
_SPACE = re.compile(r"S\((\d+)\)")
_CALLS = re.compile(
    r"\b(?:calls|to_apply|true_computation|false_computation)=%?([\w.-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_LOOP = re.compile(r"condition=%?([\w.-]+), body=%?([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_ORIGIN = re.compile(r'op_name="([^"]*)"')
_PARTITIONS = re.compile(r"\bnum_partitions=(\d+)")
_INDEX = re.compile(r"\bindex=(\d+)")
_SAME_VALUE = ("copy", "bitcast", "reshape", "convert", "copy-start", "copy-done")


class Array(NamedTuple):
    """An array of a program.

    Attributes:
      kind: of its elements, as HLO calls it, such as "bf16".
      shape: on one device.
      space: the memory it is in; 0 is the device's main memory.
    """

    kind: str
    shape: tuple[int, ...]
    space: int = 0

    @property
    def bytes(self) -> int:
        """Its size, without what its layout pads."""
        return math.prod(self.shape) * _item_bytes(self.kind)


@functools.cache
def _item_bytes(kind: str) -> int:
    """Bytes of an element, such as 4 of "f32"; at least 1."""
    digits = re.search(r"\d+", kind)
    return max(int(digits[0]) // 8, 1) if digits else 1


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of HLO: `name = type op(operands), attributes`.

    Attributes:
      name, op: as HLO has them.
      type: of the result, as text; see `arrays`.
      operands: names of instructions of the same computation.
      literal: what stands between the parentheses: the value of a constant.
      attributes: the rest of the line.
      root: whether it is the computation's result.
    """

    name: str
    op: str
    type: str
    operands: tuple[str, ...]
    literal: str
    attributes: str
    root: bool

    @functools.cached_property
    def arrays(self) -> tuple[Array, ...]:
        """Of the result; several for a tuple."""
        return arrays(self.type)

    @property
    def index(self) -> int:
        """Of a get-tuple-element."""
        found = _INDEX.search(self.attributes)
        return int(found[1]) if found else -1

    @property
    def origin(self) -> str:
        """The operation of the traced function that it is of, or ""."""
        found = _ORIGIN.search(self.attributes)
        return found[1].replace("\\'", "'") if found else ""

    @property
    def ends(self) -> bool:
        """Whether it waits for what another one started, which counts there."""
        return self.op.endswith(("-done", "-update"))


def arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type."""
    return tuple(
        Array(kind, tuple(int(n) for n in dims.split(",") if n), _space(layout))
        for kind, dims, layout in _ARRAY.findall(text)
    )


def _space(layout: str) -> int:
    found = _SPACE.search(layout)
    return int(found[1]) if found else 0


Computation = dict[str, Instruction]


class Program:
    """The computations of a module.

    Args:
      hlo_text: of an optimised module.

    Attributes:
      devices: that it is partitioned for.
      computations: by name, each its instructions by name; callees stand before their
        callers.
      executions: how often each computation runs when the program runs once.
      unknown_loops: how many loops there are whose trip count is not known; what is in
        them counts once.
    """

    def __init__(self, hlo_text: str):
        partitions = _PARTITIONS.search(hlo_text)
        self.devices = int(partitions[1]) if partitions else 1
        self.computations, self._entry = _split(hlo_text)
        self._loops: dict[str, tuple[str, Instruction]] = {}  # by body and condition
        for name, instructions in self.computations.items():
            for one in instructions.values():
                for part in _loop(one):
                    self._loops[part] = name, one
        self.unknown_loops = 0
        self.executions = self._count()

    def instructions(self) -> Iterator[tuple[str, Instruction, int]]:
        """(computation, instruction, executions) of all that runs."""
        for name, instructions in self.computations.items():
            if times := self.executions[name]:
                for one in instructions.values():
                    yield name, one, times

    def inputs(self) -> Iterator[tuple[str, int]]:
        """(name in the traced function, bytes) of each input on one device."""
        for one in self.computations[self._entry].values():
            if one.op == "parameter":
                yield one.origin, sum(array.bytes for array in one.arrays)

    def fusion(self, one: Instruction) -> Computation | None:
        """What a fusion computes; None of any other instruction."""
        if one.op != "fusion":
            return None
        return self.computations[_CALLS.findall(one.attributes)[0]]

    @functools.cached_property
    def caller_origins(self) -> dict[str, str]:
        """What the instruction that runs a computation came from, by computation."""
        return {
            callee: one.origin
            for _, one, _ in self.instructions()
            for callee, _ in self._callees(one)
        }

    def fused(self) -> set[str]:
        """Computations whose inner results are never arrays in memory."""
        return {
            callee
            for _, one, _ in self.instructions()
            if one.op not in ("call", "conditional", "while", "async-start")
            for callee, _ in self._callees(one)
        }

    def _count(self) -> collections.Counter:
        executions = collections.Counter({self._entry: 1})
        for name in reversed(self.computations):
            for one in self.computations[name].values():
                for callee, times in self._callees(one):
                    executions[callee] += executions[name] * times
        return executions

    def _callees(self, one: Instruction) -> list[tuple[str, int]]:
        """The computations that an instruction runs, and how often."""
        if one.ends:
            return []
        if loop := _loop(one):
            trips = self._trips(one, *loop)
            return [(part, trips) for part in loop]
        names = _CALLS.findall(one.attributes)
        for branches in _BRANCHES.findall(one.attributes):
            names += [name.strip(" %") for name in branches.split(",")]
        return [(name, 1) for name in names]

    def _trips(self, loop: Instruction, condition: str, body: str) -> int:
        noted = _TRIPS.search(loop.attributes)
        trips = int(noted[1]) if noted else self._trips_by_condition(condition, body)
        if trips is None:
            self.unknown_loops += 1
        return 1 if trips is None else trips

    def _trips_by_condition(self, condition: str, body: str) -> int | None:
        """Of a loop that counts: from its first value, by its step, up to its bound."""
        root = _root(self.computations[condition])
        if root.op != "compare" or "direction=LT" not in root.attributes:
            return None
        counter = self._source(condition, root.operands[0])[1]
        bound = self._value(condition, root.operands[1])
        if counter.op != "get-tuple-element" or bound is None:
            return None
        first = self._value(condition, counter.name)
        step = self._step(body, counter.index)
        if first is None or step is None:
            return None
        return max(0, -((first - bound) // step))

    def _step(self, body: str, index: int) -> int | None:
        """What a turn of a loop adds to an element of what it carries."""
        name, result = self._source(body, _root(self.computations[body]).name)
        if result.op != "tuple":
            return None
        name, new = self._source(name, result.operands[index])
        if new.op != "add":
            return None
        values = [self._source(name, operand)[1] for operand in new.operands]
        steps = [one for one in values if one.op == "constant"]
        return int(steps[0].literal) if steps else None

    def _value(self, computation: str, name: str) -> int | None:
        """An integer that is known before the loop around it begins."""
        computation, one = self._source(computation, name)
        if one.op == "constant":
            return int(one.literal) if re.fullmatch(r"-?\d+", one.literal) else None
        if one.op != "get-tuple-element" or computation not in self._loops:
            return None
        of = self.computations[computation][one.operands[0]]
        if of.op != "parameter":
            return None
        around, loop = self._loops[computation]
        _, carried = self._source(around, loop.operands[0])
        if carried.op != "tuple":
            return None
        return self._value(around, carried.operands[one.index])

    def _source(self, computation: str, name: str) -> tuple[str, Instruction]:
        """Whence a value comes, through what only moves it."""
        one = self.computations[computation][name]
        while one.op in _SAME_VALUE:
            one = self.computations[computation][one.operands[0]]
        return computation, one


def _loop(one: Instruction) -> tuple[str, str] | tuple[()]:
    found = _LOOP.search(one.attributes) if one.op == "while" else None
    return (found[1], found[2]) if found else ()


def _root(computation: Computation) -> Instruction:
    return next(one for one in computation.values() if one.root)


def _split(text: str) -> tuple[dict[str, Computation], str | None]:
    """Instructions of each computation, by name, and the name of the entry."""
    computations, entry = {}, None
    instructions: Computation = {}
    for line in text.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            instructions = computations.setdefault(header["name"], {})
            entry = header["name"] if header["entry"] else entry
        elif one := _instruction(line):
            instructions[one.name] = one
    return computations, entry


def _instruction(line: str) -> Instruction | None:
    start = _INSTRUCTION.match(line)
    if not start:
        return None
    place = start.end()
    after_type = _closing(line, place) if line[place] == "(" else line.find(" ", place)
    op = _OP.match(line, after_type)
    if not op:
        return None
    end = _closing(line, op.end() - 1)
    inside = line[op.end() : end - 1]
    return Instruction(
        name=start["name"],
        op=op[1],
        type=line[place:after_type],
        operands=tuple(_OPERAND.findall(inside)),
        literal=inside,
        attributes=line[end:],
        root=bool(start["root"]),
    )


def _closing(line: str, start: int) -> int:
    """Behind the parenthesis that closes the one at `start`."""
    depth = 0
    for found in _PARENTHESIS.finditer(line, start):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return found.end()
    return len(line)
