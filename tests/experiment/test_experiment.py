"""A tiny experiment from end to end."""

import json
import os
import pathlib
import shutil

import forks
import pytest
from experiments import AXES, tiny
from runs import Killed, stopped

from dga_jax.errors import ExitStatus, UserError
from dga_jax.experiment import page, plan, results, runner
from dga_jax.experiment.spec import Figure
from dga_jax.training import loop

ROOT = pathlib.Path(__file__).parents[2]


def run_all(config, directory, **chosen):
    every = plan.plan(config, [])
    runs = plan.share(plan.only(every, chosen.get("only", [])), chosen.get("tasks", ""))
    page.write_description(directory, config.experiment, "python -m it")
    return runner.train_all(runs, every, directory, [])


def lines_of(directory):
    """Results without what depends on time and machine."""
    lines = results.read_lines(directory)
    return [{k: v for k, v in line.items() if k != "made"} for line in lines]


@pytest.fixture(scope="module")
def done(byte_store, tmp_path_factory):
    directory = tmp_path_factory.mktemp("experiment")
    assert run_all(tiny(byte_store), directory) == ([], ExitStatus.COMPLETE)
    return directory


def test_a_line_a_run_with_what_came_of_it(done, byte_store):
    lines = results.read_lines(done)
    assert [line["name"] for line in lines][:2] == ["low-uniform-0", "low-uniform-1"]
    assert len(lines) == 8
    dga = lines[2]
    assert dga["axes"] == {"rate": "low", "mixer": "dga", "seed": "0"}
    assert dga["steps"] == 4
    assert dga["config"]["optimizer.learning_rate"] == 1e-3
    assert dga["curves"]["target"][0] == [0, 2, 4]
    assert dga["final"]["target"] == dga["curves"]["target"][1][-1]
    assert sum(dga["weights"]["last"].values()) == pytest.approx(1, abs=1e-4)
    assert dga["movement"] > 0 == lines[0]["movement"]
    assert dga["cost"]["flops"] > lines[0]["cost"]["flops"]
    assert dga["made"]["hardware"]
    # Of uniform weights over all domains the held-out loss is the uniform one.
    assert lines[0]["heldout_loss"] == pytest.approx(
        lines[0]["final"]["generic_uniform"], rel=1e-5
    )


def test_a_rise_of_the_train_loss_is_measured():
    def log(losses):
        return [{"step": i, "train/loss": loss} for i, loss in enumerate(losses)]

    falling = [8.0 - 0.1 * i for i in range(50)]
    assert results.rise(log(falling)) == pytest.approx(-0.5)
    # At the first steps the loss does what it likes; a spike counts by what it lasts.
    assert results.rise(log([1.0, *falling])) == pytest.approx(-0.5)
    flat = [3.0] * 50
    flat[30:40] = [4.0] * 10
    assert results.rise(log(flat)) == pytest.approx(1.0)
    flat[31:40] = [3.0] * 9
    assert results.rise(log(flat)) == pytest.approx(0.2)
    assert results.rise(log(falling[:9])) is None


def test_pairs_begin_with_the_same_model(done):
    lines = results.read_lines(done)
    first = {line["name"]: line["curves"]["target"][1][0] for line in lines}
    assert first["low-uniform-0"] == first["high-dga-0"] != first["low-dga-1"]


def test_it_is_drawn(done):
    text = page.draw(done)
    assert "dga" in text
    assert {page.FIGURE, page.PAGE} <= {path.name for path in done.iterdir()}


def test_what_is_trained_is_not_trained_again(done, byte_store, monkeypatch):
    before = (done / results.RESULTS).read_bytes()
    monkeypatch.setattr(runner, "open_run", None)
    assert run_all(tiny(byte_store), done) == ([], ExitStatus.COMPLETE)
    assert (done / results.RESULTS).read_bytes() == before


@pytest.mark.parametrize("by", ["kill", "sigterm"])
def test_stopped_it_goes_on_to_the_same_results(
    by, done, byte_store, tmp_path, monkeypatch
):
    config = tiny(byte_store)
    with stopped(monkeypatch, 3, by=by):
        if by == "kill":
            with pytest.raises(Killed):
                run_all(config, tmp_path)
        else:
            assert run_all(config, tmp_path).status == ExitStatus.STOPPED
    assert lines_of(tmp_path) == []
    assert run_all(config, tmp_path) == ([], ExitStatus.COMPLETE)
    assert lines_of(tmp_path) == lines_of(done)


def test_killed_before_its_result_is_written_it_is_not_trained_again(
    done, byte_store, tmp_path, monkeypatch
):
    shutil.copytree(done, tmp_path / "copy")
    (tmp_path / "copy/runs/low-dga-0/result.json").unlink()
    monkeypatch.setattr(loop.Trainer, "train", None)
    assert run_all(tiny(byte_store), tmp_path / "copy") == ([], ExitStatus.COMPLETE)
    assert lines_of(tmp_path / "copy") == lines_of(done)


def test_tasks_share_the_runs_out(done, byte_store, tmp_path):
    for task in ("1/2", "2/2"):
        run_all(tiny(byte_store), tmp_path, tasks=task, only=["rate=low"])
    assert lines_of(tmp_path) == lines_of(done)[:4]


def test_runs_of_another_experiment_are_taken_over(
    done, byte_store, tmp_path, monkeypatch
):
    axes = {"mixer": AXES["mixer"], "speed": {"fast": AXES["rate"]["high"]}}
    config = tiny(byte_store, axes=axes, over=(), figure=Figure("forest"))
    every = plan.plan(config, [])
    # As docs/evidence has it: results without the runs that they are of.
    published = tmp_path / "published"
    published.mkdir()
    shutil.copy(done / results.RESULTS, published)
    runner.take_over(every, tmp_path, [published])
    monkeypatch.setattr(runner, "open_run", None)
    assert run_all(config, tmp_path) == ([], ExitStatus.COMPLETE)
    found, before = results.read_lines(tmp_path), results.read_lines(done)
    assert [line["name"] for line in found] == ["uniform-fast", "dga-fast"]
    assert found[1]["final"] == before[6]["final"]
    with pytest.raises(UserError, match="no finished run is there"):
        runner.take_over(every, tmp_path, [tmp_path / "nowhere"])


def test_one_that_fails_does_not_stop_the_others(byte_store, tmp_path, capsys):
    axes = AXES | {
        "mixer": AXES["mixer"]
        | {"wrong": {"mixer.name": "static", "mixer.weights": "nobody=1"}}
    }
    config = tiny(byte_store, axes=axes)
    chosen = ["rate=low", "seed=0"]
    failed, status = run_all(config, tmp_path, only=chosen)
    assert (failed, status) == (["low-wrong-0"], ExitStatus.USER_ERROR)
    lines = results.read_lines(tmp_path)
    assert [line["name"] for line in lines if "failed" in line] == failed
    assert "no domain 'nobody'" in lines[-1]["failed"]
    assert "low-wrong-0 failed" in page.draw(tmp_path)
    assert len(lines) == 3


def test_a_result_of_another_config_is_not_taken(done, byte_store):
    config = tiny(byte_store)
    config.train.steps = 5
    with pytest.raises(UserError, match=r"another config\.train\.steps"):
        run_all(config, done)


def test_a_run_that_another_process_has_is_left_to_it(done, byte_store, tmp_path):
    from dga_jax.training import workdir

    with workdir.locked(tmp_path / "runs" / "low-uniform-0"):
        found = run_all(tiny(byte_store), tmp_path, only=["rate=low", "mixer=uniform"])
    assert found == ([], ExitStatus.COMPLETE)
    assert [line["name"] for line in lines_of(tmp_path)] == ["low-uniform-1"]


def test_results_are_json_of_numbers(done):
    for text in (done / results.RESULTS).read_text().splitlines():
        json.loads(text, parse_constant=pytest.fail)


@pytest.mark.slow
def test_the_command(byte_store, tmp_path, monkeypatch):
    """From configs/experiments: it lists, trains what is asked for, and draws."""
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    monkeypatch.setenv("XLA_FLAGS", flags)
    experiment = "configs/experiments/quickstart.py:debug,model.num_layers=1"
    experiment += f",train.steps=4,data.store={byte_store.path}"
    only = "--only=mixer=uniform,seed=0"
    workdir = f"--workdir={tmp_path}/it"

    def run(*arguments):
        return forks.run(["-m", "dga_jax.experiment", *arguments], ROOT)

    listed = run(f"--config={experiment}", only, workdir, "--list")
    assert listed.stdout.split() == ["0-uniform"], listed.stderr
    missing = run(workdir)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "--config is missing" in missing.stderr
    given = run(f"--config={experiment},seed=3", workdir)
    assert "config.seed was given, but an axis" in given.stderr
    trained = run(f"--config={experiment}", only, workdir, "--config.log.console=50")
    assert trained.returncode == 0, trained.stderr
    assert "of them around the training" in trained.stdout
    drawn = run(workdir, "--draw")
    assert drawn.stdout in trained.stdout
    assert experiment in (tmp_path / "it" / page.PAGE).read_text()
