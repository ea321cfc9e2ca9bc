"""The page of one run."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dga_jax.data.about import Texts, telling_terms
from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.logs.series import MAX_LOGGED, NUM_LEADING, Series, leading, read_series
from dga_jax.logs.tables import of_targets
from dga_jax.page import charts, words
from dga_jax.page.markup import (
    Html,
    element,
    figure,
    folded,
    joined,
    section,
    table,
    write,
)
from dga_jax.page.told import Told, find, moves
from dga_jax.training.fields import as_flag, changed, fields, get

_LOSSES = {
    "target": "eval/target/loss",
    "generic, uniform": "eval/generic_uniform/loss",
    "generic, natural": "eval/generic_natural/loss",
    "target, steering part": "eval/target_steering/loss",
    "train": "train/loss",
}
_ROWS_READ = 24  # of a domain, for its terms


def write_page(path: Path, told: Told) -> Path:
    """Writes the page of a run, whole or not at all; returns the path."""
    title = element("h1", told.title), element("p", told.heading, class_="facts")
    return write(path, told.title, *title, *sections(told))


def sections(told: Told) -> list[Html]:
    """All parts of the page of a run, below its title."""
    record, config = told.record, told.config
    store, missing = find(record) if record else (None, "the run's config is not there")
    return [
        section("Question", *_sentences(words.question(told, config, store))),
        section("Answer", _answer(told, config)),
        section("Over time", element("div", *drawn(told), class_="charts")),
        section("Signs of failure", signs(told)),
        section("Losses", table(told.tables["loss"], heads=2)),
        section("Domains", *domain_tables(told)),
        section("What their text looks like", *_texts(told, config, store, missing)),
        section("Speed and cost", *_speed(told)),
        section("Config", *_config(config)),
        section("Again", *_again(told, config)),
    ]


def _sentences(texts: Iterable[str]) -> list[Html]:
    return [element("p", text) for text in texts if text]


def _answer(told: Told, config: ConfigDict | None) -> Html:
    return element("div", *_sentences(words.answer(told, config)), class_="answer")


def drawn(told: Told) -> Iterator[Html]:
    """The charts of a run."""
    moving = told.moving
    painted: Mapping[str, int] = {}
    if moving is not None:
        painted = charts.colours(moving.domains, np.asarray(moving.values[-1]))
        of_basis = told.basis_weights is not None
        dotted = "" if told.drawn is None or of_basis else "; broken: what was drawn"
        yield figure(
            "weights of the basis" if of_basis else "weights",
            f"share of each in the mixture{dotted}",
            charts.weights(moving, painted, None if of_basis else told.drawn),
        )
    targets = {name: f"{key}/loss" for name, key in of_targets(told.lines).items()}
    chart = charts.losses(told.lines, _LOSSES | targets)
    yield figure("losses", "nats per token", chart)
    if told.basis_weights is not None and told.weights is not None:
        own = charts.colours(told.weights.domains, np.asarray(told.weights.values[-1]))
        yield figure(
            "weights of domains", "that follow", charts.weights(told.weights, own)
        )
    alignments, errors = (
        read_series(told.workdir, f"mixture/{key}", told.lines)
        for key in ("alignment", "alignment_error")
    )
    if alignments is not None:
        chart = charts.by_domain(alignments, painted, "signed", errors)
        yield figure("alignments", "with the target; the bands are their errors", chart)
    by_domain = read_series(told.workdir, "eval/domain/{}/loss", told.lines)
    if by_domain is not None:
        if set(by_domain.domains).isdisjoint(painted):
            last = np.nan_to_num(np.asarray(by_domain.values[-1]), nan=-np.inf)
            painted = charts.colours(by_domain.domains, last)
        chart = charts.by_domain(by_domain, painted, "loss")
        yield figure("held-out losses of domains", "nats per token", chart)


def _speed(told: Told) -> Iterator[Html]:
    yield from _sentences(told.facts)
    chart = charts.speed(told.lines)
    if chart is not None:
        drawing = figure("speed", "tokens trained on a second", chart)
        yield element("div", drawing, class_="charts")


def signs(told: Told) -> Html:
    """The signs of failure that a run gave, and what to do about each."""
    if not told.warnings:
        watched = any(line.get("cost/flops") is not None for line in told.lines)
        return element("p", "None was seen." if watched else "None was looked for.")
    items = []
    for warning in told.warnings:
        what, _, remedy = warning.removeprefix("warning, ").partition("; ")
        said = element("b", f"{what[:1].upper()}{what[1:]}.")
        items.append(element("li", said, f" What to do: {remedy}."))
    return element("ul", *items, class_="signs")


def domain_tables(told: Told) -> Iterator[Html]:
    """The tables of a basis and of the domains."""
    for name in ("basis", "domain"):
        if name in told.tables:
            yield table(told.tables[name])


def _texts(
    told: Told, config: ConfigDict | None, store: Store | None, missing: str
) -> Iterator[Html]:
    """Telling words and beginnings of documents of the domains of the table."""
    if store is None:
        yield element("p", f"Not shown: {missing}.")
        return
    if told.weights is None:
        return
    try:
        yield joined(list(_described(told.weights, config.data.level, store)))
    except (UserError, IndexError) as error:
        yield element("p", f"Not shown: {error}.")


def _described(weights: Series, level: int, store: Store) -> Iterator[Html]:
    texts, domains = Texts(store), store.domains(level)
    of_target = texts.examples_of("target", 0, store.num_rows("target"))
    yield _example("the target", "", of_target, open_=True)
    last = np.asarray(weights.values[-1])
    shown = leading(last, len(last) if len(last) <= MAX_LOGGED else NUM_LEADING)
    names = [weights.domains[i] for i in shown]
    wanted = set(names)
    places = {name: i for i, name in enumerate(domains.names) if name in wanted}
    names = [n for n in names if n in places and domains.num_rows[places[n]]]
    terms = telling_terms([texts.some(domains, places[n], _ROWS_READ) for n in names])
    for i, (name, telling) in enumerate(zip(names, terms, strict=True)):
        examples = texts.examples(domains, places[name])
        yield _example(name, ", ".join(telling), examples, open_=i == 0)


def _example(name: str, terms: str, texts: list[str], *, open_: bool) -> Html:
    telling = element("span", terms, class_="terms")
    summary = joined([element("b", name), " ", telling])
    quotes = (element("blockquote", text) for text in texts)
    return folded(summary, *quotes, open_=open_)


def _config(config: ConfigDict | None) -> Iterator[Html]:
    if config is None:
        yield element("p", "The run's config is not there.")
        return
    rows = [["field", "value", "default", "meaning"]]
    for name, value in changed(config).items():
        field = fields()[name]
        rows.append([name, as_flag(value), field.shown, field.about])
    yield element("p", "Fields that are not at their defaults:")
    yield table(rows, class_="config")
    every = [["field", "value", "meaning"]]
    every += [[n, as_flag(get(config, n)), f.about] for n, f in fields().items()]
    yield folded("all fields", table(every, class_="config"))


def _again(told: Told, config: ConfigDict | None) -> Iterator[Html]:
    """Commands: the same run, and the one that it is to be compared with."""
    if config is None:
        return
    run = str(told.workdir)
    yield element("p", "The same run from its start, in a folder of its own:")
    yield command("main", f"--config=configs/of_run.py:{run}", f"--workdir={run}-again")
    if moves(config):
        still = "mixer.name=static,mixer.weights=uniform,mixer.basis="
        yield element(
            "p",
            "One run does not say what another mixture would have given. The same with"
            " even weights that stay, and both side by side:",
        )
        yield command(
            "main",
            f"--config=configs/of_run.py:{run},{still}",
            f"--workdir={run}-static",
        )
        yield command("report", f"--workdir={run}", f"--workdir={run}-static")
    yield element("p", "This page again:")
    yield command("report", f"--workdir={run}")


def command(module: str, *arguments: str) -> Html:
    """A command of this package, as it is typed."""
    said = " ".join(["python -m dga_jax." + module, *map(shlex.quote, arguments)])
    return element("pre", said)
