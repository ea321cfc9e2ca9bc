import numpy as np
import pytest

from dga_jax.data.pipeline import _WINDOW, batches, read_held
from dga_jax.data.sampler import Cumulative, Sampler
from dga_jax.data.store import PAD
from dga_jax.errors import UserError

BATCH = 6


@pytest.fixture(scope="module")
def sampler(byte_store):
    return Sampler(3, byte_store.domains().offsets)


@pytest.fixture(scope="module")
def weights(byte_store):
    rng = np.random.default_rng(0)
    return Cumulative.of(rng.dirichlet(np.ones(len(byte_store.domains()))))


def direct(store, sampler, weights, cursors, steps):
    """The batches, one after the other and without reading ahead."""
    cursors = np.array(cursors)
    for step in steps:
        draw = sampler.draw(step, weights, cursors, BATCH)
        sampler.advance(cursors, draw.domains)
        yield step, store.read("train", draw.rows), draw.domains


def recorded(store, monkeypatch):
    """The list of how many rows every read from now on reads."""
    counts, read = [], type(store).read

    def recording(self, split, ids):
        counts.append(len(ids))
        return read(self, split, ids)

    monkeypatch.setattr(type(store), "read", recording)
    return counts


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    "steps",
    [range(1, 2), range(5, 5 + _WINDOW), range(2, 3 * _WINDOW), range(7, 7)],
    ids=len,
)
def test_batches_are_those_of_the_sampler(byte_store, sampler, weights, steps, threads):
    cursors = np.arange(len(byte_store.domains()))
    found = list(
        batches(byte_store, sampler, weights, cursors, steps, BATCH, threads=threads)
    )
    assert cursors.tolist() == list(range(len(cursors)))
    expected = list(direct(byte_store, sampler, weights, cursors, steps))
    assert [batch.step for batch in found] == list(steps)
    for batch, (_, rows, domains) in zip(found, expected, strict=True):
        assert np.array_equal(batch.rows, rows)
        assert batch.rows.dtype == np.int32
        assert np.array_equal(batch.domains, domains)


def test_what_other_processes_hold_is_not_read(
    byte_store, sampler, weights, monkeypatch
):
    held = np.array([True, False, False, True, True, False])
    steps = range(1, 4)
    cursors = np.zeros(len(byte_store.domains()), np.int64)
    expected = list(direct(byte_store, sampler, weights, cursors, steps))
    read = recorded(byte_store, monkeypatch)
    found = batches(byte_store, sampler, weights, cursors, steps, BATCH, held=held)
    for batch, (_, rows, domains) in zip(found, expected, strict=True):
        assert np.array_equal(batch.rows[held], rows[held])
        assert (batch.rows[~held] == PAD).all()
        assert np.array_equal(batch.domains, domains)
    assert read == [held.sum()] * len(steps)


def test_reading_ahead_is_bounded(byte_store, sampler, weights, monkeypatch):
    """No row of a step past the span, and few past the step that was asked for."""
    read = recorded(byte_store, monkeypatch)
    cursors = np.zeros(len(byte_store.domains()), np.int64)
    plan = batches(
        byte_store, sampler, weights, cursors, range(1, 41), BATCH, threads=2, ahead=3
    )
    next(plan)
    assert len(read) <= 1 + 3 + 2 + 1
    assert len(list(plan)) == 39
    assert read == [BATCH] * 40


def test_read_held_of_nothing(byte_store):
    held = np.zeros(3, bool)
    rows = read_held(byte_store, "train", np.arange(3), held)
    assert rows.shape == (3, byte_store.seq_len + 1)
    assert (rows == PAD).all()


def test_running_out_of_rows_is_said(byte_store, weights):
    offsets = byte_store.domains().offsets
    limits = np.full(len(offsets) - 1, 2)
    sampler = Sampler(0, offsets, limits=limits, max_epochs=1)
    cursors = np.zeros(len(byte_store.domains()), np.int64)
    with pytest.raises(UserError, match="used up"):
        list(batches(byte_store, sampler, weights, cursors, range(1, 9), BATCH))
