"""What the charts of a page are drawn from: curves with few enough points to hold.

A chart is what `page.js` reads: {"kind": "hold" (a value holds until the next) or
"line", "axes": names, "format": of values, "zero": whether the axis begins at 0, "log":
whether it may be logarithmic, "series": [{"name", "color": 0 to 9 or -1 for grey,
"style": "", "dash", "rest" or "thin", "off": whether it is left out at first, "x":
[numbers for each axis], "y": numbers or null, "e": errors, if there are}]}. Every
number is one of the log, to seven digits.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dga_jax.logs.metrics import history
from dga_jax.logs.series import MAX_LOGGED, NUM_LEADING, Series, leading

_COLOURS = 10
_MOST_POINTS = 600  # of a curve
_MOST_RECORDS = 400  # of a series over many domains
_STEP, _FLOPS, _HOURS = "step", "FLOPs", "hours"

Lines = Sequence[Mapping[str, float | None]]
Chart = dict[str, Any]


class Clock(NamedTuple):
    """What had been spent by each step of a run.

    Attributes:
      steps: int64 [n], by axis.
      spent: float64 [n], ascending, by axis.
    """

    steps: Mapping[str, np.ndarray]
    spent: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, lines: Lines) -> "Clock":
        """From a log; without an axis for what it does not say."""
        found = {
            _FLOPS: history(lines, "cost/flops"),
            _HOURS: history(lines, "perf/seconds"),
        }
        known = {
            name: (steps, values)
            for name, (steps, values) in found.items()
            if len(steps) > 1 and (np.diff(values) >= 0).all() and values[-1] > 0
        }
        scale = {_FLOPS: 1.0, _HOURS: 1 / 3600}
        last = lines[-1]["step"] if lines else 0
        for name, (steps, values) in known.items():
            if steps[-1] < last:  # goes on as it went before
                slope = (values[-1] - values[-2]) / max(steps[-1] - steps[-2], 1)
                end = values[-1] + slope * (last - steps[-1])
                known[name] = np.append(steps, last), np.append(values, end)
        return cls(
            {name: steps for name, (steps, _) in known.items()},
            {name: values * scale[name] for name, (_, values) in known.items()},
        )

    @property
    def axes(self) -> list[str]:
        """Names of the axes, steps first."""
        return [_STEP, *self.steps]

    def places(self, steps: np.ndarray, axes: Sequence[str]) -> list[list[float]]:
        """Where steps lie on each axis; between two records as if it had been even."""
        by_axis = [steps]
        for name in axes[1:]:
            by_axis.append(np.interp(steps, self.steps[name], self.spent[name]))
        return [_numbers(x) for x in by_axis]


def losses(lines: Lines, keys: Mapping[str, str]) -> Chart:
    """Curves of metrics over steps, or over what was spent.

    Args:
      lines: of the log.
      keys: of the metrics by the names of their curves.
    """
    clock = Clock.of(lines)
    axes = clock.axes
    curves = []
    for i, (name, key) in enumerate(keys.items()):
        steps, values = thinned(*history(lines, key))
        if not len(steps):
            continue
        grey = key.startswith("train/")
        curve = _curve(name, -1 if grey else i % _COLOURS, clock, axes, steps, values)
        curves.append(curve | {"style": "rest" if grey else ""})
    return _chart("line", "loss", curves, axes)


def compared(runs: Mapping[str, Lines], key: str) -> Chart | None:
    """One metric of several runs, by their names; None if none of them has it."""
    clocks = {name: Clock.of(lines) for name, lines in runs.items()}
    axes = [
        a for a in (_STEP, _FLOPS, _HOURS) if all(a in c.axes for c in clocks.values())
    ]
    curves = []
    for i, (name, lines) in enumerate(runs.items()):
        steps, values = thinned(*history(lines, key))
        if len(steps):
            curve = _curve(name, i % _COLOURS, clocks[name], axes, steps, values)
            dash = "dash" if i // _COLOURS % 2 else ""
            curves.append(curve | {"style": dash})
    return _chart("line", "loss", curves, axes) if curves else None


def speed(lines: Lines) -> Chart | None:
    """Tokens a second over steps; None if the log does not say."""
    clock = Clock.of(lines)
    steps, values = thinned(*history(lines, "perf/tokens_per_second"))
    if not len(steps):
        return None
    curve = _curve("tokens per second", 0, clock, [_STEP], steps, values)
    return _chart("line", "count", [curve], [_STEP], zero=True)


def colours(names: Sequence[str], values: np.ndarray) -> dict[str, int]:
    """The colours of the largest of some values [k], by name."""
    return {names[i]: c for c, i in enumerate(leading(values, _COLOURS))}


def weights(
    series: Series, painted: Mapping[str, int], drawn: Series | None = None
) -> Chart:
    """Weights over steps: the leading ones in colours, of many the sum of the rest.

    Args:
      series: of the weights.
      painted: colours by name.
      drawn: what was drawn of the same, in broken lines; None leaves it out.
    """
    shown = _shown(series)
    records = _spread(len(series.steps))
    values = np.stack([np.asarray(series.values[i])[shown] for i in records])
    steps = series.steps[records]
    curves = _many([series.domains[i] for i in shown], painted, steps, values)
    if len(shown) < len(series.domains):
        rest = np.maximum(0, 1 - values.sum(axis=1))
        name = f"{len(series.domains) - len(shown):,} others, sum"
        curve = _curve(name, -1, None, [_STEP], steps, rest)
        # A sum that would leave no room for those it is beside is there on a click.
        off = {"off": True} if rest.max() > 3 * values.max() else {}
        curves.append(curve | {"style": "dash"} | off)
    if drawn is not None:
        names = list(painted)
        records = _spread(len(drawn.steps))
        places = _places(drawn, names)
        shares = np.stack([np.asarray(drawn.values[i])[places] for i in records])
        for name, y in zip(names, shares.T, strict=True):
            # A record is of the steps up to its own, and its line goes before it.
            before = np.append(drawn.steps[0], drawn.steps[:-1])[records]
            curve = _curve(f"{name}, drawn", painted[name], None, [_STEP], before, y)
            curves.append(curve | {"style": "dash"})
    return _chart("hold", "weight", curves, [_STEP], zero=True, log=True)


def by_domain(
    series: Series,
    painted: Mapping[str, int],
    form: str,
    errors: Series | None = None,
) -> Chart:
    """A number per domain over steps, of the domains that have a colour first.

    Args:
      series: of the numbers.
      painted: colours by name.
      form: "loss" or "signed".
      errors: standard errors of the same.
    """
    named = [name for name in painted if name in set(series.domains)]
    if len(series.domains) <= MAX_LOGGED:
        named += [name for name in series.domains if name not in painted]
    places = _places(series, named)
    records = _spread(len(series.steps))
    values = np.stack([np.asarray(series.values[i])[places] for i in records])
    steps = series.steps[records]
    curves = _many(named, painted, steps, values)
    if errors is not None and np.array_equal(errors.steps, series.steps):
        places = _places(errors, named)
        found = np.stack([np.asarray(errors.values[i])[places] for i in records])
        for curve, column in zip(curves, found.T, strict=True):
            if curve["color"] >= 0:
                curve["e"] = _numbers(column)
    return _chart("line", form, curves, [_STEP])


def thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `_MOST_POINTS` of them: of each stretch the lowest and the highest."""
    if len(steps) <= _MOST_POINTS:
        return steps, values
    stretches = np.array_split(np.arange(len(steps)), _MOST_POINTS // 2 - 1)
    kept = {0, len(steps) - 1}
    for stretch in stretches:
        kept |= {
            stretch[np.argmin(values[stretch])],
            stretch[np.argmax(values[stretch])],
        }
    order = np.array(sorted(kept))
    return steps[order], values[order]


def _spread(count: int) -> np.ndarray:
    """Indices of at most `_MOST_RECORDS` of `count` records, with both ends."""
    return np.unique(
        np.linspace(0, count - 1, min(count, _MOST_RECORDS)).round()
    ).astype(int)


def _shown(series: Series) -> np.ndarray:
    """Indices of what is drawn on its own, the largest at the end first."""
    last = np.asarray(series.values[-1])
    return leading(last, len(last) if len(last) <= MAX_LOGGED else NUM_LEADING)


def _places(series: Series, names: Sequence[str]) -> list[int]:
    wanted = set(names)
    places = {name: i for i, name in enumerate(series.domains) if name in wanted}
    return [places[name] for name in names]


def _many(
    names: Sequence[str],
    painted: Mapping[str, int],
    steps: np.ndarray,
    values: np.ndarray,
) -> list[Chart]:
    """Curves of [n, k] values."""
    curves = []
    for name, y in zip(names, values.T, strict=True):
        curve = _curve(name, painted.get(name, -1), None, [_STEP], steps, y)
        curves.append(curve | {"style": "" if name in painted else "thin"})
    return curves


def _curve(
    name: str,
    colour: int,
    clock: Clock | None,
    axes: Sequence[str],
    steps: np.ndarray,
    values: np.ndarray,
) -> Chart:
    places = clock.places(steps, axes) if clock else [_numbers(steps)]
    return {"name": name, "color": colour, "x": places, "y": _numbers(values)}


def _chart(
    kind: str,
    form: str,
    curves: Sequence[Chart],
    axes: Sequence[str],
    *,
    zero: bool = False,
    log: bool = False,
) -> Chart:
    return {
        "kind": kind,
        "axes": list(axes),
        "format": form,
        "zero": zero,
        "log": log,
        "series": list(curves),
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    """Ready for JSON: seven digits, None where a value is not finite."""
    if np.issubdtype(values.dtype, np.integer):
        return values.tolist()
    return [float(f"{v:.7g}") if np.isfinite(v) else None for v in values.tolist()]
