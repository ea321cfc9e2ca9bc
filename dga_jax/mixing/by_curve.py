"""Adaptive Data Optimization: a mixer that fits a curve to each domain's losses."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dga_jax.bounds import Above, AtLeast, Within
from dga_jax.mixing.recipe import mixer
from dga_jax.mixing.signals import Signals

_TINY = jnp.finfo(jnp.float32).tiny
_LEVELS = 16  # of a curve's irreducible loss that are tried


class CurveState(NamedTuple):
    """State of `ado`, over n domains and G levels of irreducible loss.

    Attributes:
      prior: [n], μ, the weights at first.
      history: [n], h, moving average of the weights.
      average: [n], mean of ρ.
      updates: [], made.
      first: [n], loss when first drawn; 0 before.
      count: [n], points of each curve.
      x: [n], mean of log n over them.
      xx: [n], sum of squares about it.
      y, yy, xy: [n, G], the same of log(ℓ - level), and the products.
    """

    prior: jax.Array
    history: jax.Array
    average: jax.Array
    updates: jax.Array
    first: jax.Array
    count: jax.Array
    x: jax.Array
    xx: jax.Array
    y: jax.Array
    yy: jax.Array
    xy: jax.Array


@mixer(reads=("train_losses", "tokens"))
def ado(
    warmup: Annotated[int, AtLeast(2)] = 3,
    least: Annotated[float, AtLeast(0)] = 1e-2,
    credit: Annotated[float, AtLeast(0)] = 0.5,
    memory: Annotated[float, Within("[0, 1]")] = 0.9,
    new: Annotated[float, Above(0)] = 0.1,
) -> optax.GradientTransformation:
    """Adaptive Data Optimization (2024, arXiv 2410.11820): what still learns fast.

    Of each domain a curve ℓ(n) = e^ε + e^c n^-p of its own tokens; slope_i = p (ℓ -
    e^ε) / n; ρ_i ∝ μ_i slope_i h_i^s, at least 1e-2 each; α = .9 mean(ρ) + .1 ρ. μ are
    the weights at first, h ← .9 h + .1 α. Fitted at every update by least squares in
    log(ℓ - e^ε), with e^ε the best of 16 shares of the first loss, and p in [.05, .8]
    as in the authors' code, which fits by L-BFGS under a Huber loss.

    Args:
      warmup: points that every curve drawn has before the weights move.
      least: lower bound of ρ_i; at most 1/k.
      credit: s, power of h.
      memory: share of h that remains at an update.
      new: share of ρ in α.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> signals = dict(train_losses=[4.0, 2.0], tokens=[9.0, 9.0])
    >>> print(weights_after(ado(), [0.5, 0.5], **signals))
    [0.5 0.5]
    """

    def init(log_weights: jax.Array) -> CurveState:
        prior = jnp.exp(log_weights)
        zero = jnp.zeros(log_weights.shape)
        wide = jnp.zeros((*log_weights.shape, _LEVELS))
        return CurveState(
            prior, prior, prior, jnp.zeros(()), zero, zero, zero, zero, wide, wide, wide
        )

    def update(
        signals: Signals, state: CurveState, params: jax.Array
    ) -> tuple[jax.Array, CurveState]:
        alive, weights = params > -jnp.inf, jnp.exp(params)
        state = _another_point(state, signals.train_losses, signals.tokens)
        history = memory * state.history + (1 - memory) * weights
        slope = _slope(state, jnp.maximum(signals.tokens, 1.0))
        wanted = jnp.where(alive, state.prior * slope * history**credit, 0.0)
        share = wanted / jnp.maximum(jnp.sum(wanted), _TINY)
        share = jnp.maximum(share, jnp.minimum(least, 1 / jnp.sum(alive)))
        share = jnp.where(alive, share, 0.0)
        share /= jnp.sum(share)
        ready = jnp.any(state.count > 0) & ~jnp.any(
            (state.count > 0) & (state.count < warmup)
        )
        mixed = (1 - new) * state.average + new * share
        part = 1 / (state.updates + 2)
        average = (1 - part) * state.average + part * share
        state = state._replace(
            history=history,
            average=jnp.where(ready, average, state.average),
            updates=state.updates + 1,
        )
        return jnp.where(ready, jnp.log(mixed) - params, 0.0), state

    return optax.GradientTransformation(init, update)


def _another_point(
    state: CurveState, losses: jax.Array, tokens: jax.Array
) -> CurveState:
    """With the losses of those drawn added to their curves (Welford's update)."""
    drawn = ~jnp.isnan(losses) & (tokens > 0)
    first = jnp.where(drawn & (state.count == 0), losses, state.first)
    # A level that a loss falls below fits badly, and is not chosen.
    above = losses[:, None] - _levels(first)
    y = jnp.log(jnp.maximum(above, 1e-3 * jnp.maximum(first, _TINY)[:, None]))
    x = jnp.log(jnp.maximum(tokens, 1.0))
    count = state.count + 1
    dx, dy = x - state.x, y - state.y
    new_x, new_y = state.x + dx / count, state.y + dy / count[:, None]
    moved = {
        "first": first,
        "count": count,
        "x": new_x,
        "xx": state.xx + dx * (x - new_x),
        "y": new_y,
        "yy": state.yy + dy * (y - new_y),
        "xy": state.xy + dx[:, None] * (y - new_y),
    }
    kept = {
        name: jnp.where(drawn if value.ndim == 1 else drawn[:, None], value, old)
        for name, value in moved.items()
        for old in [getattr(state, name)]
    }
    return state._replace(**kept)


def _levels(first: jax.Array) -> jax.Array:
    """Irreducible losses that are tried, [n, G]."""
    return first[:, None] * jnp.arange(_LEVELS) / _LEVELS


def _slope(state: CurveState, tokens: jax.Array) -> jax.Array:
    """-dℓ/dn at `tokens` [n] on the curve that fits best; 0 without a point."""
    power = jnp.clip(-state.xy / jnp.maximum(state.xx, _TINY)[:, None], 0.05, 0.8)
    error = state.yy + 2 * power * state.xy + power**2 * state.xx[:, None]
    # Errors of log(ℓ - e) as errors of log ℓ, so that levels compare.
    typical = jnp.exp(state.y)
    share = typical / jnp.maximum(typical + _levels(state.first), _TINY)
    scores = error * share**2
    # The first of the best: argmin and a gather, which XLA takes one by one, cost more.
    least, p, y = scores[:, 0], power[:, 0], state.y[:, 0]
    for level in range(1, _LEVELS):
        better = scores[:, level] < least
        least = jnp.where(better, scores[:, level], least)
        p = jnp.where(better, power[:, level], p)
        y = jnp.where(better, state.y[:, level], y)
    rest = jnp.exp(y - p * (jnp.log(tokens) - state.x))
    return jnp.where(state.count > 0, p * rest / tokens, 0.0)
