"""Signs that a run goes wrong, while it does: when each is there, and what to turn.

Pure functions of a short history, which goes into a checkpoint as JSON. A sign has a
figure, logged as `warning/NAME` on every line on which it is there. Each threshold is
explained in docs/failures.md, with what healthy runs were seen to have.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_STAYS = 0.7  # of its limit: what is there goes when it is below that
_SETTLED = 5  # updates before anything is said of them
_UPDATES = 16  # that alignments are averaged over
_MOVES = 8  # over which moves of the weights are added up
_NOISE = 0.5  # of what averaged alignments differ by
_KNOWN = 0.5  # of the domains have an error
_LARGE_MOVE = 0.15  # of the mixture, at an update
_LASTING = 0.5  # of the way that the weights went
_AFTER = 10  # train steps in which a move of the weights would show
_LEAST_STEPS = 3  # that a mean loss is taken over
_DEVIATIONS = 4
_RISE = 0.15  # of a loss, in a spike
_ABOVE = 0.01  # of a loss, held-out
_IN_A_ROW = 2  # evaluations
_REPEATED = 0.1  # of what is drawn
_USED_UP = 0.01  # of the weights


class Kind(NamedTuple):
    """What a sign says of its figure, and what to do."""

    says: str
    turn: str


KINDS = {
    "noise": Kind(
        "alignments are within their errors: {:.0%} of what they differ by is noise",
        "raise mixer.probe_rows and mixer.target_rows; if that does not help, no domain"
        " is nearer to the target than another",
    ),
    "unrelated": Kind(
        "the target's loss is {:.3f} above its best",
        "what is drawn does not teach the target, or no longer: look at the target's"
        " text, bring domains that are nearer to it, or more text of them",
    ),
    "collapse": Kind(
        "the weights have collapsed to {:.2f} effective domains",
        "lower mixer.eta or mixer.beta, or set mixer.floor",
    ),
    "repeats": Kind(
        "{:.0%} of what is drawn was read more than warn.epochs times",
        "bring more text of it, set data.max_epochs, or lower mixer.eta",
    ),
    "swings": Kind(
        "the weights swing: an update moves {:.0%} of the mixture, mostly to and fro",
        "lower mixer.eta or mixer.beta, or raise mixer.probe_rows",
    ),
    "spike": Kind(
        "the train loss rose by {:.3f} after the weights moved",
        "lower mixer.eta or mixer.beta; if it does not come back, go on from an earlier"
        " checkpoint (start.from)",
    ),
    "overfit": Kind(
        "the target's held-out loss is {:.3f} above its best, that of its steering part"
        " fell",
        "the weights fit the steering part alone: give it more text, lower mixer.eta,"
        " or take the checkpoint nearest to the best",
    ),
    "used_up": Kind(
        "domains with {:.0%} of the weight are used up and others drawn instead",
        "raise data.max_epochs or bring more text",
    ),
}


class Sign(NamedTuple):
    """One that is there: a key of `KINDS`, its figure, and more on it or ""."""

    name: str
    figure: float
    detail: str = ""

    def __str__(self) -> str:
        kind = KINDS[self.name]
        detail = f" ({self.detail})" if self.detail else ""
        return f"{kind.says.format(self.figure)}{detail}; {kind.turn}"


class Aligned(NamedTuple):
    """Alignments of the last updates, averaged: of n domains that all of them probed.

    Attributes:
      count: of the updates up to now.
      mean: [n].
      variance: [n], of the mean, from the standard errors.
      known: share of the domains that have an error, in the newest update.
    """

    count: int = 0
    mean: Sequence[float] = ()
    variance: Sequence[float] = ()
    known: float = 1.0

    def add(self, values: np.ndarray, errors: np.ndarray) -> "Aligned":
        """With another update's alignments and errors [n]; NaN is not known."""
        if not np.isfinite(values).all():
            return self
        known = np.isfinite(errors)
        squares = np.where(known, errors, 0.0).astype(np.float64) ** 2
        if known.any():
            squares[~known] = squares[known].mean()
        share = max(1 / (self.count + 1), 1 / _UPDATES)
        mean, variance = np.zeros_like(squares), np.zeros_like(squares)
        if self.count:
            mean, variance = np.array(self.mean), np.array(self.variance)
        mean = (1 - share) * mean + share * values.astype(np.float64)
        variance = (1 - share) ** 2 * variance + share**2 * squares
        return Aligned(
            self.count + 1, mean.tolist(), variance.tolist(), float(known.mean())
        )

    @property
    def noise(self) -> float | None:
        """Σ s² / n over the variance of the averages; None where it is not known.

        1 on average if all true alignments are one, and small if they differ.
        """
        if not self.count or self.known < _KNOWN or len(self.mean) < 2:
            return None
        spread, errors = np.var(self.mean, ddof=1), np.mean(self.variance)
        return float(min(errors / spread, 1.0)) if spread > 0 else 1.0


def noise(of: Aligned, there: bool = False) -> Sign | None:
    """Whether errors explain most of what the averaged alignments differ by.

    Args:
      of: the last updates.
      there: whether the sign was there before.
    """
    if of.count and of.known < _KNOWN:
        return Sign("noise", 1.0, "errors are not known of probe rows that are one row")
    share = of.noise
    if of.count < _SETTLED or share is None:
        return None
    return Sign("noise", share) if share > _limit(_NOISE, there) else None


def _limit(limit: float, there: bool) -> float:
    """So that a figure close to its limit does not come and go."""
    return limit * _STAYS if there else limit


class Moves(NamedTuple):
    """Moves of the n weights at the last updates, older ones fading.

    Attributes:
      count: of the updates up to now.
      weight: what the fading counts of them add up to.
      length: sum of the moves, each half the sum of the weights' absolute changes.
      net: [n], the changes themselves, added up.
    """

    count: int = 0
    weight: float = 0.0
    length: float = 0.0
    net: Sequence[float] = ()

    def add(self, before: np.ndarray, after: np.ndarray) -> "Moves":
        """With another update, from weights [n] to weights [n]."""
        fading, change = 1 - 1 / _MOVES, after - before
        net = fading * np.array(self.net) + change if self.count else change
        length = fading * self.length + 0.5 * float(np.abs(change).sum())
        weight = fading * self.weight + 1
        return Moves(self.count + 1, weight, length, net.tolist())

    @property
    def each(self) -> float:
        """Share of the weights that an update moves, 0 to 1."""
        return self.length / self.weight if self.count else 0.0


def swings(of: Moves, there: bool = False) -> Sign | None:
    """Whether updates move the weights far, and most of the way back again.

    Args:
      of: the last updates.
      there: whether the sign was there before.
    """
    if of.count < _SETTLED:
        return None
    lasting = 0.5 * float(np.abs(of.net).sum())
    large = of.each > _limit(_LARGE_MOVE, there) and lasting < _LASTING * of.length
    return Sign("swings", of.each) if large else None


class Losses(NamedTuple):
    """Train losses of the steps since an update of the weights.

    Attributes:
      count: of the steps.
      mean: of their losses.
      squares: sum of the squared distances from it.
      recent: average of the losses in which each counts half as much as the next.
      peak: the highest that was, within `_AFTER` steps; None before the first.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    recent: float = 0.0
    peak: float | None = None

    def add(self, loss: float) -> "Losses":
        """With another step's loss."""
        count = self.count + 1
        mean = self.mean + (loss - self.mean) / count
        squares = self.squares + (loss - self.mean) * (loss - mean)
        recent, peak = 0.5 * (self.recent + loss), self.peak
        if count <= _AFTER:
            peak = recent if peak is None else max(peak, recent)
        return Losses(count, mean, squares, recent, peak)

    def after(self) -> "Losses":
        """None yet of the interval that begins now."""
        return Losses(recent=self.mean)


def spike(before: Losses, now: Losses) -> Sign | None:
    """Whether the loss rose after a move, beyond what steps differed by before it."""
    if min(before.count, now.count) < _LEAST_STEPS:
        return None
    rise = now.peak - before.mean
    deviation = math.sqrt(before.squares / (before.count - 1))
    high = rise > _DEVIATIONS * deviation and rise > _RISE * abs(before.mean)
    return Sign("spike", rise) if high else None


class Targets(NamedTuple):
    """The target's losses up to now: held-out, and of its steering part.

    Attributes:
      first: held-out loss of the first evaluation; None before it.
      last: of the newest.
      best: the lowest.
      steering: loss of the steering part when it was lowest; None if not measured.
      above: evaluations in a row that were above the best while the steering part was
        below what it was then.
      risen: evaluations in a row that were above the best.
    """

    first: float | None = None
    last: float | None = None
    best: float | None = None
    steering: float | None = None
    above: int = 0
    risen: int = 0

    def add(self, held_out: float, steering: float | None) -> "Targets":
        """With another evaluation; what is not finite is left out.

        So is the last one again, with which a run begins that goes on from another.
        """
        if not math.isfinite(held_out) or held_out == self.last:
            return self
        if steering is not None and not math.isfinite(steering):
            steering = None
        if self.first is None or held_out < self.best:
            first = held_out if self.first is None else self.first
            return Targets(first, held_out, held_out, steering)
        fell = None not in (steering, self.steering) and steering < self.steering
        high = held_out - self.best > _ABOVE * abs(self.best)
        return self._replace(
            last=held_out,
            above=self.above + 1 if high and fell else 0,
            risen=self.risen + 1 if high else 0,
        )


def unrelated(of: Targets) -> Sign | None:
    """Whether training makes the target's loss worse, and not by fitting a part of it.

    At once where it is above the first evaluation's, of a model that knew more than
    chance; else when it stays above its best, as that of text to which a corpus
    teaches no more than how frequent tokens are.
    """
    if of.first is None:
        return None
    worse = of.last - of.first > _ABOVE * abs(of.first)
    stays = of.risen >= _IN_A_ROW and not of.above
    return Sign("unrelated", of.last - of.best) if worse or stays else None


def overfit(of: Targets) -> Sign | None:
    """Whether the target's two parts have gone apart."""
    return Sign("overfit", of.last - of.best) if of.above >= _IN_A_ROW else None


def collapse(effective: float, first: float, least: float) -> Sign | None:
    """Whether fewer effective domains are left than `least`, and than at `first`."""
    if effective >= min(least, first):
        return None
    return Sign("collapse", effective)


def repeats(
    shares: np.ndarray, epochs: np.ndarray, limit: float, names: Sequence[str]
) -> Sign | None:
    """Whether much of what is drawn has been read too often.

    Args:
      shares: [k], of each domain in what is drawn.
      epochs: [k], how often its rows were read.
      limit: epochs that are too many.
      names: of the domains.
    """
    over = epochs > limit
    share = float(shares[over].sum())
    if share < _REPEATED:
        return None
    most = int(np.argmax(np.where(over, shares, -1)))
    return Sign("repeats", share, f"{names[most]} {epochs[most]:.1f} times")


def used_up(share: float) -> Sign | None:
    """Whether weight is on domains of which nothing is drawn any more."""
    return Sign("used_up", share) if share >= _USED_UP else None
