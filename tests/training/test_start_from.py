"""A run that goes on from another's checkpoint, under a config of its own."""

import json
import shutil

import pytest
from processes import finish, start
from runs import Killed, fingerprint, stopped, train_run
from starts import VARIANTS, begun, by_step, starting, untouched

from dga_jax.errors import UserError
from dga_jax.training import loop


def trained(line):
    """What a line says of training, without evaluations."""
    return {k: v for k, v in line.items() if not k.startswith(("eval/", "data/"))}


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_under_the_same_config_is_the_run_going_on(
    variant, old, byte_store, tmp_path
):
    """To the last bit, across updates of the weights; the old run is only read."""
    with untouched(old(variant)):
        config = starting(byte_store, f"{old(variant)}@5", **VARIANTS[variant])
        assert train_run(config, tmp_path)
    lines, expected = by_step(tmp_path), by_step(old(variant))
    assert list(lines) == list(range(5, 13))
    assert all(lines[step] == expected[step] for step in range(6, 13))
    assert "eval/target/loss" in lines[5]
    assert lines[5]["mixture/weight/austen"] == expected[3]["mixture/weight/austen"]
    assert fingerprint(tmp_path, 12) == fingerprint(old(variant), 12)
    recorded = json.loads((tmp_path / "config.json").read_text())["config"]["start"]
    assert recorded == {"from": f"{old(variant)}@5", "what": "all"}


@pytest.mark.parametrize("kill", [5, 6])
def test_killed_and_resumed(kill, old, byte_store, tmp_path, monkeypatch):
    """Before the first checkpoint of its own and after it; then the old may be gone."""
    origin = tmp_path / "old"
    shutil.copytree(old(), origin)
    config = starting(byte_store, f"{origin}@5")

    def save(self):
        raise Killed

    with monkeypatch.context() as patch, stopped(patch, kill, by="kill"):
        if kill == 5:
            patch.setattr(loop.Trainer, "_save", save)
        with pytest.raises(Killed):
            train_run(config, tmp_path / "new")
    if kill == 5:  # the newest is another by now: recorded was which it was
        shutil.copytree(origin / "checkpoints/12", origin / "checkpoints/13")
    else:
        shutil.rmtree(origin)
    assert train_run(starting(byte_store, origin), tmp_path / "new")
    lines, expected = by_step(tmp_path / "new"), by_step(old())
    assert list(lines) == list(range(5, 13))
    assert all(lines[step] == expected[step] for step in range(6, 13))
    assert fingerprint(tmp_path / "new", 12) == fingerprint(old(), 12)


def test_resumed_in_other_words(old, byte_store, tmp_path, monkeypatch):
    with stopped(monkeypatch, 11, by="sigterm"):
        assert not train_run(starting(byte_store, f"{old()}@10"), tmp_path)
    kept = json.loads((tmp_path / "config.json").read_text())["config"]["start"]
    for words in ("", old(), f"{old()}@10"):
        what = {"what": "params"} if words == "" else {}
        assert begun(starting(byte_store, words, **what), tmp_path).step == 11
        now = json.loads((tmp_path / "config.json").read_text())["config"]["start"]
        assert now == kept
    for words in (f"{old()}@5", tmp_path / "elsewhere"):
        with pytest.raises(UserError, match=r"start\.from was '.*@10' and is now"):
            begun(starting(byte_store, words), tmp_path)
    with pytest.raises(UserError, match=r"start\.what was 'all' and is now 'params'"):
        begun(starting(byte_store, old(), "params"), tmp_path)


def test_parameters_alone(old, byte_store, tmp_path):
    """What the old run ended with, in a run that begins."""
    config = starting(byte_store, old(), "params", seed=3, mixer__weights="natural")
    with untouched(old()):
        run = begun(config, tmp_path / "looked at")
        assert f"parameters of {old()}@12" in run.taken
        assert run.step == 0
        assert not run.snapshot.cursors.any()
        assert run.snapshot.train.opt_state["adam"].count == 0
        assert train_run(config, tmp_path / "new")
    lines, before = by_step(tmp_path / "new"), by_step(old())
    assert list(lines) == list(range(13))
    for key in ("eval/target/loss", "eval/generic_uniform/loss"):
        assert lines[0][key] == before[12][key]
    sizes = byte_store.domains().tokens
    assert lines[0]["mixture/weight/austen"] == pytest.approx(
        sizes[byte_store.domains().names.index("austen")] / sizes.sum()
    )


@pytest.mark.slow
def test_in_two_processes(old, tmp_path):
    """What one process saved, on two of four devices each; then they go on."""
    flags = [f"--config=configs/of_run.py:{old()}", f"--workdir={tmp_path}"]
    flags += ["--config.mesh.data=-1", "--config.mesh.fsdp=2"]
    flags += [f"--config.start.from={old()}@5", "--config.start.what=all"]
    with untouched(old()):
        assert "begins with all of" in finish(start(["-m", "dga_jax.main", *flags]))
    assert_close(tmp_path, old())


def assert_close(directory, reference):
    expected = by_step(reference)
    lines = by_step(directory)
    assert list(lines) == list(range(5, 13))
    for step in range(6, 13):
        for key, value in trained(expected[step]).items():
            assert lines[step][key] == pytest.approx(value, rel=1e-3, abs=1e-4), key


@pytest.mark.slow
def test_on_another_mesh(old, byte_store, tmp_path):
    config = starting(byte_store, f"{old()}@5", mesh__fsdp=2)
    assert train_run(config, tmp_path, (2, 2, 1))
    assert_close(tmp_path, old())
