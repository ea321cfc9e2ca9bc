"""The page of a run says what the log and the console say, whatever names hold."""

import io
import re

import numpy as np
import pytest
from browser import left, shown
from pages import Page
from test_report import NAMES, log_costs, log_drawn, log_run

from dga_jax.logs.metrics import MetricsWriter, history, read_metrics
from dga_jax.report import write_report

HOSTILE = [
    "</script><script>throw new Error('run')</script>",
    '<img src="https://example.org/x" onerror="throw 1">',
    "a & b \u2028 '\"",
    "</title></style><b>",
]


def page_of(workdir):
    out = io.StringIO()
    write_report(workdir, out=out)
    return Page(workdir / "report.html"), out.getvalue()


def test_its_tables_are_those_of_the_console(tmp_path):
    page, printed = page_of(log_run(tmp_path))
    told = [" ".join(" ".join(row).split()) for row in page.rows]
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    for line in lines[
        lines.index("") : lines.index("train loss: 6.750 -> 4.500 nats/token")
    ]:
        assert not line or line in told
    for line in lines[-5:-2]:
        assert line in page.text
    assert f"page: {tmp_path / 'report.html'}" in lines
    assert not list(tmp_path.glob(".report*"))


def test_its_curves_are_those_of_the_log(tmp_path):
    page, _ = page_of(log_run(tmp_path))
    lines = read_metrics(tmp_path)
    for name in NAMES:
        steps, values = history(lines, f"mixture/weight/{name}")
        x, y = page.values("weights")[name]
        assert x == steps.tolist()
        np.testing.assert_allclose(y, values, rtol=1e-6)
    x, y = page.values("losses")["target"]
    assert (x, y) == ([0, 100], [7.0, 5.0])
    (bands,) = {tuple(s["e"]) for s in page.charts["alignments"]["series"][1:]}
    assert bands == (0.0,) * 10


@pytest.mark.parametrize("names", [HOSTILE, [f"{HOSTILE[0]}{i}" for i in range(70)]])
def test_names_are_text_and_nothing_else(names, tmp_path):
    page, _ = page_of(log_run(tmp_path, names))
    text = (tmp_path / "report.html").read_text()
    assert text.count("<script>") == 1
    assert {tag for tag, *_ in page.attributes} <= {
        *("html", "meta", "link", "th", "td", "table", "tr", "div", "section", "p"),
        *("figure", "script", "ul", "span", "details"),
    }
    assert names[0] in page.values("weights")
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_it_asks_for_nothing_outside(tmp_path):
    page, _ = page_of(log_run(tmp_path, HOSTILE))
    asked = [v for _, name, v in page.attributes if name in ("src", "href", "action")]
    assert set(asked) == {"data:,"}
    text = (tmp_path / "report.html").read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\((?!#)", text.replace("url(#${", "url(#"))


def test_many_domains_are_16_and_the_sum_of_the_rest(tmp_path):
    names = [f"cluster_{i}" for i in range(100)]
    page, _ = page_of(log_run(tmp_path, names))
    curves = page.values("weights")
    assert len(curves) == 17
    _, rest = curves["84 others, sum"]
    assert rest[0] == pytest.approx(0.84)
    assert len(page.values("alignments")) == 10  # those of a colour


def test_what_cannot_be_said_is_not(tmp_path):
    page, _ = page_of(log_run(tmp_path, steps=0, evals=()))
    assert "has not been measured yet" in page.text
    assert "No update has moved the weights yet" in page.text
    assert "Not shown: the run's config is not there" in page.text
    assert "None was looked for" in page.text


def test_the_answer_is_that_of_the_numbers(tmp_path):
    page, _ = page_of(log_run(tmp_path))
    assert "the target's held-out loss fell from 7.000 to 5.000" in page.text
    assert "towards python_code (.250 → .980)" in page.text
    writer = MetricsWriter(tmp_path / "worse", first_step=0)
    for step, loss in enumerate((5.0, 4.0, 5.5)):
        signs = {"mixture/drawn_tokens": 1, "warning/unrelated": 0.5}
        writer.write(step, signs | {"eval/target/loss": loss})
    writer.close()
    page, _ = page_of(tmp_path / "worse")
    assert "rose from 5.000 to 5.500" in page.text
    assert "lowest at step 1, 4.000; it ends 1.500 above" in page.text
    assert "1 sign of failure was seen" in page.text
    assert "0.500 above its best" in page.text


def test_what_was_drawn_is_beside_weights_that_it_is_not(tmp_path):
    page, _ = page_of(log_drawn(tmp_path, ["a", "b"], used_up=0.4))
    x, y = page.values("weights")["a, drawn"]
    assert (x, y) == ([0, 0, 10], [None, 0.8, 0.0])


def test_losses_over_flops(tmp_path):
    page, _ = page_of(log_costs(tmp_path))
    chart = page.charts["losses"]
    assert chart["axes"] == ["step", "FLOPs"]
    (target,) = chart["series"]
    assert target["x"] == [[0, 100], [20.0, 475.0]]


def test_several_targets_have_curves_of_their_own(tmp_path):
    writer = MetricsWriter(tmp_path, first_step=0)
    writer.write(0, {"eval/target/loss": 3.0, "eval/target/law/loss": 2.0})
    writer.close()
    page, _ = page_of(tmp_path)
    assert page.values("losses") == {"target": ([0], [3.0]), "- law": ([0], [2.0])}


def test_long_logs_are_thinned_to_values_that_were_logged(tmp_path):
    writer = MetricsWriter(tmp_path, first_step=0)
    rng = np.random.default_rng(0)
    losses = rng.normal(3, 0.1, 5000).round(4)
    losses[1234] = 9.0
    for step, loss in enumerate(losses, 1):
        writer.write(step, {"train/loss": loss})
    writer.close()
    page, _ = page_of(tmp_path)
    x, y = page.values("losses")["train"]
    assert len(x) <= 600
    assert x[0] == 1
    assert x[-1] == 5000
    np.testing.assert_array_equal(y, losses[np.array(x) - 1])
    assert max(y) == 9.0


_TRY = """
const root = document.documentElement;
for (const figure of document.querySelectorAll("figure")) {
  const svg = figure.querySelector("svg"), box = svg.getBoundingClientRect();
  const send = (kind, share, more = {}) => svg.dispatchEvent(new PointerEvent(kind, {
    clientX: box.left + share * box.width, clientY: box.top + 50, bubbles: true,
    button: 0, pointerType: "mouse", ...more }));
  send("pointermove", .99);
  const said = figure.querySelector(".tip").innerText;
  const tip = figure.querySelector(".tip").getBoundingClientRect();
  if (tip.top < box.top || tip.top > box.top + 50 || tip.left < box.left
      || tip.right > box.right) root.dataset.astray = "true";
  root.dataset.hover = `${root.dataset.hover || ""}${said}|`;
  send("pointerdown", .3); send("pointermove", .6); send("pointerup", .6);
  const first = [...svg.querySelectorAll("text")].at(-2).textContent;
  root.dataset.zoomed = `${root.dataset.zoomed || ""}${first}|`;
  for (const key of ["ArrowLeft", "ArrowRight", "+", "-", "Escape"])
    svg.dispatchEvent(new KeyboardEvent("keydown", { key }));
  for (const b of figure.querySelectorAll("button")) { b.click(); b.click(); }
  svg.dispatchEvent(new MouseEvent("dblclick"));
}
root.dataset.curves = document.querySelectorAll("path.curve").length;
root.dataset.wide = document.body.scrollWidth > innerWidth;
root.dataset.asked = performance.getEntriesByType("resource").length;
"""


@pytest.mark.parametrize(("names", "width"), [(NAMES, 1200), (HOSTILE, 500)])
def test_in_a_browser(names, width, tmp_path):
    write_report(log_run(tmp_path / "run", names), out=io.StringIO())
    elements = shown(tmp_path / "run/report.html", tmp_path, _TRY, width)
    assert left(elements, "errors") is None
    assert left(elements, "asked") == "0"
    assert left(elements, "astray") is None
    assert left(elements, "wide") == "false"
    assert int(left(elements, "curves")) == 4 + 3 + 4 + 1
    weights, losses, *_ = left(elements, "hover").split("|")
    assert "step 100" in weights
    assert "0.980" in weights
    assert "5.000" in losses
    assert float(left(elements, "zoomed").split("|")[0]) < 75
