"""A run as a directory that others open."""

import dataclasses
import importlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx, traverse_util
from runs import parts_of, small_config, train_run

from configs import of_run
from dga_jax import export
from dga_jax.errors import UserError
from dga_jax.huggingface import architecture
from dga_jax.model.transformer import ModelConfig, abstract
from dga_jax.training import config as configs
from dga_jax.training import parameters, recorded, workdir
from dga_jax.training.setup import open_run

# What a run may have that its export must carry over.
VARIANTS = {
    "plain": {},
    "grouped": {"model__num_kv_heads": 2, "model__head_dim": 16, "seed": 1},
    "untied": {"model__tied_embeddings": False, "model__rope_theta": 500.0},
    "norms": {"model__qk_norm": True, "model__norm_eps": 1e-3},
    "biases": {"model__qkv_bias": True},
    "stretched": {"model__rope_factor": 4.0, "model__rope_length": 16},
}


@pytest.fixture(scope="module")
def run(byte_store, tmp_path_factory):
    """Of a variant: its workdir; "plain" is trained, others have any parameters."""
    runs = {}

    def of(variant="plain"):
        if variant not in runs:
            runs[variant] = tmp_path_factory.mktemp("runs") / "run"
            config = small_config(byte_store, **VARIANTS[variant])
            begun = train_run if variant == "plain" else random_run
            begun(config, runs[variant])
        return runs[variant]

    return of


@pytest.fixture(scope="module")
def others():
    """What opens an export without this program."""
    import hf_models

    return hf_models


def random_run(config, directory):
    """A checkpoint of parameters of which no norm is 1 and no bias 0."""
    with workdir.locked(directory):
        run = open_run(parts_of(config), directory)
    random = np.random.default_rng(0)

    def changed(path, x):
        scale = np.float32(0.3 if path[-1].key in ("scale", "bias") else 0)
        x += scale * random.standard_normal(x.shape, np.float32)
        return jax.device_put(x, x.sharding)

    params = jax.tree_util.tree_map_with_path(changed, run.snapshot.train.params)
    train = run.snapshot.train._replace(params=params)
    run.checkpoints.save(3, run.snapshot._replace(train=train), {})
    run.checkpoints.close()


def logits(directory, tokens, dtype="float32"):
    """Of the newest checkpoint of a run, as this program computes them."""
    run = recorded.read(directory)
    model = dataclasses.replace(configs.model_config(run.config), dtype=dtype)
    step = max(int(path.name) for path in (directory / "checkpoints").iterdir())
    found = parameters.read(directory / "checkpoints" / str(step), model)
    params, graph = traverse_util.unflatten_dict(dict(found)), abstract(model)[0]
    compute = jax.jit(lambda params, tokens: nnx.merge(graph, params)(tokens))
    return np.asarray(compute(params, jnp.asarray(tokens)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_computes_the_same(variant, run, others, tmp_path):
    directory = run(variant)
    export.export(directory, tmp_path / "out")
    tokens = np.random.default_rng(0).integers(0, 257, (2, 100))
    found = others.logits(others.opened(tmp_path / "out"), tokens)
    expected = logits(directory, tokens)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_bfloat16(run, others, tmp_path):
    directory = run("grouped")
    export.export(directory, tmp_path / "out", dtype="bfloat16")
    model = others.opened(tmp_path / "out", "bfloat16")
    assert str(model.config.dtype) == "torch.bfloat16"
    exact = safetensors.numpy.load_file(_exported(directory, tmp_path / "exact"))
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":
            rounded = jnp.asarray(exact[name], jnp.bfloat16).astype(jnp.float32)
            np.testing.assert_array_equal(tensor.float().numpy(), rounded)
    tokens = np.random.default_rng(0).integers(0, 257, (2, 130))
    expected = logits(directory, tokens)
    error = np.abs(others.logits(model, tokens) - expected).max()
    rounded = np.abs(logits(directory, tokens, "bfloat16") - expected).max()
    assert 0 < error < 4 * rounded


def _exported(directory, output):
    export.export(directory, output)
    return output / "model.safetensors"


def test_its_tokenizer_is_the_stores(run, others, byte_store, tmp_path):
    export.export(run(), tmp_path / "out")
    transformers = others.library("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    texts = ["plain", "  hé\n\tx\r\n", "日本 \x00\x7f"]
    expected = [ids.tolist() for ids in byte_store.tokenizer().encode_batch(texts)]
    assert tokenizer(texts)["input_ids"] == expected
    assert [tokenizer.decode(ids) for ids in expected] == texts
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == 256


def test_files_that_are_too_large_are_divided(run, others, tmp_path):
    whole = safetensors.numpy.load_file(_exported(run(), tmp_path / "whole"))
    export.export(run(), tmp_path / "out", file_bytes=20_000)
    names = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert names == [f"model-0000{i}-of-00004.safetensors" for i in (1, 2, 3, 4)]
    parts = [safetensors.numpy.load_file(tmp_path / "out" / name) for name in names]
    assert sum(map(len, parts)) == len(whole)
    for name, values in {k: v for part in parts for k, v in part.items()}.items():
        np.testing.assert_array_equal(values, whole[name])
    others.opened(tmp_path / "out")


def test_the_card_says_what_it_is(run, byte_store, tmp_path):
    """Its command gives the run's config again."""
    export.export(run(), tmp_path / "mine")
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "# mine\n" in card
    assert byte_store.content_hash in card
    assert "12 steps on 3,072 tokens" in card
    assert "| austen | 0.125 | " in card
    assert "| target | " in card
    again = [
        line.strip(" \\").removeprefix("--config.")
        for line in card.splitlines()
        if line.startswith("  --config.")
    ]
    argument = ",".join(part for part in again if "/" not in part)
    made = importlib.import_module("configs.125m").get_config(argument).to_dict()
    wanted = of_run.get_config(str(run())).to_dict()
    for config in (made, wanted):
        config["explicit"] = None
        config["data"]["store"] = ""
    assert made == wanted


def test_a_step_that_was_kept(run, tmp_path):
    assert export.export(run(), tmp_path / "out", step=10) == 10
    first = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert first != _exported(run(), tmp_path / "last").read_bytes()
    with pytest.raises(
        UserError, match=r"no checkpoint of step 7; there are 5, 10, 12"
    ):
        export.export(run(), tmp_path / "other", step=7)


def test_a_damaged_checkpoint_is_passed_over(run, tmp_path, capsys):
    directory = tmp_path / "a run, %20"
    shutil.copytree(run(), directory)
    for path in (directory / "checkpoints" / "12" / "state").rglob("*"):
        if path.is_file() and path.stat().st_size > 2_000:
            path.write_bytes(path.read_bytes()[:-1_000])
    assert export.export(directory, tmp_path / "out") == 10
    assert "checkpoint 12 is damaged" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"checkpoint 12 is damaged .*; name another"):
        export.export(directory, tmp_path / "other", step=12)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    shutil.rmtree(directory / "checkpoints" / "12" / "state")
    assert export.export(directory, tmp_path / "another") == 10


@pytest.mark.parametrize(
    ("workdir", "output", "said"),
    [
        ("nothing", "out", "--workdir=.*nothing is not the workdir of a run; name one"),
        ("run", "full", "--output=.*full exists; remove it or choose another"),
        ("run", "full/file/x", "--output=.*x: .*file cannot be written to"),
    ],
)
def test_nothing_is_half_written(workdir, output, said, run, tmp_path):
    (tmp_path / "run").symlink_to(run())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    with pytest.raises(UserError, match=said):
        export.export(tmp_path / workdir, tmp_path / output)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "full"}


def test_an_architecture_that_no_family_has():
    config = ModelConfig(64, 1, 8, 2, 2, 16, qkv_bias=True, qk_norm=True)
    with pytest.raises(UserError, match=r"both model\.qkv_bias and model\.qk_norm"):
        architecture.config_json(config, max_positions=8, bos=0, eos=0, dtype="float32")
