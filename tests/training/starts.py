"""Runs that go on from another, for the tests of them."""

import contextlib
import hashlib

from runs import log_of, parts_of, small_config

from dga_jax.training import workdir
from dga_jax.training.setup import open_run

# Updates follow steps 3, 6, 9, 12; evaluations 4, 8, 12; checkpoints 5, 10, 12.
VARIANTS = {
    "plain": {},
    "all": {
        "mixer__probe_domains": 3,
        "mixer__eta_end": 1.0,
        "mixer__floor": 0.02,
        "data__tokens_per_domain": 6 * 32,
        "data__max_epochs": 3,
        "optimizer__schedule": "wsd",
    },
    "losses": {"mixer__name": "odm"},
    "by error": {"mixer__probe_by_error": True, "mixer__probe_rows": 4},
}


def starting(store, origin, what="all", **fields):
    config = small_config(store, **fields)
    config.start.update({"from": str(origin), "what": what})
    return config


def begun(config, directory):
    """The state that a run begins with, and what it says; nothing is trained."""
    with workdir.locked(directory):
        run = open_run(parts_of(config), directory)
        run.checkpoints.close()
    return run


def by_step(directory):
    """Lines by step, without what a run counts of its own steps."""
    return {
        line["step"]: {
            key: value
            for key, value in line.items()
            if "/drawn" not in key and not key.startswith("cost/")
        }
        for line in log_of(directory)
    }


@contextlib.contextmanager
def untouched(directory):
    """Inside, nothing in it is changed, added or removed."""

    def content(path):
        return hashlib.sha256(path.read_bytes()).digest() if path.is_file() else None

    def state():
        return {
            p: (p.stat().st_mtime_ns, content(p))
            for p in [directory, *directory.rglob("*")]
        }

    before = state()
    yield
    assert state() == before
