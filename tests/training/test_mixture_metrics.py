"""What is logged of the mixture is true of the name it is logged for."""

import io
import json
import pathlib
import re
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import DECAYING, Killed, log_of, small_config, stopped, train_run

from dga_jax.data.store import Domains, Store
from dga_jax.logs import series
from dga_jax.logs.metrics import MetricsWriter, read_metrics
from dga_jax.logs.series import read_series
from dga_jax.mixing.signals import Signals
from dga_jax.report import write_report
from dga_jax.training import loop, probe
from dga_jax.training.evaluate import Evaluation
from dga_jax.training.mixture import Mixture
from dga_jax.training.mixture_metrics import MixtureMetrics
from dga_jax.training.probe import Measured

BEFORE = pathlib.Path(__file__).parents[1] / "before"


class Named:
    """What a mixture needs of a store of k domains; a row of d holds d % 7 + 1."""

    branching, path = (), "store"

    def __init__(self, k):
        ends = 3 * np.arange(k + 1)
        names = [f"d{i:03}" for i in range(k)]
        self.of = Domains(names, ends, ends, 3 * (np.arange(k) % 7 + 1))

    def domains(self, level):
        return self.of


def mixture_of(k, **fields):
    store = Named(k)
    return Mixture(small_config(store, **fields), store)


def read(folder, name, mixture):
    """A series by step: float [k], in the order of the domains."""
    found = read_series(folder, name, read_metrics(folder))
    return dict(zip(found.steps.tolist(), found.of(mixture.names), strict=True))


@settings(max_examples=15, deadline=None)
@given(
    k=st.sampled_from([3, 64, 65, 200]),
    m=st.integers(2, 200),
    updates=st.integers(1, 9),
)
def test_what_is_logged_for_a_name_was_measured_for_it(k, m, updates, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    mixture = mixture_of(k, mixer__probe_domains=m, mixer__interval=1)
    state = mixture.init()
    writer = MetricsWriter(folder, first_step=0)
    metrics = MixtureMetrics(writer, mixture, np.zeros(k, int))
    expected, tags = {}, []
    for step in range(1, updates + 1):
        probed = mixture.probes(step).indices
        values = (1000 * step + probed).astype(np.float32)
        line = metrics.weights(step, state) | metrics.measured(
            step, state, Measured(probed, Signals(values, -values), 1.0)
        )
        writer.write(step, line)
        expected[step] = np.full(k, np.nan, np.float32)
        expected[step][probed] = values
        tags.append({key for key in line if key.startswith("mixture/alignment/")})
    writer.close()
    for name, sign in {"mixture/alignment": 1, "mixture/alignment_error": -1}.items():
        found = read(folder, name, mixture)
        for step, values in expected.items():
            np.testing.assert_array_equal(found[step], sign * values)
    # While the weights stand still, no tag comes and none goes, whoever is probed.
    assert all(len(of) == (k if k <= 64 else 16) for of in tags)
    assert len(set().union(*tags)) == len(tags[0])
    for line in read_metrics(folder):
        for i, name in enumerate(mixture.names):
            value = line.get(f"mixture/alignment/{name}")
            if value is not None:
                assert value == expected[line["step"]][i]


def test_many_domains_evaluated_are_16_keys_of_a_line(tmp_path):
    mixture = mixture_of(200)
    losses = np.arange(200.0)
    losses[7] = np.nan
    found = Evaluation({"eval/target/loss": 3.0}, mixture.names, losses, losses / 2)
    writer = MetricsWriter(tmp_path, first_step=0)
    cursors = np.zeros(200, int)
    metrics = MixtureMetrics(writer, mixture, cursors)
    line = metrics.evaluated(0, mixture.init(), found, cursors)
    writer.write(0, line)
    writer.close()
    assert line["eval/target/loss"] == 3
    for unit, values in {"loss": losses, "bits_per_byte": losses / 2}.items():
        keys = [k for k in line if k.startswith("eval/domain") and k.endswith(unit)]
        assert len(keys) == 16
        read_back = read(tmp_path, f"eval/domain/{{}}/{unit}", mixture)[0]
        np.testing.assert_array_equal(read_back, values)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_drawn_is_counted_from_record_to_record(data, tmp_path_factory):
    """Each row once, as many tokens as its domain's rows hold; over resumes too."""
    k = data.draw(st.sampled_from([3, 70]))
    mixture = mixture_of(k)
    tokens_per_row = np.arange(k) % 7 + 1
    folder = tmp_path_factory.mktemp("run")
    writer = MetricsWriter(folder, first_step=0)
    cursors, window = np.zeros(k, int), np.zeros(k, int)
    metrics = MixtureMetrics(writer, mixture, cursors)
    expected = {}
    for step in range(data.draw(st.integers(1, 12))):
        rows = np.bincount(
            data.draw(st.lists(st.integers(0, k - 1), max_size=6)), minlength=k
        )
        cursors += rows
        window += rows
        if data.draw(st.booleans(), "resumed"):
            pending = json.loads(json.dumps(metrics.pending(cursors)))
            metrics = MixtureMetrics(writer, mixture, np.array(cursors), pending)
        if data.draw(st.booleans(), "recorded"):
            line = metrics.drawn(step, mixture.init(), cursors)
            writer.write(step, line)
            tokens = window * tokens_per_row
            assert line["mixture/drawn_tokens"] == tokens.sum()
            expected[step] = tokens / tokens.sum() if tokens.any() else tokens * np.nan
            window[:] = 0
    writer.close()
    if expected:
        found = read(folder, "mixture/drawn", mixture)
        for step, shares in expected.items():
            np.testing.assert_allclose(found[step], shares, rtol=1e-6)


def test_without_a_count_from_before_it_begins_where_the_run_goes_on(tmp_path):
    mixture = mixture_of(3)
    writer = MetricsWriter(tmp_path, first_step=0)
    cursors = np.array([5, 9, 2])
    metrics = MixtureMetrics(writer, mixture, cursors, None)
    assert metrics.pending(cursors) == {"domains": [], "rows": []}
    cursors[1] += 4
    line = metrics.drawn(3, mixture.init(), cursors)
    writer.close()
    assert [line[f"mixture/drawn/d00{i}"] for i in range(3)] == [0, 1, 0]


def test_used_up_is_said_once_and_by_name(tmp_path):
    mixture = mixture_of(
        5,
        mixer__weights="d000=.1,d001=.7,d002=.2",
        data__max_epochs=2,
        train__steps=1,
    )
    state = mixture.init()
    writer = MetricsWriter(tmp_path, first_step=0)
    cursors = np.array([5, 6, 0, 6, 0])
    metrics = MixtureMetrics(writer, mixture, np.zeros(5, int))
    assert metrics.leading(state, cursors, 3) == [
        ("d001", pytest.approx(0.7), True),
        ("d002", pytest.approx(0.2), False),
        ("d000", pytest.approx(0.1), False),
    ]
    drawn = metrics.drawn(1, state, cursors)
    assert drawn["mixture/used_up"] == pytest.approx(0.7)
    probabilities = [drawn[f"mixture/probability/d00{i}"] for i in range(5)]
    assert probabilities == pytest.approx([1 / 3, 0, 2 / 3, 0, 0])
    said = metrics.newly_used_up(state, cursors)
    assert "data.max_epochs=2" in said
    assert "d001 (weight 0.7)" in said
    assert "d003" not in said  # of weight 0: nothing was asked for
    assert "\n" not in said
    assert metrics.newly_used_up(state, cursors) is None
    cursors[0] += 1
    said = metrics.newly_used_up(state, cursors)
    assert "d000 (weight 0.1)" in said
    assert "d001" not in said
    assert "0.8 of the mixture" in said
    writer.close()


@given(
    gone=st.sets(st.integers(0, 6), max_size=6),
    apply=st.sampled_from(["draws", "loss"]),
    seed=st.integers(0, 2**20),
)
def test_what_is_drawn_and_how_it_counts(gone, apply, seed, tmp_path_factory):
    """As the sampler draws among domains that are left, the loss is the mixture's."""
    rng, count = np.random.default_rng(seed), 7
    weights = rng.dirichlet(np.ones(count))
    mixture = mixture_of(
        count,
        mixer__apply=apply,
        mixer__weights=",".join(f"d00{i}={x}" for i, x in enumerate(weights)),
        data__max_epochs=2,
        train__steps=1,
        train__batch_size=1,
    )
    state = mixture.update(mixture.init(), 3, np.arange(count), rng.normal(size=count))
    left = ~np.isin(np.arange(count), list(gone))
    cursors = np.where(left, 0, 6)
    tokens = mixture.cumulative(state).weights * mixture.domains.tokens_per_row
    expected = np.where(left, tokens, 0) / tokens[left].sum()
    writer = MetricsWriter(tmp_path_factory.mktemp("run"), first_step=0)
    logged = MixtureMetrics(writer, mixture, cursors).drawn(3, state, cursors)
    writer.close()
    found = [logged[f"mixture/probability/d00{i}"] for i in range(count)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    factors = mixture.loss_factors(state, cursors)
    assert (factors is None) == (apply == "draws")
    wanted = np.where(left, mixture.domain_weights(state), 0)
    counts = expected * (1 if factors is None else factors)
    np.testing.assert_allclose(counts, wanted / wanted.sum(), rtol=1e-5)


def test_nothing_is_used_up_without_a_limit(tmp_path):
    mixture = mixture_of(2)
    writer = MetricsWriter(tmp_path, first_step=0)
    metrics = MixtureMetrics(writer, mixture, np.zeros(2, int))
    cursors = np.array([10**6, 0])
    assert metrics.newly_used_up(mixture.init(), cursors) is None
    drawn = metrics.drawn(1, mixture.init(), cursors)
    assert "mixture/used_up" not in drawn
    assert "mixture/probability/d000" not in drawn
    writer.close()


@pytest.fixture
def few_in_the_log(monkeypatch):
    """As with hundreds of domains, on a store of eight."""
    monkeypatch.setattr(series, "MAX_LOGGED", 4)
    monkeypatch.setattr(series, "NUM_LEADING", 3)


def test_a_run_of_subsets_and_limits_killed_and_resumed(
    few_in_the_log, byte_store, tmp_path, monkeypatch, capsys
):
    """The loop itself: alignments as they were measured, rows as they were drawn."""
    config = small_config(
        byte_store,
        train__steps=8,
        mixer__interval=2,
        mixer__probe_domains=5,
        mixer__weights="austen=.6,wordnet=.1,dm_math=.1,factbook=.1,metamath=.1",
        data__max_epochs=2,
        data__tokens_per_domain=10 * byte_store.seq_len,
        checkpoint__every=3,
        log__console=1,
    )
    measured, drawn = {}, np.zeros((9, 8))
    move, step_of = probe.Updates.move, loop.Trainer._train_step

    def kept(self, state, mixer_state, step, cursors):
        moved, measured[step] = move(self, state, mixer_state, step, cursors)
        return moved, measured[step]

    def stepped(self, batch):
        drawn[batch.step] = np.bincount(batch.domains, minlength=8)
        step_of(self, batch)

    monkeypatch.setattr(probe.Updates, "move", kept)
    monkeypatch.setattr(loop.Trainer, "_train_step", stepped)
    with stopped(monkeypatch, 5, by="kill"), pytest.raises(Killed):
        train_run(config, tmp_path)
    capsys.readouterr()
    assert train_run(config, tmp_path)
    said = capsys.readouterr().out
    mixture = Mixture(config, byte_store)
    found = read(tmp_path, "mixture/alignment", mixture)
    assert sorted(found) == [2, 4, 6, 8]
    for step, values in found.items():
        expected = np.full(8, np.nan)
        expected[measured[step].indices] = measured[step].signals.alignments
        np.testing.assert_array_equal(values, expected)
    found = read(tmp_path, "mixture/drawn", mixture)
    assert sorted(found) == [2, 4, 6, 8]
    for step in (2, 4, 6, 8):
        tokens = drawn[step - 1 : step + 1].sum(axis=0)
        tokens = tokens * mixture.domains.tokens_per_row
        np.testing.assert_allclose(found[step], tokens / tokens.sum(), rtol=1e-6)
    assert found[8][0] == 0
    last = log_of(tmp_path)[-1]
    assert last["mixture/used_up"] >= last["mixture/weight/austen"] > 0.3
    assert re.search(r"austen \.\d\d \(used up\)", said)
    assert said.count("used up (data.max_epochs=2): austen") == 1


def test_a_run_of_before_goes_on_and_counts_from_there(tmp_path):
    """Its checkpoint, of step 7, does not say what was drawn since the update at 6."""
    for name in ("store", "run"):
        with tarfile.open(BEFORE / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
    store = Store.open(tmp_path / "store")
    config = small_config(store, **DECAYING)
    config.model.update(num_layers=1, d_model=8, num_heads=2, d_ff=16)
    assert train_run(config, tmp_path / "run")
    tokens = store.domains().tokens_per_row
    lines = log_of(tmp_path / "run")
    assert [line["step"] for line in lines] == list(range(13))
    windows = {8: 1, 9: 1, 12: 3}
    found = {
        line["step"]: line["mixture/drawn_tokens"]
        for line in lines
        if "mixture/drawn_tokens" in line
    }
    assert list(found) == list(windows)
    for step, steps in windows.items():
        rows = steps * config.train.batch_size
        assert rows * tokens.min() <= found[step] <= rows * tokens.max()
    write_report(tmp_path / "run", out=io.StringIO())
