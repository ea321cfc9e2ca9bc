"""Starting from a run of another config, store or version, and what does not fit."""

import json
import pathlib
import shutil
import tarfile

import jax
import numpy as np
import pytest
from runs import small_config, train_run
from starts import begun, by_step, starting, untouched
from test_steering import store_of

from configs.quickstart import get_config
from dga_jax import cli
from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.prepare.assemble import prepare_store
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Shard
from dga_jax.tokenizer import BytesTokenizer
from dga_jax.training import validation
from dga_jax.training.config import default_config


@pytest.fixture(scope="module")
def fewer_store(byte_corpora, tmp_path_factory):
    """Three of the eight domains, and one that is not among them."""
    folder = tmp_path_factory.mktemp("fewer")
    (target,) = byte_corpora["target"].shards
    shutil.copy(target.paths[0], folder / "newcomer.jsonl")
    new = Shard.of(folder / "newcomer.jsonl")
    shards = (*byte_corpora["generic"].shards[2:5], new)
    path = folder / "store"
    prepare_store(
        **byte_corpora | {"generic": Corpus(shards)},
        tokenizer=BytesTokenizer(),
        seq_len=32,
        output=path,
    )
    return Store.open(path)


def test_another_config(old, byte_store, tmp_path):
    """Weights, cursors and optimizer are the old ones, schedules the new ones."""
    config = starting(
        byte_store,
        f"{old()}@5",
        train__steps=8,
        optimizer__schedule="constant",
        optimizer__learning_rate=1e-4,
        mixer__name="static",
        train__batch_size=16,
    )
    run = begun(config, tmp_path)
    assert (run.step, run.snapshot.cursors.sum()) == (5, 5 * 8)
    assert run.extra.keys() == {"clock", "target_loss"}
    assert train_run(config, tmp_path)
    lines = by_step(tmp_path)
    assert {line["train/learning_rate"] for line in lines.values() if line["step"] > 5}
    assert lines[8]["train/learning_rate"] == pytest.approx(1e-4)
    weights = by_step(old())[3]
    names = byte_store.domains().names
    for name in names:
        key = f"mixture/weight/{name}"
        assert lines[5][key] == weights[key]


def test_other_domains(old, byte_store, fewer_store, tmp_path):
    """Fewer and then more again: by name, rows from the beginning."""
    origin = begun(starting(byte_store, f"{old()}@10"), tmp_path / "same")
    before = origin.mixture.weights(origin.snapshot.mixture)
    before = dict(zip(byte_store.domains().names, before, strict=True))
    config = starting(fewer_store, f"{old()}@10", train__steps=14)
    run = begun(config, tmp_path / "fewer")
    names = fewer_store.domains().names
    weights = dict(zip(names, run.mixture.weights(run.snapshot.mixture), strict=True))
    shared = [name for name in names if name in before]
    (new,) = set(names) - set(shared)
    assert weights[new] == pytest.approx(1 / 4)
    total = sum(before[name] for name in shared)
    for name in shared:
        assert weights[name] == pytest.approx(0.75 * before[name] / total, rel=1e-6)
    assert f"{new} new" in run.taken
    assert "austen" in run.taken.split("new,")[1]
    assert "the store is another" in run.taken
    assert run.extra.keys() == {"clock", "target_loss"}
    assert not run.snapshot.cursors.any()
    assert train_run(config, tmp_path / "fewer")
    assert list(by_step(tmp_path / "fewer")) == list(range(10, 15))
    back = starting(byte_store, tmp_path / "fewer", train__steps=15)
    run = begun(back, tmp_path / "more")
    assert run.mixture.weights(run.snapshot.mixture).sum() == pytest.approx(1)
    assert run.step == 14


@pytest.mark.parametrize(
    ("origin", "fields", "words"),
    [
        ("RUN@7", {}, "no checkpoint of step 7; there are 5, 10, 12"),
        ("nowhere", {}, "is not the workdir of a run"),
        ("RUN@12", {}, r"train\.steps=12: the run goes on after step 12"),
        ("RUN", {"model__num_layers": 3}, r"model\.num_layers is 1 there and 3 here"),
        ("RUN", {"model__rope_theta": 5e4}, r"rope_theta is 10000\.0 there and 50000"),
    ],
)
def test_what_does_not_fit(origin, fields, words, old, byte_store, tmp_path):
    origin = origin.replace("RUN", str(old()))
    with pytest.raises(UserError, match=words) as caught:
        begun(starting(byte_store, origin, **fields), tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "new").glob("[!.]*"))


def test_what_may_be_taken():
    config = default_config()
    config.start.what = "everything"
    with pytest.raises(UserError, match=r"start\.what='everything': choose params"):
        validation.validate(config)


def test_not_from_itself(old, byte_store, tmp_path):
    shutil.copytree(old(), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(UserError, match="this is the workdir itself"):
        begun(starting(byte_store, tmp_path / "run"), tmp_path / "run")


def test_another_tokenizer_of_the_same_size(old, fewer_store, tmp_path):
    other = tmp_path / "store"
    shutil.copytree(fewer_store.path, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["tokenizer"]["sha256"] = "ab" * 32
    (other / "manifest.json").write_text(json.dumps(manifest))
    config = starting(Store.open(other), old(), "params")
    with pytest.raises(UserError, match="of another tokenizer"):
        begun(config, tmp_path / "new")


def test_what_decides_how_may_differ(old, byte_store, tmp_path):
    fields = {"model__dtype": "bfloat16", "model__remat": "full"}
    fields |= {"train__microbatches": 2}
    assert begun(starting(byte_store, f"{old()}@10", **fields), tmp_path).step == 10


def test_a_damaged_checkpoint(old, byte_store, tmp_path, capsys):
    """The one before it is taken, and it stays where it is; by name it is an error."""
    origin = tmp_path / "old"
    shutil.copytree(old(), origin)
    (origin / "checkpoints" / "12" / "state" / "manifest.ocdbt").unlink()
    with untouched(origin):
        run = begun(starting(byte_store, origin), tmp_path / "new")
        assert run.step == 10
        assert f"checkpoint 12 of {origin} is damaged" in capsys.readouterr().out
        with pytest.raises(UserError, match=r"checkpoint 12 of .* is damaged"):
            begun(starting(byte_store, f"{origin}@12", "params"), tmp_path / "other")


@pytest.fixture
def before(tmp_path):
    """Store and run that an older version left: 4 domains, checkpoints of 5 and 7."""
    for name in ("store", "run"):
        path = pathlib.Path(__file__).parents[1] / "before" / f"{name}.tar.xz"
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_from_a_run_of_an_older_version(before, fewer_store, tmp_path, monkeypatch):
    """What it did not record is asked of its store, while that is there."""
    monkeypatch.chdir(before)
    for store, what in (("same", "all"), ("other", "all"), ("other", "params")):
        store_ = Store.open("store") if store == "same" else fewer_store
        config = starting(store_, "run@5", what)
        config.model.update(num_layers=1, d_model=8, num_heads=2, d_ff=16)
        run = begun(config, tmp_path / f"{store}-{what}")
        assert run.step == (5 if what == "all" else 0)
        assert "run@5" in run.taken
        assert run.snapshot.cursors.any() == (store == "same")
    (before / "store").rename("elsewhere")
    with pytest.raises(UserError, match="its store is not there to ask"):
        begun(config, tmp_path / "gone")


def test_the_flag_as_it_is_typed(tmp_path):
    """`from` is a keyword of Python, which ml_collections takes names of fields for."""
    (tmp_path / "more").write_text("--config.start.from=b\n--workdir=from\n")
    typed = ["--config.start.from=a.from=b", "--config.start.from", "x.from"]
    typed += ["--config.train.steps=3", "--workdir=w.from=b", "stray"]
    quoted = ["--config.start['from']=a.from=b", "--config.start['from']", "x.from"]
    assert cli._keywords_quoted(typed) == quoted + typed[3:]
    assert cli._keywords_quoted([f"--flagfile={tmp_path / 'more'}"]) == [
        "--config.start['from']=b",
        "--workdir=from",
    ]
    config = get_config("debug,start.from=runs/a@7,start.what=all")
    assert config.start.to_dict() == {"from": "runs/a@7", "what": "all"}


@pytest.mark.parametrize(
    "fields",
    [
        {"mixer__name": "fastmix"},
        {"mixer__name": "odm"},
        {"mixer__name": "static"},
        {"mixer__name": "skill_it"},
    ],
    ids=lambda fields: fields["mixer__name"],
)
def test_a_checkpoint_is_read_by_what_it_says_of_itself(fields, byte_store, tmp_path):
    """By nothing that the new run, or what lies around, has to say."""
    config = small_config(byte_store, train__steps=6, eval__every=0, **fields)
    if config.mixer.name == "skill_it":
        config.mixer.skill_it.window = 2
        np.save(tmp_path / "graph.npy", np.eye(8))
        config.mixer.skill_it.graph = str(tmp_path / "graph.npy")
    assert train_run(config, tmp_path / "old")
    (tmp_path / "graph.npy").unlink(missing_ok=True)
    kept = begun(starting(byte_store, tmp_path / "old", **fields), tmp_path / "same")
    other = begun(starting(byte_store, tmp_path / "old"), tmp_path / "dga")
    for run in (kept, other):
        assert run.step == 6
        assert run.snapshot.cursors.sum() == 6 * 8
    weights = [np.asarray(r.snapshot.mixture.log_weights) for r in (kept, other)]
    np.testing.assert_array_equal(*weights)
    # Its own state goes on where the mixer is the same, and there alone.
    for run, goes_on in ((kept, True), (other, False)):
        inner, first = (s.inner for s in (run.snapshot.mixture, run.mixture.init()))
        changed = [
            not np.array_equal(*pair)
            for pair in zip(*map(jax.tree.leaves, (inner, first)), strict=True)
        ]
        assert any(changed) == (goes_on and config.mixer.name != "static")


@pytest.mark.parametrize(("before", "now"), [(2, 1), (1, 2), (2, 2)])
def test_another_number_of_targets(before, now, tmp_path):
    targets = [f"{n}=lego:k=3/skills={n}/seed=1/documents=30" for n in (1, 3)]
    config = small_config(
        store_of(tmp_path / "before", *targets[:before]),
        train__steps=6,
        eval__every=0,
        mixer__name="grape",
    )
    assert train_run(config, tmp_path / "old")
    store = store_of(tmp_path / "now", *targets[:now])
    run = begun(
        starting(store, tmp_path / "old", mixer__name="grape"), tmp_path / "new"
    )
    assert run.step == 6
    found = np.asarray(run.snapshot.mixture.inner.inner.log_targets)
    same = np.array_equal(found, run.mixture.init().inner.inner.log_targets)
    assert found.shape == (now,)
    assert same == (before != now)


def test_from_a_basis(byte_store, tmp_path):
    """Weights of a basis are no weights of domains, unless the names say so."""
    names = byte_store.domains().names
    matrix = np.random.default_rng(0).dirichlet(np.ones(len(names)), size=3)
    np.save(tmp_path / "P.npy", matrix)
    config = small_config(
        byte_store, train__steps=4, mixer__basis=str(tmp_path / "P.npy")
    )
    assert train_run(config, tmp_path / "old")
    run = begun(starting(byte_store, tmp_path / "old"), tmp_path / "new")
    assert "weights as the config says" in run.taken
    np.testing.assert_allclose(run.mixture.weights(run.snapshot.mixture), 1 / 8)
    assert run.snapshot.cursors.sum() == 4 * 8
