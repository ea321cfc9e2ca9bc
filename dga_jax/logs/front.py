"""What several runs reached on the special text, against what it cost on the general.

A point is one evaluation. It is on the front if no other is as good at both and better
at one: what is not on the front is a choice that nobody has to make.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dga_jax.errors import UserError
from dga_jax.logs.console import columns
from dga_jax.logs.metrics import history, read_metrics

SPECIAL, GENERAL = "eval/target/loss", "eval/generic_natural/loss"
_HIGHER = ("acc", "acc_norm", "acc_bytes", "exact_match", "f1")  # the more the better


class Points(NamedTuple):
    """The evaluations of a run that have both numbers.

    Attributes:
      name: of the run.
      steps: int64 [n].
      special, general: float64 [n].
    """

    name: str
    steps: np.ndarray
    special: np.ndarray
    general: np.ndarray


def is_higher_better(key: str) -> bool:
    """Whether more of a metric is better: of accuracies it is, of losses it is not."""
    return key.rpartition("/")[2] in _HIGHER


def read_points(directory: Path, name: str, special: str, general: str) -> Points:
    """The points of a run, by its log.

    Args:
      directory: the workdir.
      name: to call it.
      special: name of a metric.
      general: of another.

    Raises:
      UserError: no log, or no line has both.
    """
    lines = read_metrics(directory)
    found = [dict(zip(*history(lines, key), strict=True)) for key in (special, general)]
    steps = sorted(
        step
        for step in found[0].keys() & found[1].keys()
        if np.isfinite([found[0][step], found[1][step]]).all()
    )
    if not steps:
        has = sorted({key for line in lines for key in line if key.startswith("eval/")})
        few = [key for key in has if not key.startswith("eval/domain/")][:12]
        raise UserError(
            f"{directory}: no line of its log has both {special} and {general}; choose"
            f" others with --special and --general: {', '.join(few) or 'it has none'}"
        )
    values = ([of[step] for step in steps] for of in found)
    return Points(name, np.array(steps, np.int64), *map(np.array, values))


def on_front(runs: Sequence[Points], special: str, general: str) -> list[np.ndarray]:
    """Of each run, which points are on the front of all of them: bool [n]."""
    # The smaller the better, of both.
    x = np.concatenate([run.special for run in runs])
    y = np.concatenate([run.general for run in runs])
    x = -x if is_higher_better(special) else x
    y = -y if is_higher_better(general) else y
    order = np.lexsort((y, x))
    on, best, last = np.zeros(len(x), bool), np.inf, None
    for i in order:
        # Equal points stand behind each other: all of them are on it, or none.
        on[i] = y[i] < best or (x[i], y[i]) == last
        if on[i]:
            best, last = y[i], (x[i], y[i])
    return np.split(on, np.cumsum([len(run.steps) for run in runs])[:-1])


def table(
    runs: Sequence[Points], on: Sequence[np.ndarray], special: str, general: str
) -> str:
    """A line for each run: its best points, and which of them are on the front."""
    rows = [["run", f"best {special}", f"best {general}", "on the front", "at steps"]]
    for run, which in zip(runs, on, strict=True):
        best = []
        for key, values in ((special, run.special), (general, run.general)):
            found = values.max() if is_higher_better(key) else values.min()
            best.append(f"{found:.4f}")
        steps = ", ".join(map(str, run.steps[which].tolist())) or "-"
        rows.append([run.name, *best, f"{which.sum()} of {len(which)}", steps])
    return columns(rows)


def names_of(directories: Sequence[Path]) -> list[str]:
    """A name for each: the last of its path, or as much of it as tells them apart."""
    paths = [directory.resolve() for directory in directories]
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            break
    return names
