"""What a run did, as a table and a plot.

    python -m dga_jax.report --workdir=runs/quickstart

reads the log of a run, finished or not, prints the table and draws mixture.png.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from absl import flags

from dga_jax import cli, files, plot
from dga_jax.console import duration, fraction, quantity, shorten
from dga_jax.errors import UserError
from dga_jax.metrics import history, read_metrics
from dga_jax.series import MAX_LOGGED, NUM_LEADING, Series, leading, read_series

_LOSSES = {
    "target": "eval/target",
    "generic, uniform": "eval/generic_uniform",
    "generic, natural": "eval/generic_natural",
}
_LONGEST_NAME = 24

Lines = Sequence[Mapping[str, float | None]]


def write_report(
    workdir: Path, *, title: str | None = None, out: TextIO | None = None
) -> Path:
    """Prints the table of a run and draws WORKDIR/mixture.png.

    Args:
        workdir: of the run; everything is read from its log.
        title: of table and plot; the name of the workdir unless given.
        out: where to print; standard output unless given.

    Returns:
        The path of the plot.

    Raises:
        UserError: the workdir has no log, or the log has no line.
    """
    workdir = Path(workdir)
    lines = read_metrics(workdir)
    if not lines:
        raise UserError(f"the log of {workdir} has no line yet; train first")
    title = title or workdir.resolve().name
    weights = read_series(workdir, "mixture/weight", lines)
    text = [_heading(title, lines, weights), *_loss_table(lines)]
    if weights is not None:
        text += _weight_table("domain", workdir, lines, weights)
    basis_weights = read_series(workdir, "mixture/basis_weight", lines)
    if basis_weights is not None:
        text += _weight_table("basis", workdir, lines, basis_weights)
    text += _summary(lines)
    # With a basis, what moves is its weights; those of the domains follow.
    shown = "domain" if basis_weights is None else "basis"
    path = plot.draw(
        workdir / "mixture.png",
        title,
        lines,
        weights if basis_weights is None else basis_weights,
        f"{shown} weights",
    )
    print("\n".join([*text, f"plot: {path}"]), file=out or sys.stdout, flush=True)
    return path


def _heading(title: str, lines: Lines, weights: Series | None) -> str:
    facts = [f"{lines[-1]['step']} steps"]
    if weights is not None:
        facts.append(f"{len(weights.domains):,} domains")
    _, seconds = history(lines, "perf/seconds")
    if len(seconds):
        facts.append(duration(seconds[-1]))
    return f"{title}: {', '.join(facts)}"


def _loss_table(lines: Lines) -> list[str]:
    """Losses of the first and the last evaluation, or of the only one."""
    keys = [f"{key}/loss" for key in _LOSSES.values()]
    steps = sorted({int(step) for key in keys for step in history(lines, key)[0]})
    if not steps:
        return ["", "no evaluation yet"]
    ends = list(dict.fromkeys((steps[0], steps[-1])))
    columns = [f"step {step}" for step in ends]
    change = ["change"] if len(ends) > 1 else []
    rows = [
        ["loss", "nats/token", *[""] * (len(ends) - 1 + len(change)), "bits/byte"],
        ["", *columns, *change, *columns],
    ]
    for label, key in _LOSSES.items():
        nats = [_at(lines, f"{key}/loss", step) for step in ends]
        bits = [_at(lines, f"{key}/bits_per_byte", step) for step in ends]
        change = [_number(nats[1] - nats[0], "+.3f")] if len(ends) > 1 else []
        rows.append([label, *map(_number, nats), *change, *map(_number, bits)])
    return ["", *_align(rows)]


def _weight_table(
    label: str, workdir: Path, lines: Lines, weights: Series
) -> list[str]:
    """Weights from first to last, epochs, the last alignments and their errors."""
    first, last = np.asarray(weights.values[0]), np.asarray(weights.values[-1])
    shown = leading(last, len(last) if len(last) <= MAX_LOGGED else NUM_LEADING)
    names = [weights.domains[i] for i in shown]
    columns = [
        [label, *(shorten(name, _LONGEST_NAME) for name in names)],
        ["first weight", *map(_weight, first[shown])],
        ["last weight", *map(_weight, last[shown])],
        ["change", *map(_ratio, first[shown], last[shown])],
    ]
    epochs = _last(workdir, lines, "data/epochs", names)
    alignments = _last(workdir, lines, "mixture/alignment", names)
    errors = _last(workdir, lines, "mixture/alignment_error", names)
    if np.isfinite(epochs).any():
        columns.append(["epochs", *(_number(x, ".2f") for x in epochs)])
    if np.isfinite(alignments).any():
        spec = _precision(alignments)
        columns.append(["alignment", *(_number(x, f"+{spec}") for x in alignments)])
        columns.append(["+/-", *(_number(x, spec) for x in errors)])
    rows = [list(row) for row in zip(*columns, strict=True)]
    if len(shown) < len(last):
        rest = [float(x.sum() - x[shown].sum()) for x in (first, last)]
        others = f"{len(last) - len(shown):,} others"
        rows.append([others, *map(_weight, rest), _ratio(*rest)])
    return ["", *_align(rows)]


def _summary(lines: Lines) -> list[str]:
    facts = [""]
    _, loss = history(lines, "train/loss")
    if len(loss):
        facts.append(f"train loss: {loss[0]:.3f} -> {loss[-1]:.3f} nats/token")
    _, effective = history(lines, "mixture/effective_domains")
    if len(effective):
        ends = [quantity(effective[i]) for i in (0, -1)]
        facts.append(f"effective domains: {' -> '.join(ends)}")
    _, speed = history(lines, "perf/tokens_per_second")
    if len(speed):
        facts.append(f"tokens per second: {quantity(np.median(speed))} (median)")
    _, share = history(lines, "perf/alignment_share")
    if len(share):
        facts.append(f"time on alignment: {share[-1]:.1%} of training")
    return facts


def _at(lines: Lines, key: str, step: int) -> float:
    """The value of a key at a step, NaN if there is none."""
    steps, values = history(lines, key)
    found = values[steps == step]
    return float(found[0]) if len(found) else math.nan


def _last(workdir: Path, lines: Lines, key: str, domains: Sequence[str]) -> np.ndarray:
    """The last value of a series [len(domains)], NaN where there is none."""
    found = read_series(workdir, key, lines)
    values = found.last() if found else {}
    return np.array([values.get(name, math.nan) for name in domains])


def _number(value: float, spec: str = ".3f") -> str:
    return format(value, spec) if math.isfinite(value) else "-"


def _weight(value: float) -> str:
    if value == 0 or value >= 0.01:
        return fraction(value, 3)
    return fraction(value, 4) if value >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")


def _ratio(first: float, last: float) -> str:
    if not first > 0:
        return "-"
    ratio = last / first
    if 0 < ratio < 0.005:
        return "<x0.01"
    return f"x{ratio:.{2 if ratio < 100 else 0}f}"


def _precision(values: np.ndarray) -> str:
    """A format that gives the largest of the values three significant digits."""
    largest = np.nanmax(np.abs(values))
    if not 1e-3 <= largest < 1e4:
        return ".1e"
    return f".{max(0, 2 - math.floor(math.log10(largest)))}f"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width, the first to the left, the others to the right."""
    width = max(map(len, rows))
    rows = [[*row, *[""] * (width - len(row))] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]


def main(argv: Sequence[str]) -> None:
    """The command line: see the top of this file."""
    cli.no_arguments(argv)
    remedy = "give the directory of a run that is here, or mount the bucket"
    write_report(files.local_path("--workdir", flags.FLAGS.workdir, remedy))


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
    cli.run(main)
