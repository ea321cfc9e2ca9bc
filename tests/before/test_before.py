"""What the code of before left on the disk: it still opens and goes on. See make.py."""

import json
import pathlib
import shutil
import tarfile

import pytest
from runs import DECAYING, log_of, parts_of, small_config, train_run

from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.training.setup import open_run

HERE = pathlib.Path(__file__).parent
STOPPED, STEPS = 7, 12


@pytest.fixture
def before(tmp_path):
    """A folder with the store and the run of before."""
    for name in ("store", "run"):
        with tarfile.open(HERE / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
    return tmp_path


def config_of(before):
    """That of the run; its store has moved since."""
    config = small_config(Store.open(before / "store"), **DECAYING)
    config.model.update(num_layers=1, d_model=8, num_heads=2, d_ff=16)
    return config


def undisturbed():
    """The log of the run that was not stopped, without what depends on time."""
    lines = map(json.loads, (HERE / "undisturbed.jsonl").read_text().splitlines())
    return [
        {key: value for key, value in line.items() if not key.startswith("perf/")}
        for line in lines
    ]


def test_the_run_goes_on(before):
    """From where it stood, to its end; what it had logged stays as it was."""
    assert log_of(before / "run") == undisturbed()[: STOPPED + 1]
    assert train_run(config_of(before), before / "run")
    lines = log_of(before / "run")
    assert lines[: STOPPED + 1] == undisturbed()[: STOPPED + 1]
    assert [line["step"] for line in lines] == list(range(STEPS + 1))
    # Rows may be drawn by other rules by now, but it is the same run.
    losses, expected = (
        [line["train/loss"] for line in log[1:]] for log in (lines, undisturbed())
    )
    assert losses == pytest.approx(expected, abs=0.2)
    assert (before / "run" / "checkpoints" / str(STEPS)).is_dir()


def test_another_config_is_refused(before):
    config = config_of(before)
    config.mixer.eta = 1.0
    with pytest.raises(UserError, match=r"config\.mixer\.eta was 5\.0 and is now 1\.0"):
        open_run(parts_of(config), before / "run")


def test_without_its_config(before):
    """Its checkpoints do not say what run they are of; the remedy works."""
    path = before / "run" / "config.json"
    path.write_bytes(b"")
    with pytest.raises(UserError, match="begin a run in another --workdir") as caught:
        open_run(parts_of(config_of(before)), before / "run")
    assert "copy its config.json" in str(caught.value)
    (before / "other").mkdir()
    open_run(parts_of(config_of(before)), before / "other").checkpoints.close()
    shutil.copy(before / "other" / "config.json", path)
    run = open_run(parts_of(config_of(before)), before / "run")
    assert run.step == STOPPED
    run.checkpoints.close()
