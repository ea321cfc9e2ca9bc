import numpy as np
import pytest
from runs import small_config

from dga_jax.benchmark import domains
from dga_jax.benchmark.synthetic import write_cluster_store


def test_a_step_that_is_slow_counts_among_many_that_are_not():
    steps = np.arange(1, 41)
    taken = np.where(steps % 10, 0.1, 2.1)  # an update at every tenth
    taken[0], taken[-1] = 30.0, 50.0  # compiled; evaluated
    found = domains._seconds_a_step(steps, np.cumsum(taken))
    assert found == pytest.approx(0.1 + 2 * 2.0 / 28)


def test_a_run_over_clusters(tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    store = write_cluster_store(tmp_path / "store", (2, 16), 8, 300)
    monkeypatch.setattr(domains, "get_config", lambda: small_config(store))
    found = domains._measure(str(store.path), tmp_path / "run", 1, 12, "level0")
    assert len(found) == len(domains._COLUMNS)
    assert all(value > 0 for value in found)


def test_goals_are_those_of_the_size_that_they_were_set_for(monkeypatch):
    monkeypatch.setattr(domains, "write_cluster_store", lambda *arguments: None)
    monkeypatch.setattr(
        domains,
        "_child",
        lambda store, out, level, steps, basis: (10.0 + level, 100.0, 5.0, 1.0),
    )
    (table,) = domains.run(domains.Size())
    assert list(table.rows) == [
        "16 domains",
        "262,144 domains",
        "262,144, by a basis of 16",
    ]
    assert [check.met for check in table.checks] == [False, True, True, True]
    (table,) = domains.run(domains.MOST)
    assert "16,777,216 domains" in table.rows
    assert not table.checks
