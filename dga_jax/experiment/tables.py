"""Tables of an experiment, from the lines of its results alone."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dga_jax.experiment.measures import MEASURES, Line
from dga_jax.experiment.spec import Experiment
from dga_jax.experiment.statistics import Difference, Interval, difference, interval
from dga_jax.logs.console import columns

NOTHING = "-"
_SHOWN = ("target", "natural", "uniform", "effective", "epochs", "gap")
_AGAINST = ("less baseline", "better", "steps", "FLOPs")


class Group(NamedTuple):
    """Runs that a mean is taken of.

    Attributes:
      points: of the axes that tell groups apart.
      lines: of the runs.
      pairs: those that have a counterpart in the baseline, with it.
    """

    points: Mapping[str, str]
    lines: Sequence[Line]
    pairs: Sequence[tuple[Line, Line]]


def loss_of(experiment: Experiment, line: Line) -> str:
    """The name of the loss that is a run's target."""
    return experiment.loss.format(**line["axes"])


def groups(
    experiment: Experiment, lines: Sequence[Line], axes: Sequence[str]
) -> list[Group]:
    """Runs by their points on some axes, in the order of the experiment's points.

    Args:
      experiment: of the runs.
      lines: of its results; those that failed are left out.
      axes: that tell groups apart.
    """
    good = [line for line in lines if "failed" not in line]
    places = {a: {p: i for i, p in enumerate(ps)} for a, ps in experiment.axes.items()}
    rest = [axis for axis in experiment.axes if axis not in experiment.baseline]

    def key(line: Line, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(line["axes"][name] for name in names)

    base = {
        key(line, rest): line
        for line in good
        if all(line["axes"][a] == p for a, p in experiment.baseline.items())
    }
    found: dict[tuple[str, ...], list[Line]] = {}
    for line in good:
        found.setdefault(key(line, axes), []).append(line)

    def place(points: tuple[str, ...]) -> list[int]:
        return [
            places[a].get(p, len(places[a])) for a, p in zip(axes, points, strict=True)
        ]

    return [
        Group(
            dict(zip(axes, points, strict=True)),
            found[points],
            [(x, base[key(x, rest)]) for x in found[points] if key(x, rest) in base],
        )
        for points in sorted(found, key=place)
    ]


def mean(experiment: Experiment, group: Group, measure: str) -> Interval:
    """Of a measure over the runs of a group."""
    of = MEASURES[measure].of
    values = [of(line, loss_of(experiment, line)) for line in group.lines]
    return interval([math.nan if value is None else value for value in values])


def against(
    experiment: Experiment, group: Group, measure: str = "target"
) -> Difference:
    """Of a measure to the baseline, over the pairs of a group."""
    of = MEASURES[measure].of
    both = [
        [math.nan if (x := of(line, loss_of(experiment, pair[0]))) is None else x
         for line in pair]
        for pair in group.pairs
    ]  # fmt: skip
    array = np.array(both, np.float64).reshape(-1, 2)
    return difference(array[:, 0], array[:, 1])


def steps_to(line: Line, name: str, level: float) -> float:
    """Steps after which a loss is at most `level`, between evaluations on a line.

    NaN if it never is.
    """
    steps, losses = (np.asarray(x, np.float64) for x in line["curves"][name])
    below = np.flatnonzero(losses <= level)
    if not len(below):
        return math.nan
    i = below[0]
    if not i:
        return float(steps[0])
    share = (losses[i - 1] - level) / (losses[i - 1] - losses[i])
    return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))


def _savings(experiment: Experiment, group: Group) -> tuple[float, float]:
    """Steps, and FLOPs, to the baseline's final loss, over those of the baseline.

    Medians over the pairs; infinite where most never come there.
    """
    found = []
    for line, base in group.pairs:
        name = loss_of(experiment, line)
        share = steps_to(line, name, base["final"][name]) / base["steps"]
        dearer = line["cost"]["flops"] / line["steps"]
        dearer /= base["cost"]["flops"] / base["steps"]
        found.append((share, share * dearer))
    if not found:
        return math.nan, math.nan
    array = np.where(np.isnan(found), np.inf, found)
    return tuple(np.median(array, axis=0).tolist())


def _cell(found: Interval, digits: int, sign: str = "") -> str:
    if not found.count:
        return NOTHING
    text = f"{found.mean:{sign}.{digits}f}"
    if math.isnan(found.low):
        return text
    return f"{text} [{found.low:{sign}.{digits}f}, {found.high:{sign}.{digits}f}]"


def _ratio(value: float) -> str:
    if math.isnan(value):
        return NOTHING
    return "never" if math.isinf(value) else f"{value:.2f}"


def rows(
    experiment: Experiment, lines: Sequence[Line], axes: Sequence[str]
) -> list[list[str]]:
    """One table: a heading, and a row a group.

    Args:
      experiment: of the runs.
      lines: of its results.
      axes: that tell rows apart.
    """
    found = groups(experiment, lines, axes)
    compares = bool(experiment.baseline)
    heading = [*axes, "runs", MEASURES[_SHOWN[0]].label]
    heading += _AGAINST if compares else ()
    beside = _SHOWN[1:] + experiment.columns
    heading += [MEASURES[name].label for name in beside]
    table = [heading]
    for group in found:
        cells = [*group.points.values(), str(len(group.lines))]
        cells.append(_cell(mean(experiment, group, "target"), 3))
        if compares and all(pair[0] is pair[1] for pair in group.pairs):
            cells += [NOTHING] * len(_AGAINST)  # with itself
        elif compares:
            pairs = against(experiment, group)
            cells.append(_cell(pairs.interval, 3, "+"))
            cells.append(f"{pairs.better:.0%}" if group.pairs else NOTHING)
            cells += map(_ratio, _savings(experiment, group))
        for name in beside:
            found_mean = mean(experiment, group, name)
            # What is beside the point has no interval, to keep rows short.
            digits = MEASURES[name].digits
            short = found_mean if digits == 3 else found_mean._replace(low=math.nan)
            cells.append(_cell(short, digits))
        table.append(cells)
    return table


def tables(experiment: Experiment, lines: Sequence[Line]) -> list[list[list[str]]]:
    """All tables that the experiment asks for."""
    every = [axis for axis in experiment.axes if axis not in experiment.over]
    return [rows(experiment, lines, axes) for axes in experiment.tables or (every,)]


def other_differences(experiment: Experiment, lines: Sequence[Line]) -> list[str]:
    """How far the first of each two points of `also` is from the second, pair by pair.

    A line for each combination of points on the axes that no mean is taken of.
    """
    twos = zip(experiment.also[::2], experiment.also[1::2], strict=True)
    return [line for two in twos for line in _difference(experiment, lines, *two)]


def _difference(
    experiment: Experiment, lines: Sequence[Line], first: str, second: str
) -> list[str]:
    axis = next(iter(experiment.baseline))
    other = dataclasses.replace(experiment, baseline={axis: second})
    rest = [a for a in experiment.axes if a not in (axis, *experiment.over)]
    said = []
    for group in groups(other, lines, (axis, *rest)):
        if group.points[axis] != first or not group.pairs:
            continue
        where = "".join(f", {a} {group.points[a]}" for a in rest)
        found = []
        for name in ("target", "natural"):
            pairs = against(other, group, name).interval
            found.append(f"{MEASURES[name].label} {_cell(pairs, 3, '+')}")
        count = "1 pair" if len(group.pairs) == 1 else f"{len(group.pairs)} pairs"
        said.append(f"{first} less {second}{where}, {count}: {', '.join(found)}")
    return said


def agreement(experiment: Experiment, lines: Sequence[Line]) -> list[str]:
    """How far the points of `ranks` agree on the order of the others' losses.

    Spearman's rank correlation of mean losses, of each point with the first.
    """
    axis = experiment.ranks
    if not axis:
        return []
    others = [a for a in experiment.axes if a not in (axis, *experiment.over)]
    found: dict[str, dict[tuple, float]] = {}
    for group in groups(experiment, lines, (axis, *others)):
        point, *rest = group.points.values()
        found.setdefault(point, {})[tuple(rest)] = mean(
            experiment, group, "target"
        ).mean
    first, *rest = found or [""]
    said = []
    for point in rest:
        both = [key for key in found[first] if key in found[point]]
        one, other = ([found[p][key] for key in both] for p in (first, point))
        said.append(
            f"rank correlation of target losses, {axis} {first} and {point}: "
            f"{spearman(one, other):.3f} over {len(both)}"
        )
    return said


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Rank correlation of two samples [n], ties at their mean rank.

    >>> spearman([1.0, 2.0, 3.0], [10.0, 30.0, 20.0])
    0.5
    """
    ranks = []
    for values in (one, other):
        array = np.asarray(values)
        below = (array[:, None] > array).sum(1)
        ranks.append(below + (array[:, None] == array).sum(1) / 2)
    if len(one) < 2 or not all(map(np.std, ranks)):
        return math.nan
    return round(float(np.corrcoef(*ranks)[0, 1]), 6)


def as_text(table: Sequence[Sequence[str]]) -> str:
    """A table for a terminal."""
    return columns(table)


def as_markdown(table: Sequence[Sequence[str]]) -> str:
    """A table for a page."""
    heading, *body = ([cell.replace("|", "\\|") for cell in row] for row in table)
    lines = [heading, ["---"] * len(heading), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def failures(lines: Sequence[Line]) -> list[str]:
    """A line for each run that failed."""
    return [f"{x['name']} failed: {x['failed']}" for x in lines if "failed" in x]
