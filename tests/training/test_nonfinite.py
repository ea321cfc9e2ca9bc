"""A loss that is not finite: what the message says works; steps that are skipped."""

import math
import os
import pathlib
import shlex

import forks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import Killed, log_of, small_config, stopped, train_run

from dga_jax.errors import UserError
from dga_jax.training import loop, recorded
from dga_jax.training.programs import compiled

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def poisoned(monkeypatch):
    """Makes the loss of some steps really infinite or NaN, by one parameter of theirs.

    The compiled step is called with it, and gets its own parameter back if it left
    all as it was.
    """

    def poison(patch, poisoned):
        def bad(steps, compiling, programs):
            good_steps = compiled(steps, compiling, programs)

            def train(state, rows):
                if int(state.step) + 1 not in poisoned:
                    return good_steps.train(state, rows)
                embedding = state.params["embed"]["embedding"]
                good = jnp.array(embedding)
                bad = jax.device_put(embedding.at[:, 0].set(jnp.nan), good.sharding)
                state.params["embed"]["embedding"] = bad
                new, metrics = good_steps.train(state, rows)
                left = new.params["embed"]["embedding"]
                if jnp.isnan(left[:, 0]).all() and jnp.isfinite(left[:, 1:]).all():
                    new.params["embed"]["embedding"] = good
                return new, metrics

            return good_steps._replace(train=train)

        patch.setattr(loop, "compiled", bad)

    return poison


def message_of(config, directory):
    with pytest.raises(UserError) as caught:
        train_run(config, directory)
    words = str(caught.value)
    assert "\n" not in words
    return words


def command_in(words, module):
    """The arguments of a command in a message."""
    (text,) = [part for part in words.split(" ; ") if f"-m {module} " in part]
    python, *arguments = shlex.split(text[text.index("python -m ") :])
    assert python == "python"
    return arguments


def typed(arguments):
    """What a command says that has one device, as runs here."""
    flags = os.environ["XLA_FLAGS"].replace("count=8", "count=1")
    result = forks.run(arguments, ROOT, os.environ | {"XLA_FLAGS": flags})
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("saved", [True, False])
def test_what_the_message_names_works(
    saved, byte_store, tmp_path, monkeypatch, poisoned
):
    """Both commands, typed as they stand."""
    config = small_config(byte_store, train__steps=8, eval__every=0)
    config.mesh.data = -1
    config.checkpoint.every = 5 if saved else 0
    directory = tmp_path / "a run, of mine"
    with monkeypatch.context() as patch:
        poisoned(patch, [7])
        words = message_of(config, directory)
    assert words.startswith("step 7: the loss is nan and the gradient norm nan; ")
    assert ("last good checkpoint: 5" if saved else "no checkpoint yet") in words
    said = typed(command_in(words, "dga_jax.main"))
    new = pathlib.Path(f"{directory}-2")
    assert ("begins with all of" in said) == saved
    assert [line["step"] for line in log_of(new)] == list(range(5 if saved else 0, 9))
    run = recorded.read(new)
    lower = run.config.optimizer.learning_rate
    assert lower == pytest.approx(config.optimizer.learning_rate / 10)
    assert run.config.model.d_model == config.model.d_model
    said = typed(command_in(words, "dga_jax.rows"))
    assert "step 7: 8 rows" in said
    with monkeypatch.context() as patch:
        poisoned(patch, [7])
        assert f"{directory}-3" in message_of(config, directory)


def test_parameters_that_are_not_finite_are_no_checkpoint(byte_store, tmp_path):
    """Loss and gradient were finite, the step was too long."""
    config = small_config(
        byte_store,
        optimizer__learning_rate=3e38,
        optimizer__weight_decay=10.0,
        optimizer__schedule="constant",
        optimizer__warmup_steps=0,
        checkpoint__every=1,
        eval__every=0,
        mixer__name="static",
    )
    words = message_of(config, tmp_path)
    assert words.startswith("step 1: the step left parameters that are not finite; no")
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


@pytest.fixture(scope="module")
def skipping(byte_store):
    return lambda limit, **fields: small_config(
        byte_store, train__skip_nonfinite=limit, checkpoint__every=4, **fields
    )


@pytest.mark.parametrize(
    "fields", [{}, {"train__microbatches": 2}], ids=["plain", "microbatches"]
)
def test_skipped_steps(fields, skipping, tmp_path, monkeypatch, poisoned, capsys):
    """Counted, said once, and the same when killed and resumed between them."""
    config = skipping(2, **fields)
    poisoned(monkeypatch, [3, 6])
    assert train_run(config, tmp_path / "whole")
    said = capsys.readouterr().out
    assert said.count("skipped") == 1
    assert "step 3: the loss is nan" in said
    lines = log_of(tmp_path / "whole")
    counts = [line["train/skipped_steps"] for line in lines[1:]]
    assert counts == [0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]
    assert [line["step"] for line in lines[1:] if line["train/loss"] is None] == [3, 6]
    rates = [line["train/learning_rate"] for line in lines[1:]]
    assert rates[2] == rates[3]  # by the updates that were made
    assert all(math.isfinite(line["eval/target/loss"]) for line in lines[4::4])
    with stopped(monkeypatch, 7, by="kill"), pytest.raises(Killed):
        train_run(config, tmp_path / "killed")
    assert train_run(config, tmp_path / "killed")
    assert log_of(tmp_path / "killed") == lines


def test_too_many_skipped(skipping, tmp_path, monkeypatch, poisoned):
    """The limit counts for the run, not for the process."""
    poisoned(monkeypatch, [3, 6])
    with stopped(monkeypatch, 5, by="sigterm"):
        assert not train_run(skipping(1), tmp_path)
    words = message_of(skipping(1), tmp_path)
    assert words.startswith("step 6: the loss is nan")
    assert "after 1 skipped, as many as train.skip_nonfinite=1 lets" in words
    assert "--config.start.from=" in words
    assert "dga_jax.rows" in words
    assert train_run(skipping(2), tmp_path)
    assert log_of(tmp_path)[-1]["train/skipped_steps"] == 2


def test_none_to_skip_changes_nothing(skipping, byte_store, tmp_path):
    """The limit alone moves no number of a run whose steps are finite."""
    assert train_run(skipping(0), tmp_path / "off")
    assert train_run(skipping(3), tmp_path / "on")
    for off, on in zip(log_of(tmp_path / "off"), log_of(tmp_path / "on"), strict=True):
        assert on.pop("train/skipped_steps", 0) == 0
        assert off.keys() == on.keys()
        np.testing.assert_allclose(list(off.values()), list(on.values()), rtol=1e-4)
