"""Times taken side by side, and the tables that they are printed in."""

import dataclasses
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from dga_jax.logs.console import columns, quantity
from dga_jax.logs.perf import processor

_VERSIONS = ("jax", "jaxlib", "flax", "numpy", "grain")


@dataclasses.dataclass(frozen=True)
class Check:
    """A goal, and what was measured.

    Attributes:
      goal: in words, with the bound.
      value: measured.
      limit: the bound.
      at_least: whether the bound is from below.
    """

    goal: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the value keeps to the bound."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        return f"{'met' if self.met else 'MISSED'}: {self.goal}: {number(self.value)}"


@dataclasses.dataclass(frozen=True)
class Table:
    """What one part measured.

    Attributes:
      title: what was measured, with its sizes.
      columns: headings of the values, units included.
      rows: values by the row's name, one for each column; None where there is none.
      checks: goals that the values are held against.
      notes: lines about how to read it.
    """

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]]
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [(name, *map(number, values)) for name, values in self.rows.items()]
        lines = [*columns([("", *self.columns), *rows]).splitlines(), *self.checks]
        lines += self.notes
        return "\n".join([self.title, *(f"  {line}" for line in lines)])


def number(value: float | None) -> str:
    """At least three significant digits; "-" for None."""
    if value is None:
        return "-"
    if abs(value) >= 1e5:
        return quantity(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class Timings:
    """Seconds that variants of the same work took, by name.

    Args:
      seconds: of each round, in the order of the rounds.
    """

    def __init__(self, seconds: Mapping[str, list[float]]):
        self._seconds = seconds

    def __getitem__(self, name: str) -> float:
        """Median seconds of a variant."""
        return statistics.median(self._seconds[name])

    def quickest(self, name: str) -> float:
        """Least seconds of a variant: what others on the machine add to least."""
        return min(self._seconds[name])

    def ratio(self, name: str, base: str) -> float:
        """Median over the rounds of a variant's time over another's in that round."""
        pairs = zip(self._seconds[name], self._seconds[base], strict=True)
        return statistics.median(a / b for a, b in pairs)


def interleaved(variants: Mapping[str, Callable[[], Any]], rounds: int) -> Timings:
    """Times variants in turn, round by round: a busy machine slows all of them down.

    Args:
      variants: each does its work once and returns arrays, which are waited for. One
        that compiles must have been called before.
      rounds: how often; from 3 on the median leaves a cold first one out.
    """
    seconds = {name: [] for name in variants}
    for _ in range(rounds):
        for name, work in variants.items():
            start = time.perf_counter()
            jax.block_until_ready(work())
            seconds[name].append(time.perf_counter() - start)
    return Timings(seconds)


def environment() -> str:
    """One line that says on what the numbers were taken, and how busy it was."""
    device = jax.devices()[0]
    devices = f"{jax.device_count()} x {device.device_kind} ({device.platform})"
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _VERSIONS]
    return ", ".join(
        [
            devices,
            f"{os.cpu_count()} cores of {processor()}, load {os.getloadavg()[0]:.1f}",
            f"Python {platform.python_version()}",
            *versions,
        ]
    )
