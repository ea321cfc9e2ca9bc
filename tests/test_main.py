"""The command: what a user gets wrong, and what `kill -9` may leave behind."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import forks
import numpy as np
import pytest
from runs import log_of, small_config

from configs.quickstart import get_config
from dga_jax.errors import UserError
from dga_jax.training.setup import check

ROOT = pathlib.Path(__file__).parents[1]
XLA_FLAGS = os.environ["XLA_FLAGS"]
SMALL = (
    "debug,model.num_layers=1,model.d_model=32,model.d_ff=64,mixer.interval=3,"
    "eval.every=4,checkpoint.every=5,train.steps=30"
)


# One device: eight forced ones would only be slower.
ONE_DEVICE = {**os.environ, "XLA_FLAGS": XLA_FLAGS.replace("count=8", "count=1")}


def start(*flags):
    return forks.Process(["-m", "dga_jax.main", *flags], ROOT, ONE_DEVICE)


def fails(*flags):
    """The one line on stderr of a command that must fail."""
    process = start(*flags)
    _, errors = process.communicate()
    assert process.returncode > 0
    lines = errors.strip().splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    return lines[0]


# By the command and what else it needs, flags that are numbers.
_NUMBERS = {
    "generate --workdir=x": ("temperature", "top_p"),
    "prepare --output=x --tokenizer=bytes --seq_len=8": (
        "max_document_mb",
        "max_imbalance",
    ),
    "prepare tokenizer --output=x": ("max_document_mb", "sample_mb"),
    "benchmark fit": ("memory_gb", "peak_tflops"),
}


@pytest.mark.parametrize(
    ("command", "flag"), [(c, f) for c, flags in _NUMBERS.items() for f in flags]
)
def test_a_flag_that_is_a_number_is_a_finite_one(command, flag):
    module, *words = command.split()
    for value in ("nan", "inf", "-inf"):
        done = forks.run(["-m", f"dga_jax.{module}", *words, f"--{flag}={value}"], ROOT)
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("error: ")
        assert f"--{flag}={value}" in line


QUICKSTART = "--config=configs/quickstart.py:debug"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([QUICKSTART, "--config.train.stesp=3"], "stesp"),
        ([QUICKSTART, "--stesp=3"], "stesp"),
        ([QUICKSTART, "--config.train.steps=many"], "steps"),
        (["--config=configs/quikstart.py"], "quikstart.py"),
        (["--config=configs/quickstart.py:debgu"], "debgu"),
        ([], "--config"),
        ([QUICKSTART, "stray"], "stray"),
        ([QUICKSTART, "--config.mixer.name=dgaa"], "dgaa"),
        ([QUICKSTART, "--config.data.store=nowhere"], "nowhere"),
        ([QUICKSTART, "--config.train.seq_len=64", "--config.data.store=S"], "64"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) and value else None,
)
def test_one_line(flags, words, tmp_path, byte_store):
    flags = [flag.replace("=S", f"={byte_store.path}") for flag in flags]
    assert words in fails(*flags, f"--workdir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_one_line_about_a_config_file(tmp_path):
    """What a file sets is of the field's type: no value of an older version."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from configs.quickstart import get_config as base\n"
        "def get_config(argument=None):\n"
        "    config = base(argument)\n"
        "    config.model.remat = False\n"
        "    return config\n"
    )
    line = fails(f"--config={file}", f"--workdir={tmp_path / 'run'}")
    assert "mine.py" in line
    assert "TypeError: Could not override field 'remat'" in line
    assert "Traceback" not in line


@pytest.mark.slow
def test_one_line_about_the_workdir(tmp_path):
    assert "--workdir" in fails(QUICKSTART)
    (tmp_path / "file").touch()
    assert "file" in fails(QUICKSTART, f"--workdir={tmp_path / 'file'}")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"train__steps": 0}, r"train\.steps=0"),
        ({"train__batch_size": -8}, r"train\.batch_size=-8"),
        ({"train__batch_size": 12}, r"train\.batch_size=12 .* not a multiple of .* 8"),
        ({"mesh__data": 3}, r"mesh\.data=3"),
        ({"mesh__tensor": 0}, r"mesh\.tensor=0"),
        ({"mixer__name": "dgaa"}, "dgaa.*choose .*dga or static"),
        ({"mixer__weights": "nobody=1"}, "no domain 'nobody'"),
        ({"mixer__weights": "austen=.5"}, r"sum to 0\.5"),
        ({"mixer__basis": "/nowhere/P.npy"}, r"/nowhere/P\.npy"),
        ({"data__store": ""}, r"data\.store is not set"),
        ({"data__store": "/nowhere"}, "no store at /nowhere"),
        ({"data__level": 1}, r"data\.level 1"),
        ({"data__max_epochs": 1, "data__tokens_per_domain": 32}, "max_epochs=1"),
    ],
    ids=str,
)
def test_checked_before_anything_is_written(fields, words, byte_store):
    config = small_config(byte_store, **fields)
    with pytest.raises(UserError, match=words) as caught:
        check(config, ())
    assert "\n" not in str(caught.value)


def test_flags_at_odds_with_the_store(byte_store):
    config = small_config(byte_store, train__seq_len=64)
    with pytest.raises(UserError, match=r"train\.seq_len=64, but .* has 32"):
        check(config, ("train.seq_len",))
    assert check(config, ()).config.train.seq_len == 32
    config.model.vocab_size = 99
    with pytest.raises(UserError, match=r"model\.vocab_size=99, but .* has 257"):
        check(config, ("model.vocab_size",))


@pytest.mark.parametrize("file", ["train-00000-of-00001.array_record", "manifest.json"])
def test_a_truncated_store(file, byte_store, tmp_path):
    shutil.copytree(byte_store.path, tmp_path / "store")
    path = tmp_path / "store" / file
    os.truncate(path, path.stat().st_size // 2)
    config = small_config(byte_store, data__store=str(tmp_path / "store"))
    with pytest.raises(UserError, match=r"truncated|damaged"):
        check(config, ())


@pytest.mark.parametrize("split", ["target", "target_eval", "train"])
def test_a_store_without(split, byte_store, tmp_path):
    shutil.copytree(byte_store.path, tmp_path / "store")
    path = tmp_path / "store" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["splits"][split]["rows"] = 0
    path.write_text(json.dumps(manifest))
    config = small_config(byte_store, data__store=str(tmp_path / "store"))
    with pytest.raises(UserError, match=f"no {split} rows"):
        check(config, ())


def test_the_sample_needs_no_store():
    config = get_config("debug")
    assert check(config, ()).store.vocab_size == config.model.vocab_size == 2048


@pytest.mark.slow
def test_ended_at_random_moments(byte_store, tmp_path):
    """With real processes, wherever they are: every line is as if nothing happened.

    SIGTERM to one that has something left to do says "start me again".
    """
    flags = [f"--config=configs/quickstart.py:{SMALL}"]
    flags.append(f"--config.data.store={byte_store.path}")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "dga_jax.main", *flags, f"--workdir={whole}"]
    # No fork: its sets of strings have an order of their own, which must not matter.
    done = subprocess.run(command, cwd=ROOT, env=ONE_DEVICE, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (whole / "mixture.png").is_file()
    process = start(*flags, f"--workdir={killed}")
    while not (killed / ".lock").exists():  # it sets up what it needs
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    rng = random.Random(0)
    for how in (signal.SIGKILL, signal.SIGTERM):
        process = start(*flags, f"--workdir={killed}")
        process.stdout.readline()  # it is about to begin
        try:
            process.wait(rng.uniform(0.1, 2.0))
        except subprocess.TimeoutExpired:
            process.send_signal(how)
        process.communicate()
        assert process.returncode in (0, 143 if how == signal.SIGTERM else -how)
    process = start(*flags, f"--workdir={killed}")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert [line["step"] for line in log_of(killed)] == list(range(31))
    assert log_of(killed) == log_of(whole)
    (killed / "checkpoints" / "30" / "state" / "manifest.ocdbt").unlink()
    for words in (
        "checkpoint 30 is damaged",
        "this run is finished, 30 steps are done",
    ):
        process = start(*flags, f"--workdir={killed}")
        output, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")
        assert words in output
        assert log_of(killed) == log_of(whole)


@pytest.mark.slow
def test_sigterm_says_start_me_again(byte_store, tmp_path):
    flags = [
        f"--config=configs/quickstart.py:{SMALL}",
        f"--config.data.store={byte_store.path}",
        "--config.train.steps=100000",
        f"--workdir={tmp_path}",
    ]
    process = start(*flags)
    for line in process.stdout:
        if line.startswith("step"):
            break
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (143, "")
    assert re.search(r"^the first checkpoint was saved in \d+\.\d s$", output, re.M)
    took = r"stopped by SIGTERM, all is saved \(the last save took \d+\.\d s\)"
    assert re.search(took, output)
    last = log_of(tmp_path)[-1]["step"]
    assert str(last) in os.listdir(tmp_path / "checkpoints")


@pytest.mark.slow
def test_a_loss_that_is_not_finite(byte_store, tmp_path):
    """One line on stderr, and status 2."""
    line = fails(
        f"--config=configs/quickstart.py:{SMALL},optimizer.learning_rate=1e30",
        f"--config.data.store={byte_store.path}",
        "--config.optimizer.clip_norm=0",
        f"--workdir={tmp_path}",
    )
    assert "last good checkpoint" in line or "no checkpoint yet" in line
    assert not np.isnan(log_of(tmp_path)[-1]["train/loss"])


def test_sigterm_twice():
    """The second does not interrupt what the first has begun."""
    script = """
import signal
from dga_jax import cli

def main(argv):
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.raise_signal(signal.SIGTERM)
        print("tidied up")

cli.run(main)
"""
    process = forks.run(["-c", script], ROOT)
    assert process.stdout == "tidied up\n"
    said = process.stderr.splitlines()
    assert said == ["error: stopped by SIGTERM; run the same command to go on"]
    assert process.returncode == 143


@pytest.mark.parametrize("how", ["__del__", "gc"])
def test_sigterm_where_python_drops_exceptions(how):
    """It is not lost: what it fell on cannot be told from outside."""
    script = f"""
import gc, signal, time
from dga_jax import cli

def dropped(*_):
    signal.raise_signal(signal.SIGTERM)

def main(argv):
    if {how!r} == "gc":
        gc.callbacks.append(dropped)
        gc.collect()
        gc.callbacks.remove(dropped)
    else:
        type("Dropped", (), {{"__del__": dropped}})()
    time.sleep(1000)

cli.run(main)
"""
    process = forks.run(["-c", script], ROOT)
    said = process.stderr.splitlines()
    assert said == ["error: stopped by SIGTERM; run the same command to go on"]
    assert process.returncode == 143
