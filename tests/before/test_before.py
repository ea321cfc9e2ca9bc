"""What the code of before left on the disk: it opens, goes on, and is made again.

See make.py.
"""

import json
import pathlib
import shutil
import tarfile

import make
import pytest
from runs import DECAYING, log_of, parts_of, small_config, train_run

from dga_jax.data.store import MANIFEST, Store
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


def assert_as_before(lines):
    """Numbers of the log, as far as rounding of another jax or machine lets them be."""
    for line, expected in zip(lines, undisturbed(), strict=True):
        for key, value in expected.items():
            # A domain counts in these by its weight since, not by its rows.
            if key.startswith("eval/generic_"):
                continue
            # Errors are of differences that nearly cancel.
            near = 1e-3 if key.startswith("mixture/alignment_error/") else 1e-4
            assert line[key] == pytest.approx(value, rel=near), (line["step"], key)


def test_the_store_is_made_again(before, tmp_path, monkeypatch):
    """Of the same texts: the same rows, levels and hashes; more files lie beside."""
    (tmp_path / "now").mkdir()
    monkeypatch.chdir(tmp_path / "now")
    make.prepare()
    old, new = (
        json.loads((folder / "store" / MANIFEST).read_text())
        for folder in (before, tmp_path / "now")
    )
    old_files, new_files = old.pop("files"), new.pop("files")
    assert new == old
    assert {name: new_files.get(name) for name in old_files} == old_files


def test_the_run_is_made_again(before, tmp_path):
    """The same rows to the last one, and the same numbers."""
    with make.rows_read() as rows:
        assert train_run(config_of(before), tmp_path / "whole")
    assert rows == json.loads((HERE / make.ROWS).read_text())
    assert_as_before(log_of(tmp_path / "whole"))


def test_the_run_goes_on(before):
    """From where it stood, to its end; what it had logged stays as it was."""
    assert log_of(before / "run") == undisturbed()[: STOPPED + 1]
    assert train_run(config_of(before), before / "run")
    lines = log_of(before / "run")
    assert lines[: STOPPED + 1] == undisturbed()[: STOPPED + 1]
    assert [line["step"] for line in lines] == list(range(STEPS + 1))
    assert_as_before(lines)
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
