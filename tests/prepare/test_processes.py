"""prepare as several processes on a shared file system."""

import json

import pytest
from processes import start
from test_clusters import flags_of
from test_prepare import run
from texts import write_corpus

from dga_jax.data.store import Store

pytestmark = pytest.mark.slow


def ended(started):
    """What each process printed; all ended with the same status."""
    results = [process.communicate() for process in started]
    (status,) = {process.returncode for process in started}
    return status, results


@pytest.mark.parametrize("cluster", [None, "4,3"])
def test_the_store_of_one_process(tmp_path, cluster):
    given = {"generic": write_corpus(tmp_path), "cluster": cluster, "dedup": "true"}
    one = run(*flags_of(tmp_path / "one", **given))
    assert one.returncode == 0, one.stderr
    flags = ["-m", "dga_jax.prepare", *flags_of(tmp_path / "two", **given)]
    status, ((printed, said), (nothing, _)) = ended(start(flags))
    assert status == 0, said
    assert "MB of text" not in nothing
    (line,) = (x for x in one.stdout.splitlines() if "exact duplicates" in x)
    assert line in printed
    stores = [Store.open(tmp_path / name) for name in ("one", "two")]
    assert stores[0].manifest == stores[1].manifest
    assert not (tmp_path / "two.work").exists()


def test_an_error_of_one_ends_all(tmp_path):
    generic = write_corpus(tmp_path)
    (tmp_path / "broken.jsonl").write_text(json.dumps({"text": 7}) + "\n")
    flags = ["-m", "dga_jax.prepare", *flags_of(tmp_path / "store", generic=generic)]
    status, results = ended(start(flags))
    assert status == 2
    said = [errors for _, errors in results]
    assert all("broken.jsonl, line 1: field 'text' is not a string" in x for x in said)
    assert sum("error: process " in x for x in said) == 1
    assert not any("Traceback" in x for x in said)
    assert not (tmp_path / "store").exists()
