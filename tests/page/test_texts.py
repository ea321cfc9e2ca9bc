"""What the text of domains looks like, where the store is there; and if not, that."""

import io
import json

import numpy as np
import pytest
from pages import Page

from dga_jax.data.domains import ClusterNames
from dga_jax.logs.metrics import MetricsWriter
from dga_jax.page import told
from dga_jax.report import write_report
from dga_jax.training.config import default_config


def log_weights(workdir, names, updates=2):
    writer = MetricsWriter(workdir, first_step=0)
    for step in range(updates):
        weights = np.exp(-0.1 * step * np.arange(len(names)))
        weights = (weights / weights.sum()).astype(np.float32)
        line = writer.write_series(step, "mixture/weight", weights, names)
        line |= writer.write_series(
            step, "data/epochs", weights, names, rank_by=weights
        )
        writer.write(step, line)
    writer.close()
    return workdir


def trained_on(workdir, store, level=0, name=None, content=None):
    """The page of a run whose config names a store."""
    config = default_config().to_dict()
    config.pop("explicit")
    config["data"] |= {"store": name or str(store.path), "level": level}
    data = {"content_hash": content or store.content_hash}
    (workdir / "config.json").write_text(json.dumps({"config": config, "data": data}))
    write_report(workdir, out=io.StringIO())
    return Page(workdir / "report.html")


def test_terms_and_beginnings_of_documents(byte_store, tmp_path):
    names = list(byte_store.domains().names)
    page = trained_on(log_weights(tmp_path, names), byte_store)
    text = page.text.partition("What their text looks like")[2]
    places = [text.index(f"{name} ") for name in ("the target", *names)]
    assert places == sorted(places)
    beginning = byte_store.read("train", np.arange(4))
    tokens = np.append(beginning[0, 0], beginning[:, 1:].ravel())
    words = byte_store.tokenizer().decode(tokens).split()
    assert " ".join(words[:8]) in text
    assert ["data.store", str(byte_store.path), '""'] in [r[:3] for r in page.rows]
    rows = byte_store.num_rows("target")
    assert f"{rows:,} rows that steer" in page.text


def test_of_clusters_those_that_lead(cluster_store, tmp_path):
    domains = cluster_store.domains(1)
    assert len(domains) == 30
    page = trained_on(log_weights(tmp_path, list(domains.names)), cluster_store, 1)
    text = page.text.partition("What their text looks like")[2].partition("Speed")[0]
    there = {name for name in domains.names if f"{name} " in text}
    alive = {domains.names[i] for i in np.flatnonzero(domains.num_rows)}
    assert there == alive


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "/nowhere"}, "Not shown: no store at /nowhere"),
        ({"name": "gs://bucket/store"}, "gs://bucket/store is not on this machine"),
        ({"content": "other"}, "is another one than that of the run"),
    ],
)
def test_a_store_that_is_not_there(changes, said, byte_store, tmp_path, monkeypatch):
    monkeypatch.setenv("DGA_JAX_CACHE", str(tmp_path / "cache"))
    names = list(byte_store.domains().names)
    page = trained_on(log_weights(tmp_path, names), byte_store, **changes)
    assert said in page.text


def test_a_copy_is_found_by_its_content(byte_store, tmp_path, monkeypatch):
    monkeypatch.setenv("DGA_JAX_CACHE", str(byte_store.path.parent))
    names = list(byte_store.domains().names)
    page = trained_on(log_weights(tmp_path, names), byte_store, name="gs://bucket/x")
    assert "Not shown" not in page.text


def test_a_store_that_is_called_nearly_as_the_sample(byte_store, tmp_path, monkeypatch):
    monkeypatch.setenv("DGA_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples").symlink_to(byte_store.path)
    names = list(byte_store.domains().names)
    page = trained_on(log_weights(tmp_path, names), byte_store, name="samples")
    assert "Not shown" not in page.text


def test_a_config_that_cannot_be_read(byte_store, tmp_path):
    log_weights(tmp_path, list(byte_store.domains().names))
    (tmp_path / "config.json").write_text("{")
    write_report(tmp_path, out=io.StringIO())
    assert "its mixer is not known" in Page(tmp_path / "report.html").text


@pytest.mark.parametrize(("name", "moving"), [("dga", True), ("static", False)])
def test_whether_weights_can_move_is_said(name, moving, byte_store, tmp_path):
    log_weights(tmp_path, list(byte_store.domains().names), updates=1)
    config = default_config()
    config.mixer.name = name
    record = {"config": config.to_dict() | {"explicit": []}, "data": {}}
    (tmp_path / "config.json").write_text(json.dumps(record))
    write_report(tmp_path, out=io.StringIO())
    text = Page(tmp_path / "report.html").text
    assert ("No update has moved the weights yet" in text) == moving
    assert ("the mixer static never moves them" in text) == (not moving)
    assert ("One run does not say what another mixture" in text) == moving
    assert told.moves(config) == moving


def test_262_144_domains(tmp_path):
    names = list(ClusterNames((64, 64, 64)))
    write_report(log_weights(tmp_path, names), out=io.StringIO())
    file = tmp_path / "report.html"
    assert file.stat().st_size < 100_000
    page = Page(file)
    assert len(page.values("weights")) == 17
    assert "262,128 others, sum" in page.values("weights")
    assert "towards 00.00.00 (4e-6 → .095), 00.00.01 (4e-6 → .086)" in page.text
