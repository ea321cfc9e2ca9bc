"""Runs by every mixer: what each reads is measured, and a stopped run goes on."""

import json
import shutil

import jax
import numpy as np
import pytest
from runs import Killed, fingerprint, log_of, parts_of, small_config, stopped, train_run

from dga_jax.errors import UserError
from dga_jax.mixing.mixers import MIXERS
from dga_jax.training import recorded, validation
from dga_jax.training.setup import open_run

STEPS, REFERENCE = 7, 6
MOVING = [name for name, recipe in MIXERS.items() if recipe.moves]
OFTEN = ("odm", "doremi")  # with dga, of which all other tests are
CASES = [pytest.param(n, marks=() if n in OFTEN else pytest.mark.slow) for n in MOVING]


@pytest.fixture(scope="module")
def reference(byte_store, tmp_path_factory):
    """A run that others may compare with."""
    folder = tmp_path_factory.mktemp("reference")
    fields = {"train__steps": REFERENCE, "checkpoint__every": 0}
    assert train_run(tiny(byte_store, mixer__name="static", **fields), folder)
    return folder


# Of the first its rows are used up on the way.
SCARCE = "austen=.65,bible_web=.05,dm_math=.05,factbook=.05,metamath=.05"
SCARCE += ",python_code=.05,sotu_early=.05,wordnet=.05"


def tiny(store, **fields):
    """Updates follow steps 2, 4 and 6; checkpoints 3, 6 and 7."""
    return small_config(
        store,
        **{
            "train__steps": STEPS,
            "mixer__interval": 2,
            "checkpoint__every": 3,
            "eval__every": 0,
            "train__seq_len": 32,
        }
        | fields,
    )


def config_of(name, store, reference, **fields):
    fields = {"mixer__name": name} | fields
    if "reference_losses" in MIXERS[name].reads:
        fields["mixer__reference_run"] = str(reference)
    config = tiny(store, **fields)
    config.mixer.doge_universal.most = 1e3  # of so few rows, scores are large
    return config


def assert_goes_on(config, folder, monkeypatch, kills=(5, 6)):
    """Killed after a step between update and checkpoint, and beyond an update."""
    assert train_run(config(), folder / "whole")
    for step in kills:
        with stopped(monkeypatch, step, by="kill"), pytest.raises(Killed):
            train_run(config(), folder / "killed")
    assert train_run(config(), folder / "killed")
    assert log_of(folder / "killed") == log_of(folder / "whole")
    ends = [fingerprint(folder / run, STEPS) for run in ("whole", "killed")]
    assert ends[0] == ends[1]
    weights = recorded.read(folder / "whole").log_weights().values
    assert np.isfinite(weights).all()
    return weights


@pytest.mark.parametrize("name", CASES)
def test_killed_and_started_again(name, byte_store, reference, tmp_path, monkeypatch):
    def config():
        return config_of(name, byte_store, reference)

    kills = (5, 6) if name in OFTEN else (5,)
    weights = assert_goes_on(config, tmp_path, monkeypatch, kills)
    if name not in ("ado", "odm"):  # which wait, and begin uniformly
        assert np.ptp(weights, axis=0).max() > 0
    line = log_of(tmp_path / "whole")[2]
    assert line["mixture/skipped_updates"] == 0
    assert ("mixture/alignment/austen" in line) == ("alignments" in MIXERS[name].reads)


@pytest.mark.parametrize(
    "fields",
    [
        {
            "mixer__apply": "loss",
            "train__microbatches": 2,
            "mixer__weights": SCARCE,
            "data__max_epochs": 1,
            "data__tokens_per_domain": 10 * 32,
        },
        {
            "mixer__shrink": True,
            "mixer__debias": True,
            "mixer__adapt": True,
            "mixer__kl": 0.1,
            "mixer__head": True,
            "mixer__probe_domains": 3,
        },
        {"mixer__name": "odm_exp3", "mixer__apply": "loss"},
    ],
    ids=["loss", "careful", "losses by loss"],
)
@pytest.mark.slow
def test_killed_with_options(fields, byte_store, tmp_path, monkeypatch):
    assert_goes_on(lambda: tiny(byte_store, **fields), tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "odm", "kl": 0.1}, "mixer.kl=0.1: mixer.name=odm has no use for it"),
        ({"name": "rb", "adapt": True}, "mixer.adapt=True: mixer.name=rb has no use"),
        ({"name": "ado", "shrink": True}, "mixer.shrink=True: mixer.name=ado has no"),
        ({"name": "pike", "head": True}, "mixer.head=True: mixer.name=pike has no"),
        ({"name": "grape", "targets": "a=1"}, "targets=a=1: mixer.name=grape has no"),
        ({"name": "odm", "targets": "a=1"}, "mixer.targets=a=1: mixer.name=odm has no"),
        ({"name": "doremi"}, "mixer.reference_run is not set: mixer.name=doremi"),
        ({"reference_run": "x"}, "mixer.reference_run=x: mixer.name=dga has no use"),
        ({"name": "odm", "basis": "level0"}, "counted by domain, not by distribution"),
        ({"apply": "rows"}, "mixer.apply='rows': choose draws or loss"),
    ],
)
def test_options_that_do_not_fit(fields, words, byte_store):
    config = tiny(byte_store)
    config.mixer.update(fields)
    with pytest.raises(UserError) as caught:
        validation.validate(config)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file or directory"),
        (np.eye(3), "it is 3 x 3, but there are 8 domains; give one of 8 x 8"),
        (np.ones(8), "it is 8, but there are 8 domains; give one of 8 x 8"),
        (
            np.array([["a"]]),
            "expected one array of numbers, as np.save writes it",
        ),
        (np.full((8, 8), np.nan), "it holds numbers that are not finite"),
        (b"text", "no .npy file of numbers: "),
        (b"", "no .npy file of numbers: "),
        (b"PK\x03\x04", "no .npy file of numbers: "),
    ],
)
def test_what_is_no_graph(content, words, byte_store, tmp_path):
    path = tmp_path / "graph.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    config = tiny(byte_store, mixer__name="skill_it")
    config.mixer.skill_it.graph = str(path)
    with pytest.raises(UserError) as caught:
        parts_of(config)
    said = str(caught.value)
    assert said.startswith(f"config.mixer.skill_it.graph={path}: {words}")
    assert "\n" not in said
    assert said.endswith(words) or words.endswith(": ")


def test_another_graph_is_another_run(byte_store, tmp_path):
    """Under the same name; the same one may have moved."""

    def config(name):
        config = tiny(byte_store, mixer__name="skill_it", train__steps=2)
        config.mixer.skill_it.graph = str(tmp_path / name)
        return config

    graph = np.eye(8)
    for name in ("graph.npy", "moved.npy"):
        np.save(tmp_path / name, graph)
    assert train_run(config("graph.npy"), tmp_path / "run")
    assert train_run(config("moved.npy"), tmp_path / "run")
    graph[3, 4] = 1
    np.save(tmp_path / "moved.npy", graph)
    with pytest.raises(
        UserError, match=r"content\.mixer\.skill_it\.graph was"
    ) as caught:
        train_run(config("moved.npy"), tmp_path / "run")
    assert "\n" not in str(caught.value)
    np.save(tmp_path / "graph.npy", graph)
    with pytest.raises(UserError, match=r"config\.mixer\.skill_it\.graph was"):
        train_run(config("graph.npy"), tmp_path / "run")


def test_a_reference_run_of_another_tokenizer(byte_store, reference, tmp_path):
    """Said of the tokenizer, which is why its losses mean nothing here."""
    folder = tmp_path / "reference"
    shutil.copytree(reference, folder)
    record = json.loads((folder / "config.json").read_text())
    record["tokenizer"] = "0" * 64
    record["data"]["content_hash"] = "1" * 64
    (folder / "config.json").write_text(json.dumps(record))
    config = config_of("doremi", byte_store, folder)
    words = "its tokens are of another tokenizer than those of store"
    with pytest.raises(UserError, match=words) as caught:
        open_run(parts_of(config), tmp_path / "run")
    assert str(caught.value).startswith(f"config.mixer.reference_run={folder}: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_reference_run_that_does_not_fit(
    byte_store, cluster_store, reference, tmp_path
):
    """Another store, no run at all, no such checkpoint."""
    for store, given, words in (
        (cluster_store, reference, "it was trained on another store"),
        (byte_store, tmp_path / "none", "is not the workdir of a run; name one"),
        (byte_store, f"{reference}@9", "no checkpoint of step 9; there are 6"),
    ):
        fields = {"mixer__name": "doremi", "mixer__reference_run": str(given)}
        with pytest.raises(UserError, match=words) as caught:
            open_run(parts_of(tiny(store, **fields)), tmp_path)
        assert str(caught.value).startswith(f"config.mixer.reference_run={given}: ")
        assert not list(tmp_path.iterdir())


def test_the_reference_stays_what_it_was(byte_store, reference, tmp_path):
    """Its newest checkpoint when the run began, by whatever words it is named."""
    config = config_of("doremi", byte_store, reference, train__steps=2)
    assert train_run(config, tmp_path)
    found = recorded.read(tmp_path).config.mixer.reference_run
    assert found == f"{reference}@{REFERENCE}"
    again = config_of("doremi", byte_store, f"{reference}@{REFERENCE}", train__steps=2)
    assert train_run(again, tmp_path)
    other = config_of("doremi", byte_store, tmp_path / "other", train__steps=2)
    with pytest.raises(UserError, match="other is not the workdir of a run"):
        train_run(other, tmp_path)


def test_no_alignment_is_made_that_is_not_read(byte_store, tmp_path, monkeypatch):
    """Nor any gradient but the train step's."""
    run = open_run(parts_of(tiny(byte_store, mixer__name="skill_it")), tmp_path)
    run.checkpoints.close()

    def never(*arguments):
        raise AssertionError("not read")

    from dga_jax.training.probe import Updates

    steps = run.steps._replace(align=never, gradients=never, train=never)
    updates = Updates(run, steps)
    found = updates.measure(run.snapshot.train, 2)
    updates.close()
    assert found.signals.alignments is None
    assert np.isnan(found.target_norm)
    # Those of the same rows that alignments bring with them.
    aligned = open_run(parts_of(tiny(byte_store)), tmp_path)
    aligned.checkpoints.close()
    updates = Updates(aligned, aligned.steps)
    rows = updates._read(2)
    expected = aligned.steps.align(run.snapshot.train, rows.target, rows.probes)[0]
    updates.close()
    np.testing.assert_allclose(found.signals.losses, expected.losses, rtol=1e-5)


def test_training_losses_are_those_of_the_rows(byte_store, tmp_path):
    """By domain, weighed by tokens, however often they are fetched and saved."""
    from dga_jax.training.train_losses import TrainLosses

    rng = np.random.default_rng(0)
    steps = [
        (rng.integers(0, 5, 16), rng.uniform(1, 9, (2, 16)).astype(np.float32))
        for _ in range(200)
    ]
    whole, halves = TrainLosses(6), TrainLosses(6)
    for t, (domains, rows) in enumerate(steps):
        whole.add(domains, jax.numpy.asarray(rows))
        if t in (70, 130):
            halves = TrainLosses(6, json.loads(json.dumps(halves.pending())))
        halves.add(domains, jax.numpy.asarray(rows))
    found = whole.means()
    np.testing.assert_array_equal(found, halves.means())
    domains = np.concatenate([d for d, _ in steps])
    nats, tokens = np.concatenate([r for _, r in steps], axis=1).astype(np.float64)
    for i in range(5):
        here = domains == i
        assert found[i] == pytest.approx(nats[here].sum() / tokens[here].sum())
    assert np.isnan(found[5])
    assert np.isnan(whole.means()).all()  # a new interval
    whole.add(np.array([0, 1]), jax.numpy.array([[np.nan, 2.0], [4.0, 4.0]]))
    np.testing.assert_array_equal(whole.means()[:2], np.float32([np.inf, 0.5]))
