"""A run that begins with a Hugging Face directory: `model.from`."""

import json
import shutil

import pytest
from runs import log_of, mesh_of, small_config, stopped

from dga_jax import export
from dga_jax.training import loop, placement, workdir
from dga_jax.training.setup import check, open_run


@pytest.fixture(scope="module")
def old(byte_store, tmp_path_factory):
    """A run of 12 steps, its last line, and its export."""
    folder = tmp_path_factory.mktemp("old")
    train(small_config(byte_store), folder / "run")
    export.export(folder / "run", folder / "out")
    return log_of(folder / "run")[-1], folder / "out"


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    monkeypatch.setattr(placement, "make_mesh", lambda config: mesh_of(*_MESH))


_MESH = [1, 1, 1]


def train(config, directory, explicit=()):
    """Trains as `main` does."""
    parts = check(config, explicit, directory)
    with workdir.locked(directory):
        run = open_run(parts, directory)
        return run, loop.train(run)


def beginning(store, origin, **fields):
    """The model is that of the directory, whatever the config says."""
    config = small_config(store, model__d_model=16, model__num_layers=5, **fields)
    config.model["from"] = str(origin)
    return config


def test_its_first_evaluation_is_the_old_runs_last(old, byte_store, tmp_path, capsys):
    last, out = old
    run, done = train(beginning(byte_store, out, mixer__eta=1.0), tmp_path / "new")
    assert done
    assert run.taken == f"the parameters of {out}"
    first = log_of(tmp_path / "new")[0]
    losses = {key: value for key, value in last.items() if key.startswith("eval/")}
    assert len(losses) > 10
    assert losses == pytest.approx({k: first[k] for k in losses}, rel=1e-6)
    record = json.loads((tmp_path / "new" / "config.json").read_text())["config"]
    assert record["model"]["from"] == str(out)
    assert (record["model"]["d_model"], record["model"]["num_layers"]) == (32, 2)


@pytest.mark.parametrize("given_again", [True, False])
def test_it_goes_on_without_the_directory(
    given_again, old, byte_store, tmp_path, monkeypatch
):
    """Bit for bit; a checkpoint is all that it needs."""
    copy = tmp_path / "model"
    shutil.copytree(old[1], copy)
    train(beginning(byte_store, copy), tmp_path / "whole")
    with stopped(monkeypatch, 7, by="sigterm"):
        train(beginning(byte_store, copy), tmp_path / "cut")
    shutil.rmtree(copy)
    config = beginning(byte_store, copy if given_again else "")
    run, done = train(config, tmp_path / "cut")
    assert done
    assert run.resumed
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")


def test_an_export_of_the_import_is_the_same(old, byte_store, tmp_path):
    """But for the card; nothing was trained in between."""
    config = beginning(byte_store, old[1], optimizer__learning_rate=1e-30)
    config.optimizer.update(warmup_steps=0, weight_decay=0.0)
    train(config, tmp_path / "new")
    export.export(tmp_path / "new", tmp_path / "out")
    for path in sorted(old[1].iterdir()):
        if path.name != "README.md":
            assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_on_a_mesh(old, byte_store, tmp_path, monkeypatch):
    """Each device reads its part."""
    monkeypatch.setattr(placement, "make_mesh", lambda config: mesh_of(2, 2, 2))
    config = beginning(byte_store, old[1])
    with workdir.locked(tmp_path / "new"):
        run = open_run(check(config, (), tmp_path / "new"), tmp_path / "new")
        run.checkpoints.close()
    kernel = run.snapshot.train.params["blocks"]["attention"]["query"]["kernel"]
    assert len(kernel.sharding.device_set) == 8
    assert not kernel.sharding.is_fully_replicated
    loop.train(run)
    assert log_of(tmp_path / "new")[0]["eval/target/loss"] == pytest.approx(
        old[0]["eval/target/loss"], rel=1e-5
    )
