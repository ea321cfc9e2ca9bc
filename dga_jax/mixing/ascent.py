"""Mirror ascent that minds its noise: what `mixer.shrink`, `debias`, `adapt`, `kl` add.

Alignments come with standard errors s_i. What follows from them is pure algebra on
arrays over the n domains, of which those in `alive` take part.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from dga_jax.mixing import simplex
from dga_jax.mixing.signals import Signals

# η is sought between these, over the spread of the alignments.
_LEAST, _MOST = 1e-6, 1e4
_HALVINGS = 50


def shrunk(
    values: jax.Array, errors: jax.Array, alive: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Alignments drawn towards their mean by as much as they are noise.

    a_i ← ā + (a_i - ā) τ² / (τ² + s_i²), with τ² = max(0, var(a) - mean s²) the spread
    of the true ones and ā the mean weighted by 1 / (τ² + s_i²).

    Source: empirical Bayes for unequal variances (Efron and Morris 1975, JASA 70(350));
    τ² as Hedges (1983, Psychological Bulletin 93(2)).

    Returns:
      Shrunk alignments and their errors, those shrunk as much.

    >>> values, errors = jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0])
    >>> print(shrunk(values, errors, jnp.array([True, True]))[0])
    [1.5 2.5]
    """
    errors = jnp.where(jnp.isfinite(errors), errors, 0.0)
    count = jnp.maximum(jnp.sum(alive), 2)
    middle = jnp.mean(values, where=alive)
    spread = jnp.sum((values - middle) ** 2, where=alive) / (count - 1)
    between = jnp.maximum(spread - jnp.mean(errors**2, where=alive), 0.0)
    total = jnp.maximum(between + errors**2, jnp.finfo(jnp.float32).tiny)
    # Of relative precisions: their squares may be beyond float32.
    precision = jnp.min(total, where=alive, initial=jnp.inf) / total
    weight = jnp.sum(precision, where=alive)
    middle = jnp.sum(precision * values, where=alive) / weight
    factor = jnp.where(errors > 0, between / total, 1.0)
    return middle + (values - middle) * factor, errors * factor


def noise_gain(
    errors: jax.Array,
    log_weights: jax.Array,
    alive: jax.Array,
    eta: jax.typing.ArrayLike,
) -> jax.Array:
    """What noise alone adds to the gains η a of mirror ascent, [n], to be taken off.

    exp is convex: with a_i of variance s_i², E[α̂_i] = α_i (1 + b_i + const) to second
    order, b_i = η² s_i² (1 - 2 α_i) / 2, α being the share among those that move. Taken
    off, E[α̂] = α where all true alignments are equal, and so for every β.

    >>> half = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    >>> print(noise_gain(jnp.array([0.1, 0.1, 0.0]), half, jnp.ones(3, bool), 2.0))
    [0.   0.01 0.  ]
    """
    mass = jax.nn.logsumexp(log_weights, where=alive)
    share = jnp.where(alive, jnp.exp(log_weights - mass), 0.0)
    errors = jnp.where(jnp.isfinite(errors), errors, 0.0)
    return 0.5 * (eta * errors) ** 2 * (1.0 - 2.0 * share)


def reliability(
    values: jax.Array, errors: jax.Array, log_weights: jax.Array, alive: jax.Array
) -> jax.Array:
    """Which part of the alignments' variance under α is not noise: [] in [0, 1].

    max(0, 1 - Σ α_i s_i² / Var_α(a)), which is 0 where Var_α(a) is.
    """
    errors = jnp.where(jnp.isfinite(errors), errors, 0.0)
    share = jnp.where(alive, jnp.exp(log_weights), 0.0)
    share /= jnp.maximum(jnp.sum(share), jnp.finfo(jnp.float32).tiny)
    middle = jnp.sum(share * values, where=alive)
    variance = jnp.sum(share * (values - middle) ** 2, where=alive)
    noise = jnp.sum(share * errors**2, where=alive)
    return jnp.where(variance > noise, 1.0 - noise / variance, 0.0)


def dga(
    eta: jax.typing.ArrayLike,
    beta: jax.typing.ArrayLike,
    *,
    kl: float,
    debias: bool,
    adapt: bool,
) -> optax.GradientTransformationExtraArgs:
    """DGA's update from `Signals`, with any of the three.

    Args:
      eta: η; not read under `kl`.
      beta: β.
      kl: η is such that KL(α̂ ‖ α) is this, or as much as there can be; 0: off.
      debias: takes `noise_gain` off.
      adapt: β times `reliability`.
    """

    def increment(
        signals: Signals,
        log_weights: jax.Array,
        alive: jax.Array,
        step: jax.typing.ArrayLike,
    ) -> jax.Array:
        del step
        values, errors = signals.alignments, signals.standard_errors
        errors = jnp.zeros_like(values) if errors is None else errors

        def at(rate: jax.typing.ArrayLike) -> jax.Array:
            top = jnp.max(values, where=alive, initial=-jnp.inf)
            below = jnp.maximum(values - top, jnp.finfo(values.dtype).min)
            gain = jnp.asarray(rate, jnp.float32) * below
            if debias:
                gain -= noise_gain(errors, log_weights, alive, rate)
            gain -= jnp.max(gain, where=alive, initial=-jnp.inf)
            return simplex.redistribute(jnp.where(alive, gain, 0.0), log_weights, alive)

        rate = _rate(at, values, log_weights, alive, kl) if kl else eta
        share = jnp.asarray(beta, jnp.float32)
        if adapt:
            share *= reliability(values, errors, log_weights, alive)
        return jnp.logaddexp(jnp.log1p(-share), jnp.log(share) + at(rate))

    return simplex.rule(increment)


def _rate(
    at: Callable[[jax.Array], jax.Array],
    values: jax.Array,
    log_weights: jax.Array,
    alive: jax.Array,
    kl: float,
) -> jax.Array:
    """The largest η found, by bisection of its logarithm, with KL(α̂ ‖ α) ≤ kl."""
    highest = jnp.max(values, where=alive, initial=-jnp.inf)
    lowest = jnp.min(values, where=alive, initial=jnp.inf)
    spread = highest - lowest
    weights = jnp.where(alive, jnp.exp(log_weights), 0.0)

    def divergence(rate: jax.Array) -> jax.Array:
        delta = at(rate)
        return jnp.sum(weights * jnp.exp(delta) * delta, where=alive)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        small = divergence(jnp.exp(middle) / spread) <= kl
        return jnp.where(small, middle, low), jnp.where(small, high, middle)

    ends = jnp.log(jnp.float32(_LEAST)), jnp.log(jnp.float32(_MOST))
    low, _ = jax.lax.fori_loop(0, _HALVINGS, halve, ends)
    moves = (spread > 0) & jnp.isfinite(spread)
    return jnp.where(moves, jnp.exp(low) / jnp.where(moves, spread, 1.0), 0.0)
