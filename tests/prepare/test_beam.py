"""The same store from Apache Beam, whatever the number of workers."""

import filecmp
import json
import os

import pytest
from test_clusters import flags_of
from test_prepare import fails, run
from texts import write_corpus

from dga_jax.data.store import Store

pytestmark = pytest.mark.slow
pytest.importorskip("apache_beam")


def beam(workers):
    mode = "multi_processing" if workers > 1 else "in_memory"
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


@pytest.mark.parametrize("cluster", [None, "4,3"])
def test_the_bytes_of_the_local_job(generic, tmp_path, cluster):
    given = {"generic": generic, "cluster": cluster, "contamination": "drop"}
    if cluster:
        given["dedup"] = "true"
    local = run(*flags_of(tmp_path / "local", **given))
    assert local.returncode == 0, local.stderr
    for workers in (1, 2, 4):
        output = tmp_path / f"beam{workers}"
        result = run(*flags_of(output, **given, **beam(workers)))
        assert result.returncode == 0, result.stderr
        assert same(tmp_path / "local", output)
    Store.open(output)


def test_to_a_url(generic, tmp_path):
    """The work and the store are behind URLs, as on a cluster without a shared disk."""
    given = {"generic": generic, "cluster": "4", "dedup": "true"}
    local = run(*flags_of(tmp_path / "local", **given))
    assert local.returncode == 0, local.stderr
    flags = flags_of(
        f"file://{tmp_path}/remote", **given, work=f"file://{tmp_path}/work", **beam(2)
    )
    result = run(*flags)
    assert result.returncode == 0, result.stderr
    assert same(tmp_path / "local", tmp_path / "remote")
    assert "remote exists; remove it" in fails(*flags)


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
