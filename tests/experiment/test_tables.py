"""Tables and figures from results alone."""

import dataclasses
import json

import pytest
from experiments import line, pairs

from dga_jax.errors import UserError
from dga_jax.experiment import cost, figure, page, results, tables
from dga_jax.experiment.spec import Figure, from_description


def test_a_row_a_group_with_differences_by_pair():
    experiment, lines = pairs([5.0, 6.0], {"dga": [4.5, 5.7]})
    heading, uniform, dga = tables.rows(experiment, lines, ("mixer",))
    cells = dict(zip(heading, dga, strict=True))
    assert cells["target loss"] == "5.100 [4.500, 5.700]"
    assert cells["less baseline"] == "-0.400 [-0.500, -0.300]"
    assert cells["better"] == "100%"
    assert uniform[3:7] == ["-"] * 4  # it is the baseline


def test_how_far_a_point_is_from_another_than_the_baseline():
    experiment, lines = pairs([5.0, 6.0], {"dga": [4.5, 5.7], "held": [4.7, 5.8]})
    assert tables.other_differences(experiment, lines) == []
    both = dataclasses.replace(experiment, also=("dga", "held"))
    (said,) = tables.other_differences(both, lines)
    assert "dga less held, 2 pairs: target loss -0.150 [-0.200, -0.100]" in said
    known = from_description(json.loads(json.dumps(both.described())))
    assert tables.other_differences(known, lines) == [said]
    with pytest.raises(UserError, match=r"experiment\.also=.*points of axis 'mixer'"):
        dataclasses.replace(experiment, also=("dga", "none")).check()


def test_steps_to_the_loss_of_the_baseline():
    """DGA's curve goes from 5.5 at step 50 to 4.5 at 100: at 5 it is half way."""
    experiment, lines = pairs([5.0], {"dga": [4.5], "worse": [5.5]})
    lines[1]["cost"] = {"flops": 2e9}
    heading, _, dga, worse = tables.rows(experiment, lines, ("mixer",))
    steps, flops = heading.index("steps"), heading.index("FLOPs")
    assert (dga[steps], dga[flops]) == ("0.75", "1.50")
    assert (worse[steps], worse[flops]) == ("never", "never")


def test_the_loss_of_the_target_that_is_steered_to():
    experiment, lines = pairs([5.0], {})
    lines[0]["final"]["target/uniform"] = 4.0
    other = type(experiment)(
        "Which?", experiment.axes, experiment.baseline, loss="target/{mixer}"
    )
    found = tables.mean(other, tables.groups(other, lines, ("mixer",))[0], "target")
    assert found.mean == 4.0


def test_spearman():
    assert tables.spearman([1, 2, 3, 4], [2, 4, 6, 8]) == 1
    assert tables.spearman([1, 2, 3, 4], [4, 3, 2, 1]) == -1
    # Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: the covariance by hand is 4.5.
    assert tables.spearman([1, 2, 2, 3], [1, 3, 2, 4]) == pytest.approx(
        4.5 / (4.5 * 5) ** 0.5, abs=1e-6
    )


def test_what_failed_is_said_and_left_out():
    experiment, lines = pairs([5.0, 6.0], {"dga": [4.5, 5.7]})
    lines[3] = {k: lines[3][k] for k in ("name", "axes")} | {"failed": "no disk"}
    assert tables.failures(lines) == ["dga-1 failed: no disk"]
    assert tables.rows(experiment, lines, ("mixer",))[2][1] == "1"


@pytest.mark.parametrize(
    "shown",
    [
        Figure("forest"),
        Figure("lines", x="seed"),
        Figure("curves", panels="seed"),
        Figure("front", x="seed"),
    ],
)
def test_every_kind_of_figure(shown, tmp_path):
    experiment, lines = pairs([5.0, 6.0], {"dga": [4.5, 5.7]})
    experiment = type(experiment)(
        "Which?", experiment.axes, experiment.baseline, figure=shown
    )
    path = figure.draw(tmp_path / "figure.png", experiment, lines)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert figure.draw(tmp_path / "none.png", experiment, []) is None


def test_all_is_drawn_from_the_results_alone(tmp_path):
    experiment, lines = pairs([5.0, 6.0], {"dga": [4.5, 5.7]})
    results.write_lines(tmp_path, lines)
    page.draw(tmp_path)  # without a description: the first point is the baseline
    assert "-0.400 [-0.500, -0.300]" in (tmp_path / page.PAGE).read_text()
    page.write_description(tmp_path, experiment, "python -m it")
    first = page.draw(tmp_path)
    text = (tmp_path / page.PAGE).read_text()
    assert "# Which?" in text
    assert "python -m it" in text
    assert (tmp_path / page.TEXT).read_text().strip() == first.strip()
    assert (tmp_path / page.FIGURE).exists()
    assert page.draw(tmp_path) == first


def test_results_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(UserError, match=r"results\.jsonl: no such file"):
        page.draw(tmp_path)
    (tmp_path / results.RESULTS).write_text(json.dumps(line("a", 0, 1.0)) + "\n{\n")
    with pytest.raises(UserError, match="line 2: no result"):
        page.draw(tmp_path)
    results.write_lines(tmp_path, [line("a", 0, 1.0)])
    (tmp_path / page.DESCRIPTION).write_text("[]")
    with pytest.raises(UserError, match=r"experiment\.json cannot be read"):
        page.draw(tmp_path)


def test_what_steers_is_counted_in_and_looking_is_not():
    lines = [
        {"step": 1, "cost/train_tokens": 10, "cost/flops": 7.0, "cost/eval_flops": 3.0},
        {"step": 2, "cost/train_tokens": 20, "cost/flops": 9.0, "cost/eval_flops": 4.0},
    ]
    found = cost.of_run(lines)
    assert (found["train_tokens"], found["flops"]) == (20, 5.0)
