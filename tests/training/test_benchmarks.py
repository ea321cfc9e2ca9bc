"""lm-eval inside training: logged where it is due; its failure stops nothing."""

import json
import os

import pytest
from runs import log_of, small_config, train_run

from dga_jax.errors import UserError
from dga_jax.training import benchmarks, validation

pytest.importorskip("lm_eval")

ITEMS = [
    {"question": f"{i}?", "choices": ["a", "bb", "c"], "answer": i % 3, "subject": "x"}
    for i in range(4)
]


@pytest.fixture
def config(byte_store, tmp_path):
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    config = small_config(byte_store, mixer__name="static")
    config.train.steps = 5
    config.eval.lm_eval.update(every=2, tasks="mmlu,mmlu_cloze", data=str(data))
    return config


def test_logged_where_it_is_due_and_changes_nothing_else(config, tmp_path):
    assert train_run(config, tmp_path / "run")
    lines = log_of(tmp_path / "run")
    name = "eval/lm_eval/mmlu_cloze/bits_per_byte"
    assert [line["step"] for line in lines if name in line] == [0, 2, 4, 5]
    values = [line[name] for line in lines if name in line]
    assert len(set(values)) == 4
    assert all("eval/lm_eval/mmlu/acc" in line for line in lines if name in line)
    config.eval.lm_eval.every = 0
    assert train_run(config, tmp_path / "without")
    for key in ("train/loss", "eval/target/loss"):
        both = [
            [line[key] for line in log if key in line]
            for log in (lines, log_of(tmp_path / "without"))
        ]
        assert both[0] == both[1]


def test_a_failure_is_said_and_training_goes_on(config, tmp_path, monkeypatch, capsys):
    whole = benchmarks.Benchmarks._open
    tries = []

    def opened(self):
        tries.append(1)
        if len(tries) == 2:
            os.remove(config.eval.lm_eval.data)
        if len(tries) == 1:
            raise ValueError("two\nlines")
        return whole(self)

    monkeypatch.setattr(benchmarks.Benchmarks, "_open", opened)
    assert train_run(config, tmp_path / "run")
    lines = log_of(tmp_path / "run")
    failed = [line["step"] for line in lines if "eval/lm_eval/failed" in line]
    assert failed == [0, 2, 4, 5]
    assert lines[-1]["step"] == 5
    said = [x for x in capsys.readouterr().out.splitlines() if "lm_eval failed" in x]
    assert "at step 0, and training goes on: ValueError: two lines" in said[0]
    assert "config.eval.lm_eval.data=" in said[1]
    assert "no such file" in said[1]


def test_what_is_wrong_is_said_before_the_first_step(config):
    config.eval.lm_eval.data = "no/such"
    with pytest.raises(UserError, match=r"config.eval.lm_eval.data=no/such: no such"):
        validation.validate(config)
    config.eval.lm_eval.every = 0
    validation.validate(config)
