"""A run that goes on from another's checkpoint, under a config of its own.

`start.from=RUN[@STEP]` names it; `start.what` takes its parameters, or all that still
has a meaning. RUN is only read, and not any more once the new run has saved.
"""

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from dga_jax import sharding
from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.mixing import mixers
from dga_jax.mixing.mixers import MixerState
from dga_jax.training import config as configs
from dga_jax.training import distributed, integrity, recorded
from dga_jax.training.checkpoint import Snapshot, on_all_hosts
from dga_jax.training.config import ConfigDict
from dga_jax.training.integrity import DamagedError
from dga_jax.training.mixture import Mixture
from dga_jax.training.recorded import Recorded
from dga_jax.training.train_state import TrainState

# Of the architecture: what decides how and with how many bits it is computed, not what.
_MAY_DIFFER = ("dtype", "remat", "attention")
_SHOWN = 8  # names, in messages


class Found(NamedTuple):
    """What was read of another run.

    Attributes:
      run: which.
      step: of the checkpoint.
      snapshot: its arrays; of its parameters alone, all else is None.
      names: of what its weights are over; empty with the parameters alone.
      extra: the checkpoint's JSON.
    """

    run: Recorded
    step: int
    snapshot: Snapshot
    names: Sequence[str]
    extra: dict[str, Any]


class Begun(NamedTuple):
    """Where a run begins that takes something over.

    Attributes:
      snapshot: its state.
      extra: as a checkpoint's JSON.
      said: what came from where, on one line.
    """

    snapshot: Snapshot
    extra: dict[str, Any]
    said: str


def settle(config: ConfigDict, directory: Path) -> None:
    """Gives `start` the words in which the workdir recorded it, if it means the same.

    A run once begun needs none; another is left for the comparison to refuse.
    """
    origin = what = ""
    with contextlib.suppress(UserError):  # the comparison of configs says it better
        if before := recorded.read(directory):
            origin, what = before.start
    given = config.start["from"]
    if not origin or (given and _origin(given)[0] != _origin(origin)[0]):
        return
    if not given:
        config.start.what = what
    if not given or _origin(given)[1] in (None, _origin(origin)[1]):
        config.start["from"] = origin


def find(
    config: ConfigDict, directory: Path, store: Store, mixture: Mixture, abstract: Any
) -> Found | None:
    """Reads what `start` names; None if it names nothing.

    Args:
      config: of the new run; `start.from` gets its step.
      directory: workdir of the new run.
      store: that it trains on.
      mixture: its domains.
      abstract: shapes, dtypes and shardings of its `TrainState`.

    Raises:
      UserError: RUN, its checkpoint, architecture, tokenizer or step do not fit.
    """
    given = config.start["from"]
    if not given:
        return None
    path, asked = _origin(given)
    where = f"config.start.from={given}"
    if path == Path(os.path.abspath(directory)):
        raise UserError(f"{where}: this is the workdir itself; choose another one")
    run = recorded.read(path)
    if run is None:
        raise UserError(f"{where}: {path} is not the workdir of a run; name one")
    _check_architecture(where, run.config, config)
    _check_tokenizer(where, run, store)
    steps = _candidates(where, path, asked)
    names = ()
    if config.start.what == "all":
        names = _names(where, run, store, mixture)
        abstract = _abstract(run, names, abstract)
    else:
        abstract = {"train": {"params": abstract.params}}
    step, arrays, extra = _newest_good(where, path, steps, abstract)
    config.start["from"] = f"{path}@{step}"
    if config.start.what == "all" and step >= config.train.steps:
        raise UserError(
            f"config.train.steps={config.train.steps}: the run goes on after step "
            f"{step} of {path}; raise it above that, or take an earlier checkpoint or "
            "config.start.what=params"
        )
    if config.start.what == "params":
        train = TrainState(arrays["train"]["params"], None, None)
        arrays = Snapshot(train, None, None)
    return Found(run, step, arrays, names, extra)


def begin(
    found: Found, fresh: Snapshot, config: ConfigDict, store: Store, mixture: Mixture
) -> Begun:
    """The state that a run begins with.

    Args:
      found: what was read.
      fresh: the state that it would begin with by itself.
      config: of the new run.
      store: that it trains on.
      mixture: its domains.
    """
    origin = config.start["from"]
    old = found.snapshot
    if config.start.what == "params":
        train = fresh.train._replace(params=old.train.params)
        said = f"parameters of {origin}, and nothing else"
        return Begun(fresh._replace(train=train), {}, said)
    log_weights, places, said = _weights_by_name(found, fresh.mixture, mixture)
    inner = fresh.mixture.inner
    if found.run.config.mixer.name == config.mixer.name:
        inner = _inner_by_name(old.mixture.inner, inner, places, len(found.names))
    where = fresh.mixture.log_weights.sharding
    state = jax.tree.map(
        lambda x: sharding.place(np.asarray(x), where), MixerState(log_weights, inner)
    )
    cursors, also = _cursors(found, fresh.cursors, config, store)
    extra = {key: found.extra[key] for key in ("clock", "target_loss")}
    text = f"all of {origin}: parameters, optimizer, step, clock; {said}; {also}"
    return Begun(Snapshot(old.train, state, cursors), extra, text)


def weights_by_name(
    old: np.ndarray,
    places: np.ndarray,
    initial: np.ndarray,
    available: np.ndarray,
) -> np.ndarray:
    """Log-weights [n] over names of which some have weights already.

    Names without any get their initial weights, the others share the rest in the
    proportions that they had.

    Args:
      old: float32 [m], log-weights.
      places: int64 [n], into `old`; -1 for a new name.
      initial: float32 [n], log of the initial weights.
      available: bool [n], what can have a weight.

    Returns:
      float32 [n]; `old` itself, to the last bit, where names and rows are the same.
      `initial` if nothing that had a weight is left.
    """
    known = places >= 0
    kept = np.where(known & available, old[places], -np.inf)
    if np.array_equal(places, np.arange(len(old))) and np.array_equal(kept, old):
        return old
    kept, first = kept.astype(np.float64), initial.astype(np.float64)
    mass = np.exp(kept).sum()
    rest = np.exp(first[known]).sum()  # 1 minus the others would lose a small one
    if not mass or not rest:
        return initial
    weights = np.where(known, kept + np.log(rest / mass), first)
    return (weights - np.log(np.exp(weights).sum())).astype(np.float32)


def _origin(text: str) -> tuple[Path, int | None]:
    """RUN, absolute, and STEP of `RUN[@STEP]`."""
    path, at, step = text.rpartition("@")
    if not at or not step.isdecimal() or Path(text).is_dir():
        return Path(os.path.abspath(text)), None
    return Path(os.path.abspath(path)), int(step)


def _check_architecture(where, before, now):
    old, new = configs.model_config(before), configs.model_config(now)
    for field in dataclasses.fields(old):
        a, b = getattr(old, field.name), getattr(new, field.name)
        if field.name not in _MAY_DIFFER and a != b:
            raise UserError(
                f"{where}: its parameters are of another architecture: model."
                f"{field.name} is {a!r} there and {b!r} here; set it to that"
            )


def _check_tokenizer(where, run, store):
    """Another vocabulary of the same size would be taken without a word."""
    if run.data["content_hash"] == store.content_hash:
        return
    digest, mine = run.tokenizer, store.manifest["tokenizer"]["sha256"]
    if not digest:
        digest = _store_of(where, run).manifest["tokenizer"]["sha256"]
    if digest != mine:
        raise UserError(
            f"{where}: its tokens are of another tokenizer (sha256 {digest[:16]}) than "
            f"those of store {store.path} ({mine[:16]}); prepare the store with the "
            f"tokenizer of {run.config.data.store}"
        )


def _store_of(where, run):
    """The store of a run that did not record what is asked of it."""
    try:
        return run.open_store()
    except UserError as error:
        raise UserError(
            f"{where}: its store is not there to ask for its tokenizer ({error})"
        ) from None


def _candidates(where, path, asked):
    """Steps to try, best first; the same on all hosts."""
    folder = path / "checkpoints"
    found = folder.iterdir() if folder.is_dir() else ()
    steps = sorted(int(entry.name) for entry in found if entry.name.isdigit())
    steps = distributed.broadcast(steps)
    if not steps:
        raise UserError(f"{where}: {path} has no checkpoint yet")
    if asked is not None and asked not in steps:
        there = ", ".join(map(str, steps))
        raise UserError(f"{where}: no checkpoint of step {asked}; there are {there}")
    return steps[::-1] if asked is None else [asked]


def _names(where, run, store, mixture):
    """Names of what a run's weights are over."""
    same = (
        run.data["content_hash"] == store.content_hash
        and run.config.data.level == mixture.level
        and run.data["basis"] == (mixture.basis.digest if mixture.basis else "")
    )
    if same:
        return mixture.names
    series = run.log_weights()
    if series is not None:
        return tuple(series.domains)
    return run.mixture(_store_of(where, run)).names


def _abstract(run, names, train):
    """What a checkpoint of the run holds, placed as the new run's parameters are."""
    config, where = run.config, train.step.sharding
    if config.mixer.name not in mixers.MIXERS:
        raise UserError(
            f"{run.directory}: this version has no mixer {config.mixer.name!r}; take "
            "config.start.what=params"
        )
    mixer = configs.make_mixer(config)
    shapes = jax.eval_shape(lambda: mixers.init(mixer, np.zeros(len(names))))
    state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes
    )
    return Snapshot(train, state, np.zeros(run.data["domains"], np.int64))


def _newest_good(where, path, steps, abstract):
    """The first of `steps` that is not damaged, its arrays and JSON."""
    for step in steps:
        try:
            found, problem = _read(path / "checkpoints" / str(step), abstract), None
        except Exception as error:  # whatever orbax trips over
            found, problem = None, error
        damaged = isinstance(problem, DamagedError)
        reason = " ".join(str(problem or "elsewhere").split())[:200]
        if not on_all_hosts(problem is None or damaged):
            raise UserError(
                f"{where}: checkpoint {step} of {path} cannot be read, which does not "
                f"prove it damaged ({reason}); see to it, or name another"
            )
        if on_all_hosts(problem is None):
            return step, *found
        if jax.process_index() == 0 and step != steps[-1]:
            print(f"checkpoint {step} of {path} is damaged ({reason})", flush=True)
    raise UserError(
        f"{where}: checkpoint {step} of {path} is damaged ({reason}); name another"
    )


def _read(folder, abstract):
    """Arrays of a checkpoint, or of a part that comes first in it, and its JSON.

    Orbax's manager of checkpoints would tidy the folder up, which is not ours.
    """
    integrity.check_readable(folder)
    record = integrity.read_record(folder)
    integrity.check_files(folder)
    options = ocp.args.PyTreeRestore(
        abstract,
        restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
        partial_restore=True,
    )
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            arrays = checkpointer.restore(folder / "state", args=options)
    except Exception as error:
        if integrity.proves_damage(error, folder):
            raise DamagedError(str(error)) from error
        raise
    sums = integrity.fingerprint(arrays)
    if sums != record["fingerprint"][: len(sums)]:
        raise DamagedError("its arrays are not those that were saved")
    return arrays, record["extra"]


def _weights_by_name(found, fresh, mixture):
    """New log-weights, where each comes from (-1: nowhere), and what to say of it."""
    if found.names is mixture.names:  # there may be millions
        names, places = found.names, np.arange(len(found.names))
    else:
        place = {name: i for i, name in enumerate(found.names)}
        names = list(mixture.names)
        places = np.array([place.get(name, -1) for name in names], np.int64)
    old, initial = (np.asarray(s.log_weights) for s in (found.snapshot.mixture, fresh))
    moved = weights_by_name(old, places, initial, mixture.available)
    if moved is initial:
        return moved, places, "weights as the config says"
    had = places >= 0
    said = f"weights of {int(had.sum()):,} names"
    if names is found.names:
        return moved, places, said
    known = set(names)
    new = [name for name, known in zip(names, had, strict=True) if not known]
    gone = [name for name in found.names if name not in known]
    said += f", {_some(new)} new" if new else ""
    return moved, places, said + (f", {_some(gone)} gone" if gone else "")


def _inner_by_name(old, fresh, places, count):
    """A mixer's own state: what there is one of for each name goes with the name."""
    leaves, structure = jax.tree.flatten(fresh)
    before = jax.tree.leaves(old)
    if len(before) != len(leaves):
        return fresh
    taken = []
    for was, now in zip(map(np.asarray, before), map(np.asarray, leaves), strict=True):
        if was.shape[:1] == (count,) and now.shape[:1] == places.shape:
            now = np.array(now)
            now[places >= 0] = was[places[places >= 0]]
        elif was.shape == now.shape:
            now = was
        taken.append(now)
    return jax.tree.unflatten(structure, taken)


def _cursors(found, fresh, config, store):
    """Rows drawn of each domain, where that still means the same rows."""
    run = found.run
    if run.data["content_hash"] != store.content_hash:
        return fresh, "rows from the beginning, the store is another"
    if run.config.data.level != config.data.level:
        return fresh, "rows from the beginning, the level is another"
    return np.array(found.snapshot.cursors), "rows where it was"


def _some(names):
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
