"""Which runs an experiment takes, and which of them are asked for."""

import copy
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from dga_jax.errors import UserError, listed
from dga_jax.experiment.spec import Experiment, Points
from dga_jax.mixing.mixers import MIXERS
from dga_jax.training import validation
from dga_jax.training.fields import changed, fields

_SHOWN = 10  # names in an error
_AIMS = {"alignments", "target_alignments", "target_losses"}  # that need a target
# Of a mixer that never moves, what still says where its weights are.
_OF_START = {"mixer.name", "mixer.weights", "mixer.basis", "mixer.smoothing"}


class Planned(NamedTuple):
    """One run.

    Attributes:
      name: of its folder; that of the first of its combinations.
      combinations: names and points of what it is the run of.
      config: of the run, without the experiment.
    """

    name: str
    combinations: Sequence[tuple[str, Points]]
    config: ConfigDict


def plan(config: ConfigDict, explicit: Iterable[str]) -> list[Planned]:
    """The runs of an experiment, in the order of its axes, the last one fastest.

    Combinations whose runs would be the same to the last bit are one run: a mixer that
    never moves does not depend on how it would.

    Args:
      config: the base, with its `experiment`.
      explicit: fields that were set on the command line.

    Raises:
      UserError: there is no experiment; names or fields do not fit; a config is
        invalid, named with its combination.
    """
    experiment = config.get("experiment")
    if not isinstance(experiment, Experiment):
        raise UserError(
            "--config: this config has no experiment; give one of configs/experiments"
        )
    experiment.check()
    base = copy.deepcopy(config)
    with base.unlocked():
        del base.experiment
    found: dict[str, Planned] = {}
    for points in experiment.combinations():
        name = "-".join(points.values())
        one = _at(base, experiment.fields(points), set(explicit), name)
        key = json.dumps(changed(one), sort_keys=True)
        if key in found:
            before = found[key]
            combinations = [*before.combinations, (name, points)]
            found[key] = before._replace(combinations=combinations)
        else:
            found[key] = Planned(name, [(name, points)], one)
    names = [name for run in found.values() for name, _ in run.combinations]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"experiment.axes: two combinations are named {twice}; rename")
    return list(found.values())


def _at(
    base: ConfigDict, overrides: Mapping[str, Any], explicit: set[str], name: str
) -> ConfigDict:
    config, known = copy.deepcopy(base), fields()
    for field in overrides:
        if field not in known:
            raise UserError(f"experiment.axes: {name}: no config field {field!r}")
        if field in explicit:
            raise UserError(
                f"config.{field} was given, but an axis of the experiment sets it; "
                "leave the flag out, or use --only"
            )
    try:
        config.update_from_flattened_dict(dict(overrides))
        _leave_out_unread(config)
        validation.validate(config)
    except (TypeError, ValueError) as error:
        raise UserError(f"experiment.axes: {name}: {error}") from None
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    return config


def _leave_out_unread(config: ConfigDict) -> None:
    """Sets what the mixer does not read to its default."""
    recipe = MIXERS.get(config.mixer.name)
    if recipe is None:
        return
    begins_there = "importance" in (config.mixer.name, config.mixer.weights)
    reads = {
        "mixer.targets": validation.takes(recipe)["targets"],
        "mixer.reference": bool(_AIMS & set(recipe.reads)),
    }
    for name, field in fields().items():
        unread = name.startswith("mixer.") and name not in _OF_START
        if recipe.moves:
            unread = not reads.get(name, True)
        if unread and not (name == "mixer.reference" and begins_there):
            config.update_from_flattened_dict({name: field.default})


def only(runs: Sequence[Planned], wanted: Sequence[str]) -> list[Planned]:
    """Runs with a combination at points `AXIS=POINT`; several points of an axis add up.

    Raises:
      UserError: no such axis or point.
    """
    axes: dict[str, set[str]] = {}
    for run in runs:
        for _, points in run.combinations:
            for axis, point in points.items():
                axes.setdefault(axis, set()).add(point)
    asked: dict[str, set[str]] = {}
    for pair in wanted:
        axis, _, point = pair.partition("=")
        if point not in axes.get(axis, ()):
            known = listed(sorted(axes.get(axis, axes)), _SHOWN)
            raise UserError(f"--only={pair}: not AXIS=POINT of this; there are {known}")
        asked.setdefault(axis, set()).add(point)
    return [
        run
        for run in runs
        if any(
            all(points[axis] in chosen for axis, chosen in asked.items())
            for _, points in run.combinations
        )
    ]


def share(runs: Sequence[Planned], tasks: str) -> list[Planned]:
    """The runs of one of several tasks, every n-th.

    Args:
      runs: of all.
      tasks: "i/n", 1 ≤ i ≤ n; "" takes those of SLURM's array, if this is one.

    Raises:
      UserError: not of this form.
    """
    where = f"--tasks={tasks}"
    environment = os.environ
    if not tasks and "SLURM_ARRAY_TASK_ID" in environment:
        first = int(environment.get("SLURM_ARRAY_TASK_MIN", "0"))
        step = int(environment.get("SLURM_ARRAY_TASK_STEP", "1") or 1)
        index = (int(environment["SLURM_ARRAY_TASK_ID"]) - first) // step
        tasks = f"{index + 1}/{environment.get('SLURM_ARRAY_TASK_COUNT', '1')}"
        where = f"SLURM_ARRAY_TASK_ID and _COUNT, {tasks}"
    if not tasks:
        return list(runs)
    index, _, count = tasks.partition("/")
    whole = index.isdecimal() and count.isdecimal()
    if not whole or not 1 <= int(index) <= int(count):
        raise UserError(f"{where}: expected i/n with 1 <= i <= n, as in 2/8")
    return list(runs[int(index) - 1 :: int(count)])
