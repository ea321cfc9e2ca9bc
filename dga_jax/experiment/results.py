"""What is kept of a run: one JSON object, a function of its metrics alone.

In RUN/result.json when the run is finished, and from there, with the names of its
points, one line for each combination in WORKDIR/results.jsonl. What depends on time or
machine is under "made".
"""

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dga_jax.errors import UserError
from dga_jax.experiment import cost
from dga_jax.experiment.plan import Planned
from dga_jax.files import written
from dga_jax.logs.metrics import history, read_metrics
from dga_jax.logs.perf import processor
from dga_jax.logs.series import Series, leading, read_series
from dga_jax.training.fields import changed, decides

RESULTS, RESULT, FAILED, MADE = (
    "results.jsonl",
    "result.json",
    "failed.json",
    "made.json",
)
RUNS = "runs"
_LOSSES = "eval/{}/loss"
_GENERIC = ("generic_uniform", "generic_natural")
_KEPT_WEIGHTS = 16
_LAST = 0.1  # of the steps, over which the training loss is averaged
_FIRST = 0.1  # of the steps, in which the loss falls too steeply to see a rise
_BESIDE = 5  # lines on either side of a rise, over which the loss is averaged
_REPOSITORY = Path(__file__).resolve().parents[2]

Lines = Sequence[Mapping[str, float | None]]


def made_here() -> dict[str, str]:
    """Commit and hardware of a run that begins now."""
    cores = os.cpu_count()
    return {
        "commit": _commit(),
        "hardware": f"{cores} cores of {processor()}",
        "python": platform.python_version(),
    }


def _commit() -> str:
    """The commit of this repository, "+" behind it if files differ; "" without."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_REPOSITORY), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        differs = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if differs else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def write(path: Path, content: Any) -> None:
    """Writes a small JSON file, whole or not at all."""
    with written(path, suffix=str(os.getpid())) as file:
        file.write((json.dumps(content, allow_nan=False) + "\n").encode())


def read(path: Path) -> Any:
    """Reads such a file; None if it is not there.

    Raises:
      UserError: it is damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it") from None


def outcome(folder: Path, run: Planned) -> dict[str, Any]:
    """The result of a finished run.

    Args:
      folder: its workdir.
      run: as it was planned.

    Raises:
      UserError: its metrics cannot be read.
    """
    lines = read_metrics(folder)
    curves = _curves(lines)
    made = read(folder / MADE) or {}
    for key in ("perf/seconds", "perf/alignment_share"):
        _, values = history(lines, key)
        if len(values):
            made[key.removeprefix("perf/")] = values[-1].item()
    return {
        "run": run.name,
        "config": changed(run.config),
        "steps": int(lines[-1]["step"]),
        "final": {name: values[-1] for name, (_, values) in curves.items()},
        "best": {name: _best(*curve) for name, curve in curves.items()},
        "train_loss": _train_loss(lines),
        "rise": rise(lines),
        "curves": {name: list(curve) for name, curve in curves.items()},
        **_of_mixture(folder, lines),
        "cost": cost.of_run(lines),
        "made": made,
    }


def _curves(lines: Lines) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and losses: "target", "target/NAME", the generic ones."""
    begin, _, end = _LOSSES.partition("{}")
    keys = dict.fromkeys(key for line in lines for key in line)
    names = [key[len(begin) : -len(end)] for key in keys if key.endswith(end)]
    found = {}
    for name in names:
        if name in _GENERIC or name.split("/")[0] == "target":
            steps, values = history(lines, _LOSSES.format(name))
            found[name] = steps.tolist(), values.tolist()
    return found


def _best(steps: Sequence[int], values: Sequence[float]) -> list[float]:
    """The lowest loss and its step."""
    least = int(np.argmin(values))
    return [values[least], steps[least]]


def _train_loss(lines: Lines) -> float | None:
    """Mean over the last tenth of the steps."""
    steps, values = history(lines, "train/loss")
    late = values[steps > (1 - _LAST) * lines[-1]["step"]]
    return late.mean().item() if len(late) else None


def rise(lines: Lines) -> float | None:
    """How far the train loss rose at most, from five lines to the next five.

    Leaves out the first tenth of the steps; negative if it fell all the way, None of
    fewer than ten lines.
    """
    steps, values = history(lines, "train/loss")
    values = values[steps > _FIRST * lines[-1]["step"]]
    if len(values) < 2 * _BESIDE:
        return None
    means = np.convolve(values, np.full(_BESIDE, 1 / _BESIDE), mode="valid")
    return (means[_BESIDE:] - means[:-_BESIDE]).max().item()


def _of_mixture(folder: Path, lines: Lines) -> dict[str, Any]:
    weights = read_series(folder, "mixture/weight", lines)
    moving = read_series(folder, "mixture/basis_weight", lines) or weights
    epochs = read_series(folder, "data/epochs", lines)
    _, effective = history(lines, "mixture/effective_domains")
    found = {
        "weights": {"first": _leading(moving, 0), "last": _leading(moving, -1)},
        "effective_domains": _last(effective),
        "most_epochs": float(np.max(epochs.values[-1])) if epochs else None,
        "movement": _movement(moving),
        "heldout_loss": _heldout(folder, lines, weights),
    }
    _, skipped = history(lines, "mixture/skipped_updates")
    return found | {"skipped_updates": int(_last(skipped) or 0)}


def _last(values: np.ndarray) -> float | None:
    return values[-1].item() if len(values) else None


def _leading(weights: Series | None, record: int) -> dict[str, float]:
    """The largest weights of what moves, by name."""
    if weights is None:
        return {}
    values = np.asarray(weights.values[record], np.float64)
    found = leading(values, _KEPT_WEIGHTS)
    return {weights.domains[i]: round(float(values[i]), 6) for i in found}


def _movement(weights: Series | None) -> float | None:
    """How far the weights went in all: Σ over updates of ½ Σ_i |Δw_i|."""
    if weights is None:
        return None
    values = np.asarray(weights.values, np.float64)
    return float(np.nansum(np.abs(np.diff(values, axis=0))) / 2)


def _heldout(folder: Path, lines: Lines, weights: Series | None) -> float | None:
    """Σ_i α_i ℓ_i over the coarsest domains: held-out text of the mixture at the end.

    Beside the training loss it shows how far what is trained on was learnt by heart.
    """
    losses = read_series(folder, "eval/domain/{}/loss", lines)
    if losses is None or weights is None:
        return None
    by_name = dict(zip(losses.domains, losses.values[-1].tolist(), strict=True))
    sums = dict.fromkeys(by_name, 0.0)
    for name, weight in zip(weights.domains, weights.values[-1], strict=True):
        # A cluster's name begins with that of the cluster that it is a part of.
        coarse = name if name in sums else name.partition(".")[0]
        if coarse not in sums:
            return None
        sums[coarse] += float(weight)
    known = [name for name, loss in by_name.items() if math.isfinite(loss)]
    total = sum(sums[name] for name in known)
    if not total:
        return None
    return sum(sums[name] * by_name[name] for name in known) / total


def same(before: Mapping[str, Any], config: ConfigDict) -> str:
    """The first field in which a run differs from what is planned; "" if in none.

    Args:
      before: "config" of its result.
      config: as planned.
    """
    now = json.loads(json.dumps(changed(config)))
    for name in sorted({*before, *now}):
        if decides(name) and before.get(name) != now.get(name):
            return name
    return ""


def identity(config: Mapping[str, Any]) -> str:
    """Equal for the configs, as a result has them, of one and the same run."""
    deciding = {name: config[name] for name in config if decides(name)}
    where = {"data.store": config.get("data.store", "")}
    return json.dumps(deciding | where, sort_keys=True)


def gather(directory: Path, runs: Sequence[Planned]) -> list[dict[str, Any]]:
    """A line a combination of what is done by now, in the order of the plan.

    Of a run that failed a line with "failed", of one that is not done yet none.
    """
    lines = []
    for run in runs:
        folder = directory / RUNS / run.name
        result = read(folder / RESULT) or read(folder / FAILED)
        if result is None:
            continue
        for name, points in run.combinations:
            lines.append({"name": name, "axes": dict(points)} | result)
    return lines


def write_lines(directory: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    """Writes WORKDIR/results.jsonl whole."""
    path = directory / RESULTS
    with written(path, suffix=str(os.getpid())) as file:
        for line in lines:
            file.write((json.dumps(line, allow_nan=False) + "\n").encode())
    return path


def read_lines(directory: Path) -> list[dict[str, Any]]:
    """Reads WORKDIR/results.jsonl.

    Raises:
      UserError: it is not there, or a line is no result.
    """
    path = directory / RESULTS
    if not path.is_file():
        raise UserError(f"{path}: no such file; train first, without --draw")
    lines = []
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        try:
            line = json.loads(text)
            lines.append(line | {"axes": dict(line["axes"]), "name": line["name"]})
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}, line {number}: no result of a run ({error}); make the file"
                " again, without --draw"
            ) from None
    return lines
