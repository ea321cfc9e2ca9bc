"""What a run says that it spends: counted from its rows, exact over a resume."""

import contextlib
import dataclasses

import numpy as np
import pytest
from runs import Killed, log_of, parts_of, small_config, stopped, train_run
from test_every_mixer import MOVING, config_of, tiny
from test_steering import store_of

from dga_jax.logs import perf
from dga_jax.mixing.mixers import MIXERS
from dga_jax.model.transformer import matrix_parameter_count
from dga_jax.training import config as configs
from dga_jax.training.cost import KINDS, Costs, of_update
from dga_jax.training.probe import Updates
from dga_jax.training.setup import open_run

TOKENS = 32  # of a row
EVALUATED = 8 * 2 + 4 + 4  # rows of domains, of the target, of its steering part
OFTEN = ("dga", "doremi", "pike", "grape")  # each kind of signal
CASES = [pytest.param(n, marks=() if n in OFTEN else pytest.mark.slow) for n in MOVING]


def costs(line):
    return {key: value for key, value in line.items() if key.startswith("cost/")}


def whole_rows(rows):
    """How many are not there to fill a batch up."""
    return int((np.asarray(rows)[..., 1:] >= 0).any(axis=-1).sum())


class Counted:
    """Steps that count the rows they are given."""

    def __init__(self, steps):
        self.gradients, self.forwards = {"probe": 0, "target": 0}, 0
        self.steps = steps._replace(
            evaluate=self.evaluate, align=self.align, gradients=self.moments
        )
        self._inner, self.evaluated = steps, steps.evaluate

    def evaluate(self, params, rows):
        self.forwards += whole_rows(rows)
        return self.evaluated(params, rows)

    def align(self, state, target, probes):
        self.gradients["target"] += whole_rows(target["rows"])
        self.gradients["probe"] += whole_rows(probes["rows"])
        return self._inner.align(state, target, probes)

    def moments(self, params, probes, counts):
        # Of each row alone, of the sum of all, and along that sum.
        self.gradients["probe"] += 3 * whole_rows(probes["rows"])
        return self._inner.gradients(params, probes, counts)


@pytest.fixture(scope="module")
def reference(byte_store, tmp_path_factory):
    """Two steps of eight rows by another model."""
    folder = tmp_path_factory.mktemp("reference")
    fields = {"mixer__name": "static", "train__steps": 2, "eval__every": 0}
    config = tiny(byte_store, **fields)
    config.model.d_model = 16
    assert train_run(config, folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_an_update_passes_what_is_counted(name, byte_store, reference, tmp_path):
    run = open_run(parts_of(config_of(name, byte_store, reference)), tmp_path)
    run.checkpoints.close()
    counted, under = Counted(run.steps), Counted(run.steps)
    if run.reference:
        under.evaluated = run.reference.evaluate
        of = run.reference._replace(evaluate=under.evaluate)
        run = dataclasses.replace(run, reference=of)
    with contextlib.closing(Updates(run, counted.steps)) as updates:
        updates.measure(run.snapshot.train, 2, run.snapshot.cursors)
    found = of_update(MIXERS[name].reads, probe_rows=16, target_rows=8)
    gradients = {kind: found[kind].gradients for kind in ("probe", "target")}
    assert gradients == counted.gradients
    forwards = found["probe"].forwards + found["target"].forwards
    assert forwards == counted.forwards
    assert found["reference"] == (0, under.forwards)


def test_each_of_several_targets_is_passed(tmp_path):
    easy = "easy=lego:k=3/skills=1/seed=1/documents=40"
    hard = "hard=lego:k=3/skills=3/seed=1/documents=25"
    store = store_of(tmp_path / "store", easy, hard)
    config = tiny(store, mixer__name="grape", mixer__target_rows=2)
    (tmp_path / "run").mkdir()
    run = open_run(parts_of(config), tmp_path / "run")
    run.checkpoints.close()
    values = Costs(run, 0).at(2)
    probes = len(store.domains()) * config.mixer.probe_rows
    assert values["cost/probe_tokens"] == 2 * probes * store.seq_len
    assert values["cost/target_tokens"] == 2 * (2 + 2) * store.seq_len


def test_what_a_run_spent_by_hand(byte_store, tmp_path):
    """Seven steps, updates after 2, 4 and 6, evaluations before and after."""
    config = tiny(byte_store)
    assert train_run(config, tmp_path)
    first, last = (costs(log_of(tmp_path)[i]) for i in (0, -1))
    tokens = {
        "train": 7 * 8,
        "probe": 3 * 8 * 2,
        "target": 3 * 8,
        "reference": 0,
        "eval": 2 * EVALUATED,
    }
    for kind, rows in tokens.items():
        assert last[f"cost/{kind}_tokens"] == rows * TOKENS
    model = configs.model_config(config)
    gradient = 6 * matrix_parameter_count(model) + 12 * 1 * 32 * TOKENS
    assert gradient == perf.model_flops_per_token(
        matrix_parameter_count(model), 1, 32, TOKENS
    )
    forward = gradient / 3
    rows = (7 * 8 + 3 * 8 * 2 + 3 * 8) * gradient + 2 * EVALUATED * forward
    assert last["cost/flops"] == pytest.approx(rows * TOKENS)
    assert first["cost/flops"] == pytest.approx(EVALUATED * forward * TOKENS)
    assert sum(last[f"cost/{kind}_flops"] for kind in KINDS) == last["cost/flops"]
    assert not costs(log_of(tmp_path)[1])


def test_a_reference_run_counts_with_its_training(byte_store, reference, tmp_path):
    config = config_of("doremi", byte_store, reference)
    assert train_run(config, tmp_path)
    last = costs(log_of(tmp_path)[-1])
    trained, read = 2 * 8 * TOKENS, 3 * 8 * 2 * TOKENS
    assert last["cost/reference_tokens"] == trained + read
    config.model.d_model = 16
    gradient = configs.flops_per_token(config)
    expected = gradient * (trained + read / 3)
    assert last["cost/reference_flops"] == pytest.approx(expected)


def test_the_same_over_a_resume_with_other_evaluations(
    byte_store, tmp_path, monkeypatch
):
    def config(every):
        return tiny(byte_store, eval__every=every)

    with stopped(monkeypatch, 5, by="kill"), pytest.raises(Killed):
        train_run(config(1), tmp_path)
    assert train_run(config(0), tmp_path)
    # 0 to 3 are before the checkpoint; 7 is the end.
    assert costs(log_of(tmp_path)[-1])["cost/eval_tokens"] == 5 * EVALUATED * TOKENS


def test_nobody_counted_before(byte_store, tmp_path):
    """A checkpoint of an older version: as many as the config has."""
    config = small_config(byte_store, train__steps=5, eval__every=2)
    assert train_run(config, tmp_path)
    run = open_run(parts_of(config), tmp_path)
    run.checkpoints.close()
    assert run.extra["evaluated_rows"] == 4 * EVALUATED  # one more after the last step
    older = dataclasses.replace(run, extra={})
    assert Costs(older, EVALUATED).evaluated == 3 * EVALUATED


def test_of_a_run_that_goes_on_from_another_its_own(byte_store, tmp_path):
    assert train_run(tiny(byte_store, train__steps=3), tmp_path / "old")
    config = tiny(byte_store)
    config.start.update({"from": str(tmp_path / "old"), "what": "all"})
    assert train_run(config, tmp_path / "new")
    last = costs(log_of(tmp_path / "new")[-1])
    assert last["cost/train_tokens"] == 4 * 8 * TOKENS
    assert last["cost/target_tokens"] == 2 * 8 * TOKENS
