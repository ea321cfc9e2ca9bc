"""A run that was stopped and started again is the run that was not stopped."""

import itertools
import shutil

import numpy as np
import pytest
from runs import (
    DECAYING,
    Killed,
    fingerprint,
    log_of,
    parts_of,
    small_config,
    stopped,
    train_run,
)

from dga_jax.errors import UserError
from dga_jax.training.setup import open_run

STEPS = 12
# Updates follow steps 3, 6, 9, 12; evaluations 4, 8, 12; checkpoints 5, 10, 12.
KILLS = [1, 5, 6, 7, 9, 11]
STOPS = [2, 3, 8, 11]


@pytest.fixture(scope="module")
def whole(byte_store, tmp_path_factory):
    """Of a variant: its config, and the workdir of its undisturbed run."""
    runs = {}

    def run(variant):
        if variant not in runs:
            folder = tmp_path_factory.mktemp(variant)
            fields = _fields(variant, byte_store, folder)
            train_run(small_config(byte_store, **fields), folder / "whole")
            runs[variant] = fields, folder / "whole"
        return runs[variant]

    return run


def _fields(variant, store, folder):
    if variant == "plain":
        return {}
    if variant == "static":
        return {"mixer__name": "static", "mixer__weights": "natural"} | DECAYING
    if variant == "basis":
        rng = np.random.default_rng(0)
        matrix = rng.dirichlet(np.ones(len(store.domains())), size=3)
        np.save(folder / "P.npy", matrix)
        return {"mixer__basis": str(folder / "P.npy"), "mixer__floor": 0.05}
    return {
        "train__microbatches": 2,
        "train__z_loss": 1e-4,
        "mixer__precondition": True,
        "mixer__probe_domains": 3,
        "mixer__eta": 9.0,
        "mixer__eta_end": 1.0,
        "mixer__beta": 0.3,
        "mixer__beta_end": 0.9,
        "data__tokens_per_domain": 6 * store.seq_len,
        "data__max_epochs": 3,
        "optimizer__schedule": "wsd",
    }


def _assert_same(directory, reference):
    lines = log_of(directory)
    assert [line["step"] for line in lines] == list(range(STEPS + 1))
    assert lines == log_of(reference)
    assert fingerprint(directory, STEPS) == fingerprint(reference, STEPS)


@pytest.mark.parametrize("variant", ["all", "basis"])
@pytest.mark.slow
def test_killed_again_and_again(variant, whole, byte_store, tmp_path, monkeypatch):
    fields, reference = whole(variant)
    kills = KILLS if variant == "all" else KILLS[2::3]
    for step in kills:
        with stopped(monkeypatch, step, by="kill"), pytest.raises(Killed):
            train_run(small_config(byte_store, **fields), tmp_path)
        assert log_of(tmp_path) == log_of(reference)[: len(log_of(tmp_path))]
    assert train_run(small_config(byte_store, **fields), tmp_path)
    _assert_same(tmp_path, reference)


@pytest.mark.parametrize(
    "fields",
    [
        {"mixer__basis": "level0"},
        {"mixer__name": "importance", "data__max_epochs": 9},
        {
            "mixer__probe_domains": 7,
            "data__tokens_per_domain": 20 * 32,
            "data__tokens_level": 0,
        },
    ],
    ids=["basis", "importance", "direct"],
)
@pytest.mark.slow
def test_killed_over_clusters(fields, cluster_store, tmp_path, monkeypatch):
    config = small_config(cluster_store, data__level=1, **fields)
    train_run(config, tmp_path / "whole")
    for step in (4, 7, 11):
        with stopped(monkeypatch, step, by="kill"), pytest.raises(Killed):
            train_run(config, tmp_path / "killed")
    train_run(config, tmp_path / "killed")
    _assert_same(tmp_path / "killed", tmp_path / "whole")


def test_a_basis_is_part_of_the_run(cluster_store, tmp_path):
    """Its file may change under the same name: the run would become another."""
    counts = np.random.default_rng(0).dirichlet(np.ones(30), size=2)
    counts *= cluster_store.domains(1).num_rows > 0
    np.save(tmp_path / "P.npy", counts / counts.sum(axis=1, keepdims=True))
    fields = {"data__level": 1, "mixer__basis": str(tmp_path / "P.npy")}
    config = small_config(cluster_store, **fields, train__steps=3)
    train_run(config, tmp_path / "run")
    np.save(tmp_path / "P.npy", np.load(tmp_path / "P.npy")[::-1])
    config = small_config(cluster_store, **fields, train__steps=4)
    with pytest.raises(UserError, match=r"store\.basis was"):
        train_run(config, tmp_path / "run")


def test_initial_weights_are_part_of_the_run(byte_store, tmp_path):
    weights = tmp_path / "weights.json"
    fields = {"mixer__weights": str(weights)}
    weights.write_text('{"austen": 0.5, "wordnet": 0.5}')
    train_run(small_config(byte_store, **fields, train__steps=2), tmp_path / "run")
    weights.write_text('{"austen": 0.4, "wordnet": 0.6}')
    with pytest.raises(UserError, match=r"store\.initial_weights was"):
        train_run(small_config(byte_store, **fields, train__steps=3), tmp_path / "run")


@pytest.mark.parametrize("variant", ["all", "static"])
@pytest.mark.slow
def test_stopped_at_any_step(variant, whole, byte_store, tmp_path, monkeypatch):
    fields, reference = whole(variant)
    stops = STOPS if variant == "all" else STOPS[1::2]
    for step in stops:
        with stopped(monkeypatch, step, by="sigterm"):
            assert not train_run(small_config(byte_store, **fields), tmp_path)
        lines = log_of(tmp_path)
        assert lines == log_of(reference)[: step + 1]
        assert (tmp_path / "checkpoints" / str(step)).is_dir()
    assert train_run(small_config(byte_store, **fields), tmp_path)
    _assert_same(tmp_path, reference)


def test_config_matters_to_the_log(whole):
    """Or the comparisons above would compare nothing."""
    logs = [log_of(whole(v)[1]) for v in ("plain", "all", "basis", "static")]
    for i, log in enumerate(logs):
        assert all(log != other for other in logs[i + 1 :])
        weights = [
            [line[key] for key in sorted(line) if key.startswith("mixture/weight")]
            for line in log
            if "mixture/weight/austen" in line
        ]
        assert (len(weights) > 1) == (i < 3)
        assert all(a != b for a, b in itertools.pairwise(weights))


def _stop_after_5(config, directory, monkeypatch, mesh=(1, 1, 1)):
    with stopped(monkeypatch, 5, by="sigterm"):
        train_run(config, directory, mesh)


@pytest.mark.slow
def test_goes_on_on_another_mesh(whole, byte_store, tmp_path, monkeypatch):
    fields, reference = whole("plain")
    _stop_after_5(small_config(byte_store, **fields), tmp_path, monkeypatch, (2, 2, 1))
    assert train_run(small_config(byte_store, mesh__fsdp=4), tmp_path)
    for line, expected in zip(log_of(tmp_path), log_of(reference), strict=True):
        assert line.keys() == expected.keys()
        for key, value in expected.items():
            assert line[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key


def test_what_may_change_on_resume(whole, byte_store, tmp_path, monkeypatch):
    fields, reference = whole("plain")
    _stop_after_5(small_config(byte_store, **fields), tmp_path, monkeypatch)
    moved = tmp_path / "store_elsewhere"
    moved.symlink_to(byte_store.path)
    config = small_config(
        byte_store,
        data__store=str(moved),
        data__threads=1,
        eval__every=3,
        eval__rows=3,
        log__every=2,
        checkpoint__every=4,
        checkpoint__keep=1,
    )
    assert train_run(config, tmp_path)
    lines = {line["step"]: line for line in log_of(tmp_path)}
    assert sorted(lines) == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 12]
    for expected in log_of(reference):
        line = lines.get(expected["step"], {})
        # Evaluations are others, also in what they cost, and what was drawn is counted
        # from one to the next.
        others = ("eval/", "cost/", "mixture/drawn")
        shared = [k for k in expected if not k.startswith(others) and k in line]
        assert {k: line[k] for k in shared} == {k: expected[k] for k in shared}
    steps = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert steps == {"12"}


@pytest.mark.parametrize(
    ("field", "before", "now"),
    [
        ("seed", 0, 1),
        ("mixer.eta", 5.0, 4.0),
        ("mixer.name", "dga", "static"),
        ("train.batch_size", 8, 16),
        ("model.num_layers", 1, 3),
        ("optimizer.learning_rate", 0.003, 0.1),
        ("data.tokens_per_domain", 0, 320),
    ],
)
def test_what_may_not(field, before, now, whole, byte_store):
    _assert_refused(field, before, now, whole("plain"), byte_store)


@pytest.mark.parametrize("steps", [STEPS - 1, STEPS + 1])
def test_how_long_a_decay_is_may_not(steps, whole, byte_store):
    _assert_refused("train.steps", STEPS, steps, whole("static"), byte_store)


def _assert_refused(field, before, now, run, byte_store):
    fields, reference = run
    config = small_config(byte_store, **fields | {field.replace(".", "__"): now})
    kept = (reference / "config.json").read_bytes()
    with pytest.raises(UserError, match=f"{field} was {before!r} and is now {now!r}"):
        train_run(config, reference)
    assert (reference / "config.json").read_bytes() == kept


@pytest.mark.slow
def test_a_constant_schedule_lets_a_run_be_prolonged(byte_store, tmp_path, monkeypatch):
    """With the warm-up that it had and is in, automatic as it was or stated."""
    stated = {"optimizer__schedule": "constant", "optimizer__warmup_steps": 4}
    automatic = stated | {"optimizer__warmup_steps": -1}

    def run(directory, stop, steps, fields):
        config = small_config(byte_store, train__steps=steps, **fields)
        with stopped(monkeypatch, stop, by="sigterm"):
            assert not train_run(config, tmp_path / directory)
        return log_of(tmp_path / directory)

    long = run("long", 6, 80, stated)
    run("prolonged", 2, 40, automatic)
    run("prolonged", 5, 80, automatic)
    assert run("prolonged", 6, 90, stated) == long


@pytest.mark.slow
def test_other_microbatches(whole, byte_store, tmp_path, monkeypatch, capfd):
    """From the middle on: the same rows, the same numbers but for rounding, said."""
    fields, reference = whole("plain")
    _stop_after_5(small_config(byte_store, **fields), tmp_path, monkeypatch)
    capfd.readouterr()
    config = small_config(
        byte_store, train__microbatches=4, train__loss_chunk=16, model__remat="dots"
    )
    assert train_run(config, tmp_path)
    said = capfd.readouterr().out.splitlines()
    assert [line for line in said if "rounding" in line] == [
        f"{tmp_path}: model.remat: 'none' -> 'dots'; train.loss_chunk: 0 -> 16; "
        "train.microbatches: 1 -> 4, changes rounding only"
    ]
    lines = log_of(tmp_path)
    assert lines[:6] == log_of(reference)[:6]
    for line, expected in zip(lines, log_of(reference), strict=True):
        assert line.keys() == expected.keys()
        for key, value in expected.items():
            exact = key.startswith("data/epochs")
            tolerance = {"rel": 0, "abs": 0} if exact else {"rel": 1e-3, "abs": 1e-4}
            assert line[key] == pytest.approx(value, **tolerance), key
    cursors = fingerprint(tmp_path, STEPS)[-1], fingerprint(reference, STEPS)[-1]
    assert cursors[0] == cursors[1]


def _bytes(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def _opened(config, directory):
    """What `open_run` gives, without training."""
    run = open_run(parts_of(config), directory)
    run.checkpoints.close()
    return run


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise"])
def test_a_config_beside_good_checkpoints(damage, whole, byte_store, tmp_path, capfd):
    """Is made anew from the newest of them."""
    fields, reference = whole("plain")
    shutil.copytree(reference, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        cut = {"empty": 0, "cut": len(content) // 2, "noise": len(content) - 9}[damage]
        path.write_bytes(content[:cut] + (b"\xff" if damage == "noise" else b""))
    with pytest.raises(UserError, match=r"config\.seed was 0 and is now 1"):
        _opened(small_config(byte_store, **fields, seed=1), tmp_path / "run")
    capfd.readouterr()
    assert _opened(small_config(byte_store, **fields), tmp_path / "run").step == STEPS
    said = capfd.readouterr().out
    assert f"made anew from checkpoint {STEPS}" in said
    assert said.count("\n") == 1
    assert path.read_bytes() == content
    _opened(small_config(byte_store, **fields), tmp_path / "run")
    assert capfd.readouterr().out == ""


def test_a_damaged_config_and_no_checkpoint(byte_store, whole, tmp_path):
    fields, reference = whole("plain")
    config = small_config(byte_store, **fields)
    (tmp_path / "config.json").touch()
    shutil.copy(reference / "metrics.jsonl", tmp_path)
    before = _bytes(tmp_path)
    with pytest.raises(UserError, match="remove it to begin again at step 0"):
        _opened(config, tmp_path)
    assert _bytes(tmp_path) == before
    (tmp_path / "config.json").unlink()  # what it says works
    assert _opened(config, tmp_path).step == 0


def test_nothing_is_rewritten_before_all_is_well(whole, byte_store, tmp_path, capfd):
    """Neither log nor config nor checkpoints, whatever cannot be read."""
    fields, reference = whole("plain")
    shutil.copytree(reference, tmp_path / "run")
    for step in (tmp_path / "run" / "checkpoints").iterdir():
        data = step / "state" / "manifest.ocdbt"
        data.unlink()
        data.symlink_to(data.name)  # which root cannot read either
    before = _bytes(tmp_path / "run")
    config = small_config(byte_store, **fields, eval__every=3, train__microbatches=2)
    with pytest.raises(UserError, match=f"checkpoint {STEPS} cannot be read"):
        train_run(config, tmp_path / "run")
    assert _bytes(tmp_path / "run") == before
    # And where all are damaged, they alone are moved; never back to step 0.
    for step in (tmp_path / "run" / "checkpoints").iterdir():
        (step / "state" / "manifest.ocdbt").unlink()
    config_and_log = [before["config.json"], before["metrics.jsonl"]]
    for _ in range(2):
        with pytest.raises(UserError, match="no checkpoint of this run is good"):
            train_run(config, tmp_path / "run")
        found = _bytes(tmp_path / "run")
        assert [found["config.json"], found["metrics.jsonl"]] == config_and_log
    assert capfd.readouterr().out.count("is damaged") == 3


def test_the_config_is_written_once(whole, byte_store):
    fields, reference = whole("plain")
    before = (reference / "config.json").stat()
    _opened(small_config(byte_store, **fields), reference)
    after = (reference / "config.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_run_that_computed_nothing_may_become_any(byte_store, tmp_path):
    _opened(small_config(byte_store), tmp_path)
    assert _opened(small_config(byte_store, seed=1, mixer__eta=1.0), tmp_path).step == 0
    assert '"seed": 1' in (tmp_path / "config.json").read_text()


def test_schedules_of_the_mixer_count(byte_store, tmp_path):
    fields = {"mixer__interval": 1, "mixer__eta_end": 0.0, "log__every": 100}
    train_run(small_config(byte_store, train__steps=1, **fields), tmp_path)
    # η of the update after step 1 was 0 and would have been η/2 of the way.
    with pytest.raises(UserError, match=r"train\.steps was 1 and is now 2"):
        train_run(small_config(byte_store, train__steps=2, **fields), tmp_path)
