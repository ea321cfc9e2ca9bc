"""The question that a run asks and the answer that it gives, in words.

Each sentence says no more than its numbers do: that weights stayed, that an alignment
is within its error, that one run does not tell what another mixture would have given.
"""

from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from dga_jax.data.store import Store
from dga_jax.errors import listed
from dga_jax.logs.console import quantity
from dga_jax.logs.metrics import history
from dga_jax.logs.series import Series, leading, read_series
from dga_jax.logs.tables import weight_text
from dga_jax.mixing.mixers import MIXERS
from dga_jax.page.told import Told, moves

_TARGET, _GENERIC = "eval/target/loss", "eval/generic_uniform/loss"
_SAME = 5e-4  # nats: what three digits do not show
_STILL = 0.01  # of the mixture
_NAMED = 3
_AS_MUCH = 0.3  # of the largest change is about as much
_ERRORS = 2  # standard errors that a number is told from 0 by


def question(told: Told, config: ConfigDict | None, store: Store | None) -> list[str]:
    """What the run was to find out, and by which rule; sentences."""
    count = len(told.weights.domains) if told.weights is not None else 0
    corpus = f"the {count:,} domains" if count > 1 else "the corpus"
    if config is not None:
        corpus += f" of {config.data.store}"
    said = [
        f"Which mixture of {corpus} makes a model best on the target's text?",
    ]
    if store is not None:
        rows, held_out = store.num_rows("target"), store.num_rows("target_eval")
        names = store.targets.names
        several = f" {len(names)} targets ({listed(names, _NAMED)})," if names else ""
        said.append(
            f"The target:{several} {rows:,} rows that steer and are not trained on, and"
            f" {held_out:,} held-out rows that the target's loss is measured on."
        )
    if config is None:
        return [*said, "The config of the run is not there: its mixer is not known."]
    name = config.mixer.name
    about = ((MIXERS[name].__doc__ if name in MIXERS else "") or "").strip()
    rule = (
        f"The mixer is {name}: {about.splitlines()[0]}" if about else f"Mixer: {name}."
    )
    said.append(rule)
    if moves(config):
        over = f" over the basis {config.mixer.basis}" if config.mixer.basis else ""
        start = config.mixer.weights or MIXERS[name].start
        said.append(
            f"It moves the weights{over} every {config.mixer.interval:,} steps, from"
            f" {start} weights."
        )
    return said


def answer(told: Told, config: ConfigDict | None) -> list[str]:
    """What came out; sentences."""
    said = [*_unfinished(told, config), *_losses(told), *_weights(told, config)]
    said += _alignments(told, config)
    if told.warnings:
        count = len(told.warnings)
        signs = "sign of failure was" if count == 1 else "signs of failure were"
        said.append(f"{count} {signs} seen, see below.")
    return said


def _unfinished(told: Told, config: ConfigDict | None) -> Iterator[str]:
    step = told.lines[-1]["step"]
    if config is not None and step < config.train.steps:
        steps = f"{step:,} of {config.train.steps:,}"
        yield f"The run has not ended: it is at step {steps}."


def _losses(told: Told) -> Iterator[str]:
    steps, losses = history(told.lines, _TARGET)
    if not len(steps):
        yield "The target's loss has not been measured yet."
        return
    if len(steps) == 1:
        yield (
            f"At step {steps[0]:,} the target's held-out loss is {losses[0]:.3f} nats"
            " per token."
        )
        return
    text = f"From step {steps[0]:,} to {steps[-1]:,} the target's held-out loss "
    text += _went(losses)
    _, generic = history(told.lines, _GENERIC)
    if len(generic) > 1:
        text += (
            f"; that of the generic text, averaged over its domains, {_went(generic)}"
        )
    yield f"{text}. Losses are in nats per token."
    best = int(np.argmin(losses))
    if losses[-1] - losses[best] > _SAME:
        yield (
            f"The target's loss was lowest at step {steps[best]:,}, {losses[best]:.3f};"
            f" it ends {losses[-1] - losses[best]:.3f} above that."
        )


def _went(losses: np.ndarray) -> str:
    first, last = losses[0], losses[-1]
    if abs(last - first) <= _SAME:
        return f"stayed at {last:.3f}"
    return f"{'fell' if last < first else 'rose'} from {first:.3f} to {last:.3f}"


def _weights(told: Told, config: ConfigDict | None) -> Iterator[str]:
    series = told.moving
    if series is None:
        return
    what = "weights" if told.basis_weights is None else "weights of the basis"
    first, last = (np.asarray(series.values[i], float) for i in (0, -1))
    moved = 0.5 * np.abs(last - first).sum()
    if moves(config) is False:
        yield (
            f"The {what} are those of the start: the mixer {config.mixer.name} never"
            " moves them. The run shows what this mixture gives, not which is better."
        )
        return
    if len(series.steps) == 1:
        yield f"No update has moved the {what} yet: they are those of the start."
        return
    if moved < _STILL:
        yield f"The {what} hardly moved: by {moved:.1%} of the mixture."
    else:
        up, down = (_ends(series, first, last, sign) for sign in (1, -1))
        fell = f", and away from {down}" if down else ""
        yield f"The {what} moved towards {up}{fell}: by {moved:.0%} of the mixture."
    _, effective = history(told.lines, "mixture/effective_domains")
    if len(effective) and moved >= _STILL:
        yield (
            f"Effective domains: {quantity(effective[-1])}, at first"
            f" {quantity(effective[0])}."
        )
    _, skipped = history(told.lines, "mixture/skipped_updates")
    if len(skipped) and skipped[-1]:
        count = int(skipped[-1])
        yield f"{count:,} updates were skipped, for a signal was not finite."


def _ends(series: Series, first: np.ndarray, last: np.ndarray, sign: int) -> str:
    """Those that gained, or lost, most, and how many about as much as they."""
    change = sign * (last - first)
    many = int((change > max(0.0, _AS_MUCH * change.max())).sum())
    named = ", ".join(
        f"{series.domains[i]} ({weight_text(first[i])} → {weight_text(last[i])})"
        for i in leading(change, min(many, _NAMED))
    )
    return f"{named} and {many - _NAMED:,} more" if many > _NAMED else named


def _alignments(told: Told, config: ConfigDict | None) -> Iterator[str]:
    if moves(config) is False:
        return
    found = (
        read_series(told.workdir, f"mixture/{key}", told.lines)
        for key in ("alignment", "alignment_error")
    )
    values, errors = (
        np.asarray(x.values[-1]) if x is not None else None for x in found
    )
    if values is None or errors is None or len(values) != len(errors):
        return
    known = np.isfinite(values) & np.isfinite(errors)
    if known.any():
        above = (values > _ERRORS * errors)[known].sum()
        below = (values < -_ERRORS * errors)[known].sum()
        yield (
            f"Of the {known.sum():,} alignments of the newest update, {above:,} are"
            f" above 0 by more than twice their error and {below:,} below; the others"
            " cannot be told from 0."
        )
