"""No command takes a URL for a path: nothing appears where it is started."""

import os

import forks
import pytest
from processes import ROOT

pytestmark = pytest.mark.slow

URL = "memory://bucket/place"
QUICKSTART = f"--config={ROOT}/configs/quickstart.py:debug"
MAKE = ["--generic={texts}", "--target={texts}", "--tokenizer=bytes", "--seq_len=8"]
COMMANDS = {
    "main": ["main", QUICKSTART, f"--workdir={URL}", "--config.data.store=sample"],
    "store": [
        "main",
        QUICKSTART,
        "--workdir={elsewhere}",
        f"--config.data.store={URL}",
    ],
    "cache": [
        "main",
        QUICKSTART,
        "--workdir={elsewhere}",
        "--config.data.store=sample",
        f"--config.data.cache={URL}",
    ],
    "experiment": [
        "experiment",
        f"--config={ROOT}/configs/experiments/sample.py",
        f"--workdir={URL}",
    ],
    "report": ["report", f"--workdir={URL}"],
    "prepare": ["prepare", *MAKE, f"--output={URL}"],
    "work": ["prepare", *MAKE, "--output={elsewhere}", f"--work={URL}"],
    "dropped": [
        "prepare",
        *MAKE,
        "--output={elsewhere}",
        "--dedup",
        f"--dropped={URL}",
    ],
    "tokenizer": [
        "prepare",
        "tokenizer",
        "--generic={texts}",
        "--vocab_size=300",
        f"--output={URL}",
    ],
    "inspect": ["prepare", "inspect", URL],
    "verify": ["prepare", "verify", URL],
    "describe": ["prepare", "describe", URL],
    "html": ["prepare", "describe", "{store}", f"--html={URL}"],
    "basis": ["prepare", "basis", URL, "--name=x", "--references={texts}"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_one_line_and_nothing_else(name, byte_store, tmp_path):
    here, texts = tmp_path / "here", tmp_path / "texts.jsonl"
    here.mkdir()
    texts.write_text('{"text": "some words"}\n' * 40)
    places = {"texts": texts, "elsewhere": tmp_path / "else", "store": byte_store.path}
    module, *flags = (part.format(**places) for part in COMMANDS[name])
    path = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    result = forks.run(["-m", f"dga_jax.{module}", *flags], here, os.environ | path)
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert URL in line
    assert list(here.iterdir()) == []
