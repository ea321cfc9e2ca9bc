"""What an experiment is: axes of named points over a config, and how to look at them.

A file in configs/experiments returns a config with an `Experiment` in `experiment`.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dga_jax.errors import UserError, listed
from dga_jax.experiment.measures import MEASURES

SEED = "seed"
KINDS = ("forest", "lines", "curves", "front")
_NAME = re.compile(r"[\w.+=%-]{1,60}")
_SHOWN = 10  # names in an error

Axes = Mapping[str, Mapping[str, Mapping[str, Any]]]
Points = Mapping[str, str]  # the point on each axis


@dataclasses.dataclass(frozen=True)
class Figure:
    """What the figure shows.

    Attributes:
      kind: "forest": the difference to the baseline of each point of `lines`; "lines":
        `y` over the points of axis `x`; "curves": the loss over train steps; "front":
        the target's loss over the generic one, along axis `x`.
      x: an axis; not for "forest" and "curves".
      lines: an axis, a colour a point.
      panels: an axis, a panel a point; "" for one panel.
      y: a measure, see `measures.MEASURES`.
    """

    kind: str = "forest"
    x: str = ""
    lines: str = ""
    panels: str = ""
    y: str = "target"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A question, the runs that answer it, and the answer once they are done.

    Attributes:
      question: as a person asks it.
      axes: fields of the config by point, by axis: every combination is a run. A later
        axis takes precedence; flags may not set a field that an axis does. In a text,
        `{AXIS}` stands for the point on that axis.
      baseline: what the others are compared with, a point on one axis or several; pairs
        agree on all other axes.
      also: points on the baseline's axis, two by two: the page says how far the first
        of each pair is from the second.
      loss: which loss is "target": "target", or "target/{AXIS}" where the store has
        several and their names are the points of an axis.
      over: axes of which means are taken.
      tables: axes that tell rows apart, a table each; () is one of all but `over`.
      columns: measures that a table has beside those that all have.
      ranks: an axis whose points are to agree on the order of the others; "" for none.
      figure: what it shows.
      answer: two sentences, for the page.
      shows_not: what the experiment does not show, for the page.
      data: which text, for the page, and which part of it anything was chosen on.
    """

    question: str
    axes: Axes
    baseline: Points
    also: tuple[str, ...] = ()
    loss: str = "target"
    over: tuple[str, ...] = (SEED,)
    tables: tuple[tuple[str, ...], ...] = ()
    columns: tuple[str, ...] = ()
    ranks: str = ""
    figure: Figure = Figure()
    answer: str = ""
    shows_not: str = ""
    data: str = ""

    def check(self) -> None:
        """Raises UserError where names do not fit together."""
        if not self.axes or not all(self.axes.values()):
            raise UserError("experiment.axes: each axis needs a point; give it one")
        for axis, points in self.axes.items():
            for name in (axis, *points):
                if not _NAME.fullmatch(name):
                    raise UserError(
                        f"experiment.axes: {name!r} of {axis} names folders; use"
                        " letters, digits and . + = % -, at most 60"
                    )
        for axis, point in self.baseline.items():
            if point not in self.axes.get(axis, ()):
                known = listed(list(self.axes.get(axis, self.axes)), _SHOWN)
                raise UserError(
                    f"experiment.baseline: {axis}={point} is not on an axis; there are"
                    f" {known}"
                )
        axis = next(iter(self.baseline), "")
        if self.also and (
            len(self.also) % 2 or not {*self.also} <= {*self.axes.get(axis, ())}
        ):
            raise UserError(
                f"experiment.also={self.also}: give points of axis {axis!r}, that of"
                " the baseline, two by two"
            )
        figure, rows = self.figure, itertools.chain(self.over, *self.tables)
        if figure.kind not in KINDS:
            raise UserError(
                f"experiment.figure.kind={figure.kind}: choose from {', '.join(KINDS)}"
            )
        for name in (figure.y, *self.columns):
            if name not in MEASURES:
                raise UserError(
                    f"experiment: there is no measure {name!r}; there are"
                    f" {', '.join(MEASURES)}"
                )
        for axis in (*rows, self.ranks, figure.x, figure.lines, figure.panels):
            if axis and axis not in self.axes:
                raise UserError(
                    f"experiment: there is no axis {axis!r}; there are"
                    f" {listed(list(self.axes), _SHOWN)}"
                )

    def combinations(self) -> Iterator[Points]:
        """Every combination of points, the last axis fastest."""
        for points in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, points, strict=True))

    def fields(self, points: Points) -> dict[str, Any]:
        """Fields of the config at a combination of points.

        In a text, `{AXIS}` stands for the point on that axis.
        """
        found: dict[str, Any] = {}
        for axis, point in points.items():
            found |= self.axes[axis][point]
        return {
            name: value.format_map(points) if isinstance(value, str) else value
            for name, value in found.items()
        }

    def described(self) -> dict[str, Any]:
        """All of it but the fields, ready for JSON; see `from_description`."""
        entry = dataclasses.asdict(self)
        entry["axes"] = {axis: list(points) for axis, points in self.axes.items()}
        return entry


def from_description(entry: Mapping[str, Any]) -> Experiment:
    """The experiment that `described` was asked of, with points that set nothing.

    Raises:
      ValueError, TypeError, KeyError: it is no such description.
    """
    known = {field.name for field in dataclasses.fields(Experiment)}
    given = {name: value for name, value in entry.items() if name in known}
    axes = {axis: {p: {} for p in points} for axis, points in entry["axes"].items()}
    return Experiment(
        **given
        | {
            "axes": axes,
            "also": tuple(entry.get("also", ())),
            "over": tuple(entry["over"]),
            "tables": tuple(map(tuple, entry["tables"])),
            "columns": tuple(entry.get("columns", ())),
            "figure": Figure(**entry["figure"]),
        }
    )


def seeds(count: int, first: int = 0) -> dict[str, dict[str, int]]:
    """The points of an axis of seeds."""
    return {str(i): {"seed": i} for i in range(first, first + count)}
