"""Small runs in this process, for the tests of the loop."""

import contextlib
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp

from configs.quickstart import get_config
from dga_jax.sharding import make_mesh
from dga_jax.training import config as configs
from dga_jax.training import (
    loop,
    setup,
    train_state,
    validation,
    workdir,
)
from dga_jax.training.mixture import Mixture
from dga_jax.training.setup import Parts, open_run, open_store

ONE_DEVICE = (1, 1, 1)
# As runs are by default; `small_config` has it otherwise.
DECAYING = {"optimizer__schedule": "cosine", "optimizer__warmup_steps": -1}
_shared = functools.lru_cache(maxsize=32)


# To trace its programs takes most of the time of a small run: runs of the same ones
# share them, and each starts from a copy of the same state, which it may donate.
_first_state = _shared(train_state.create)
train_state.create = lambda *args, **named: jax.tree.map(
    jnp.copy, _first_state(*args, **named)
)
train_state.abstract_state = _shared(train_state.abstract_state)
setup.make_steps = _shared(setup.make_steps)
_optimizer_config = configs.optimizer_config


def _without_length(config):
    """A schedule that does not decay does not ask how long a run is."""
    found = _optimizer_config(config)
    constant = found.schedule == "constant"
    return dataclasses.replace(found, steps=0) if constant else found


configs.optimizer_config = _without_length


class Killed(BaseException):
    """Stands for a `kill -9`: nothing of the loop catches it."""


def mesh_of(data, fsdp, tensor):
    """A mesh over as many of the eight devices as it needs."""
    devices = jax.devices()[: data * fsdp * tensor]
    return make_mesh(data, fsdp, tensor, devices=devices)


def small_config(store, **fields):
    """A layer of 32, 12 steps, an update of the weights every 3, all logged.

    The learning rate does not decay: runs of any length have the same programs.
    `fields` are config fields, with "__" for the dot.
    """
    config = get_config("debug")
    config.model.update(num_layers=1, d_model=32, num_heads=4, d_ff=64)
    config.train.update(steps=12, batch_size=8)
    config.optimizer.update(schedule="constant", warmup_steps=1)
    config.mixer.update(interval=3, eta=5.0, probe_rows=2, target_rows=8)
    config.eval.update(every=4, rows=2, target_rows=4)
    config.checkpoint.update(every=5)
    config.log.update(every=1, console=100)
    config.data.store = str(store.path)
    for name, value in fields.items():
        group, _, leaf = name.rpartition("__")
        (config[group] if group else config)[leaf] = value
    return config


def parts_of(config, mesh=ONE_DEVICE, explicit=()):
    """What `check` returns, on a mesh that may be smaller than the machine."""
    validation.validate(config)
    mesh = mesh_of(*mesh)
    store = open_store(config, explicit)
    return Parts(config, store, mesh, Mixture(config, store))


def train_run(config, directory, mesh=ONE_DEVICE):
    """Trains as `main` does; returns whether it came to its end."""
    with workdir.locked(directory):
        return loop.train(open_run(parts_of(config, mesh), directory))


@contextlib.contextmanager
def stopped(monkeypatch, step, *, by):
    """Inside, a run ends after `step`: by="kill" saves nothing, "sigterm" does."""

    def requested(self, now):
        if now == step and by == "kill":
            raise Killed
        return now == step

    with monkeypatch.context() as patch:
        patch.setattr(loop.Stop, "requested", requested)
        yield


def log_of(directory):
    """The lines of metrics.jsonl without what depends on time."""
    text = (directory / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [
        {key: value for key, value in line.items() if not key.startswith("perf/")}
        for line in lines
    ]


def fingerprint(directory, step):
    """Of parameters, optimizer, weights and cursors as saved after a step."""
    record = directory / "checkpoints" / str(step) / "record" / "metadata"
    return json.loads(record.read_text())["fingerprint"]
