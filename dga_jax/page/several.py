"""The page of several runs, side by side."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dga_jax.logs.console import quantity, scientific
from dga_jax.logs.metrics import history
from dga_jax.logs.tables import number
from dga_jax.page import charts
from dga_jax.page.markup import (
    Html,
    Rows,
    element,
    figure,
    folded,
    section,
    table,
    write,
)
from dga_jax.page.run import command, domain_tables, signs
from dga_jax.page.told import Told
from dga_jax.training.fields import as_flag, decides, fields, get

_TARGET = "eval/target/loss"
_LOSSES = {
    "target": _TARGET,
    "generic, uniform": "eval/generic_uniform/loss",
    "generic, natural": "eval/generic_natural/loss",
}
_RANKED = 6  # runs that the answer names


def write_comparison(path: Path, runs: Sequence[Told], rows: Rows) -> Path:
    """Writes the page of several runs, whole or not at all.

    Args:
      path: of the file.
      runs: with different titles.
      rows: what `compared` gave for them.

    Returns:
      The path.

    Raises:
      UserError: it cannot be written.
    """
    title = f"{len(runs)} runs"
    return write(
        path,
        title,
        element("h1", title),
        element("p", ", ".join(run.title for run in runs), class_="facts"),
        section("Question", element("p", _question(runs))),
        section("Answer", element("div", *_answer(runs), class_="answer")),
        section("Side by side", table(rows)),
        section("What they differ in", *_differences(runs)),
        section("Over time", element("div", *_charts(runs), class_="charts")),
        section("Weights", element("div", *_weights(runs), class_="charts")),
        section("Each run", *(_run(told, path.parent) for told in runs)),
        section(
            "Again", command("report", *(f"--workdir={run.workdir}" for run in runs))
        ),
        remedy="choose another place with --page",
    )


def compared(runs: Sequence[Told]) -> list[list[str]]:
    """A table of several runs at the last step at which all were evaluated.

    Without such a step each is shown at its own last evaluation; the heading says so.
    """
    step = common_step(runs)
    heads = ["run", "mixer", "seed", "step", *_LOSSES]
    rows = [[*heads, "effective domains", "total FLOPs", "tokens/s"]]
    for told in runs:
        config = told.config
        of = config.mixer.name if config else "-", str(config.seed) if config else "-"
        at = last_step(told) if step is None else step
        row = [told.title, *of, "-" if at is None else f"{at:,}"]
        row += [number(_at(told, key, at)) for key in _LOSSES.values()]
        effective, flops = (
            _at(told, key, at) for key in ("mixture/effective_domains", "cost/flops")
        )
        _, speed = history(told.lines, "perf/tokens_per_second")
        row.append(quantity(effective) if math.isfinite(effective) else "-")
        row.append(scientific(flops))
        row.append(quantity(np.median(speed)) if len(speed) else "-")
        rows.append(row)
    return rows


def common_step(runs: Sequence[Told]) -> int | None:
    """The last step at which the target's loss of all runs was measured, or None."""
    steps = [set(history(told.lines, _TARGET)[0].tolist()) for told in runs]
    return max(set.intersection(*steps), default=None)


def last_step(told: Told) -> int | None:
    """The last step at which the target's loss was measured, or None."""
    steps, _ = history(told.lines, _TARGET)
    return int(steps[-1]) if len(steps) else None


def _at(told: Told, key: str, step: int | None) -> float:
    """The newest value up to a step; NaN without any."""
    steps, values = history(told.lines, key)
    count = 0 if step is None else int(np.searchsorted(steps, step, side="right"))
    return float(values[count - 1]) if count else math.nan


def _question(runs: Sequence[Told]) -> str:
    mixers = dict.fromkeys(run.config.mixer.name for run in runs if run.config)
    named = f" (mixers: {', '.join(mixers)})" if mixers else ""
    return (
        f"Which of {len(runs)} runs{named} makes a model best on the target's text, and"
        " what does it cost on the generic text?"
    )


def _answer(runs: Sequence[Told]) -> Iterator[Html]:
    for sentence in _sentences(runs):
        yield element("p", sentence)


def _sentences(runs: Sequence[Told]) -> Iterator[str]:
    stores = {run.record.data.get("content_hash") for run in runs if run.record}
    if len(stores) > 1:
        yield (
            "The runs were trained and evaluated on different stores: their losses"
            " cannot be compared."
        )
        return
    step = common_step(runs)
    if step is None:
        yield "There is no step at which all were evaluated: nothing can be compared."
        return
    losses = {run.title: _at(run, _TARGET, step) for run in runs}
    ranked = sorted(losses, key=losses.get)
    best = ranked[0]
    rest = [f"{name} +{losses[name] - losses[best]:.3f}" for name in ranked[1:_RANKED]]
    more = f" and {len(ranked) - _RANKED} more" if len(ranked) > _RANKED else ""
    yield (
        f"At step {step:,}, the last at which all were evaluated, the target's held-out"
        f" loss is lowest in {best}: {losses[best]:.3f} nats per token. Above it:"
        f" {', '.join(rest)}{more}."
    )
    yield from _seeds(losses, runs)
    signed = [run.title for run in runs if run.warnings]
    if signed:
        yield f"Signs of failure, see below, were seen in {', '.join(signed)}."


def _seeds(losses: Mapping[str, float], runs: Sequence[Told]) -> Iterator[str]:
    """Means and deviations over runs that differ in their seed alone."""
    groups: dict[tuple, list[str]] = {}
    for told in runs:
        key = (told.title,) if told.config is None else _settings(told.config)
        groups.setdefault(key, []).append(told.title)
    several = [names for names in groups.values() if len(names) > 1]
    if not several:
        yield (
            "Each was trained with one seed: how much of a difference is chance, only"
            " runs with other seeds say."
        )
    for names in several:
        values = np.array([losses[name] for name in names])
        yield (
            f"{', '.join(names)} differ in nothing but their seed: target loss"
            f" {values.mean():.3f} ± {values.std(ddof=1):.3f} (standard deviation over"
            f" {len(names)} seeds)."
        )


def _settings(config: ConfigDict) -> tuple:
    """All that decides what the losses are, without the seed."""
    names = (name for name in fields() if name != "seed" and decides(name))
    return tuple(str(get(config, name)) for name in names)


def _differences(runs: Sequence[Told]) -> Iterator[Html]:
    configs = [run.config for run in runs]
    if None in configs:
        yield element("p", "Not shown: the config of a run is not there.")
        return
    rows = [["field", *(run.title for run in runs)]]
    for name in fields():
        values = [as_flag(get(config, name)) for config in configs]
        if len(set(values)) > 1:
            rows.append([name, *values])
    yield (
        table(rows) if len(rows) > 1 else element("p", "In no field of their configs.")
    )


def _charts(runs: Sequence[Told]) -> Iterator[Html]:
    lines = {run.title: run.lines for run in runs}
    for name, key in (_LOSSES | {"train": "train/loss"}).items():
        chart = charts.compared(lines, key)
        if chart is not None:
            yield figure(f"{name}, loss", "nats per token", chart)


def _weights(runs: Sequence[Told]) -> Iterator[Html]:
    """Weights of each run; the same domain has the same colour in all of them."""
    most: dict[str, float] = {}
    for told in runs:
        if told.moving is not None:
            last = np.asarray(told.moving.values[-1])
            names = list(charts.colours(told.moving.domains, last))
            for name, weight in zip(names, told.moving.last(names), strict=True):
                most[name] = max(most.get(name, 0.0), weight)
    painted = charts.colours(list(most), np.array(list(most.values())))
    for told in runs:
        if told.moving is not None:
            about = "" if told.basis_weights is None else "weights of the basis"
            chart = charts.weights(told.moving, painted)
            yield figure(told.title, about, chart)


def _run(told: Told, beside: Path) -> Html:
    page = os.path.relpath(told.workdir / "report.html", beside)
    return folded(
        f"{told.title}: {told.heading}",
        element("p", element("a", "its own page", href=Path(page).as_posix())),
        signs(told),
        *domain_tables(told),
        *(element("p", fact) for fact in told.facts),
    )
