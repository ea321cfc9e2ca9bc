"""What a run did, as rows of text and as lines: the same on console and page."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dga_jax.logs.console import duration, fraction, quantity, scientific, shorten
from dga_jax.logs.metrics import history
from dga_jax.logs.series import MAX_LOGGED, NUM_LEADING, Series, leading, read_newest
from dga_jax.logs.signs import KINDS, Sign

_LOSSES = {
    "target": "eval/target",
    "generic, uniform": "eval/generic_uniform",
    "generic, natural": "eval/generic_natural",
}
_COSTS = {
    "train": "training",
    "probe": "probes",
    "target": "target",
    "reference": "reference run",
    "eval": "evaluation",
}
_LONGEST_NAME = 24
_ROUNDING = 1e-6  # of what is left when shares in float32 are taken from 1

Lines = Sequence[Mapping[str, float | None]]
Rows = Sequence[Sequence[str]]


def heading(lines: Lines, weights: Series | None) -> str:
    """How many steps, domains, and how long."""
    facts = [f"{lines[-1]['step']} steps"]
    if weights is not None:
        facts.append(f"{len(weights.domains):,} domains")
    _, seconds = history(lines, "perf/seconds")
    if len(seconds):
        facts.append(duration(seconds[-1]))
    return ", ".join(facts)


def loss_table(lines: Lines) -> Rows:
    """Losses of the first and the last evaluation, or of the only one."""
    keys = [f"{key}/loss" for key in _LOSSES.values()]
    label, *others = _LOSSES
    losses = {label: _LOSSES[label], **of_targets(lines)}
    losses |= {other: _LOSSES[other] for other in others}
    steps = sorted({int(step) for key in keys for step in history(lines, key)[0]})
    if not steps:
        return [["no evaluation yet"]]
    ends = list(dict.fromkeys((steps[0], steps[-1])))
    headings = [f"step {step}" for step in ends]
    change = ["change"] if len(ends) > 1 else []
    rows = [
        ["loss", "nats/token", *[""] * (len(ends) - 1 + len(change)), "bits/byte"],
        ["", *headings, *change, *headings],
    ]
    for label, key in losses.items():
        nats = [_at(lines, f"{key}/loss", step) for step in ends]
        bits = [_at(lines, f"{key}/bits_per_byte", step) for step in ends]
        change = [number(nats[1] - nats[0], "+.3f")] if len(ends) > 1 else []
        rows.append([label, *map(number, nats), *change, *map(number, bits)])
    spent = [_at(lines, "cost/flops", step) for step in ends]
    if np.isfinite(spent).any():
        rows.append(["total FLOPs", *map(scientific, spent)])
    return rows


def of_targets(lines: Lines) -> dict[str, str]:
    """Labels and keys of each of several targets, in the order of the log."""
    begin, end = f"{_LOSSES['target']}/", "/loss"
    keys = dict.fromkeys(key for line in lines for key in line)
    names = [
        key.removeprefix(begin).removesuffix(end)
        for key in keys
        if key.startswith(begin) and key.endswith(end) and key != f"{begin[:-1]}{end}"
    ]
    return {f"- {shorten(name, _LONGEST_NAME)}": f"{begin}{name}" for name in names}


def weight_table(
    label: str,
    workdir: Path,
    lines: Lines,
    weights: Series,
    drawn: Series | None,
    *,
    moves: bool,
) -> Rows:
    """Weights from first to last; of domains, what was drawn and how often.

    Of what moves, also the newest alignments that were measured, and their errors.
    """
    first, last = np.asarray(weights.values[0]), np.asarray(weights.values[-1])
    shown = leading(last, len(last) if len(last) <= MAX_LOGGED else NUM_LEADING)
    names = [weights.domains[i] for i in shown]
    others = len(last) - len(shown)

    def shares(values: np.ndarray, total: float) -> list[float]:
        """With what is left for the others, where not all are shown."""
        rest = float(total - values.sum())
        rest = rest if rest > _ROUNDING else 0.0
        return [*values.tolist(), *([rest] if others else [])]

    ends = [shares(x[shown], x.sum()) for x in (first, last)]
    by_column = [
        [label, *(shorten(name, _LONGEST_NAME) for name in names)],
        ["first weight", *map(weight_text, ends[0])],
        ["last weight", *map(weight_text, ends[1])],
        ["change", *map(_ratio, *ends)],
    ]
    if others:
        by_column[0].append(f"{others:,} others")
    if drawn is not None:
        for title, values in _asked_and_drawn(lines, weights, drawn, names).items():
            by_column.append([title, *map(weight_text, shares(values, 1))])
    epochs = read_newest(workdir, "data/epochs", lines, names)
    if np.isfinite(epochs).any():
        by_column.append(["epochs", *(number(x, ".2f") for x in epochs)])
    alignments, errors = (
        read_newest(workdir, f"mixture/{key}", lines, names if moves else [])
        for key in ("alignment", "alignment_error")
    )
    if np.isfinite(alignments).any():
        spec = _precision(alignments)
        by_column.append(["alignment", *(number(x, f"+{spec}") for x in alignments)])
        by_column.append(["+/-", *(number(x, spec) for x in errors)])
    return list(itertools.zip_longest(*by_column, fillvalue=""))


def _asked_and_drawn(
    lines: Lines, weights: Series, drawn: Series, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Shares [n] of the tokens of the whole run; nothing if none were drawn.

    "asked" is the mean of the weights over these tokens, so that it differs from
    "drawn" by chance, and by what could not be drawn as it was asked for.
    """
    steps, tokens = history(lines, "mixture/drawn_tokens")
    counted = np.isin(steps, drawn.steps) & (tokens > 0)
    steps, tokens = steps[counted], tokens[counted]
    # A record is of the steps up to its own; the weights of a step hold after it.
    before = np.searchsorted(weights.steps, steps) - 1
    if not len(steps) or before[0] < 0:
        return {}
    share = tokens / tokens.sum()
    records = np.searchsorted(drawn.steps, steps)
    return {
        "asked": share @ weights.of(names)[before],
        "drawn": share @ drawn.of(names)[records],
    }


def summary(lines: Lines) -> list[str]:
    """Lines on losses, weights and speed."""
    facts = []
    _, loss = history(lines, "train/loss")
    if len(loss):
        facts.append(f"train loss: {loss[0]:.3f} -> {loss[-1]:.3f} nats/token")
    _, effective = history(lines, "mixture/effective_domains")
    if len(effective):
        ends = [quantity(effective[i]) for i in (0, -1)]
        facts.append(f"effective domains: {' -> '.join(ends)}")
    unavailable = used_up(lines)
    if unavailable:
        facts[-1] += " (of the weights, not of what is drawn)"
        facts.append(
            f"used up (data.max_epochs): domains with {weight_text(unavailable)} of the"
            " weight; the others are drawn instead"
        )
    _, speed = history(lines, "perf/tokens_per_second")
    if len(speed):
        facts.append(f"tokens per second: {quantity(np.median(speed))} (median)")
    _, share = history(lines, "perf/alignment_share")
    if len(share):
        facts.append(f"time on alignment: {share[-1]:.1%} of training")
    return facts


def cost(lines: Lines) -> list[str]:
    """Who took which part of the FLOPs, and how many tokens."""
    _, total = history(lines, "cost/flops")
    if not len(total) or not total[-1]:
        return []
    parts = []
    for kind, label in _COSTS.items():
        (*_, tokens), (*_, flops) = (
            history(lines, f"cost/{kind}_{unit}")[1] for unit in ("tokens", "flops")
        )
        if tokens:
            share = f"{flops / total[-1]:.1%}"
            parts.append(f"{label} {share} ({quantity(tokens)} tokens)")
    return [f"cost: {scientific(total[-1])} FLOPs: {', '.join(parts)}"]


def warnings(lines: Lines) -> list[str]:
    """Each sign of failure that the run gave, with its newest figure."""
    asked, _ = history(lines, "mixture/drawn_tokens")
    said = []
    for name in KINDS:
        steps, figures = history(lines, f"warning/{name}")
        if len(steps):
            cleared = ", cleared" if steps[-1] < asked[-1] else ""
            sign = Sign(name, figures[-1])
            said.append(f"warning, steps {steps[0]} to {steps[-1]}{cleared}: {sign}")
    return said


def used_up(lines: Lines) -> float:
    """The weight, at the end, of domains of which nothing is drawn any more."""
    _, weight = history(lines, "mixture/used_up")
    return float(weight[-1]) if len(weight) else 0.0


def _at(lines: Lines, key: str, step: int) -> float:
    """The value of a key at a step, NaN if there is none."""
    steps, values = history(lines, key)
    found = values[steps == step]
    return float(found[0]) if len(found) else math.nan


def number(value: float, spec: str = ".3f") -> str:
    """A number by a format, "-" if it is not finite."""
    return format(value, spec) if math.isfinite(value) else "-"


def weight_text(value: float) -> str:
    """A weight in three digits or so, however small: .491, .0091, 3e-12."""
    if value == 0 or value >= 0.01:
        return fraction(value, 3)
    return fraction(value, 4) if value >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")


def _ratio(first: float, last: float) -> str:
    if not first > 0:
        return "-"
    ratio = last / first
    if 0 < ratio < 0.005:
        return "<x0.01"
    return f"x{ratio:.{2 if ratio < 100 else 0}f}"


def _precision(values: np.ndarray) -> str:
    """A format that gives the largest of the values three significant digits."""
    largest = np.nanmax(np.abs(values))
    if not 1e-3 <= largest < 1e4:
        return ".1e"
    return f".{max(0, 2 - math.floor(math.log10(largest)))}f"
