"""Whether a run is the one that its workdir belongs to, and what may change meanwhile.

What does not touch what was computed before may change from one start of a run to the
next. What touches only its rounding may change and is said. Values that follow a
schedule are compared step by step, for the steps that are done, and not as they are
spelled. All else would make it another run.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optax
from ml_collections import ConfigDict

from dga_jax.errors import UserError
from dga_jax.mixing import mixers
from dga_jax.training import config as configs
from dga_jax.training import validation
from dga_jax.training.fields import Touches, fields, flat
from dga_jax.training.optimizer import learning_rate

# Which digests in the record's "data" are of what each of these fields gives.
_DIGESTS = {
    "mixer.basis": ("basis",),
    "mixer.weights": ("initial_weights",),
    "mixer.reference": ("initial_weights",),
    "mixer.smoothing": ("basis", "initial_weights"),
}
# Left open, it follows from other fields, which are to be named rather.
_FOLLOWS = ("model.d_ff", "model.num_kv_heads", "model.head_dim", "data.tokens_level")
# Another run cannot take these over from a checkpoint: its arrays would not fit.
_SHAPES = ("model.", "start.")


def warmup_steps(before: Mapping[str, Any]) -> int:
    """The warm-up that a recorded run has, also where it was automatic."""
    return configs.optimizer_config(configs.from_fields(before["config"])).warmup_steps


def compare(
    directory: Path, before: Mapping[str, Any], now: Mapping[str, Any], done: int
) -> list[str]:
    """Compares a run with the one that its workdir belongs to.

    Args:
      directory: the workdir.
      before: what it recorded: {"config": ..., "data": ...}; "data" identifies store,
        domains and what files gave. Fields that an older version did not have count as
        at their defaults.
      now: the same of the run as it is asked for.
      done: train steps in the newest checkpoint; 0 without one.

    Returns:
      Lines that are worth saying: what changes rounding, what is not known any more.

    Raises:
      UserError: it would be another run; names the field, what it was and what it is.
    """
    old, new = _Recorded(before, done), _Recorded(now, done)
    if new.config.train.steps < done:
        raise UserError(
            f"--workdir={directory}: config.train.steps was {old.config.train.steps} "
            f"and is now {new.config.train.steps}, but {done} are done; set it to at "
            "least that, or choose another directory"
        )
    # With another store much else would be another, too.
    _compare_data(directory, done, old, new, ("content_hash",))
    for name in sorted(new.fields, key=lambda name: (name in _FOLLOWS, name)):
        if old.fields[name] != new.fields[name] and _matters(name, old, new):
            raise _differs(directory, done, f"config.{name}", old, new)
    shared = old.data.keys() & new.data.keys() - {"mesh"}
    _compare_data(directory, done, old, new, sorted(shared))
    for schedule in _SCHEDULES:
        if not np.array_equal(schedule.values(old), schedule.values(new)):
            names = schedule.blamed(old, new)
            reason = f" ({schedule.what} of the steps done would be another)"
            name = f"config.{names[0]}"
            raise _differs(directory, done, name, old, new, reason, names[1:])
    return _worth_saying(old, new)


class _Recorded:
    """A record, with what follows from it for the steps that are done.

    Attributes:
      config: complete.
      data: of the record.
      fields: by their dotted names, as the run reads them: what is left open filled in.
      unknown: fields that this version does not have.
      done: train steps.
      updates: int64 [n], those of them that an update of the weights followed.
      moves: whether the mixer makes any.
    """

    def __init__(self, record: Mapping[str, Any], done: int):
        self.config: ConfigDict = configs.from_fields(record["config"])
        self.data = record["data"]
        self.done = done
        self.fields = _resolved(self.config)
        given = flat(record["config"])
        self.unknown = {k: given[k] for k in sorted(given.keys() - self.fields.keys())}
        self.moves = _moves(self.config)
        self.updates = _updates(self.config, done if self.moves else 0)


def _resolved(config: ConfigDict) -> dict[str, Any]:
    fields = flat(config.to_dict())
    del fields["explicit"]
    model = configs.model_config(config)
    fields["model.num_kv_heads"], fields["model.d_ff"] = model.num_kv_heads, model.d_ff
    fields["model.head_dim"] = model.head_dim
    fields["optimizer.warmup_steps"] = configs.optimizer_config(config).warmup_steps
    if config.data.tokens_level < 0 or not config.data.tokens_per_domain:
        fields["data.tokens_level"] = config.data.level
    recipe = mixers.MIXERS.get(config.mixer.name)
    if recipe and not validation.takes(recipe)["targets"]:
        fields["mixer.targets"] = ""  # older versions took it, and did not read it
    return fields


def _moves(config: ConfigDict) -> bool:
    recipe = mixers.MIXERS.get(config.mixer.name)
    return recipe is None or recipe.moves  # None: of another version


def _updates(config: ConfigDict, done: int) -> np.ndarray:
    return np.arange(configs.next_update(config, 0), done + 1, config.mixer.interval)


def _matters(name: str, old: _Recorded, new: _Recorded) -> bool:
    """Whether a field that changed is enough to make it another run."""
    kind = fields()[name].touches
    if kind is Touches.DIGESTS:
        known = old.data.keys() & new.data.keys()
        same = (d in known and old.data[d] == new.data[d] for d in _DIGESTS[name])
        return not all(same)
    if kind is Touches.OWN and name in old.data.keys() & new.data.keys():
        return old.data[name] != new.data[name]  # of the file that it names
    if kind is Touches.OWN:
        used = {run.config.mixer.name for run in (old, new)}
        return used == {name.split(".")[1]}
    if kind is Touches.MIXER:
        return old.moves or new.moves
    if kind is Touches.UPDATES:
        return bool(old.updates.size or new.updates.size)
    return kind is Touches.ALL


@dataclasses.dataclass(frozen=True)
class _Schedule:
    """Something that has a value at every step.

    Attributes:
      what: its name.
      fields: that decide it.
      values: of the steps done, [n].
    """

    what: str
    fields: tuple[str, ...]
    values: Callable[[_Recorded], np.ndarray]

    def blamed(self, old: _Recorded, new: _Recorded) -> list[str]:
        """The fields that make the difference: the one alone, or all that changed."""
        changed = [n for n in self.fields if old.fields[n] != new.fields[n]]
        for name in changed:
            config = new.config.copy_and_resolve_references()
            group, _, leaf = name.partition(".")
            config[group][leaf] = old.fields[name]
            back = _Recorded({"config": config.to_dict(), "data": {}}, new.done)
            if np.array_equal(self.values(old), self.values(back)):
                return [name]
        return changed


def _rates(run: _Recorded) -> np.ndarray:
    schedule = learning_rate(configs.optimizer_config(run.config))
    return _at(schedule, np.arange(run.done))


def _updated(run: _Recorded) -> np.ndarray:
    # In the first the subset of domains that was probed depends on the number, too.
    numbers = run.updates // run.config.mixer.interval
    return np.stack([run.updates, numbers * bool(run.config.mixer.probe_domains)])


def _at(schedule: optax.ScalarOrSchedule, steps: np.ndarray) -> np.ndarray:
    values = schedule(steps) if callable(schedule) else schedule
    return np.broadcast_to(np.asarray(values, np.float32), steps.shape)


_SCHEDULES = (
    _Schedule(
        "the learning rate",
        (
            "optimizer.learning_rate",
            "optimizer.schedule",
            "optimizer.warmup_steps",
            "optimizer.decay_fraction",
            "optimizer.final_fraction",
            "train.steps",
        ),
        _rates,
    ),
    _Schedule("the updates", ("mixer.interval", "mixer.start"), _updated),
    _Schedule(
        "η",
        ("mixer.eta", "mixer.eta_end", "train.steps"),
        lambda run: _at(configs.schedule(run.config, "eta"), run.updates),
    ),
    _Schedule(
        "β",
        ("mixer.beta", "mixer.beta_end", "train.steps"),
        lambda run: _at(configs.schedule(run.config, "beta"), run.updates),
    ),
)


def _worth_saying(old: _Recorded, new: _Recorded) -> list[str]:
    changed = [
        f"{name}: {old.fields[name]!r} -> {new.fields[name]!r}"
        for name in sorted(new.fields)
        if old.fields[name] != new.fields[name] and _rounds(name, old)
    ]
    lines = ["; ".join(changed) + ", changes rounding only"] if changed else []
    before, now = old.data.get("mesh"), new.data.get("mesh")
    if before and now and before != now:
        sizes = (
            " x ".join(f"{axis} {size}" for axis, size in mesh.items())
            for mesh in (before, now)
        )
        lines.append(f"mesh: {' -> '.join(sizes)}, changes rounding only")
    if old.unknown:
        names = ", ".join(f"{name}={value!r}" for name, value in old.unknown.items())
        lines.append(f"recorded by another version and not read by this one: {names}")
    return lines


def _rounds(name: str, old: _Recorded) -> bool:
    if fields()[name].touches is not Touches.ROUNDING:
        return False
    return not name.startswith("mixer.") or old.moves


def _compare_data(
    directory: Path, done: int, old: _Recorded, new: _Recorded, names: Iterable[str]
) -> None:
    for name in names:
        if old.data.get(name) != new.data.get(name):
            kind = "content" if name.startswith("mixer.") else "store"
            raise _differs(directory, done, f"{kind}.{name}", old, new)


def _differs(
    directory: Path,
    done: int,
    name: str,
    old: _Recorded,
    new: _Recorded,
    reason: str = "",
    others: Sequence[str] = (),
) -> UserError:
    """The error that `compare` raises; `others` are fields that also changed."""
    kind, _, leaf = name.partition(".")
    was, now = (
        repr((run.fields if kind == "config" else run.data).get(leaf))
        for run in (old, new)
    )
    others = "".join(f", and config.{other} changed" for other in others)
    remedy = "set it back, or choose another directory"
    if done and kind == "config" and not leaf.startswith(_SHAPES):
        remedy = (
            "set it back, or choose another directory, where a new run may begin from "
            f"this one: --config.start.from={directory}@{done} --config.start.what=all"
        )
    return UserError(
        f"--workdir={directory} belongs to another run: {name} was {was} and is now "
        f"{now}{others}{reason}; {remedy}"
    )
