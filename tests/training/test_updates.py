"""Rows that updates of the weights measure on: read ahead, and no more than needed."""

import contextlib
import threading

import jax
import numpy as np
import pytest
from runs import parts_of, small_config, train_run
from stores import store_with, text_of

from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.training.probe import Updates
from dga_jax.training.setup import open_run


@contextlib.contextmanager
def opened(store, folder, **fields):
    """A fresh run and its updates."""
    folder.mkdir(exist_ok=True)
    run = open_run(parts_of(small_config(store, **fields)), folder)
    run.checkpoints.close()
    with contextlib.closing(Updates(run, run.steps)) as updates:
        yield run.snapshot.train, updates


def no_read(*arguments):
    raise AssertionError("read again")


def test_what_was_read_ahead_is_what_would_be_read(byte_store, tmp_path, monkeypatch):
    with opened(byte_store, tmp_path / "plain") as (state, updates):
        expected = [updates.measure(state, step) for step in (3, 6)]
    with opened(byte_store, tmp_path / "ahead") as (state, updates):
        updates.read_ahead(6)
        updates._ahead[6].result()
        with monkeypatch.context() as patch:
            patch.setattr(Store, "read", no_read)
            sixth = updates.measure(state, 6)
        found = [updates.measure(state, 3), sixth]
    for one, other in zip(expected, found, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_target_that_stays_is_read_once(byte_corpora, tmp_path, monkeypatch):
    """All of it twice over; part of it is another part at every update."""
    short = text_of(byte_corpora["target"])[:280]
    store = store_with(tmp_path / "text", byte_corpora, target=short)
    read, threads, read_of = [], [], Store.read

    def noted(self, split, ids):
        if split in ("target", "train"):
            read.append(split)
        if split == "target":
            threads.append(threading.current_thread())
        return read_of(self, split, ids)

    monkeypatch.setattr(Store, "read", noted)
    rows = store.num_rows("target")
    assert rows == 9  # one less are as many as other runs have
    for wanted, times in ((2 * rows, 1), (rows - 1, 4)):
        read.clear()
        config = small_config(store, mixer__target_rows=wanted)
        assert train_run(config, tmp_path / str(wanted))
        assert read.count("target") == times + 1  # what steers is evaluated, too
    assert threads.count(threading.main_thread()) == 2  # once in each run, for that


def test_a_target_in_another_order_is_the_same(byte_store, tmp_path):
    rows = byte_store.num_rows("target")
    with opened(byte_store, tmp_path, mixer__target_rows=rows) as (state, updates):
        norms = {updates.measure(state, step).target_norm for step in (3, 6, 9)}
    assert len(norms) == 1


def test_what_goes_wrong_ahead_ends_the_run(byte_store, tmp_path, monkeypatch):
    def damaged(self, split, ids):
        if split == "target":
            raise UserError("target.arrayrecord is damaged")
        return read_of(self, split, ids)

    read_of = Store.read
    monkeypatch.setattr(Store, "read", damaged)
    with pytest.raises(UserError, match="is damaged"):
        train_run(small_config(byte_store), tmp_path)
