"""The table says what the log says; the plot appears whole."""

import io
import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dga_jax.errors import UserError
from dga_jax.logs.metrics import MetricsWriter
from dga_jax.logs.plot import _add_flops, _spread
from dga_jax.report import write_report

NAMES = ["wordnet", "python_code", "a$b_$c", "factbook"]


def log_run(workdir, names=NAMES, *, steps=100, evals=(0, 100), aligned=True):
    """A run whose second domain wins; target loss 7 - step/50, 2 nats of it a byte."""
    writer = MetricsWriter(workdir, first_step=0)
    signal = np.zeros(len(names))
    signal[1] = 0.05
    for step in range(0, steps + 1, 10):
        weights = np.exp(signal * (step if aligned else 0))
        weights = (weights / weights.sum()).astype(np.float32)
        values = {}
        if step == 0 or aligned:
            values |= writer.write_series(step, "mixture/weight", weights, names)
            values["mixture/effective_domains"] = 1 / float((weights**2).sum())
        if step:
            values |= {"train/loss": 7 - step / 40, "perf/tokens_per_second": 12345.6}
            values |= {"perf/alignment_share": 0.0421, "perf/seconds": step / 2}
            epochs = weights * step / 10
            values |= writer.write_series(
                step, "data/epochs", epochs, names, rank_by=weights
            )
        if step and aligned:
            for key, series in {"": signal, "_error": signal / 10}.items():
                values |= writer.write_series(
                    step, f"mixture/alignment{key}", series, names, rank_by=weights
                )
        if step in evals:
            for name, loss in {"target": 7, "generic_uniform": 8}.items():
                values[f"eval/{name}/loss"] = loss - step / 50
                values[f"eval/{name}/bits_per_byte"] = (loss - step / 50) / 2
        writer.write(step, values)
    writer.close()
    return workdir


def report(workdir):
    """The words of every line of the table, by the first of them."""
    out = io.StringIO()
    write_report(workdir, out=out)
    lines = [line.split() for line in out.getvalue().splitlines()]
    return {line[0]: line[1:] for line in lines if line}


def test_first_and_last_losses_in_both_units(tmp_path):
    rows = report(log_run(tmp_path / "run"))
    assert rows["run:"] == ["100", "steps,", "4", "domains,", "50s"]
    assert rows["target"] == ["7.000", "5.000", "-2.000", "3.500", "2.500"]
    assert rows["generic,"] == ["natural", "-", "-", "-", "-", "-"]


def test_domains_by_final_weight_with_epochs_and_alignment(tmp_path):
    rows = report(log_run(tmp_path))
    share = math.exp(5) / (math.exp(5) + 3)
    assert rows["python_code"] == [
        ".250",
        f"{share:.3f}"[1:],
        f"x{share * 4:.2f}",
        f"{share * 10:.2f}",
        "+0.0500",
        "0.0050",
    ]
    assert list(rows).index("python_code") < list(rows).index("wordnet")
    assert rows["tokens"] == ["per", "second:", "12.3k", "(median)"]
    assert rows["time"] == ["on", "alignment:", "4.2%", "of", "training"]
    assert rows["effective"][:2] == ["domains:", "4"]


def test_above_64_domains_16_and_the_sum_of_the_rest(tmp_path):
    names = [f"cluster_{i}" for i in range(100)]
    rows = report(log_run(tmp_path, names))
    assert sum(name.startswith("cluster_") for name in rows) == 16
    others = 84 / (99 + math.exp(5))
    assert rows["84"] == [
        "others",
        ".840",
        f"{others:.3f}"[1:],
        f"x{others / 0.84:.2f}",
    ]


def test_a_run_without_alignments_has_no_such_columns(tmp_path):
    rows = report(log_run(tmp_path, aligned=False))
    assert rows["wordnet"] == [".250", ".250", "x1.00", "2.50"]


@pytest.mark.parametrize("evals", [(), (0,), (100,)])
def test_a_run_with_one_evaluation_or_none(tmp_path, evals):
    rows = report(log_run(tmp_path, evals=evals))
    if evals:
        loss = 7 - evals[0] / 50
        assert rows["target"] == [f"{loss:.3f}", f"{loss / 2:.3f}"]
    else:
        assert rows["no"] == ["evaluation", "yet"]


def test_a_run_stopped_at_its_first_line(tmp_path):
    rows = report(log_run(tmp_path, steps=0))
    assert rows["wordnet"] == [".250", ".250", "x1.00"]


@pytest.mark.parametrize("count", [4, 17, 100])
def test_the_plot_is_a_picture_and_whole(tmp_path, count):
    log_run(tmp_path, [f"{NAMES[i % 4]}{i}" for i in range(count)])
    path = write_report(tmp_path, out=io.StringIO())
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[0] > 400
    colours = {tuple(x) for x in pixels[::2, ::2].reshape(-1, 3).tolist()}
    assert (0, 114, 178) in colours  # the leading domain
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("lacking", [1, 4])
@pytest.mark.parametrize("value", [None, "no key"])
@pytest.mark.parametrize("at", [0, -1])
def test_weights_that_a_record_lacks_are_not_drawn(lacking, value, at, tmp_path):
    log = log_run(tmp_path) / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for name in NAMES[:lacking]:
        lines[at][f"mixture/weight/{name}"] = value
        if value:
            del lines[at][f"mixture/weight/{name}"]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = report(tmp_path)
    assert rows["target"][:2] == ["7.000", "5.000"]
    assert (tmp_path / "mixture.png").exists()


@pytest.mark.parametrize("name", ["mixture.png", "report.html"])
def test_the_table_is_printed_where_nothing_can_be_written(name, tmp_path):
    (log_run(tmp_path) / name).mkdir()
    out = io.StringIO()
    with pytest.raises(UserError, match=f"^cannot write .*{name}: "):
        write_report(tmp_path, out=out)
    assert "python_code" in out.getvalue()


def test_labels_do_not_overlap_and_stay_in_the_picture():
    rng = np.random.default_rng(0)
    for count in range(1, 12):
        wanted = np.sort(rng.dirichlet(np.full(count, 0.1)))
        placed = _spread(wanted, 0.05)
        assert np.diff(placed).min(initial=1) > 0.05 - 1e-9
        assert placed[0] >= 0
        assert placed[-1] <= 1
    np.testing.assert_allclose(
        _spread(np.array([0.2, 0.5, 0.9]), 0.05), [0.2, 0.5, 0.9]
    )


def test_a_log_without_a_line_is_the_users_error(tmp_path):
    MetricsWriter(tmp_path, first_step=0).close()
    with pytest.raises(UserError, match="no line yet"):
        write_report(tmp_path)


def log_drawn(workdir, names, *, used_up):
    """Two windows, of 100 and 300 tokens; asked for are .9, .1, then .5, .5."""
    writer = MetricsWriter(workdir, first_step=0)
    asked = {0: [0.9, 0.1], 10: [0.5, 0.5], 20: [0.4, 0.6]}
    given = {0: (0, [np.nan] * 2), 10: (100, [0.8, 0.2]), 20: (300, [0.0, 1.0])}
    rest = [0.0] * (len(names) - 2)
    for step in asked:
        weights = np.array(asked[step] + rest)
        tokens, shares = given[step]
        values = writer.write_series(step, "mixture/weight", weights, names)
        values |= writer.write_series(
            step, "mixture/drawn", np.array(shares + rest), names, rank_by=weights
        )
        # Each domain is probed in one of the two updates alone.
        measured = np.full(len(names), np.nan)
        if step:
            measured[step // 20] = step
        values |= writer.write_series(
            step, "mixture/alignment", measured, names, rank_by=weights
        )
        values |= {"mixture/drawn_tokens": tokens, "mixture/effective_domains": 2}
        if used_up is not None:
            values["mixture/used_up"] = used_up if step else 0.0
        writer.write(step, values)
    writer.close()
    return workdir


@pytest.mark.parametrize("count", [2, 100])
def test_drawn_is_beside_what_was_asked_for_over_the_same_tokens(count, tmp_path):
    names = [f"d{i}" for i in range(count)]
    rows = report(log_drawn(tmp_path, names, used_up=None))
    assert rows["domain"][-3:] == ["drawn", "alignment", "+/-"]
    # .25 x .9 + .75 x .5 and .25 x .8 + .75 x 0; the newest alignment of each.
    assert rows["d0"][3:] == [".600", ".200", "+10.0", "-"]
    assert rows["d1"][3:] == [".400", ".800", "+20.0", "-"]
    if count > 64:
        assert rows["84"][-2:] == [".000", ".000"]


@pytest.mark.parametrize("used_up", [None, 0.0, 0.4])
def test_weights_that_are_not_what_is_drawn_are_said_to_be(used_up, tmp_path):
    out = io.StringIO()
    write_report(log_drawn(tmp_path, ["a", "b"], used_up=used_up), out=out)
    text = out.getvalue()
    said = bool(used_up)
    assert ("used up (data.max_epochs): domains with .400" in text) == said
    assert ("(of the weights, not of what is drawn)" in text) == said


def test_alignments_of_a_basis_are_not_those_of_domains_of_the_same_names(tmp_path):
    writer = MetricsWriter(tmp_path, first_step=0)
    names = ["a", "b"]
    for step in (0, 10):
        values = {}
        for key in ("weight", "basis_weight", "alignment", "alignment_error"):
            values |= writer.write_series(
                step, f"mixture/{key}", np.array([0.5, 0.5]), names
            )
        writer.write(step, values)
    writer.close()
    out = io.StringIO()
    write_report(tmp_path, title="run", out=out)
    domain, basis = out.getvalue().split("basis  ")
    assert "alignment" not in domain
    assert "alignment" in basis


def log_costs(workdir):
    """Two evaluations, a fifth of what was spent on them."""
    writer = MetricsWriter(workdir, first_step=0)
    for step in (0, 100):
        spent = {"train": 3.0 * step, "probe": 0.8 * step, "eval": 20.0 + 0.75 * step}
        values = {"eval/target/loss": 7 - step / 50, "cost/flops": sum(spent.values())}
        for kind in ("train", "probe", "target", "reference", "eval"):
            values[f"cost/{kind}_flops"] = spent.get(kind, 0.0)
            values[f"cost/{kind}_tokens"] = int(10 * spent.get(kind, 0))
        writer.write(step, values)
    writer.close()
    return workdir


def test_losses_stand_beside_what_they_cost(tmp_path):
    rows = report(log_costs(tmp_path))
    assert rows["total"] == ["FLOPs", "2.00e1", "4.75e2"]
    text = " ".join(rows["cost:"])
    assert text.endswith(
        "FLOPs: training 63.2% (3k tokens), probes 16.8% (800 tokens), "
        "evaluation 20.0% (950 tokens)"
    )


def test_a_sign_of_failure_is_said_with_its_steps(tmp_path):
    writer = MetricsWriter(tmp_path, first_step=0)
    for step in (0, 10, 20, 30):
        values = {"mixture/drawn_tokens": 1.0}
        if step in (10, 20):
            values["warning/swings"] = 0.2 + step / 100
        if step > 10:
            values["warning/collapse"] = 1.0
        writer.write(step, values)
    writer.close()
    out = io.StringIO()
    write_report(tmp_path, out=out)
    said = [x for x in out.getvalue().splitlines() if x.startswith("warning")]
    assert len(said) == 2
    assert said[0].startswith("warning, steps 20 to 30: the weights have collapsed")
    assert "steps 10 to 20, cleared: the weights swing" in said[1]
    assert "moves 40% of" in said[1]


def test_the_axis_above_says_what_was_spent_by_each_step(tmp_path):
    steps, flops = np.array([0.0, 50, 100]), np.array([5.0, 10, 30])
    lines = [
        {"step": int(step), "cost/flops": spent}
        for step, spent in zip(steps, flops, strict=True)
    ]
    axes = Figure().subplots()
    axes.set_xlim(0, 102)
    _add_flops(axes, lines)
    (above,) = axes.child_axes
    axes.figure.draw_without_rendering()
    low, high = above.get_xlim()
    assert low == pytest.approx(5)
    assert high == pytest.approx(30 + 20 * 2 / 50)
    for unknown in (lines[:1], [{"step": 1}], [lines[0], lines[0] | {"step": 1}]):
        axes = Figure().subplots()
        _add_flops(axes, unknown)
        assert not axes.child_axes
