"""What the soak test calls the same, and a short one."""

import os
import threading
import types

import forks
import pytest
from processes import ROOT

from dga_jax.benchmark import soak
from dga_jax.errors import UserError


def lines(**changed):
    values = {"data/epochs/a": 0.25, "train/loss": 5.0, "perf/mfu": 0.1, "x": None}
    return [{"step": 0, **values}, {"step": 1, **values, **changed}]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"perf/mfu": 0.2}, None),
        ({"train/loss": 5.01}, None),
        ({"train/loss": 5.1}, "step 1: train/loss is 5.1, not 5.0"),
        ({"data/epochs/a": 0.2501}, "step 1: data/epochs/a is 0.2501, not 0.25"),
        ({"x": 1.0}, "step 1: x is 1.0, not None"),
        ({"step": 2}, "the log has other steps"),
    ],
    ids=str,
)
def test_difference(changed, said):
    assert soak.difference(lines(), lines(**changed), 5e-3, 5e-4) == said
    exact = soak.difference(lines(), lines(**changed), 0.0, 0.0)
    assert (exact is None) == (not changed or "perf/mfu" in changed)


def test_a_directory_that_exists(tmp_path):
    with pytest.raises(UserError, match="it exists; name one that does not"):
        next(soak.soak(tmp_path, 1))


def forked(command, stdout, stderr, env):
    """As `subprocess.Popen`, of a program whose imports are there already."""
    process = forks.Process(command[1:], ROOT, env)
    for pipe, file in ((process.stdout, stdout), (process.stderr, stderr)):
        copy = open(os.dup(file.fileno()), "w")  # noqa: SIM115
        threading.Thread(target=_pass_on, args=(pipe, copy)).start()
    return process


def _pass_on(pipe, file):
    with pipe, file:
        for line in pipe:
            file.write(line)
            file.flush()


@pytest.mark.slow
@pytest.mark.parametrize(("same_mesh", "kills"), [(True, 1), (False, 2)])
def test_a_short_one(same_mesh, kills, byte_store, tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "subprocess", types.SimpleNamespace(Popen=forked))
    monkeypatch.setattr(soak, "SAME", soak.Shape(1, 1))
    monkeypatch.setattr(soak, "SHAPES", (soak.Shape(1, 1), soak.Shape(2, 1)))
    config = f"{soak.CONFIG},train.steps=12,model.num_layers=1,eval.every=6,eval.rows=2"
    config += f",eval.target_rows=4,data.store={byte_store.path}"
    options = {"seed": 1, "config": config, "within": 600.0}  # others use the machine
    said = list(soak.soak(tmp_path / "soak", kills, same_mesh=same_mesh, **options))
    assert sum(line.startswith("kill ") for line in said) == kills
    assert said[-1].endswith("the numbers are those of the undisturbed run")
