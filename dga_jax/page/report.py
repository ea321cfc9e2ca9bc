"""What is told of a run, or of several: a table, a plot and a page."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from dga_jax.errors import UserError
from dga_jax.logs import front, plot, tables
from dga_jax.logs.console import columns
from dga_jax.logs.metrics import read_metrics
from dga_jax.logs.series import read_series
from dga_jax.page.run import write_page
from dga_jax.page.several import compared, write_comparison
from dga_jax.page.told import Told, read_record

_PAGE = "report.html"


def write_report(
    workdir: Path, *, title: str | None = None, out: TextIO | None = None
) -> Path:
    """Prints the table of a run, draws WORKDIR/mixture.png, writes WORKDIR/report.html.

    Args:
        workdir: of the run; everything is read from its log.
        title: of table and plot; the name of the workdir unless given.
        out: where to print; standard output unless given.

    Returns:
        The path of the plot.

    Raises:
        UserError: the workdir has no log, or the log has no line; plot or page cannot
            be written, and the table is printed all the same.
    """
    return _report(_tell(Path(workdir), title), out or sys.stdout)


def _report(told: Told, out: TextIO) -> Path:
    text = [f"{told.title}: {told.heading}"]
    for rows in told.tables.values():
        text += ["", columns(rows)]
    text += ["", *told.facts, *told.warnings]
    print("\n".join(text), file=out, flush=True)
    basis = told.basis_weights is not None
    path = plot.draw(
        told.workdir / "mixture.png",
        told.title,
        told.lines,
        told.moving,
        "basis weights" if basis else "domain weights",
        None if basis else told.drawn,
    )
    page = write_page(told.workdir / _PAGE, told)
    print(f"plot: {path}\npage: {page}", file=out, flush=True)
    return path


def _tell(workdir: Path, title: str | None) -> Told:
    """What a run wrote down, read once for all that is made of it."""
    lines = read_metrics(workdir)
    if not lines:
        raise UserError(f"the log of {workdir} has no line yet; train first")
    weights = read_series(workdir, "mixture/weight", lines)
    # With a basis, what moves is its weights; those of the domains follow.
    basis_weights = read_series(workdir, "mixture/basis_weight", lines)
    drawn = read_series(workdir, "mixture/drawn", lines)
    made = {"loss": tables.loss_table(lines)}
    if weights is not None:
        moves = basis_weights is None
        made["domain"] = tables.weight_table(
            "domain", workdir, lines, weights, drawn, moves=moves
        )
    if basis_weights is not None:
        made["basis"] = tables.weight_table(
            "basis", workdir, lines, basis_weights, None, moves=True
        )
    return Told(
        title or workdir.resolve().name,
        tables.heading(lines, weights),
        workdir,
        read_record(workdir),
        lines,
        weights,
        basis_weights,
        drawn if tables.used_up(lines) else None,
        made,
        [*tables.summary(lines), *tables.cost(lines)],
        tables.warnings(lines),
    )


def write_reports(
    workdirs: Sequence[Path], page: Path | None = None, *, out: TextIO | None = None
) -> Path:
    """Reports each of several runs, and all of them side by side.

    Args:
        workdirs: of the runs, two or more.
        page: of all; report.html in the folder that all are in unless given.
        out: where to print; standard output unless given.

    Returns:
        The path of the page.

    Raises:
        UserError: see `write_report`; a run that comes twice; the page cannot be
            written.
    """
    out = out or sys.stdout
    places = {Path(workdir).resolve(): Path(workdir) for workdir in workdirs}
    if len(places) < len(workdirs):
        raise UserError("--workdir: a run comes twice; leave one out")
    folder = Path(os.path.commonpath(places))
    folder = folder.parent if folder in places else folder
    runs = []
    for place, workdir in places.items():
        runs.append(_tell(workdir, place.relative_to(folder).as_posix()))
        _report(runs[-1], out)
        print(file=out)
    rows = compared(runs)
    page = page or folder / _PAGE
    print(columns(rows), file=out, flush=True)
    write_comparison(page, runs, rows)
    print(f"page: {page}", file=out, flush=True)
    return page


def write_front(
    workdirs: Sequence[Path],
    path: Path,
    special: str = front.SPECIAL,
    general: str = front.GENERAL,
    out: TextIO | None = None,
) -> Path:
    """Prints which of several runs are on their Pareto front, and draws it.

    Args:
        workdirs: of the runs.
        path: of the PNG.
        special: the metric that runs are steered towards.
        general: the metric that this costs.
        out: where to print; standard output unless given.

    Returns:
        The path of the PNG.

    Raises:
        UserError: a run has no log, or no evaluation with both; the plot cannot be
            written, and the table is printed all the same.
    """
    names = front.names_of(workdirs)
    runs = [
        front.read_points(workdir, name, special, general)
        for workdir, name in zip(workdirs, names, strict=True)
    ]
    on = front.on_front(runs, special, general)
    out = out or sys.stdout
    print(front.table(runs, on, special, general), file=out, flush=True)
    points = [(run.name, run.special, run.general) for run in runs]
    plot.draw_front(path, points, on, (special, general))
    print(f"plot: {path}", file=out, flush=True)
    return path
