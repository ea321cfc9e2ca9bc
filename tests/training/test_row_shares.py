"""Probe rows by the errors of alignments: how many, and that a run goes on by them."""

import contextlib
import itertools
import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import open_run, parts_of
from test_every_mixer import assert_goes_on, tiny

from dga_jax.errors import UserError
from dga_jax.training import validation
from dga_jax.training.probe import Updates
from dga_jax.training.row_shares import RowShares


def shared_out(rows, spreads):
    """What domains of these spreads get after an update with `rows` of each."""
    shares, every = RowShares(rows), np.arange(len(spreads))
    errors = np.array(spreads) / np.sqrt(shares.counts(every))
    shares.learn(every, errors)
    return shares.counts(every)


@given(
    st.integers(1, 9),
    st.lists(st.floats(0, 1e9) | st.just(np.nan), min_size=1, max_size=9),
)
def test_as_many_in_all_and_half_of_them_to_each(rows, spreads):
    counts = shared_out(rows, spreads)
    assert counts.sum() == rows * len(spreads)
    assert counts.min() >= rows / 2


@pytest.mark.parametrize("spreads", [(1.0, 3.0, 2.0), (0.0, 1.0, 9.0), (5.0, 4.0, 0.1)])
def test_no_other_shares_have_less_variance(spreads):
    """Among all whole numbers that sum to as many."""

    def variance(counts):
        return sum(s**2 / n for s, n in zip(spreads, counts, strict=True))

    counts = shared_out(6, spreads)
    others = (n for n in itertools.product(range(3, 13), repeat=3) if sum(n) == 18)
    assert variance(counts) == pytest.approx(min(map(variance, others)))


def test_what_is_not_known():
    """Even shares at first, the mean of the others for who was never measured."""
    shares = RowShares(8)
    assert shares.counts(np.array([5, 7])).tolist() == [8, 8]
    shares.learn(np.array([5, 7]), np.array([0.1, np.nan]))
    assert shares.counts(np.array([5, 7])).tolist() == [8, 8]
    shares.learn(np.array([5, 7]), np.array([0.1, 0.9]))
    first = shares.counts(np.array([5, 7, 9]))
    assert first[0] < first[2] < first[1]
    again = RowShares(8, json.loads(json.dumps(shares.known())))
    np.testing.assert_array_equal(again.counts(np.array([5, 7, 9])), first)


@contextlib.contextmanager
def opened(store, folder, **fields):
    folder.mkdir()
    run = open_run(parts_of(tiny(store, mixer__probe_rows=4, **fields)), folder)
    run.checkpoints.close()
    with contextlib.closing(Updates(run, run.steps)) as updates:
        yield run, updates


@pytest.mark.parametrize("basis", ["", "natural+level0"])
def test_rows_go_where_the_noise_is(basis, cluster_store, tmp_path):
    """By one compiled program; each alignment is the mean of the domain's own rows."""
    fields = {"mixer__probe_by_error": True, "mixer__basis": basis}
    with opened(cluster_store, tmp_path / "a", **fields) as (run, updates):
        state, align = run.snapshot.train, run.steps.align
        updates.measure(state, 2)
        compiled = align._cache_size()
        rows = updates._read(4)
        found = updates.measure(state, 4).signals
        assert align._cache_size() == compiled
    owners = np.asarray(rows.probes["owners"]).ravel()
    counts = np.bincount(owners)
    assert counts.sum() == 4 * len(counts)
    assert counts.min() >= 2
    assert len(set(counts.tolist())) > 1
    # Nats per token of the rows of each, as evaluation has them.
    every = np.asarray(rows.probes["rows"]).reshape(len(owners), -1)
    sums = jax.device_get(run.steps.evaluate(state.params, every))
    losses = np.bincount(owners, sums.nll) / np.bincount(owners, sums.count)
    brought = align(state, rows.target, rows.probes)[0].losses
    np.testing.assert_allclose(brought, losses, rtol=1e-4)
    assert np.isfinite(found.standard_errors).all()


def test_rows_are_those_of_before_where_nothing_is_known(byte_store, tmp_path):
    """The first update measures what it does without the option."""
    found = []
    for name in ("plain", "by_error"):
        fields = {"mixer__probe_by_error": name == "by_error"}
        with opened(byte_store, tmp_path / name, **fields) as (run, updates):
            found.append(updates.measure(run.snapshot.train, 2).signals)
    for plain, other in zip(found[0], found[1], strict=True):
        if plain is not None:
            np.testing.assert_allclose(plain, other, rtol=1e-4)


@pytest.mark.slow
def test_killed_and_started_again(byte_store, tmp_path, monkeypatch):
    fields = {"mixer__probe_by_error": True, "mixer__probe_rows": 4}
    fields["mixer__probe_domains"] = 5
    assert_goes_on(lambda: tiny(byte_store, **fields), tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["grape", "odm", "pike"])
def test_a_mixer_without_errors_has_no_use_for_it(name, byte_store):
    config = tiny(byte_store, mixer__name=name, mixer__probe_by_error=True)
    words = f"mixer.probe_by_error=True: mixer.name={name} has no use for it"
    with pytest.raises(UserError, match=words):
        validation.validate(config)
