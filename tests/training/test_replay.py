"""The rows that the command shows for a step are those that the step read."""

import dataclasses
import json
import os
import pathlib
import tarfile
import time

import forks
import numpy as np
import pytest
from runs import Killed, parts_of, small_config, stopped, train_run

from dga_jax.data.sampler import Cumulative
from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.training import config as configs
from dga_jax.training import loop, recorded
from dga_jax.training.mixture import Mixture
from dga_jax.training.replay import drawn

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def read_rows(monkeypatch):
    """By step: the rows of the batch that training used last, and their domains."""
    rows, batches = {}, loop.batches

    def recording(*arguments, **options):
        for batch in batches(*arguments, **options):
            rows[batch.step] = batch.rows, batch.domains
            yield batch

    monkeypatch.setattr(loop, "batches", recording)
    return rows


def assert_shown(directory, store, read_rows, steps):
    run = recorded.read(directory)
    for step in steps:
        draw = drawn(run, store, step)
        rows, domains = read_rows[step]
        np.testing.assert_array_equal(store.read("train", draw.rows), rows)
        np.testing.assert_array_equal(draw.domains, domains)


LIMITED = {"data__tokens_per_domain": 6 * 32, "data__max_epochs": 3}


@pytest.mark.parametrize(
    "fields",
    [
        LIMITED,
        {"mixer__basis": "level0", "data__level": 1},
        {"mixer__probe_domains": 3, "data__level": 1, "mixer__start": 4},
    ],
    ids=["limits, epochs", "basis", "clusters"],
)
def test_the_rows_that_were_read(
    fields, byte_store, cluster_store, read_rows, tmp_path, monkeypatch
):
    """Before, at and after updates (3, 6, 9, 12); killed after step 7, at 5 again."""
    store = cluster_store if "data__level" in fields else byte_store
    config = small_config(store, mixer__eta=50.0, eval__every=0, **fields)
    with stopped(monkeypatch, 7, by="kill"), pytest.raises(Killed):
        train_run(config, tmp_path)
    assert_shown(tmp_path, store, read_rows, range(1, 8))  # a run that is going on
    with pytest.raises(UserError, match="not recorded: the run is not there yet"):
        drawn(recorded.read(tmp_path), store, 12)
    assert train_run(config, tmp_path)
    assert_shown(tmp_path, store, read_rows, range(1, 13))
    for step in (0, 13):
        with pytest.raises(UserError, match="are 1 to 12"):
            drawn(recorded.read(tmp_path), store, step)


def test_of_a_run_that_goes_on_from_another(byte_store, read_rows, tmp_path):
    assert train_run(small_config(byte_store, **LIMITED), tmp_path / "old")
    config = small_config(byte_store, train__steps=16, seed=1, mixer__eta=50.0)
    config.eval.every = 0
    for what, first in (("all", 12), ("params", 0)):
        config.start.update({"from": str(tmp_path / "old@12"), "what": what})
        assert train_run(config, tmp_path / what)
        assert_shown(tmp_path / what, byte_store, read_rows, range(first + 1, 17))
    with pytest.raises(UserError, match="are 13 to 16"):
        drawn(recorded.read(tmp_path / "all"), byte_store, 12)


@pytest.mark.parametrize("spoil", ["gone", "other"])
@pytest.mark.parametrize("apply", ["draws", "loss"])
def test_files_that_the_config_named(spoil, apply, byte_store, read_rows, tmp_path):
    """The weights that they gave are recorded; nothing else of them is in a row."""
    names, (weights, graph) = byte_store.domains().names, _FILES
    shares = np.arange(1, 9) / 36
    (tmp_path / weights).write_text(json.dumps(dict(zip(names, shares, strict=True))))
    np.save(tmp_path / graph, np.eye(8))
    config = small_config(
        byte_store,
        train__steps=7,
        eval__every=0,
        mixer__name="skill_it",
        mixer__apply=apply,
        mixer__weights=str(tmp_path / weights),
    )
    config.mixer.skill_it.graph = str(tmp_path / graph)
    assert train_run(config, tmp_path / "run")
    for name in _FILES:
        (tmp_path / name).unlink()
    if spoil == "other":
        (tmp_path / weights).write_text(json.dumps({names[0]: 1}))
        np.save(tmp_path / graph, np.eye(3))
    assert_shown(tmp_path / "run", byte_store, read_rows, range(1, 8))


_FILES = ("weights.json", "graph.npy")


def test_initial_weights_that_were_never_recorded(byte_store, read_rows, tmp_path):
    """Of a run that took others over, and whose rows are drawn by its own."""
    assert train_run(small_config(byte_store, mixer__eta=50.0), tmp_path / "old")
    path = tmp_path / "weights.json"
    names = byte_store.domains().names
    path.write_text(json.dumps({name: i / 36 for i, name in enumerate(names, 1)}))
    config = small_config(
        byte_store, train__steps=15, mixer__apply="loss", mixer__weights=str(path)
    )
    config.start.update({"from": str(tmp_path / "old"), "what": "all"})
    assert train_run(config, tmp_path / "new")
    assert_shown(tmp_path / "new", byte_store, read_rows, range(13, 16))
    path.write_text(json.dumps({names[0]: 1}))
    with pytest.raises(UserError, match="bring back what that names"):
        drawn(recorded.read(tmp_path / "new"), byte_store, 13)


@pytest.fixture
def before(tmp_path):
    """Store and run that an older version left."""
    for name in ("store", "run"):
        with tarfile.open(ROOT / "tests" / "before" / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_of_an_older_version(before):
    """It kept no weights: exact up to its first update, which follows step 3."""
    run = recorded.read(before / "run")
    store = run.open_store(str(before / "store"))
    sampler = run.mixture(store).sampler
    cursors = np.zeros(len(store.domains()), np.int64)
    weights = np.exp(np.asarray(run.mixture(store).init().log_weights, np.float64))
    for step in (1, 2, 3):
        draw = sampler.draw(step, Cumulative.of(weights / weights.sum()), cursors, 8)
        sampler.advance(cursors, draw.domains)
        np.testing.assert_array_equal(drawn(run, store, step).rows, draw.rows)
    with pytest.raises(UserError, match=r"update of step 3 .* older version") as caught:
        drawn(run, store, 4)
    assert "\n" not in str(caught.value)


def test_of_an_older_version_that_went_on(before, monkeypatch):
    """By the old law up to where it was taken over, by that of today from there on."""
    monkeypatch.chdir(before)
    recorded_then = json.loads((before / "run" / "config.json").read_text())
    config = configs.from_fields(recorded_then["config"])
    with stopped(monkeypatch, 9, by="sigterm"):
        train_run(config, before / "run")
    run = recorded.read(before / "run")
    assert run.by_rows_until == 7
    store = run.open_store()
    given = Mixture(config, store)
    static = dataclasses.replace(run, config=config.copy_and_resolve_references())
    static.config.mixer.name = "static"
    cursors = np.zeros(len(store.domains()), np.int64)
    weights = given.domain_weights(given.init())
    for step in range(1, 10):
        law = weights if step <= 7 else weights / store.domains().tokens_per_row
        draw = given.sampler.draw(step, Cumulative.of(law), cursors, 8)
        given.sampler.advance(cursors, draw.domains)
        np.testing.assert_array_equal(drawn(static, store, step).rows, draw.rows)
    assert train_run(config, before / "run")  # it goes on once more
    assert recorded.read(before / "run").by_rows_until == 7


def test_another_store(before, byte_store):
    with pytest.raises(UserError, match="content_hash differs"):
        recorded.read(before / "run").open_store(str(byte_store.path))


@pytest.mark.slow
def test_thousands_of_steps_take_seconds(byte_store, tmp_path):
    config = small_config(byte_store, train__steps=1, mixer__name="static")
    config.train.batch_size = 1024
    parts = parts_of(config)
    run = recorded.Recorded(tmp_path, config, {"domains": 8, "basis": ""}, "")
    run.data["initial_weights"] = parts.mixture.initial_digest
    config.train.steps = 4000
    began = time.process_time()
    drawn(run, byte_store, 4000)
    assert time.process_time() - began < 20


def test_the_command(byte_store, tmp_path):
    """Number, domain, row id and text; the ends of documents are marked."""
    config = small_config(byte_store, train__steps=2, mixer__name="static")
    assert train_run(config, tmp_path / "run")
    moved = tmp_path / "moved"
    os.rename(tmp_path / "run", moved)

    def shown(*flags):
        return forks.run(["-m", "dga_jax.rows", f"--workdir={moved}", *flags], ROOT)

    result = shown("--step=2", "--limit=5")
    assert result.returncode == 0, result.stderr
    head, *rows = result.stdout.strip().split("\n\n")
    assert "step 2: 8 rows of" in head
    assert len(rows) == 5
    run = recorded.read(moved)
    draw, names = drawn(run, byte_store, 2), byte_store.domains().names
    for i, row in enumerate(rows):
        title, *lines = row.split("\n")
        name, number = names[draw.domains[i]], draw.rows[i]
        assert title == f"row {i}, {name}, train row {number} of the store"
        tokens = byte_store.read("train", draw.rows[i : i + 1])[0]
        text = bytes(tokens[(tokens >= 0) & (tokens < 256)].tolist()).decode()
        ends = int((tokens == 256).sum())
        assert "".join(lines).count("⟨end of text⟩") == ends
        shown_words = "".join(line.removeprefix("  |") for line in lines)
        assert set(text.split()) - set(shown_words.split()) == set() or ends
    failed = shown("--step=3")
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: --step=3: the steps of ")


def test_a_store_that_was_moved(byte_store, tmp_path):
    config = small_config(byte_store, train__steps=1, data__store="nowhere")
    run = recorded.Recorded(
        tmp_path, config, {"content_hash": byte_store.content_hash}, ""
    )
    with pytest.raises(UserError, match="no store at nowhere"):
        run.open_store()
    assert isinstance(run.open_store(str(byte_store.path)), Store)
