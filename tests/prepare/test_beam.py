"""The same store from Apache Beam, whatever the number of workers."""

import filecmp
import json
import os

import pytest
from test_clusters import flags_of
from test_prepare import fails, run
from texts import write_corpus

pytestmark = pytest.mark.slow


def beam(workers, mode="multi_processing"):
    mode = mode if workers > 1 else "in_memory"
    options = f"--direct_num_workers={workers} --direct_running_mode={mode}"
    return {"engine": "beam", "beam_options": f"--runner=DirectRunner {options}"}


@pytest.fixture(scope="module")
def generic(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("generic"))


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    """Of the tests' eight, of which each worker would make its own."""
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    monkeypatch.setenv("XLA_FLAGS", flags)


def same(one, other):
    """Whether two stores have the same bytes."""
    names = sorted(os.listdir(one))
    assert names == sorted(os.listdir(other))
    return filecmp.cmpfiles(one, other, names, shallow=False)[1:] == ([], [])


def test_the_bytes_of_the_local_job(generic, tmp_path):
    """By two workers; below by one, and by three."""
    given = {"generic": generic, "cluster": None, "contamination": "drop"}
    assert run(*flags_of(tmp_path / "local", **given)).returncode == 0
    result = run(*flags_of(tmp_path / "beam", **given, **beam(2)))
    assert result.returncode == 0, result.stderr
    assert same(tmp_path / "local", tmp_path / "beam")


def test_the_bytes_of_clusters(generic, tmp_path):
    given = {"generic": generic, "cluster": "4,3", "dedup": "true"}
    assert run(*flags_of(tmp_path / "local", **given)).returncode == 0
    # Threads: as processes, each would import JAX again for every step.
    flags = flags_of(tmp_path / "beam", **given, **beam(3, "multi_threading"))
    result = run(*flags)
    assert result.returncode == 0, result.stderr
    assert same(tmp_path / "local", tmp_path / "beam")


def test_paths_as_urls(generic, tmp_path):
    given = {"generic": generic, "dedup": "true", "cluster": None}
    local = run(*flags_of(tmp_path / "local", **given))
    assert local.returncode == 0, local.stderr
    work = f"file://{tmp_path}/work"
    flags = flags_of(f"file://{tmp_path}/other", **given, work=work, **beam(1))
    result = run(*flags)
    assert result.returncode == 0, result.stderr
    assert same(tmp_path / "local", tmp_path / "other")
    assert "other exists; remove it" in fails(*flags)
    flags = flags_of("memory://bucket/store", **given)
    assert "is no directory of this machine" in fails(*flags)


def test_errors_are_one_line(tmp_path):
    texts = [{"text": "All happy families are alike."}] * 40
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text("".join(json.dumps(text) + "\n" for text in texts))
    bad.write_text(good.read_text() + "{'text'}\n")
    for workers in (1, 2):
        flags = flags_of(
            tmp_path / "store",
            generic=f"{tmp_path}/*.jsonl",
            cluster=None,
            **beam(workers),
        )
        assert f"{bad}, line 41: broken JSON" in fails(*flags)
    good.write_text("")
    flags = [flag for flag in flags if "beam_options" not in flag]
    assert "Unexpected pipeline runner: NoSuchRunner" in fails(
        *flags, "--beam_options=--runner=NoSuchRunner"
    )
    assert "needs --engine=beam" in fails(
        *flags_of(tmp_path / "x", beam_options="--runner=DirectRunner")
    )
    assert not (tmp_path / "store").exists()
