"""Paths may be relative to where a command is started, whichever the command."""

import json
import os
from pathlib import Path

import forks
import pytest

ROOT = Path(__file__).parents[1]
CONFIG = f"--config={ROOT}/configs/quickstart.py:debug,model.num_layers=1"
CONFIG += ",train.steps=2,eval.every=2"
# One after the other: most take what an earlier one made.
COMMANDS = (
    "prepare --generic=corpus.jsonl --target=target.jsonl --tokenizer=bytes"
    " --seq_len=64 --output=store --work=work",
    "main {config} --workdir=run --config.data.store=store",
    "main {config} --workdir=run --config.data.store=store",  # which is done
    "main {config},train.steps=4 --workdir=on --config.data.store=store"
    " --config.start.from=run",
    "main {config} --workdir=doremi --config.data.store=store"
    " --config.mixer.name=doremi --config.mixer.reference_run=run",
    "export --workdir=run --output=out",
    "main {config} --workdir=tuned --config.data.store=store --config.model.from=out",
    "generate --workdir=run --prompt=a --max_tokens=2",
    "report run on",
)


@pytest.mark.slow
def test_every_command(tmp_path):
    for name in ("corpus", "target"):
        texts = [f"a {name} with words in it, number {i}" for i in range(400)]
        lines = (json.dumps({"text": text}) + "\n" for text in texts)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    flags = os.environ["XLA_FLAGS"].replace("count=8", "count=1")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    for command in COMMANDS:
        module, *words = command.format(config=CONFIG).split()
        result = forks.run(["-m", f"dga_jax.{module}", *words], tmp_path, environment)
        assert result.returncode == 0, (command, result.stderr)
    assert (tmp_path / "out" / "model.safetensors").exists()
