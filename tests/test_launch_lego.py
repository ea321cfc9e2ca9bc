"""launch/lego.sh: its three ways are runs that start, and what it prints of them."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from configs.lego import get_config
from dga_jax.training.validation import validate

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = (ROOT / "launch" / "lego.sh").read_text()
WAYS = re.search(r"done <<END\n(.*?)\nEND", SCRIPT, re.DOTALL)[1].splitlines()
COMPARES = re.search(r"<<'END'\n(.*?)\nEND", SCRIPT, re.DOTALL)[1]


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_a_config_without_what_its_mixer_does_not_know(way):
    name, mixer, weights, shrink, floor = way.split()
    config = get_config()
    config.mixer.update(name=mixer, weights=weights)
    config.mixer.update(shrink=shrink == "true", floor=float(floor))
    validate(config)
    if name == "dga":
        assert config.mixer == get_config("mixer.weights=uniform").mixer


def test_it_says_when_each_was_there(tmp_path):
    losses = {"target": [0.4, 0.34], "needed": [0.33, 0.3], "dga": [0.35, 0.009]}
    for name, values in losses.items():
        (tmp_path / f"{name}-7").mkdir()
        lines = [
            {"step": 100 * (i + 1), "eval/target/loss": value}
            | {f"mixture/weight/skill_{s}": s / 15 for s in range(1, 6)}
            for i, value in enumerate(values)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"{name}-7" / "metrics.jsonl").write_text(text)
    command = [sys.executable, "-c", COMPARES, str(tmp_path), "7", "8"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""
    *_, row, unstarted = done.stdout.splitlines()
    assert set(unstarted.split()[1:]) == {"-", "-,", "-;"}
    row = row.replace(",", "").replace(";", "").split()
    ends, reached, below = row[1:4], row[4:7], row[7:10]
    assert ends == ["0.3400", "0.3000", "0.0090"]
    assert reached == ["200", "100", "200"]
    assert below == ["-", "-", "200"]
    assert row[10:] == ["0.067", "0.133", "0.200", "0.267", "0.333"]
