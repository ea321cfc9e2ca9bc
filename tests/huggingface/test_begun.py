"""A run that begins with a Hugging Face directory: `model.from`."""

import json
import shutil

import numpy as np
import pytest
from meshes import on_one_device
from runs import log_of, mesh_of, small_config, stopped

from dga_jax import export
from dga_jax.errors import UserError
from dga_jax.huggingface import architecture, layout, tensors
from dga_jax.model.transformer import ModelConfig
from dga_jax.training import loop, placement, workdir
from dga_jax.training.setup import check, open_run


@pytest.fixture(scope="module", autouse=True)
def _one_device():
    with on_one_device():
        yield


@pytest.fixture(scope="module")
def old(byte_store, tmp_path_factory):
    """A run of 12 steps, its last line, and its export."""
    folder = tmp_path_factory.mktemp("old")
    train(small_config(byte_store), folder / "run")
    export.export(folder / "run", folder / "out")
    return log_of(folder / "run")[-1], folder / "out"


def train(config, directory, explicit=()):
    """Trains as `main` does."""
    parts = check(config, explicit, directory)
    with workdir.locked(directory):
        run = open_run(parts, directory)
        return run, loop.train(run)


def beginning(store, origin, **fields):
    """The model is that of the directory, whatever the config says."""
    config = small_config(store, model__d_model=16, model__num_layers=5, **fields)
    config.model["from"] = str(origin)
    return config


def test_its_first_evaluation_is_the_old_runs_last(old, byte_store, tmp_path, capsys):
    last, out = old
    run, done = train(beginning(byte_store, out, mixer__eta=1.0), tmp_path / "new")
    assert done
    assert run.taken == f"the parameters of {out}"
    first = log_of(tmp_path / "new")[0]
    losses = {key: value for key, value in last.items() if key.startswith("eval/")}
    assert len(losses) > 10
    assert losses == pytest.approx({k: first[k] for k in losses}, rel=1e-6)
    record = json.loads((tmp_path / "new" / "config.json").read_text())["config"]
    assert record["model"]["from"] == str(out)
    assert (record["model"]["d_model"], record["model"]["num_layers"]) == (32, 1)


@pytest.mark.parametrize("given_again", [True, False])
def test_it_goes_on_without_the_directory(
    given_again, old, byte_store, tmp_path, monkeypatch
):
    """Bit for bit; a checkpoint is all that it needs."""
    copy = tmp_path / "model"
    shutil.copytree(old[1], copy)
    train(beginning(byte_store, copy), tmp_path / "whole")
    with stopped(monkeypatch, 7, by="sigterm"):
        train(beginning(byte_store, copy), tmp_path / "cut")
    shutil.rmtree(copy)
    config = beginning(byte_store, copy if given_again else "")
    run, done = train(config, tmp_path / "cut")
    assert done
    assert run.resumed
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")


def test_an_export_of_the_import_is_the_same(old, byte_store, tmp_path):
    """But for the card; nothing was trained in between."""
    config = beginning(byte_store, old[1], train__steps=1, mixer__name="static")
    config.optimizer.update(learning_rate=1e-30, warmup_steps=0, weight_decay=0.0)
    train(config, tmp_path / "new")
    export.export(tmp_path / "new", tmp_path / "out")
    for path in sorted(old[1].iterdir()):
        if path.name != "README.md":
            assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_on_a_mesh(old, byte_store, tmp_path, monkeypatch):
    """Each device reads its part."""
    monkeypatch.setattr(placement, "make_mesh", lambda config: mesh_of(1, 2, 2))
    config = beginning(byte_store, old[1], train__steps=1, mixer__name="static")
    with workdir.locked(tmp_path / "new"):
        run = open_run(check(config, (), tmp_path / "new"), tmp_path / "new")
        run.checkpoints.close()
    kernel = run.snapshot.train.params["blocks"]["attention"]["query"]["kernel"]
    assert len(kernel.sharding.device_set) == 4
    assert not kernel.sharding.is_fully_replicated
    loop.train(run)
    assert log_of(tmp_path / "new")[0]["eval/target/loss"] == pytest.approx(
        old[0]["eval/target/loss"], rel=1e-5
    )


QWEN = {
    "model_type": "qwen2",
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "max_position_embeddings": 4096,
}


def model_at(directory, **changes):
    """A random model, made by hand."""
    directory.mkdir()
    fields = architecture.model_fields(QWEN | changes, "DIR")
    fields.pop("max_positions")
    shapes = layout.tensor_shapes(ModelConfig(**fields))
    random = np.random.default_rng(0)
    with tensors.writing(directory, shapes, np.float32) as writer:
        writer.put(
            (n, random.standard_normal(s, np.float32)) for n, s in shapes.items()
        )
    (directory / "config.json").write_text(json.dumps(QWEN | changes))
    return directory


def test_a_vocabulary_larger_than_the_tokenizers(byte_store, tmp_path):
    """Is kept, and what the config says of positions too."""
    config = beginning(byte_store, model_at(tmp_path / "model"), train__steps=2)
    assert train(config, tmp_path / "run")[1]
    assert config.model.vocab_size == 300 > byte_store.vocab_size
    export.export(tmp_path / "run", tmp_path / "out")
    spec = json.loads((tmp_path / "out" / "config.json").read_text())
    assert {key: spec[key] for key in QWEN} == QWEN
    again = beginning(byte_store, "", train__steps=2)
    assert train(again, tmp_path / "run")[0].step == 2  # finished, and known as that
    other = beginning(byte_store, model_at(tmp_path / "other"), train__steps=2)
    with pytest.raises(UserError, match=r"config\.model\.from was .*model' and is now"):
        train(other, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "fields", "explicit", "said"),
    [
        (
            {"vocab_size": 256},
            {},
            (),
            "it has 256 tokens and the store .* 257; prep",
        ),
        ({}, {}, ("model.d_model",), r"model\.d_model=99, but the model of .* has 16"),
        ({}, {"start__from": "runs/x"}, (), r"already begins with config\.start\.from"),
        ({"hidden_act": "relu"}, {}, (), r'DIR: config\.json says hidden_act="relu"'),
    ],
)
def test_what_does_not_fit(changes, fields, explicit, said, byte_store, tmp_path):
    if "hidden_act" in changes:
        path = model_at(tmp_path / "DIR")
        (path / "config.json").write_text(json.dumps(QWEN | changes))
    else:
        path = model_at(tmp_path / "DIR", **changes)
    config = beginning(byte_store, path)
    config.model.d_model = 99
    if fields:
        config.start["from"] = fields["start__from"]
    with pytest.raises(UserError, match=said) as caught:
        check(config, explicit, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_another_tokenizer(old, byte_store, tmp_path):
    shutil.copytree(old[1], tmp_path / "model")
    path = tmp_path / "model" / "tokenizer.json"
    spec = json.loads(path.read_text())
    path.write_text(json.dumps(spec))  # written otherwise, it is the same
    open_run_of(byte_store, tmp_path, "as before")
    vocab = spec["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    path.write_text(json.dumps(spec))
    with pytest.raises(UserError, match=r"tokenizer\.json is another tokenizer than"):
        open_run_of(byte_store, tmp_path, "swapped")
    path.write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json is not a tokenizer"):
        open_run_of(byte_store, tmp_path, "broken")
    path.unlink()
    open_run_of(byte_store, tmp_path, "none")


def open_run_of(store, folder, name):
    config = beginning(store, folder / "model")
    with workdir.locked(folder / name):
        parts = check(config, (), folder / name)
        open_run(parts, folder / name).checkpoints.close()


def test_it_must_be_of_this_machine(byte_store, tmp_path):
    config = beginning(byte_store, tmp_path)
    config.model["from"] = "hf://Qwen/Qwen3-0.6B"
    with pytest.raises(UserError, match=r"model\.from=hf://.*copy the model here"):
        check(config, (), tmp_path / "run")
