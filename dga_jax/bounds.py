"""Bounds on values that a user gives, which say what they are."""

import abc
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class Rule(abc.ABC):
    """A bound; its `str` completes "must be ..."."""

    @abc.abstractmethod
    def allows(self, value: Any) -> bool:
        """Whether a value keeps to it."""

    @property
    def says(self) -> str:
        """What to tell whose value does not."""
        return f"must be {self}"


@dataclass(frozen=True)
class AtLeast(Rule):
    """A finite number ≥ `low`."""

    low: float

    def allows(self, value: float) -> bool:
        """Whether a value keeps to it."""
        return math.isfinite(value) and value >= self.low

    def __str__(self) -> str:
        return f"at least {self.low}"


@dataclass(frozen=True)
class Above(Rule):
    """A finite number > `low`."""

    low: float

    def allows(self, value: float) -> bool:
        """Whether a value keeps to it."""
        return math.isfinite(value) and value > self.low

    def __str__(self) -> str:
        return f"above {self.low}"


@dataclass(frozen=True)
class Within(Rule):
    """A number in an interval, spelled as usual: "[0, 1)"."""

    interval: str

    def allows(self, value: float) -> bool:
        """Whether a value keeps to it."""
        low, high = map(float, self.interval[1:-1].split(","))
        first = value > low or (value == low and self.interval[0] == "[")
        return first and (value < high or (value == high and self.interval[-1] == "]"))

    def __str__(self) -> str:
        return f"in {self.interval}"


@dataclass(frozen=True)
class OneOf(Rule):
    """One of a few words."""

    choices: Iterable[str]

    def allows(self, value: str) -> bool:
        """Whether a value keeps to it."""
        return value in self.choices

    @property
    def says(self) -> str:
        """What to tell whose value does not."""
        return f"choose {self}"

    def __str__(self) -> str:
        return " or ".join(self.choices)


@dataclass(frozen=True)
class Or(Rule):
    """A number that stands for something else, or what another rule allows."""

    value: float
    rule: Rule

    def allows(self, value: float) -> bool:
        """Whether a value keeps to it."""
        return value == self.value or self.rule.allows(value)

    def __str__(self) -> str:
        return f"{self.value} or {self.rule}"
