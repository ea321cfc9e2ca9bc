"""The plot of a run: domain weights on the left, losses on the right."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dga_jax.files import written
from dga_jax.logs.console import shorten
from dga_jax.logs.metrics import history
from dga_jax.logs.series import Series, leading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# After Okabe and Ito: told apart with any colour vision. Their yellow is too faint.
COLOURS = [
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#999933",
    "#332288",
    "#000000",
]
_REST = "#BBBBBB"
_REST_TEXT = "#777777"
_LOSSES = {
    "target": {"color": "#0072B2", "marker": "o", "label": "target"},
    "generic_uniform": {"color": "#D55E00", "marker": "s", "label": "generic, uniform"},
}
_CONNECTOR = {"arrowstyle": "-", "lw": 0.6, "relpos": (0, 0.5), "shrinkB": 0}
# A share is that of the steps up to its own.
_DRAWN = {"drawstyle": "steps-pre", "linewidth": 0.7, "linestyle": ":"}
_MAX_GREY = 64  # lines of further domains; with more of them, their sum
_LONGEST_NAME = 20

Lines = Sequence[Mapping[str, float | None]]


def draw(
    path: Path,
    title: str,
    lines: Lines,
    weights: Series | None,
    weights_title: str = "domain weights",
    drawn: Series | None = None,
) -> Path:
    """Draws a run, weights on the left, losses on the right; the file appears whole.

    Args:
        path: of the PNG.
        title: above the panels.
        lines: of the log; see `metrics.read_metrics`.
        weights: of domains, or of a basis, over time; None leaves the panel empty.
        weights_title: above them.
        drawn: shares of the tokens drawn of the same domains, since the record before;
            None leaves them out, as where they differ from the weights by chance alone.

    Returns:
        The path.
    """
    figure, (left, right) = _figure(2)
    figure.suptitle(title, fontsize=12, parse_math=False)
    end = 1.02 * max(lines[-1]["step"], 1)  # room to see an update after the last step
    if weights is not None:
        dotted = "" if drawn is None else ", dotted: what was drawn"
        left.set_title(f"{weights_title}{dotted}", fontsize=10, loc="left")
        _draw_weights(left, weights, end, drawn)
    _draw_losses(right, lines)
    for axes in (left, right):
        axes.set_xlim(0, end)
        _finish(axes)
    _add_flops(right, lines)
    return _save(figure, path)


def _figure(panels: int) -> tuple["Figure", np.ndarray]:
    """A figure and its axes in a row."""
    # Slow to import, and no window is wanted.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * panels, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, panels)


def _finish(axes: "Axes") -> None:
    axes.set_xlabel("step")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#EEEEEE")
    axes.set_axisbelow(True)


def _save(figure: "Figure", path: Path) -> Path:
    with written(path) as file:
        figure.savefig(file, format="png", dpi=150)
    return path


def _draw_weights(
    axes: "Axes", weights: Series, end: float, drawn: Series | None
) -> None:
    names, values = weights.domains, weights.values
    coloured = leading(np.asarray(values[-1]), len(COLOURS))
    others = np.setdiff1d(np.arange(len(names)), coloured)
    labels = []
    if len(others) > _MAX_GREY:
        total = 1 - np.asarray(values[:, coloured]).sum(1)
        _hold(axes, weights.steps, total, end, color=_REST, linestyle="--")
        labels.append((total[-1], f"{len(others):,} others, sum", _REST_TEXT))
    elif len(others):
        for i in others:
            _hold(axes, weights.steps, values[:, i], end, color=_REST, linewidth=0.8)
        middle = np.median(values[-1][others])
        labels.append((middle, f"{len(others)} others", _REST_TEXT))
    for i, colour in reversed(list(zip(coloured, COLOURS, strict=False))):
        _hold(axes, weights.steps, values[:, i], end, color=colour, linewidth=1.6)
        labels.append((values[-1, i], shorten(names[i], _LONGEST_NAME), colour))
        if drawn is not None:
            shares = drawn.of([names[i]])
            axes.plot(drawn.steps, shares, color=colour, **_DRAWN)
    axes.set_ylim(bottom=0)
    _label_right_edge(axes, labels)


def _hold(
    axes: "Axes", steps: np.ndarray, values: np.ndarray, end: float, **style: Any
) -> None:
    """A weight holds from the update that gave it to the next, or to the end."""
    steps, values = np.append(steps, end), np.append(values, values[-1])
    axes.plot(steps, values, drawstyle="steps-post", **style)


def _label_right_edge(axes: "Axes", labels: Sequence[tuple[float, str, str]]) -> None:
    """Writes (y, text, colour) beside the axes at y, or as near as there is room.

    What has no value at the end, NaN, has no place there.
    """
    labels = sorted(
        (label for label in labels if np.isfinite(label[0])), key=lambda label: label[0]
    )
    if not labels:
        return
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = np.array([to_axes.transform((0, float(y)))[1] for y, _, _ in labels])
    for y, place, (_, text, colour) in zip(
        wanted, _spread(wanted), labels, strict=True
    ):
        axes.annotate(
            text,
            xy=(1, y),
            xytext=(1.05, place),
            xycoords="axes fraction",
            va="center",
            fontsize=8,
            color=colour,
            parse_math=False,  # a domain's name may hold a dollar sign
            arrowprops=_CONNECTOR | {"color": colour},
            annotation_clip=False,
        )


def _spread(wanted: np.ndarray, gap: float = 0.044) -> np.ndarray:
    """Ascending heights in [0, 1] moved apart by `gap`, each near to where it was."""
    offsets = gap * np.arange(len(wanted))
    # Heights less their offsets must ascend: pushed up they are the running maximum,
    # pushed down the running minimum from above; half way between is as near to both.
    free = wanted - offsets
    up = np.maximum.accumulate(free)
    down = np.minimum.accumulate(free[::-1])[::-1]
    return np.clip((up + down) / 2, 0, 1 - offsets[-1]) + offsets


def _draw_losses(axes: "Axes", lines: Lines) -> None:
    axes.set_title("losses, nats per token", fontsize=10, loc="left")
    steps, losses = history(lines, "train/loss")
    if len(steps):
        axes.plot(steps, losses, color=_REST, linewidth=0.8, label="train")
    for key, style in _LOSSES.items():
        steps, losses = history(lines, f"eval/{key}/loss")
        if len(steps):
            axes.plot(steps, losses, markersize=4, clip_on=False, **style)
    if axes.lines:
        axes.legend(frameon=False, fontsize=8, loc="upper right")


def _add_flops(axes: "Axes", lines: Lines) -> None:
    """A second axis above: what had been spent by each step."""
    steps, flops = history(lines, "cost/flops")
    if len(steps) < 2 or (np.diff(flops) <= 0).any() or (np.diff(steps) <= 0).any():
        return
    # The axes end behind the last evaluation: it goes on as it went before.
    steps, flops = (np.append(x, 2 * x[-1] - x[-2]) for x in (steps, flops))
    above = axes.secondary_xaxis(
        "top",
        functions=(
            lambda x: np.interp(x, steps, flops),
            lambda x: np.interp(x, flops, steps),
        ),
    )
    above.xaxis.set_major_formatter(lambda x, _: f"{x:.3g}".replace("e+", "e"))
    above.tick_params(labelsize=8, colors=_REST_TEXT)
    axes.set_title(f"{axes.get_title('left')}; above: FLOPs", fontsize=10, loc="left")


def draw_front(
    path: Path,
    runs: Sequence[tuple[str, np.ndarray, np.ndarray]],
    on_front: Sequence[np.ndarray],
    labels: tuple[str, str],
) -> Path:
    """Draws several runs' evaluations, special against general; appears whole.

    Args:
        path: of the PNG.
        runs: of each its name, and special and general numbers by evaluation, [n].
        on_front: bool [n] of each run: full marks, the others are hollow.
        labels: of the axes, special along.

    Returns:
        The path.
    """
    figure, axes = _figure(1)
    axes = np.ravel(axes)[0]
    for i, ((name, special, general), on) in enumerate(
        zip(runs, on_front, strict=True)
    ):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(special, general, color=colour, linewidth=0.8, alpha=0.6)
        for which, fill in ((~on, "none"), (on, colour)):
            axes.scatter(
                special[which], general[which], 24, facecolors=fill, edgecolors=colour
            )
        axes.plot([], [], "o-", color=colour, label=shorten(name, _LONGEST_NAME))
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.set_title("full: on the front of all runs", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False)
    return _save(figure, path)
