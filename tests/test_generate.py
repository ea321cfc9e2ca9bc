"""How a run goes on with a prompt: as its model says, and as its tokens are whole."""

import dataclasses
import io
import pathlib

import forks
import numpy as np
import pytest
from runs import small_config, train_run

from dga_jax.errors import UserError
from dga_jax.tokenizer import BytesTokenizer
from dga_jax.training import continuation, trained

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(byte_store, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    config = small_config(byte_store, mixer__name="static")
    config.train.steps = 4
    config.checkpoint.update(every=2, keep=2)
    config.optimizer.learning_rate = 0.03
    assert train_run(config, directory)
    return directory


@pytest.fixture(scope="module")
def model(run):
    return trained.load(run)


def ids_of(model, count=10, temperature=0.0, top_p=1.0, seed=0, prompt="The "):
    ids = continuation.prompt_ids(model, prompt)
    return list(continuation.generate(model, ids, count, temperature, top_p, seed))


def test_the_newest_checkpoint_or_the_one_asked_for(run, model):
    earlier = trained.load(run, 2)
    assert (model.step, earlier.step) == (4, 2)
    same = [
        np.array_equal(a, b)
        for a, b in zip(
            model.params["embed"].values(),
            earlier.params["embed"].values(),
            strict=True,
        )
    ]
    assert not any(same)
    with pytest.raises(UserError, match="no checkpoint of step 3; there are 2, 4"):
        trained.load(run, 3)
    with pytest.raises(UserError, match="not the workdir of a run"):
        trained.load(run / "none")


def test_a_seed_gives_the_same_text_again(model):
    drawn = [ids_of(model, temperature=1.0, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert ids_of(model) == ids_of(model, seed=5)
    assert len(ids_of(model)) == 10
    assert ids_of(model, count=3) == ids_of(model)[:3]


class Ending(BytesTokenizer):
    """Bytes, of which one ends a text."""

    def __init__(self, end):
        self.end_of_text = end


def test_it_begins_a_document_and_ends_before_the_next(model):
    end = model.tokenizer.end_of_text
    prompt = continuation.prompt_ids(model, "ab")
    assert prompt.tolist() == [end, 97, 98]
    drawn = list(continuation.generate(model, prompt, 12, 1.0, 1.0, 0))
    other = next(i for i in drawn if i != drawn[0])
    ending = dataclasses.replace(model, tokenizer=Ending(other))
    found = list(continuation.generate(ending, prompt, 12, 1.0, 1.0, 0))
    assert found == drawn[: drawn.index(other)]


def test_a_character_is_written_when_it_is_whole():
    """Of the bytes of é, the first alone is none; one that is cut is shown as cut."""

    class Out(io.StringIO):
        def flush(self):
            written.append(self.getvalue())

    written, out = [], Out()
    ids = iter([*"é!".encode(), 0xC3])
    continuation.stream(BytesTokenizer(), np.array([256, 97]), ids, out)
    assert list(dict.fromkeys(written)) == ["a", "aé", "aé!"]
    assert out.getvalue() == "aé!\N{REPLACEMENT CHARACTER}"


def test_the_command(run):
    """The text is all of its output; what it is of stands on stderr."""
    command = ["-m", "dga_jax.generate", f"--workdir={run}", "--prompt=The "]
    done = forks.run([*command, "--max_tokens=99", "--temperature=0"], ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The ")
    lines = done.stderr.splitlines()
    assert lines[0] == f"{run}, step 4"
    assert lines[-1].startswith("27 tokens in ")
    assert lines[-1].endswith("; the model takes 32 tokens")
    for flag in ("--top_p=2", f"--seed={2**32}"):  # whose text would be that of 0
        done = forks.run([*command, flag], ROOT)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("prompt", ["\udcff", "The \udcc3\udcff", "é\ud800"])
def test_prompts_that_are_no_text(prompt, model):
    at = next(i for i, c in enumerate(prompt, 1) if "\ud800" <= c <= "\udfff")
    with pytest.raises(UserError, match=f"--prompt is not UTF-8 at character {at};"):
        continuation.prompt_ids(model, prompt)


def test_prompts_that_do_not_fit(model):
    assert model.longest == 32
    assert len(continuation.prompt_ids(model, "x" * 30)) == 31
    with pytest.raises(UserError, match=r"--prompt has 31 tokens.* takes at most 30"):
        continuation.prompt_ids(model, "x" * 31)
