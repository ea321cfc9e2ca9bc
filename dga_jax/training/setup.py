"""Everything that a run is made of, checked and put together before the first step."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dga_jax import sharding
from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.model.transformer import parameter_count
from dga_jax.stores import find_store
from dga_jax.training import config as configs
from dga_jax.training import distributed, placement, train_state, validation, workdir
from dga_jax.training.checkpoint import Checkpoints, Snapshot, size_on_disk
from dga_jax.training.fields import flat
from dga_jax.training.mixture import Mixture
from dga_jax.training.optimizer import make_optimizer
from dga_jax.training.programs import Programs, compile_run, keep_compiled
from dga_jax.training.steps import Steps, make_steps
from dga_jax.training.train_state import TrainState

if TYPE_CHECKING:
    from dga_jax.training.reference_run import Reference

# Fields that processes of a run need not agree on: where files lie on a host.
_MAY_DIFFER = {
    "config.data.store",
    "config.data.cache",
    "config.data.threads",
    "config.compile_cache",
}
_DETERMINISTIC_GPU = "--xla_gpu_deterministic_ops=true"


class Parts(NamedTuple):
    """What config, store and machine decide, before the workdir is looked at.

    Attributes:
      config: complete, with what the store decides filled in.
      store: rows to train on and to evaluate with.
      mesh: of devices.
      mixture: domains, mixer and sampler.
    """

    config: ConfigDict
    store: Store
    mesh: Mesh
    mixture: Mixture


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, ready to go on.

    Attributes:
      config, store, mesh, mixture: as in `Parts`.
      directory: the workdir.
      steps: the jitted functions.
      checkpoints: of the workdir.
      snapshot: where the run stands.
      extra: what the checkpoint held besides; empty in a fresh run.
      resumed: whether it was begun before.
      programs: the steps that are being compiled, by name; see `compile_ahead`.
      taken: what was taken over from another run, on a line; "" if nothing.
      reference: the model of another run, where the mixer reads its losses.
    """

    config: ConfigDict
    store: Store
    mesh: Mesh
    mixture: Mixture
    directory: Path
    steps: Steps
    checkpoints: Checkpoints
    snapshot: Snapshot
    extra: dict
    resumed: bool
    programs: Programs
    taken: str = ""
    reference: "Reference | None" = None

    @property
    def step(self) -> int:
        """Train steps done."""
        return int(self.snapshot.train.step)

    def describe(self) -> str:
        """What is about to be trained, on one line; on another, where and how."""
        config = self.config
        parameters = parameter_count(configs.model_config(config))
        devices = self.mesh.devices.flat
        start = f", going on after step {self.step}" if self.step else ""
        return (
            f"{self.directory}: {parameters:,} parameters, {config.mixer.name} over "
            f"{len(self.mixture.domains):,} domains, {config.train.steps:,} steps of "
            f"{config.train.batch_size} x {config.train.seq_len} tokens, "
            f"{len(devices)} x {devices[0].device_kind}{start}\n"
            f"{self.directory}: {placement.describe(config, self.mesh)}"
        )


def start_jax(config: ConfigDict) -> None:
    """What comes before the first use of a device: flags, the other hosts.

    Raises:
      UserError: who the others are is not known, or `compile_cache` not written to.
      Stopped: the others did not come.
    """
    if config.deterministic:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} {_DETERMINISTIC_GPU}".strip()
    distributed.initialize()
    keep_compiled(config.compile_cache, config.data.cache)


def check(
    config: ConfigDict, explicit: Iterable[str], directory: Path | None = None
) -> Parts:
    """Checks a config against the store it names and the devices that there are.

    Args:
      config: as the flags left it; completed in place.
      explicit: names of the fields that were set on the command line.
      directory: the workdir; without one, no run goes on.

    Raises:
      UserError: whatever is wrong; nothing was written by then.
    """
    configs.update_former(config)
    _take_architecture(config, explicit, directory)
    validation.validate(config)
    store = open_store(config, explicit)
    mesh = placement.make_mesh(config)  # which depends on the vocabulary
    validation.check_batch(config, sharding.batch_shards(mesh))
    configs.attention_kernel(config, mesh)
    parts = Parts(config, store, mesh, Mixture(config, store))
    _check_same_everywhere(parts)
    return parts


def open_run(parts: Parts, directory: Path, *, ahead: bool = False) -> Run:
    """Puts a run together: fresh, or from the newest checkpoint of its workdir.

    Args:
      parts: from `check`.
      directory: the workdir, which this process has locked.
      ahead: compile its steps meanwhile, and not each when it is first called.

    Raises:
      UserError: the workdir belongs to another run, has no checkpoint that can be
        read, or is short of space; nothing was written by then.
    """
    config, _, mesh, mixture = parts
    checkpoints = Checkpoints(directory, config.checkpoint.keep)
    before, made_anew = workdir.read_record(directory, checkpoints)
    done = checkpoints.newest_step()
    reference = _other_runs(parts, before)
    abstract = _abstract(parts)
    begin = None
    if done is None:
        begin = _taken_over(parts, directory, abstract.train)
        room = (config.checkpoint.keep + 1) * size_on_disk(abstract)
        workdir.check_room(directory, room)
    begun = workdir.is_begun(directory, checkpoints)
    record, said = _same_run(parts, directory, before if begun else None, done or 0)
    checkpoints.run = record
    steps = make_steps(
        configs.model_config(config, mesh),
        configs.optimizer_config(config),  # whose warm-up the record may say
        configs.step_options(config, mesh, mixture.num_probes),
        mesh,
    )
    programs = {}
    if ahead and (done or 0) < config.train.steps:
        programs = compile_run(config, mesh, mixture, steps, abstract.train, done)
    restored = checkpoints.restore(abstract)
    if jax.process_index() == 0:  # nothing is written before all is known to be well
        workdir.write_record(directory, record)
        for line in filter(None, [made_anew, *said]):
            print(f"{directory}: {line}", flush=True)
    if restored is not None:
        snapshot, extra, taken = restored.snapshot, restored.extra, ""
    else:
        fresh = _fresh(parts)
        snapshot, extra, taken = begin(fresh) if begin else (fresh, {}, "")
    return Run(
        *parts,
        directory=directory,
        steps=steps,
        checkpoints=checkpoints,
        snapshot=snapshot,
        extra=extra,
        resumed=restored is not None,
        programs=programs,
        taken=taken,
        reference=reference,
    )


def _take_architecture(
    config: ConfigDict, explicit: Iterable[str], directory: Path | None
) -> None:
    """Completes a config with the architecture of `model.from`.

    Of a run that was begun in the workdir, its record says what its model is, whether
    or not `model.from` is given again.
    """
    before = None
    if directory is not None:
        checkpoints = Checkpoints(directory, config.checkpoint.keep)
        if workdir.is_begun(directory, checkpoints):
            before = workdir.read_record(directory, checkpoints)[0]
    begun = before is not None and before["config"].get("model", {}).get("from")
    if config.model["from"] or begun:
        from dga_jax.training import from_huggingface  # few runs begin with one

        from_huggingface.take_architecture(config, explicit, before)


def _other_runs(parts: Parts, before: Mapping[str, Any] | None) -> "Reference | None":
    """Settles which run it starts from; the model of the one whose losses it reads."""
    config, store, mesh, mixture = parts
    start = before["config"].get("start", {}) if before else {}
    if start.get("from"):
        from dga_jax.training import start_from  # few runs go on from another

        start_from.settle(config, start)
    if "reference_losses" not in mixture.mixer.reads:
        return None
    from dga_jax.training import reference_run  # few runs need it

    return reference_run.load(config, before, store, mesh)


def _abstract(parts: Parts) -> Snapshot:
    """Shapes, dtypes and shardings of a run's state; its cursors are zeros."""
    config, _, mesh, mixture = parts
    optimizer = make_optimizer(configs.optimizer_config(config))
    train = train_state.abstract_state(configs.model_config(config), optimizer, mesh)
    where = sharding.replicated(mesh)
    state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        jax.eval_shape(mixture.init),
    )
    return Snapshot(train, state, np.zeros(len(mixture.domains), np.int64))


def _fresh(parts: Parts) -> Snapshot:
    """The state of a run that begins."""
    config, _, mesh, mixture = parts
    optimizer = make_optimizer(configs.optimizer_config(config))
    model = configs.model_config(config)
    train = train_state.create(model, optimizer, mesh, config.seed)
    cursors = np.zeros(len(mixture.domains), np.int64)
    return Snapshot(train, mixture.begin(mesh), cursors)


def _taken_over(
    parts: Parts, directory: Path, abstract: TrainState
) -> Callable[[Snapshot], tuple[Snapshot, dict[str, Any], str]] | None:
    """Reads what a run begins with that is not begun: of another run, or of a model.

    Returns:
      What makes of a fresh state the one to begin with, what a checkpoint's JSON would
      say, and a line; None if the run begins by itself.

    Raises:
      UserError: it is not there, or does not fit; nothing was written by then.
    """
    config, store, _, mixture = parts
    if config.start["from"]:
        from dga_jax.training import start_from

        return start_from.find(config, directory, store, mixture, abstract)
    if not config.model["from"]:
        return None
    from dga_jax.training import from_huggingface

    params = from_huggingface.load(config, store, abstract.params)
    said = f"the parameters of {config.model['from']}"
    return lambda fresh: (
        fresh._replace(train=fresh.train._replace(params=params)),
        {},
        said,
    )


def open_store(config: ConfigDict, explicit: Iterable[str]) -> Store:
    """Opens `data.store` and takes what it decides from it."""
    path = config.data.store
    if not path:
        raise UserError(
            "config.data.store is not set: make a store with python -m dga_jax.prepare "
            "and name it, or try the text that comes with the code, 'sample'"
        )
    store = Store.open(find_store(path, config.train.seq_len, config.data.cache))
    for split in ("train", "target", "target_eval"):
        if not store.num_rows(split):
            raise UserError(
                f"store {path}: no {split} rows; prepare it again with some"
            )
    if config.data.answers_after:
        from dga_jax.data import answers

        mark = config.data.answers_after
        store.answers = answers.Answers.after(mark, store.tokenizer())
        answers.check_some(store, mark)
    weights = store.targets.weights(config.mixer.targets)
    needed = 0 if weights is None else np.count_nonzero(weights)
    if config.mixer.target_rows < needed:
        raise UserError(
            f"config.mixer.target_rows={config.mixer.target_rows}: config.mixer.targets"
            f" weighs {needed} targets, and each needs a row; raise it"
        )
    configs.take_from_store(
        config, explicit, path, store.vocab_size, store.seq_len, store.end_of_text
    )
    return store


def _check_same_everywhere(parts: Parts) -> None:
    """Better now than when a collective waits for what another process never does."""
    if jax.process_count() == 1:
        return
    basis, fields = parts.mixture.basis, flat(parts.config.to_dict(), "config.")
    mine = {name: fields[name] for name in fields.keys() - _MAY_DIFFER}
    mine["the store's content"] = parts.store.content_hash
    mine["the basis"] = basis.digest if basis else ""
    mine["the initial weights"] = parts.mixture.initial_digest
    mine |= parts.mixture.file_digests
    mine["jax"] = jax.__version__
    mine["the mesh that was chosen"] = str(dict(parts.mesh.shape))
    distributed.check_same(mine)


def _record(parts: Parts) -> dict[str, Any]:
    """What the workdir says of a run, as JSON gives it back."""
    config, store, mesh, mixture = parts
    fields = config.to_dict()
    fields.pop("explicit")
    data = {
        "content_hash": store.content_hash,
        "domains": len(mixture.domains),
        "draws": "tokens",  # what weights are shares of
        "mesh": dict(mesh.shape),  # which the config may leave open
        # Files that the config names may change under the same name.
        "basis": mixture.basis.digest if mixture.basis else "",
        "initial_weights": mixture.initial_digest,
        **mixture.file_digests,
    }
    # What another run that goes on from this one has to have as well.
    tokenizer = store.manifest["tokenizer"]["sha256"]
    record = {"config": fields, "data": data, "tokenizer": tokenizer}
    return json.loads(json.dumps(record))


def _same_run(
    parts: Parts, directory: Path, before: Mapping[str, Any] | None, done: int
) -> tuple[dict[str, Any], list[str]]:
    """What to record of the run, and lines worth saying.

    Args:
      parts: of the run; an automatic warm-up becomes what it was when the run began.
      directory: the workdir.
      before: what it recorded, if anything was computed there: it is compared.
      done: train steps in the newest checkpoint.
    """
    optimizer = configs.optimizer_config(parts.config)
    if before is None:
        parts.config.optimizer.warmup_steps = optimizer.warmup_steps
        return _record(parts), []
    from dga_jax.training import same_run  # as a run that begins is no other

    if parts.config.optimizer.warmup_steps < 0:
        parts.config.optimizer.warmup_steps = (
            same_run.warmup_steps(before) if done else optimizer.warmup_steps
        )
    record = _record(parts)
    said = same_run.compare(directory, before, record, done)
    if "by_rows_until" in before["data"]:
        record["data"]["by_rows_until"] = before["data"]["by_rows_until"]
    if "draws" not in before["data"]:
        record["data"]["by_rows_until"] = done
        said.append(
            "begun by an older version, whose weights were shares of the rows; "
            "from here on they are shares of the tokens"
        )
    return record, said
