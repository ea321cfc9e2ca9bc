"""What a compiled program reads from the device's memory and writes to it.

XLA's own count (`cost_analysis`, "bytes accessed") takes the body of a loop once,
however often it runs; here each counts as often as it runs.
"""

from collections.abc import Iterable
from typing import NamedTuple

from dga_jax.benchmark.program import Array, Computation, Instruction, Program

# What moves nothing: names for what is there, or what runs others.
_FREE = {
    "after-all",
    "async-start",
    "bitcast",
    "call",
    "conditional",
    "constant",
    "get-tuple-element",
    "opt-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
    "while",
}
_SLICES = ("dynamic-slice", "gather", "slice", "slice-start")
_MOVED = ("bitcast", "convert", "copy", "reshape")  # a slice of it slices what it is of


class Traffic(NamedTuple):
    """Bytes that a program moves between a device and its main memory."""

    read: int
    written: int

    @property
    def total(self) -> int:
        """Both ways."""
        return self.read + self.written


class Large(NamedTuple):
    """An array that a program makes.

    Attributes:
      array: its element type and shape on one device.
      origin: the operation of the model that it is of, as JAX names it; or "".
    """

    array: Array
    origin: str


def traffic(program: Program) -> Traffic:
    """What each operation reads and writes in main memory, each operand once.

    A lower bound: what a kernel reads again does not count. Of what is only sliced, and
    of what is only changed in part, the part counts; a fusion's inner results are no
    traffic, nor is what stays on the chip.
    """
    fused = program.fused()
    read = written = 0
    for name, one, times in program.instructions():
        if name in fused or one.op in _FREE or one.ends:
            continue
        computation = program.computations[name]
        inner = program.fusion(one)
        read += times * _read(computation, one, inner)
        written += times * _written(computation, one, inner)
    return Traffic(read, written)


def largest(program: Program, count: int) -> list[Large]:
    """The largest arrays that it makes in main memory, each kind and shape once."""
    fused, found = program.fused(), {}
    for name, one, _ in program.instructions():
        if name in fused or one.op in _FREE or one.op.endswith("-start"):
            continue
        for array in one.arrays:
            if array.space == 0:
                found.setdefault(array, "/".join(one.origin.split("/")[-2:]))
    ordered = sorted(found, key=lambda array: array.bytes, reverse=True)
    return [Large(array, found[array]) for array in ordered[:count]]


def _in_main(arrays: Iterable[Array]) -> int:
    return sum(array.bytes for array in arrays if array.space == 0)


def _read(computation: Computation, one: Instruction, inner: Computation | None) -> int:
    operands = [computation[name] for name in one.operands if name in computation]
    if one.op in _SLICES or one.op == "copy-start":
        # As much as comes of it, if what it is of is in main memory.
        return _result(one) * (_in_main(operands[0].arrays) > 0) if operands else 0
    if one.op == "dynamic-update-slice":
        return _in_main(operands[1].arrays)
    if inner is None:
        return sum(_in_main(operand.arrays) for operand in operands)
    parameters = {
        int(line.literal): line for line in inner.values() if line.op == "parameter"
    }
    return sum(
        min(_in_main(operand.arrays), _used(inner, parameters[i]))
        for i, operand in enumerate(operands)
        if i in parameters
    )


def _used(inner: Computation, source: Instruction) -> int:
    """Bytes of a fusion's input that it looks at."""
    whole = sum(array.bytes for array in source.arrays)
    used = 0
    for user in inner.values():
        if source.name not in user.operands:
            continue
        if user.op in _SLICES and user.operands[0] == source.name:
            used += sum(array.bytes for array in user.arrays)
        elif user.op == "dynamic-update-slice" and user.operands[0] == source.name:
            continue  # changed in place: the rest is not looked at
        elif user.op in _MOVED:
            used += _used(inner, user)
        else:
            return whole
    return min(used, whole)


def _result(one: Instruction) -> int:
    """Bytes of what an operation makes, wherever; of an asynchronous start as well."""
    if one.op == "copy-start":  # (destination, source, context)
        return one.arrays[0].bytes
    if one.op == "slice-start":  # ((sources), destination, context)
        return one.arrays[len(one.operands)].bytes
    return sum(array.bytes for array in one.arrays)


def _written(
    computation: Computation, one: Instruction, inner: Computation | None
) -> int:
    if one.op == "copy-start":
        return _in_main(one.arrays[:1])
    if one.op == "slice-start":
        return _in_main(one.arrays[len(one.operands) :][:1])
    if one.op.endswith("-start"):  # of a collective: operands, results, contexts
        return _in_main(one.arrays[len(one.operands) :])
    if one.op == "dynamic-update-slice":
        return _in_main(computation[one.operands[1]].arrays)
    whole = _in_main(one.arrays)
    if inner is None or not whole:
        return whole
    root = next(line for line in inner.values() if line.root)
    roots = [inner[name] for name in root.operands] if root.op == "tuple" else [root]
    return sum(
        min(made.bytes, _changed(inner, line))
        for made, line in zip(one.arrays, roots, strict=False)
        if made.space == 0
    )


def _changed(inner: Computation, result: Instruction) -> int:
    """Bytes of a fusion's result that it writes."""
    while result.op == "bitcast":
        result = inner[result.operands[0]]
    if result.op == "dynamic-update-slice":
        return sum(array.bytes for array in inner[result.operands[1]].arrays)
    return sum(array.bytes for array in result.arrays)
