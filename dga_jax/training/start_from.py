"""A run that goes on from another's checkpoint, under a config of its own.

`start.from=RUN[@STEP]` names it; `start.what` takes its parameters, or all that still
has a meaning. RUN is only read, and not any more once the new run has saved.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
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
from dga_jax.training.by_name import inner_by_name, taken_over
from dga_jax.training.checkpoint import Snapshot, on_all_hosts
from dga_jax.training.config import ConfigDict
from dga_jax.training.integrity import DamagedError
from dga_jax.training.mixture import Mixture
from dga_jax.training.recorded import Recorded
from dga_jax.training.train_state import TrainState

# Of a checkpoint's JSON: of the run, and of its mixture.
_OF_RUN = ("clock", "target_loss")
_OF_MIXTURE = ("train_losses", "row_variances", "signs")
# Of the architecture: what decides how and with how many bits it is computed, not what.
_MAY_DIFFER = ("dtype", "remat", "attention")


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


def settle(config: ConfigDict, before: Mapping[str, str]) -> None:
    """Gives `start` the words in which the workdir recorded it, if it means the same.

    A run once begun needs none; another is left for the comparison to refuse.

    Args:
      config: of the run.
      before: `start`, as the workdir recorded it; it names a run and a step.
    """
    given, origin = config.start["from"], before["from"]
    if given and run_and_step(given)[0] != run_and_step(origin)[0]:
        return
    if not given:
        config.start.what = before["what"]
    if not given or run_and_step(given)[1] in (None, run_and_step(origin)[1]):
        config.start["from"] = origin


def find(
    config: ConfigDict, directory: Path, store: Store, mixture: Mixture, abstract: Any
) -> Callable[[Snapshot], Begun]:
    """Reads what `start` names.

    Args:
      config: of the new run, with a `start.from`; that gets its step.
      directory: workdir of the new run.
      store: that it trains on.
      mixture: its domains.
      abstract: shapes, dtypes and shardings of its `TrainState`.

    Returns:
      What makes of the state that the run would begin with by itself the one that it
      begins with; it writes its cursors down in the workdir.

    Raises:
      UserError: RUN, its checkpoint, architecture, tokenizer or step do not fit.
    """
    given = config.start["from"]
    path, asked = run_and_step(given)
    where = f"config.start.from={given}"
    if path == Path(os.path.abspath(directory)):
        raise UserError(f"{where}: this is the workdir itself; choose another one")
    run = recorded.read(path)
    if run is None:
        raise UserError(f"{where}: {path} is not the workdir of a run; name one")
    _check_architecture(where, run.config, config)
    _check_tokenizer(where, run, store)
    steps = candidates(where, path, asked)
    names = ()
    if config.start.what == "all":
        names = _names(where, run, store, mixture)
        same = run.config.mixer.name == config.mixer.name
        state = jax.eval_shape(mixture.init) if same else None
        abstract = _described(run, names, abstract, store, state)
    else:
        abstract = {"train": {"params": abstract.params}}
    step, arrays, extra = newest_good(where, path, steps, abstract)
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
    elif isinstance(arrays.mixture, dict):
        arrays = arrays._replace(mixture=MixerState(**{"inner": None} | arrays.mixture))
    found = Found(run, step, arrays, names, extra)

    def begin(fresh: Snapshot) -> Begun:
        if config.start.what == "params":
            begun = _with_params(found, fresh, config)
        else:
            begun = _with_all(found, fresh, config, store, mixture)
        if jax.process_index() == 0:
            recorded.write_cursors(directory, begun.snapshot.cursors)
        return begun

    return begin


def _with_params(found: Found, fresh: Snapshot, config: ConfigDict) -> Begun:
    train = fresh.train._replace(params=found.snapshot.train.params)
    said = f"parameters of {config.start['from']}, and nothing else"
    return Begun(fresh._replace(train=train), {}, said)


def _with_all(
    found: Found, fresh: Snapshot, config: ConfigDict, store: Store, mixture: Mixture
) -> Begun:
    old = found.snapshot
    taken = taken_over(old.mixture, found.names, fresh.mixture, mixture)
    inner, count = fresh.mixture.inner, len(found.names)
    if found.run.config.mixer.name == config.mixer.name:
        inner = inner_by_name(old.mixture.inner, inner, taken.places, count)
    where = fresh.mixture.log_weights.sharding
    state = jax.tree.map(
        lambda x: sharding.place(np.asarray(x), where),
        MixerState(taken.log_weights, inner),
    )
    cursors, also = _cursors(found, fresh.cursors, config, store)
    kept = _OF_RUN
    # As dicts: flags lock a config, and for `==` a locked one is another.
    same = found.run.config.mixer.to_dict() == config.mixer.to_dict()
    if same and found.names is mixture.names:
        kept += _OF_MIXTURE
    extra = {key: found.extra[key] for key in kept if key in found.extra}
    origin = config.start["from"]
    text = f"all of {origin}: parameters, optimizer, step, clock; {taken.said}; {also}"
    return Begun(Snapshot(old.train, state, cursors), extra, text)


def run_and_step(text: str) -> tuple[Path, int | None]:
    """RUN, absolute, and STEP (None without one) of `RUN[@STEP]`."""
    path, at, step = text.rpartition("@")
    if not at or not step.isdecimal() or Path(text).is_dir():
        return Path(os.path.abspath(text)), None
    return Path(os.path.abspath(path)), int(step)


def _check_architecture(where: str, before: ConfigDict, now: ConfigDict) -> None:
    old, new = configs.model_config(before), configs.model_config(now)
    for field in dataclasses.fields(old):
        a, b = getattr(old, field.name), getattr(new, field.name)
        if field.name not in _MAY_DIFFER and a != b:
            raise UserError(
                f"{where}: its parameters are of another architecture: model."
                f"{field.name} is {a!r} there and {b!r} here; set it to that"
            )


def _check_tokenizer(where: str, run: Recorded, store: Store) -> None:
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


def _store_of(where: str, run: Recorded) -> Store:
    """The store of a run that did not record what is asked of it."""
    try:
        return run.open_store()
    except UserError as error:
        raise UserError(
            f"{where}: its store is not there to ask for its tokenizer ({error})"
        ) from None


def candidates(where: str, path: Path, asked: int | None) -> list[int]:
    """Steps of a run's checkpoints to try, best first; the same on all hosts.

    Args:
      where: the field, for errors.
      path: the run's workdir.
      asked: the step wanted, if one is.

    Raises:
      UserError: there are none, or not that one.
    """
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


def _names(where: str, run: Recorded, store: Store, mixture: Mixture) -> Sequence[str]:
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


def _described(
    run: Recorded,
    names: Sequence[str],
    train: TrainState,
    store: Store,
    fresh: MixerState | None,
) -> Callable[[Mapping[str, Any]], Snapshot]:
    """What is read of a checkpoint of the run, by the record beside it.

    Shapes depend on options of that run, on its targets and on files, which may all be
    others by now. All is placed as the new run's parameters are.

    Args:
      run: the other one.
      names: of what its weights are over.
      train: shapes, dtypes and shardings of the new run's.
      store: of the new run.
      fresh: shapes of the new run's mixer's state; None where it is another mixer.
    """
    where, cursors = train.step.sharding, np.zeros(run.data["domains"], np.int64)
    weights = {"log_weights": jax.ShapeDtypeStruct((), np.float32)}
    wanted = [weights] if fresh is None else [fresh._asdict(), weights]

    def describe(record: Mapping[str, Any]) -> Snapshot:
        if "arrays" in record:
            found = (integrity.as_saved(record, {"mixture": x}) for x in wanted)
            state = next(filter(None, found))["mixture"]
        else:
            state = _of_older_version(run, names, store)
        placed = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), state
        )
        return Snapshot(train, placed, cursors)

    return describe


def _of_older_version(run: Recorded, names: Sequence[str], store: Store) -> MixerState:
    """The mixer's state of a run whose checkpoints do not say what they hold."""
    config = run.config
    if config.mixer.name not in mixers.MIXERS:
        raise UserError(
            f"{run.directory}: this version has no mixer {config.mixer.name!r}; take "
            "config.start.what=params"
        )
    mixer = configs.make_mixer(config, len(store.targets.names) or 1)
    weights = np.zeros(len(names))
    return jax.eval_shape(lambda: configs.first_state(config, mixer, weights))


def newest_good(
    where: str, path: Path, steps: Sequence[int], abstract: Any
) -> tuple[int, Any, dict[str, Any]]:
    """The first of `steps` that is not damaged, its arrays and JSON.

    Args:
      where: the field, for errors.
      path: the run's workdir.
      steps: of its checkpoints.
      abstract: shapes, dtypes and shardings of what is read, or what gives them for
        the record beside a checkpoint.

    Raises:
      UserError: all of them are damaged, or one cannot be read.
    """
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


def _read(folder: Path, abstract: Any) -> tuple[Any, dict[str, Any]]:
    """Arrays of a checkpoint, or of a part of it, and its JSON.

    Orbax's manager of checkpoints would tidy the folder up, which is not ours.
    """
    integrity.check_readable(folder)
    record = integrity.read_record(folder)
    integrity.check_files(folder)
    if callable(abstract):
        abstract = abstract(record)
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
    if not integrity.is_part(arrays, record):
        raise DamagedError("its arrays are not those that were saved")
    return arrays, record["extra"]


def _cursors(
    found: Found, fresh: np.ndarray, config: ConfigDict, store: Store
) -> tuple[np.ndarray, str]:
    """Rows drawn of each domain, where that still means the same rows."""
    run = found.run
    if run.data["content_hash"] != store.content_hash:
        return fresh, "rows from the beginning, the store is another"
    if run.config.data.level != config.data.level:
        return fresh, "rows from the beginning, the level is another"
    return np.array(found.snapshot.cursors), "rows where it was"
