"""Several runs on a page: compared where they can be, and said where not."""

import io
import json

import pytest
from browser import left, shown
from pages import Page
from test_report import NAMES, log_run

from dga_jax.errors import UserError
from dga_jax.logs.metrics import MetricsWriter
from dga_jax.report import write_reports
from dga_jax.training.config import default_config


def log_target(workdir, losses, *, seed=0, content="a", **mixer):
    """A run with a config, whose target had these losses by step."""
    writer = MetricsWriter(workdir, first_step=0)
    for step, loss in losses.items():
        writer.write(step, {"eval/target/loss": loss, "train/loss": loss - 1})
    writer.close()
    config = default_config().to_dict()
    config.pop("explicit")
    config["seed"], config["data"]["store"] = seed, "nowhere"
    config["mixer"] |= mixer
    record = {"config": config, "data": {"content_hash": content}}
    (workdir / "config.json").write_text(json.dumps(record))
    return workdir


def compared(*workdirs):
    out = io.StringIO()
    page = write_reports(workdirs, out=out)
    return Page(page), out.getvalue()


def test_compared_at_the_last_step_that_all_have(tmp_path):
    page, printed = compared(
        log_target(tmp_path / "long", {0: 9.0, 50: 5.0, 100: 4.0}, name="static"),
        log_target(tmp_path / "short", {0: 9.0, 50: 4.5}),
    )
    (_, long, short), *_ = [
        page.rows[i : i + 3] for i, row in enumerate(page.rows) if row[:1] == ["run"]
    ]
    assert long[:5] == ["long", "static", "0", "50", "5.000"]
    assert short[:5] == ["short", "dga", "0", "50", "4.500"]
    told = [line.split() for line in printed.splitlines()]
    assert [cell for cell in long if cell] in told
    assert "loss is lowest in short: 4.500 nats per token. Above it: long +0.500." in (
        page.text
    )
    assert "Each was trained with one seed" in page.text
    assert ["mixer.name", "static", "dga"] in page.rows
    assert page.values("target, loss")["long"] == ([0, 50, 100], [9.0, 5.0, 4.0])
    links = {v for tag, name, v in page.attributes if (tag, name) == ("a", "href")}
    assert links == {"long/report.html", "short/report.html"}
    assert (tmp_path / "long/report.html").is_file()


def test_runs_that_differ_in_their_seed_have_a_mean(tmp_path):
    page, _ = compared(
        log_target(tmp_path / "a", {10: 4.0}, seed=0),
        log_target(tmp_path / "b", {10: 4.2}, seed=1),
        log_target(tmp_path / "c", {10: 5.0}, name="static"),
    )
    assert (
        "a, b differ in nothing but their seed: target loss 4.100 ± 0.141" in page.text
    )
    assert "trained with one seed" not in page.text


def test_what_cannot_be_compared_is_not(tmp_path):
    page, _ = compared(
        log_target(tmp_path / "a", {10: 4.0}),
        log_target(tmp_path / "b", {10: 4.2}, content="b"),
    )
    assert "their losses cannot be compared" in page.text
    page, _ = compared(
        log_target(tmp_path / "c", {10: 4.0}), log_target(tmp_path / "d", {20: 4.2})
    )
    assert "no step at which all were evaluated" in page.text


def test_runs_without_configs(tmp_path):
    page, _ = compared(log_run(tmp_path / "a"), log_run(tmp_path / "b", steps=50))
    assert "the config of a run is not there" in page.text
    assert "(mixers:" not in page.text


@pytest.mark.parametrize("inside", [False, True])
def test_whose_page_is_whose(inside, tmp_path):
    a = log_run(tmp_path / "a")
    b = log_run(tmp_path / "a/b" if inside else tmp_path / "b")
    assert write_reports([a, b], out=io.StringIO()) == tmp_path / "report.html"
    assert "2 runs" not in (a / "report.html").read_text()


def test_what_is_wrong_is_said(tmp_path):
    run = log_run(tmp_path / "a")
    other = log_run(tmp_path / "b")
    with pytest.raises(UserError, match="comes twice"):
        write_reports([run, tmp_path / "b/../a"], out=io.StringIO())
    with pytest.raises(UserError, match="choose another place with --page"):
        write_reports([run, other], tmp_path / "no/where.html", out=io.StringIO())


_OPEN = """
const root = document.documentElement;
for (const details of document.querySelectorAll("details")) details.open = true;
root.dataset.charts = document.querySelectorAll("figure svg path.curve").length;
"""


def test_in_a_browser(tmp_path):
    page = write_reports(
        [log_run(tmp_path / "a"), log_run(tmp_path / "</script>", NAMES[:2])],
        out=io.StringIO(),
    )
    elements = shown(page, tmp_path, _OPEN)
    assert left(elements, "errors") is None
    assert int(left(elements, "charts")) == 2 + 2 + 2 + 4 + 2
