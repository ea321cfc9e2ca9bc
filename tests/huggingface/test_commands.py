"""The commands as a user types them: a model in, trained on, and out again."""

import json
import os
import shutil
from pathlib import Path

import forks
import hf_models
import numpy as np
import pytest
from qwen import save_tokenizer, texts_of
from test_export import logits as ours

from dga_jax.data.sample import SAMPLE
from dga_jax.data.store import Store
from dga_jax.tokenizer import load_tokenizer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FLAGS = os.environ["XLA_FLAGS"].replace("count=8", "count=1")
SMALL = "debug,train.steps=3,train.batch_size=4,mixer.interval=2,eval.every=3"
VOCAB = 512  # of the model: larger than the tokenizer's, as Qwen's is


def run(program, *flags):
    environment = os.environ | {"XLA_FLAGS": FLAGS, "PYTHONPATH": str(ROOT)}
    return forks.run(["-m", f"dga_jax.{program}", *flags], ROOT, environment)


def ran(program, *flags):
    result = run(program, *flags)
    assert result.returncode == 0, result.stderr
    return result.stdout


def prepare(model, output, *flags):
    """The command that makes a store with a model's tokenizer."""
    return (
        "prepare",
        f"--generic={SAMPLE}/generic/dm_math.jsonl.xz",
        f"--generic={SAMPLE}/generic/metamath.jsonl.xz",
        f"--target={SAMPLE}/target/python_docs.eval.jsonl.xz",
        f"--tokenizer={model}",
        "--seq_len=64",
        f"--output={output}",
        *flags,
    )


def train(model, store, workdir, *flags):
    """The command that goes on with a model."""
    return (
        "main",
        f"--config=configs/quickstart.py:{SMALL}",
        f"--workdir={workdir}",
        f"--config.model.from={model}",
        f"--config.data.store={store}",
        *flags,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model, a store, a run and its export."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "model").mkdir()
    size = save_tokenizer(folder / "model")
    assert size < VOCAB
    end = load_tokenizer(folder / "model", "<|endoftext|>").end_of_text
    model = hf_models.make(
        "qwen3 tied", vocab_size=VOCAB, eos_token_id=end, bos_token_id=None
    )
    model.save_pretrained(folder / "model", max_shard_size="60KB")
    ran(*prepare(folder / "model", folder / "store"))
    ran(*train(folder / "model", folder / "store", folder / "run"))
    ran("export", f"--workdir={folder / 'run'}", f"--output={folder / 'out'}")
    return folder


def test_transformers_opens_what_comes_out(made):
    """The run's parameters, not those it began with, and the model's tokens."""
    tokens = np.random.default_rng(0).integers(0, VOCAB, (2, 60))
    expected = ours(made / "run", tokens)
    model = hf_models.opened(made / "out")
    np.testing.assert_allclose(
        hf_models.logits(model, tokens), expected, rtol=1e-5, atol=1e-5
    )
    before = hf_models.logits(hf_models.opened(made / "model"), tokens)
    assert np.abs(before - expected).max() > 0.01
    transformers = hf_models.library("transformers")
    old, new = (
        transformers.AutoTokenizer.from_pretrained(made / name)
        for name in ("model", "out")
    )
    texts = texts_of("metamath", every=100)
    assert new(texts)["input_ids"] == old(texts)["input_ids"]
    assert new.eos_token == "<|endoftext|>"
    assert (
        model.config.eos_token_id == Store.open(made / "store").tokenizer().end_of_text
    )
    torch = hf_models.library("torch")
    prompt = torch.tensor([new("One and one")["input_ids"]])
    written = model.generate(prompt, max_new_tokens=5, do_sample=False)
    assert isinstance(new.decode(written[0]), str)


def test_what_comes_out_goes_in_again(made, tmp_path):
    """As a model of its own, with the same store or one of its tokenizer."""
    printed = ran(*train(made / "out", made / "store", tmp_path / "run"))
    assert f"the parameters of {made / 'out'}" in printed
    first, last = (
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (tmp_path / "run", made / "run")
    )
    key = "eval/target/loss"
    assert first[0][key] == pytest.approx(last[-1][key], rel=1e-5)
    ran(*prepare(made / "out", tmp_path / "store"))
    hashes = {Store.open(path / "store").content_hash for path in (made, tmp_path)}
    assert len(hashes) == 1


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def changed(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def pickled(model):
    for path in model.glob("*.safetensors*"):
        path.unlink()
    (model / "pytorch_model.bin").write_bytes(b"x")


SHARD = "model-00002-of-*.safetensors"
MODELS = {
    "no directory": (shutil.rmtree, "no such directory"),
    "a cut shard": (lambda m: cut(*m.glob(SHARD)), "is not a whole safetensors file"),
    "a missing shard": (lambda m: next(m.glob(SHARD)).unlink(), "No such file"),
    "another shape": (
        lambda m: changed(m / "config.json", intermediate_size=64),
        "[32, 64] by config.json",
    ),
    "pickled weights": (pickled, "has pickled weights only (pytorch_model.bin)"),
    "an unknown family": (
        lambda m: changed(m / "config.json", model_type="gemma3"),
        'model_type="gemma3": not a family',
    ),
    "another tokenizer": (
        lambda m: save_tokenizer(m, 390),
        "tokenizer.json is another tokenizer than the store's",
    ),
    "fewer tokens": (
        lambda m: changed(m / "config.json", vocab_size=300),
        "it has 300 tokens and the store",
    ),
}


def fails(output, said, program, *flags):
    """One line on stderr, exit 2, and nothing was made but the lock of a workdir."""
    result = run(program, *flags)
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert said in lines[0]
    assert {path.name for path in output.rglob("*")} <= {".lock"}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_not_whole(name, made, tmp_path):
    spoil, said = MODELS[name]
    shutil.copytree(made / "model", tmp_path / "model")
    spoil(tmp_path / "model")
    workdir = tmp_path / "run"
    fails(workdir, said, *train(tmp_path / "model", made / "store", workdir))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (shutil.rmtree, "No such file"),
        (lambda m: (m / "tokenizer.json").unlink(), "tokenizer.json: No such file"),
        (lambda m: cut(m / "tokenizer.json"), "is not a tokenizer.json"),
        (lambda m: cut(m / "config.json"), "config.json is not JSON"),
    ],
)
def test_a_tokenizer_that_is_none(spoil, said, made, tmp_path):
    shutil.copytree(made / "model", tmp_path / "model")
    spoil(tmp_path / "model")
    store = tmp_path / "store"
    fails(store, said, *prepare(tmp_path / "model", store))


def test_a_checkpoint_half_deleted(made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "run")
    files = sorted((tmp_path / "run" / "checkpoints" / "3" / "state").rglob("*"))
    for path in [path for path in files if path.is_file()][::2]:
        path.unlink()
    out = tmp_path / "out"
    flags = (f"--workdir={tmp_path / 'run'}", f"--output={out}")
    fails(out, "checkpoint 3 is damaged", "export", *flags)


def test_a_task_file_with_a_broken_line(made, tmp_path):
    path = tmp_path / "questions.jsonl"
    good = {"question": "1 + 1?", "choices": ["1", "2"], "answer": 1, "subject": "x"}
    path.write_text(json.dumps(good) + '\n{"question": "2 +')
    flags = (f"--workdir={made / 'run'}", "--tasks=mmlu", f"--data={path}")
    fails(tmp_path / "none", "line 2: is not JSON", "lm_eval", *flags)
