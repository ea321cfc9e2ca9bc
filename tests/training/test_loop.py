"""The loop: what it does when, and what it writes down."""

import contextlib
import os
import shutil
import signal

import numpy as np
import pytest
from runs import log_of, parts_of, small_config, train_run

from dga_jax import cli
from dga_jax.data.store import Domains, Store
from dga_jax.errors import Stopped, UserError
from dga_jax.training import loop, workdir
from dga_jax.training.setup import open_run


@pytest.fixture(scope="module")
def plain(byte_store, tmp_path_factory):
    """Workdir of a run of 12 steps with all that happens in one."""
    folder = tmp_path_factory.mktemp("plain")
    assert train_run(small_config(byte_store), folder)
    return folder


def steps_with(lines, key):
    return [line["step"] for line in lines if key in line]


def test_everything_comes_when_it_is_due(plain):
    lines = log_of(plain)
    assert [line["step"] for line in lines] == list(range(13))
    assert steps_with(lines, "train/loss") == list(range(1, 13))
    assert steps_with(lines, "eval/target/loss") == [0, 4, 8, 12]
    assert steps_with(lines, "mixture/alignment/austen") == [3, 6, 9, 12]
    assert steps_with(lines, "mixture/weight/austen") == [0, 3, 6, 9, 12]
    assert sorted(os.listdir(plain / "checkpoints")) == ["10", "12", "5"]
    assert (plain / "tensorboard").is_dir()


def test_what_a_line_holds(plain, byte_store):
    first, last = log_of(plain)[0], log_of(plain)[-1]
    names = byte_store.domains().names
    for name in names:
        assert first[f"mixture/weight/{name}"] == pytest.approx(1 / 8)
        assert first[f"data/epochs/{name}"] == 0
        for key in (
            f"eval/domain/{name}/loss",
            f"eval/domain/{name}/bits_per_byte",
            f"mixture/alignment/{name}",
            f"mixture/alignment_error/{name}",
        ):
            assert np.isfinite(last[key])
    weights = np.array([last[f"mixture/weight/{name}"] for name in names])
    entropy = -np.sum(weights * np.log(weights))
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert last["mixture/entropy"] == pytest.approx(entropy)
    assert last["mixture/effective_domains"] == pytest.approx(np.exp(entropy))
    assert first["mixture/effective_domains"] == pytest.approx(8)
    epochs = np.array([last[f"data/epochs/{name}"] for name in names])
    assert epochs @ byte_store.domains().num_rows == pytest.approx(12 * 8)
    for key in ("generic_uniform", "generic_natural", "target"):
        assert last[f"eval/{key}/loss"] < first[f"eval/{key}/loss"]
    assert last["mixture/skipped_updates"] == 0


def test_weights_follow_the_alignments(plain, byte_store):
    """Each update by hand, from the alignments in the log: η = 5, β = 0.3."""
    names = byte_store.domains().names
    weights = np.full(8, 1 / 8)
    for line in log_of(plain):
        if "mixture/alignment/austen" in line:
            signal_ = np.array([line[f"mixture/alignment/{n}"] for n in names])
            config = small_config(byte_store).mixer
            hat = weights * np.exp(config.eta * (signal_ - signal_.max()))
            weights = (1 - config.beta) * weights + config.beta * hat / hat.sum()
            found = np.array([line[f"mixture/weight/{n}"] for n in names])
            np.testing.assert_allclose(found, weights, rtol=1e-4)


def test_rows_follow_the_weights_of_the_moment(byte_store, tmp_path):
    """Rows after an update are drawn from the new weights, not read ahead."""
    fields = {"mixer__eta": 1e4, "mixer__beta": 1.0, "mixer__start": 6}
    fields |= {"train__steps": 9, "eval__every": 6}
    assert train_run(small_config(byte_store, **fields), tmp_path)
    lines = {line["step"]: line for line in log_of(tmp_path)}
    assert steps_with(lines.values(), "mixture/alignment/austen") == [6, 9]
    names = byte_store.domains().names
    chosen = max(names, key=lambda name: lines[6][f"mixture/weight/{name}"])
    assert lines[6][f"mixture/weight/{chosen}"] > 0.999
    for name in names:
        drawn = lines[9][f"data/epochs/{name}"] - lines[6][f"data/epochs/{name}"]
        assert (drawn > 0) == (name == chosen)


def test_it_learns_real_text(plain):
    losses = [line["train/loss"] for line in log_of(plain)[1:]]
    assert losses[0] == pytest.approx(np.log(257), rel=0.02)
    assert losses[-1] < losses[0] - 0.3


def test_a_log_and_evals_now_and_then(byte_store, tmp_path):
    fields = {"log__every": 5, "eval__every": 0, "checkpoint__every": 0}
    config = small_config(byte_store, mixer__name="static", **fields)
    assert train_run(config, tmp_path)
    lines = log_of(tmp_path)
    assert [line["step"] for line in lines] == [0, 5, 10, 12]
    assert steps_with(lines, "eval/target/loss") == [0, 12]
    assert steps_with(lines, "mixture/weight/austen") == [0]
    assert os.listdir(tmp_path / "checkpoints") == ["12"]


def test_a_single_step(byte_store, tmp_path):
    assert train_run(small_config(byte_store, train__steps=1), tmp_path)
    assert [line["step"] for line in log_of(tmp_path)] == [0, 1]


@pytest.mark.parametrize("last", [7, 12])
def test_sigterm(last, byte_store, tmp_path, monkeypatch):
    """A real one, while a step runs: saved there, and every line is on disk.

    After the last one nothing is left to do: the run is complete.
    """
    before = signal.getsignal(signal.SIGTERM)
    finish = loop.Trainer._train_step

    def step(self, batch):
        finish(self, batch)
        if batch.step == last:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop.Trainer, "_train_step", step)
    assert train_run(small_config(byte_store), tmp_path) == (last == 12)
    assert [line["step"] for line in log_of(tmp_path)] == list(range(last + 1))
    assert str(last) in os.listdir(tmp_path / "checkpoints")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_loss_that_is_not_finite_stops(checkpoint, byte_store, tmp_path, capfd):
    """The message names the step and the last good checkpoint."""
    config = small_config(
        byte_store,
        optimizer__learning_rate=1e30,
        optimizer__clip_norm=0.0,
        optimizer__schedule="constant",
        optimizer__warmup_steps=4,
        checkpoint__every=1 if checkpoint else 0,
        mixer__name="static",
        eval__every=0,
    )
    with pytest.raises(UserError) as caught:
        train_run(config, tmp_path)
    words = str(caught.value)
    assert "\n" not in words
    assert "learning_rate" in words
    failed = int(words.split("step ")[1].split(":")[0])
    assert 2 <= failed <= 4
    lines = log_of(tmp_path)
    assert [line["step"] for line in lines] == list(range(failed))
    assert all(np.isfinite(line["train/loss"]) for line in lines[1:])
    if checkpoint:
        assert f"last good checkpoint: {failed - 1}" in words
        assert max(map(int, os.listdir(tmp_path / "checkpoints"))) == failed - 1
    else:
        assert "no checkpoint yet" in words


def test_one_run_at_a_time(plain, byte_store):
    with (
        workdir.locked(plain),
        pytest.raises(UserError, match="another process is running there"),
    ):
        train_run(small_config(byte_store), plain)


def test_a_workdir_of_another_run(plain, sample_store):
    kept = {p: p.stat().st_mtime_ns for p in plain.rglob("*")}
    config = small_config(sample_store)
    with pytest.raises(UserError, match=r"store\.content_hash was .* and is now"):
        train_run(config, plain)
    changed = [p.name for p, t in kept.items() if p.stat().st_mtime_ns != t]
    assert set(changed) <= {".lock"}


def test_another_number_of_domains(plain, byte_store, monkeypatch):
    whole = byte_store.domains()
    half = Domains(
        whole.names[:4],
        whole.offsets[:5],
        whole.heldout_offsets[:5],
        whole.tokens[:4],
    )
    monkeypatch.setattr(Store, "domains", lambda self, level=0: half)
    with pytest.raises(UserError, match=r"store\.domains was 8 and is now 4"):
        train_run(small_config(byte_store), plain)


def test_not_enough_disk(byte_store, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match="free some space, choose another disk"):
        train_run(small_config(byte_store), tmp_path)
    assert os.listdir(tmp_path) == [".lock"]


def test_a_finished_run_is_finished(plain, byte_store):
    with workdir.locked(plain):
        run = open_run(parts_of(small_config(byte_store)), plain)
        assert run.step == 12
        assert len(log_of(plain)) == 13
        run.checkpoints.close()


def test_a_stop_that_was_lost_on_the_way():
    """Whoever caught what SIGTERM raised: the loop ends after its first step."""
    cli.stop_on_sigterm()
    with contextlib.suppress(Stopped):
        signal.raise_signal(signal.SIGTERM)
    stop = loop.Stop()
    assert stop.requested(1)
    stop.close()
    cli.stop_on_sigterm()
    stop = loop.Stop()
    assert not stop.requested(1)
    stop.close()
