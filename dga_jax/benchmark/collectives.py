"""What a compiled program moves between devices, read from its HLO text."""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from dga_jax.benchmark.program import Array, Instruction, Program

KINDS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")
# The ways to write groups of devices: {{0,1},{2,3}}; [groups,size]<=[devices];
# mesh['data'=2,'fsdp'=4] {'fsdp'}.
_LISTED = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_IOTA = re.compile(r"replica_groups=\[\d+,(\d+)\]<=")
_OF_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")
_AXIS = re.compile(r"'([^']+)'(?::\(\d+\)(\d+))?")
_SIZE = re.compile(r"'([^']+)'=(\d+)")


class Collective(NamedTuple):
    """One collective operation of a program.

    Attributes:
      op: as HLO calls it, such as "all-reduce". A sum of which each device keeps its
        part alone is a "reduce-scatter", also where HLO has it as an all-reduce and a
        slice in one fusion, as TPU does.
      arrays: its results on one device; several where operations were combined.
      executions: how often it runs: the product of the trip counts of the loops around
        it, where a loop whose count is not known counts once.
      group: how many devices take part in it together.
      origins: of each array, the operation of the traced function that it came from;
        "" where the compiler notes none.
    """

    op: str
    arrays: tuple[Array, ...]
    executions: int
    group: int = 1
    origins: tuple[str, ...] = ()

    def of(self, scope: str) -> "Collective":
        """The same with the arrays alone that come from a `jax.named_scope`."""
        both = zip(self.arrays, self.origins, strict=True)
        kept = [(array, origin) for array, origin in both if scope in origin]
        arrays, origins = zip(*kept, strict=True) if kept else ((), ())
        return self._replace(arrays=arrays, origins=origins)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of its results."""
        return tuple(array.shape for array in self.arrays)

    @property
    def bytes(self) -> int:
        """Of its results."""
        return sum(array.bytes for array in self.arrays)

    @property
    def total_bytes(self) -> int:
        """Bytes of results over all executions."""
        return self.bytes * self.executions

    @property
    def sent_bytes(self) -> int:
        """Bytes that each device sends, at least, over all executions.

        Those of algorithms that are optimal in bandwidth (Chan et al. 2007, doi
        10.1002/cpe.1206): with n devices, a gather sends (n-1)/n of its result, a
        scattered sum n-1 times its result, a sum both.
        """
        others = max(self.group - 1, 0)
        share = others / max(self.group, 1)
        times = {
            "all-gather": share,
            "all-reduce": 2 * share,
            "reduce-scatter": others,
            "all-to-all": share,
            "ragged-all-to-all": share,
        }.get(self.op, 1.0)
        return round(self.total_bytes * times)


def collectives(hlo_text: str) -> list[Collective]:
    """All collectives of a program.

    Args:
      hlo_text: of an optimised module, `jax.jit(f).lower(...).compile().as_text()`.
    """
    return of_program(Program(hlo_text))


def of_program(program: Program) -> list[Collective]:
    """The same of a program that is parsed already."""
    started = _started(program)
    found = []
    for name, one, times in program.instructions():
        kind = one.op.removesuffix("-start")
        if kind not in KINDS:
            continue
        # TPU computes while it moves: the same operation is then in several fusions,
        # of which the one that starts it counts.
        if _channel(one) in started and name not in started[_channel(one)]:
            continue
        scattered = kind == "all-reduce" and _kept_part(program, name, one)
        results = scattered or _results(one, kind)
        found.append(
            Collective(
                "reduce-scatter" if scattered else kind,
                results,
                times,
                _group(one, program.devices),
                _origins(program, name, one, len(results)),
            )
        )
    return found


def collective_bytes(hlo_text: str) -> int:
    """Bytes that all collectives of a program deliver to one device."""
    return sum(one.total_bytes for one in collectives(hlo_text))


def sent_bytes(found: Iterable[Collective]) -> int:
    """Bytes that each device sends for these; see `Collective.sent_bytes`."""
    return sum(one.sent_bytes for one in found)


def _started(program: Program) -> dict[str, set[str]]:
    """By channel: the computations that start an operation which goes on elsewhere."""
    found: dict[str, set[str]] = {}
    for name, instructions in program.computations.items():
        lines = instructions.values()
        if any('"AsyncCollectiveStart"' in one.attributes for one in lines):
            for one in lines:
                if channel := _channel(one):
                    found.setdefault(channel, set()).add(name)
    return found


def _channel(one: Instruction) -> str:
    found = _CHANNEL.search(one.attributes)
    return found[1] if found else ""


def _kept_part(
    program: Program, computation: str, one: Instruction
) -> tuple[Array, ...]:
    """What a fusion keeps of a sum, if it is a part of it; else nothing."""
    if "all-reduce-scatter" not in computation:
        return ()
    users = [
        user
        for user in program.computations[computation].values()
        if one.name in user.operands
    ]
    parts = [user for user in users if user.op == "dynamic-slice"]
    return parts[0].arrays if parts and len(parts) == len(users) else ()


def _results(one: Instruction, kind: str) -> tuple[Array, ...]:
    """Of an operation; an asynchronous start holds its operands in front of them."""
    if one.op == kind or kind == "all-reduce":
        return one.arrays
    operands = len(one.operands)
    return one.arrays[operands : 2 * operands]


def _origins(
    program: Program, computation: str, one: Instruction, count: int
) -> tuple[str, ...]:
    """Of each result; where operations were combined, of what each is made from.

    TPU notes it of a fusion, and not of the operation inside.
    """
    own = one.origin or program.caller_origins.get(computation, "")
    if count == 1 or count != len(one.operands):
        return (own,) * count
    made = program.computations[computation]
    operands = (made.get(name) for name in one.operands)
    return tuple((x.origin if x else "") or own for x in operands)


def _group(one: Instruction, devices: int) -> int:
    if listed := _LISTED.search(one.attributes):
        return listed[1].count(",") + 1
    if iota := _IOTA.search(one.attributes):
        return int(iota[1])
    if of_mesh := _OF_MESH.search(one.attributes):
        sizes = dict(_SIZE.findall(of_mesh[1]))
        axes = _AXIS.findall(of_mesh[2])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    return devices
