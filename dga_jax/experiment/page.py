"""The page of an experiment, and all that is drawn: from its results alone."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dga_jax.errors import UserError
from dga_jax.experiment import figure, results, tables
from dga_jax.experiment.measures import MEASURES
from dga_jax.experiment.spec import SEED, Experiment, from_description
from dga_jax.files import made_writable, written

DESCRIPTION, TEXT, MARKDOWN = "experiment.json", "table.txt", "table.md"
FIGURE, PAGE = "figure.png", "page.md"
_HOW = (
    "Losses are nats per token of held-out text at the end of training. In brackets are"
    " 95% intervals over {over}: bootstrap, 10,000 resamples, fixed seed. *less"
    " baseline* is the mean difference to {base}, pair by pair (same {same}); *better*"
    " is the share of pairs that are below it. *steps* and *FLOPs* are what it took to"
    " come to the baseline's final loss, over what the baseline took, medians over the"
    " pairs; FLOPs count what is measured to steer. *most epochs* is how often the most"
    " repeated domain was seen; *held-out less train* the loss of held-out text of the"
    " mixture less that of what was trained on: large where text is learnt by heart."
)


def write_description(directory: Path, experiment: Experiment, command: str) -> None:
    """Writes WORKDIR/experiment.json: all that drawing needs besides the results."""
    if not made_writable(directory):
        raise UserError(
            f"--workdir={directory}: cannot be written to; choose another directory"
        )
    entry = experiment.described() | {"command": command}
    text = json.dumps(entry, indent=1, ensure_ascii=False) + "\n"
    path = directory / DESCRIPTION
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        with written(path, suffix=str(os.getpid())) as file:
            file.write(text.encode())


def read_command(directory: Path) -> str:
    """The command that is written down; "" without."""
    try:
        entry = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
        return str(entry["command"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def read_description(
    directory: Path, lines: Sequence[tables.Line]
) -> tuple[Experiment, str]:
    """The experiment and its command, as they were written down.

    Without such a file all points are those of the results, and the first point of the
    first axis is the baseline.

    Raises:
      UserError: the file is damaged.
    """
    path = directory / DESCRIPTION
    if not path.exists():
        axes: dict[str, dict[str, dict]] = {}
        for line in lines:
            for axis, point in line["axes"].items():
                axes.setdefault(axis, {})[point] = {}
        baseline = {axis: next(iter(axes[axis])) for axis in list(axes)[:1]}
        over = tuple({SEED} & axes.keys())
        return Experiment(directory.name, axes, baseline, over=over), ""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        experiment = from_description(entry)
        experiment.check()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); remove it, or give --config"
        ) from None
    return experiment, entry.get("command", "")


def draw(directory: Path) -> str:
    """Makes tables, figure and page of WORKDIR; returns the tables as text.

    Raises:
      UserError: there are no results.
    """
    lines = results.read_lines(directory)
    experiment, command = read_description(directory, lines)
    found = tables.tables(experiment, lines) if _good(lines) else []
    notes = [*tables.other_differences(experiment, lines)]
    notes += tables.agreement(experiment, lines)
    notes += [*_missing(experiment, lines), *tables.failures(lines)]
    text = "\n\n".join([*map(tables.as_text, found), "\n".join(notes)])
    markdown = "\n\n".join(map(tables.as_markdown, found))
    drawn = figure.draw(directory / FIGURE, experiment, lines)
    page = _page(experiment, command, lines, markdown, notes, drawn is not None)
    for name, content in ((TEXT, text), (MARKDOWN, markdown), (PAGE, page)):
        with written(directory / name, suffix=str(os.getpid())) as file:
            file.write(f"{content.rstrip()}\n".encode())
    return text


def _good(lines: Sequence[tables.Line]) -> list[tables.Line]:
    return [line for line in lines if "failed" not in line]


def _missing(experiment: Experiment, lines: Sequence[tables.Line]) -> list[str]:
    """A line about runs that are not done, if there are any."""
    done = {json.dumps(line["axes"], sort_keys=True) for line in lines}
    every = [json.dumps(p, sort_keys=True) for p in experiment.combinations()]
    left = len(every) - len(done.intersection(every))
    return [f"{left} of {len(every)} runs are not done yet"] if left else []


def _page(
    experiment: Experiment,
    command: str,
    lines: Sequence[tables.Line],
    markdown: str,
    notes: Sequence[str],
    drawn: bool,
) -> str:
    base = ", ".join(f"{a} {p}" for a, p in experiment.baseline.items())
    same = [axis for axis in experiment.axes if axis not in experiment.baseline]
    how = _HOW.format(
        over=" and ".join(experiment.over) or "runs",
        base=base or "the baseline",
        same=", ".join(same),
    )
    for measure in (MEASURES[name] for name in experiment.columns):
        how += f" *{measure.label}* is {measure.says}." if measure.says else ""
    parts = [f"# {experiment.question}"]
    parts += [experiment.answer] if experiment.answer else []
    parts += [f"![{experiment.question}]({FIGURE})"] if drawn else []
    parts += [markdown, how]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    if experiment.shows_not:
        parts += ["## What it does not show", experiment.shows_not]
    parts += ["## How it was made"]
    parts += [experiment.data] if experiment.data else []
    if command:
        parts += [f"```\n{command}\n```"]
    parts += [_made(lines)]
    parts += [
        f"Every number here is remade from [{results.RESULTS}]({results.RESULTS}), one"
        " line a run, with `python -m dga_jax.experiment --draw --workdir=` and this"
        " folder."
    ]
    return "\n\n".join(parts)


def _made(lines: Sequence[tables.Line]) -> str:
    """How many runs, where, of which commits, how long."""
    runs: dict[str, Mapping[str, Any]] = {x["run"]: x["made"] for x in _good(lines)}

    def each(key: str) -> str:
        found = dict.fromkeys(str(made[key]) for made in runs.values() if made.get(key))
        return ", ".join(found) or "unknown"

    seconds = sum(made.get("seconds", 0) for made in runs.values())
    shared = len(_good(lines)) - len(runs)
    text = f"{len(runs)} trainings, {seconds / 3600:.1f} hours in all"
    if shared:
        text += f" ({shared} further combinations are one of these, to the last bit)"
    where, commits = each("hardware"), each("commit")
    return f"{text}, on {where}, shared with other work; commit {commits}."
