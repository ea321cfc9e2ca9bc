"""The figure of an experiment, from the lines of its results alone."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dga_jax.experiment import tables
from dga_jax.experiment.spec import Experiment
from dga_jax.experiment.statistics import Interval, interval
from dga_jax.experiment.tables import Group, Line
from dga_jax.files import written
from dga_jax.logs.plot import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ZERO = {"color": "#777777", "linewidth": 0.8}
_MARKERS = "osD^vPX<>*"
# Of a curve: the first evaluations say nothing, and would hide what does.
_FIRST_SHOWN = 0.25


def draw(path: Path, experiment: Experiment, lines: Sequence[Line]) -> Path | None:
    """Draws it; the file appears whole.

    Args:
      path: of the PNG.
      experiment: whose `figure` says what is shown.
      lines: of its results.

    Returns:
      The path, or None where there is nothing to draw yet.
    """
    figure = experiment.figure
    good = [line for line in lines if "failed" not in line]
    if not good:
        return None
    panels = [""]
    if figure.panels:
        seen = {line["axes"][figure.panels] for line in good}
        panels = [p for p in experiment.axes[figure.panels] if p in seen]
    # Slow to import, and no window is wanted.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = min(5 * len(panels), 15) if len(panels) > 1 else 6.5
    canvas = Figure(figsize=(width, 4.2), layout="constrained")
    FigureCanvasAgg(canvas)
    # Differences are compared across panels, losses of two targets are not.
    same = figure.kind == "forest"
    every = canvas.subplots(1, len(panels), squeeze=False, sharex=same)[0]
    for axes, panel in zip(every, panels, strict=True):
        here = [x for x in good if not panel or x["axes"][figure.panels] == panel]
        _KINDS[figure.kind](axes, experiment, here)
        axes.set_title(f"{figure.panels} {panel}".strip(), fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#EEEEEE")
        axes.set_axisbelow(True)
    if every[0].get_legend_handles_labels()[1]:
        every[0].legend(frameon=False, fontsize=8)
    with written(path, suffix=str(os.getpid())) as file:
        canvas.savefig(file, format="png", dpi=130, metadata={"Software": None})
    return path


def _line_axis(experiment: Experiment) -> str:
    """The axis of the lines: what is compared, unless the figure says."""
    return experiment.figure.lines or next(iter(experiment.baseline or experiment.axes))


def _style(experiment: Experiment, axis: str, point: str) -> dict[str, str]:
    """The same colour and marker for a point in every panel."""
    names = list(experiment.axes[axis])
    place = names.index(point) if point in names else len(names)
    marker = _MARKERS[(place // len(COLOURS) + place) % len(_MARKERS)]
    return {"color": COLOURS[place % len(COLOURS)], "marker": marker}


def _bars(found: Sequence[Interval]) -> np.ndarray:
    """Lengths below and above the means: [2, n], 0 where there is no interval."""
    ends = [(x.mean - x.low, x.high - x.mean) for x in found]
    return np.maximum(np.nan_to_num(np.array(ends).T), 0)


def _forest(axes: "Axes", experiment: Experiment, lines: Sequence[Line]) -> None:
    """The paired difference to the baseline of each point, and its interval."""
    axis = _line_axis(experiment)
    shown = [
        group
        for group in tables.groups(experiment, lines, (axis,))
        if group.pairs and not all(a is b for a, b in group.pairs)
    ]
    found = [tables.against(experiment, g, experiment.figure.y).interval for g in shown]
    places = -np.arange(len(shown))
    for place, group, one in zip(places, shown, found, strict=True):
        style = _style(experiment, axis, group.points[axis])
        axes.errorbar(one.mean, place, xerr=_bars([one]), capsize=3, **style)
    axes.axvline(0, **_ZERO)
    axes.set_yticks(places, [group.points[axis] for group in shown], fontsize=8)
    base = ", ".join(experiment.baseline.values())
    label = tables.MEASURES[experiment.figure.y].label
    axes.set_xlabel(f"{label}, less that of {base}")


def _lines(axes: "Axes", experiment: Experiment, lines: Sequence[Line]) -> None:
    """A measure over the points of an axis, which are at even distances."""
    figure, axis = experiment.figure, _line_axis(experiment)
    points = list(experiment.axes[figure.x])
    for name, groups in _by_line(experiment, lines, axis, figure.x).items():
        places = [points.index(group.points[figure.x]) for group in groups]
        found = [tables.mean(experiment, group, figure.y) for group in groups]
        means, style = [x.mean for x in found], _style(experiment, axis, name)
        axes.errorbar(
            places,
            means,
            yerr=_bars(found),
            capsize=3,
            label=name,
            linewidth=1,
            **style,
        )
    axes.set_xticks(range(len(points)), points, fontsize=8)
    axes.set_xlabel(figure.x)
    axes.set_ylabel(tables.MEASURES[figure.y].label)


def _by_line(
    experiment: Experiment, lines: Sequence[Line], axis: str, x: str
) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in tables.groups(experiment, lines, (axis, x)):
        found.setdefault(group.points[axis], []).append(group)
    return found


def _curves(axes: "Axes", experiment: Experiment, lines: Sequence[Line]) -> None:
    """The target's loss over train steps, the mean where the runs' steps agree."""
    axis, tails = _line_axis(experiment), []
    for group in tables.groups(experiment, lines, (axis,)):
        curves = [x["curves"][tables.loss_of(experiment, x)] for x in group.lines]
        steps = np.array(curves[0][0])
        same = np.array([y for x, y in curves if np.array_equal(x, steps)])
        name = group.points[axis]
        style = _style(experiment, axis, name)
        found = [interval(column) for column in same.T]
        means = np.array([x.mean for x in found])
        below, above = _bars(found)
        colour = style["color"]
        axes.fill_between(
            steps, means - below, means + above, color=colour, alpha=0.15, linewidth=0
        )
        axes.plot(steps, means, markersize=3, label=name, **style)
        tails.append(means[int(len(means) * _FIRST_SHOWN) :])
    low, high = min(map(np.min, tails)), max(map(np.max, tails))
    room = 0.05 * (high - low) or 0.05
    axes.set_ylim(low - room, high + room)
    axes.set_xlabel("step")
    axes.set_ylabel("target loss, nats per token")


def _front(axes: "Axes", experiment: Experiment, lines: Sequence[Line]) -> None:
    """The target's loss over the generic one, both down: left and below is better."""
    axis, x = _line_axis(experiment), experiment.figure.x
    for name, groups in _by_line(experiment, lines, axis, x or axis).items():
        special = [tables.mean(experiment, group, "target") for group in groups]
        general = [tables.mean(experiment, group, "natural") for group in groups]
        axes.errorbar(
            [one.mean for one in general],
            [one.mean for one in special],
            xerr=_bars(general),
            yerr=_bars(special),
            label=name,
            linewidth=1,
            capsize=2,
            **_style(experiment, axis, name),
        )
    axes.set_xlabel(tables.MEASURES["natural"].label)
    axes.set_ylabel(tables.MEASURES["target"].label)


_KINDS: dict[str, Callable[["Axes", Experiment, Sequence[Line]], None]] = {
    "forest": _forest,
    "lines": _lines,
    "curves": _curves,
    "front": _front,
}
