"""Special against general: who is on the front, by hand."""

import io

import numpy as np
import pytest

from dga_jax.errors import UserError
from dga_jax.logs import front
from dga_jax.logs.front import Points
from dga_jax.logs.metrics import MetricsWriter
from dga_jax.report import write_front

LOSS, ACC = "eval/target/loss", "eval/lm_eval/mmlu/acc"


def points(name, *pairs):
    x, y = np.array(pairs, float).T
    return Points(name, np.arange(len(pairs)), x, y)


def log(directory, *lines):
    writer = MetricsWriter(directory, first_step=0)
    for step, values in enumerate(lines):
        writer.write(step, values)
    writer.close()
    return directory


def test_the_front_by_hand():
    """Of (1, 5), (2, 3), (4, 1) with others behind them; equal ones are both on it."""
    first = points("a", (1, 5), (2, 4), (2, 3))
    second = points("b", (4, 1), (4, 2), (2, 3), (5, 5))
    on = front.on_front([first, second], LOSS, LOSS)
    assert [x.tolist() for x in on] == [
        [True, False, True],
        [True, False, True, False],
    ]


def test_of_accuracies_more_is_better():
    run = points("a", (1, 0.5), (2, 0.7), (3, 0.6))
    (on,) = front.on_front([run], LOSS, ACC)
    assert on.tolist() == [True, True, False]
    (on,) = front.on_front([run], ACC, ACC)
    assert on.tolist() == [False, True, True]
    assert not front.is_higher_better("eval/lm_eval/mmlu_cloze/bits_per_byte")


def test_the_report_of_several_runs(tmp_path):
    special, general = front.SPECIAL, front.GENERAL
    one = log(
        tmp_path / "one",
        {special: 5.0, general: 4.0},
        {special: 4.0, general: 4.5},
        {"train/loss": 1.0},
    )
    other = log(
        tmp_path / "other", {special: 5.0, general: 4.2}, {special: float("nan")}
    )
    out = io.StringIO()
    path = write_front([one, other], tmp_path / "front.png", out=out)
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert lines[1] == ["one", "4.0000", "4.0000", "2", "of", "2", "0,", "1"]
    assert lines[2] == ["other", "5.0000", "4.2000", "0", "of", "1", "-"]
    assert path.stat().st_size > 10_000
    with pytest.raises(UserError, match=f"has both {ACC} and {general}; choose others"):
        write_front([one, other], path, special=ACC)


def test_names_tell_runs_apart(tmp_path):
    assert front.names_of([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    alike = [tmp_path / "x" / "run", tmp_path / "y" / "run"]
    assert front.names_of(alike) == ["x/run", "y/run"]
    assert front.names_of([tmp_path / "a", tmp_path / "a"]) == ["a", "a"]
