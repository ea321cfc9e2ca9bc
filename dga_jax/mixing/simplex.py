"""Updates of mixture weights on the simplex, as optax transforms.

The "parameters" are log-weights, log α, float32 [k]; the "gradient" is a signal [k],
higher being better; what comes out is an increment of log α for
`optax.apply_updates`. The state is a logarithm because 0.9 + (1e-9 - 0.9) is 0 in
float32: there, a rare domain would die for ever. A log-weight of -inf is a domain that
has no rows; it stays at -inf.

Every transform accepts the extra argument `probed`, bool [k], which says whose signal
was measured (None: all).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dga_jax.mixing.signals import Signals, all_finite, filled, usable

# e^-1e4 is no weight that could ever be drawn; a bound on one update's ratio between
# two domains keeps log α finite, hence able to recover, whatever the signals.
_MAX_LOG_RATIO = 1e4
# By what share of its terms the logarithm of a sum may be off for being float32.
_ROUNDING = 1e-6


def moving(log_weights: jax.Array, probed: jax.Array | None) -> jax.Array:
    """Whose weights an update may move, bool [k]: who has rows and was probed."""
    alive = log_weights > -jnp.inf
    return alive if probed is None else alive & probed


def reading(
    pick: Callable[[Any], Any], inner: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """`inner`, of what `pick` makes of the signals; its state is that of `inner`.

    >>> transform = reading(lambda s: s.alignments, optax.scale(2.0))
    >>> log_weights = jnp.log(jnp.array([0.5, 0.5]))
    >>> signals = Signals(alignments=jnp.array([1.0, -1.0]))
    >>> delta, _ = transform.update(signals, transform.init(log_weights), log_weights)
    >>> print(delta)
    [ 2. -2.]
    """
    inner = optax.with_extra_args_support(inner)

    def update(
        signals: Any, state: optax.OptState, params: jax.Array, **extra: Any
    ) -> tuple[jax.Array, optax.OptState]:
        return inner.update(pick(signals), state, params, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def rule(
    increment: Callable[..., jax.Array],
) -> optax.GradientTransformationExtraArgs:
    """A transform without state that also says whose weights may move, and the step.

    Args:
      increment: of (signals, log-weights [n], `moving`: bool [n], train step); what it
        gives, [n], is added to the log-weights.
    """

    def update(
        signals: Any,
        state: optax.EmptyState,
        params: jax.Array,
        *,
        probed: jax.Array | None = None,
        step: jax.typing.ArrayLike = 0,
        **extra: Any,
    ) -> tuple[jax.Array, optax.EmptyState]:
        del extra
        return increment(signals, params, moving(params, probed), step), state

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update
    )


def exponentiated_gradient(
    eta: jax.typing.ArrayLike,
) -> optax.GradientTransformationExtraArgs:
    """Mirror ascent with the entropy: α̂_i ∝ α_i exp(+η a_i).

    As an increment: Δ_i = η a_i - log Σ_j α_j exp(η a_j). With `probed`, the sum runs
    over the probed domains and is divided by their mass: they redistribute it among
    themselves, the others do not move.

    >>> log_weights = jnp.log(jnp.array([0.5, 0.5]))
    >>> transform = exponentiated_gradient(eta=1.0)
    >>> state = transform.init(log_weights)
    >>> signal = jnp.log(jnp.array([3.0, 1.0]))
    >>> delta, state = transform.update(signal, state, log_weights)
    >>> print(jnp.exp(optax.apply_updates(log_weights, delta)))
    [0.75 0.25]

    Source: Fan, Grangier and Ablin 2024 (arXiv 2410.02498), Algorithm 1, with the sign
    under which a positive alignment raises a weight.
    """

    def increment(
        signal: jax.Array, log_weights: jax.Array, alive: jax.Array, step: Any
    ) -> jax.Array:
        # The common factor exp(-η max a) cancels; without it exp would overflow.
        top = jnp.max(signal, where=alive, initial=-jnp.inf)
        # A difference of huge signals is -inf, and 0 * -inf no number: bounded first.
        below = jnp.maximum(signal - top, jnp.finfo(signal.dtype).min)
        gain = jnp.where(alive, jnp.asarray(eta, jnp.float32) * below, 0.0)
        return redistribute(gain, log_weights, alive)

    return rule(increment)


def redistribute(
    gain: jax.Array, log_weights: jax.Array, alive: jax.Array
) -> jax.Array:
    """Increments under which weights ∝ α exp(gain) share the mass that they have.

    Args:
      gain: [n], at most 0 where `alive`.
      log_weights: [n].
      alive: bool [n], whose weights move.
    """
    gain = jnp.maximum(gain, -_MAX_LOG_RATIO)
    mass = log_total(log_weights, alive)
    normaliser = log_total(log_weights + gain, alive) - mass
    return jnp.where(alive, gain - normaliser, 0.0)


def log_space_ema(
    beta: jax.typing.ArrayLike,
) -> optax.GradientTransformationExtraArgs:
    """Exponential moving average of the weights: α ← (1-β) α + β α̂; β = 1 is none.

    In logarithms: log α ← logaddexp(log(1-β) + log α, log β + log α̂), hence on the
    increment Δ = log α̂ - log α: Δ ← logaddexp(log(1-β), log β + Δ).

    >>> log_weights = jnp.log(jnp.array([0.5, 0.5]))
    >>> transform = log_space_ema(beta=0.1)
    >>> state = transform.init(log_weights)
    >>> delta = jnp.log(jnp.array([0.75, 0.25])) - log_weights
    >>> delta, state = transform.update(delta, state, log_weights)
    >>> print(jnp.exp(optax.apply_updates(log_weights, delta)))
    [0.525 0.475]
    """

    def increment(delta: jax.Array, *_: Any) -> jax.Array:
        b = jnp.asarray(beta, jnp.float32)
        return jnp.logaddexp(jnp.log1p(-b), jnp.log(b) + delta)

    return rule(increment)


def floor(minimum: float) -> optax.GradientTransformationExtraArgs:
    """Keeps every weight at `minimum` or above: the KL projection on {α : α_i ≥ f}.

    The projection, argmin KL(α' ‖ α), is α'_i = max(f, c α_i) with the c that makes the
    sum 1. Domains without rows stay at 0.

    Args:
      minimum: f ≥ 0. f times the number of domains with rows must be at most 1.

    >>> log_weights = jnp.log(jnp.array([0.9, 0.08, 0.02]))
    >>> transform = floor(0.1)
    >>> delta, _ = transform.update(jnp.zeros(3), transform.init(log_weights),
    ...                             log_weights)
    >>> print(jnp.exp(optax.apply_updates(log_weights, delta)).round(3))
    [0.8 0.1 0.1]
    """

    def increment(delta: jax.Array, log_weights: jax.Array, *_: Any) -> jax.Array:
        alive = log_weights > -jnp.inf
        moved = normalise(jnp.where(alive, log_weights + delta, -jnp.inf))
        projected = _project_above(moved, minimum, alive)
        return jnp.where(alive, projected - log_weights, 0.0)

    return rule(increment)


@jax.jit
def _project_above(
    log_weights: jax.Array, minimum: jax.typing.ArrayLike, alive: jax.Array
) -> jax.Array:
    """Logarithm of max(f, c α) over `alive`, [k].

    Clamping lowers c, which may clamp more: c is taken again until it stays. From c = 1
    the clamped set only grows, never past the projection's. That takes a few passes
    over the weights; sorting 262,144 of them would take 0.1 s.
    """

    def scale(c: jax.Array) -> jax.Array:
        clamped = alive & (c * weights <= minimum)
        rest = jnp.sum(weights, where=alive & ~clamped)
        left = jnp.maximum(1.0 - minimum * jnp.sum(clamped), 0.0)
        # Where all are clamped, f * count = 1, and c does not matter any more.
        return jnp.where(rest > 0, left / rest, c)

    weights = jnp.exp(log_weights)
    one = jnp.ones((), weights.dtype)
    _, c = jax.lax.while_loop(
        lambda pair: pair[1] < pair[0],
        lambda pair: (pair[1], scale(pair[1])),
        (one, scale(one)),
    )
    raised = jnp.maximum(jnp.log(minimum), jnp.log(c) + log_weights)
    return normalise(jnp.where(alive, raised, -jnp.inf))


class SkipState(NamedTuple):
    """State of `skip_nonfinite`: how many updates were skipped, int32 []."""

    skipped: jax.Array
    inner: optax.OptState


def skip_nonfinite(
    inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Leaves weights and the inner state alone, and counts, where a number is none.

    That is a signal which is not finite, of those probed (what was not measured may
    hold anything), or an increment or a state that `inner` makes of finite ones. What
    goes in is a `Signals`, or one signal [n].
    """
    inner = optax.with_extra_args_support(inner)

    def init(log_weights: jax.Array) -> SkipState:
        return SkipState(jnp.zeros((), jnp.int32), inner.init(log_weights))

    def update(
        signal: Signals | jax.Array,
        state: SkipState,
        params: jax.Array,
        *,
        probed: jax.Array | None = None,
        **extra: Any,
    ) -> tuple[jax.Array, SkipState]:
        if isinstance(signal, Signals):
            finite, given = usable(signal, probed), filled(signal)
        else:
            measured = True if probed is None else probed
            finite = jnp.all(jnp.isfinite(signal), where=measured)
            given = jnp.where(jnp.isfinite(signal), signal, 0.0)
        delta, moved = inner.update(given, state.inner, params, probed=probed, **extra)
        for values in (delta, *jax.tree.leaves(moved)):  # it would be wrong for ever
            finite &= all_finite(values)
        delta = jnp.where(finite, delta, 0.0)
        kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), moved, state.inner)
        return delta, SkipState(state.skipped + jnp.where(finite, 0, 1), kept)

    return optax.GradientTransformationExtraArgs(init, update)


def among_probed(
    inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Who was not probed keeps its weight, come what may; the others keep their mass.

    So a constant added to all increments changes nothing.

    >>> log_weights = jnp.log(jnp.array([0.25, 0.25, 0.5]))
    >>> transform = among_probed(optax.scale(1.0))  # of the signal, and no more
    >>> signal = jnp.log(jnp.array([3.0, 1.0, 7.0]))
    >>> delta, _ = transform.update(signal, transform.init(log_weights), log_weights,
    ...                             probed=jnp.array([True, True, False]))
    >>> print(jnp.exp(optax.apply_updates(log_weights, delta)))
    [0.375 0.125 0.5  ]
    """
    inner = optax.with_extra_args_support(inner)

    def update(
        signal: jax.Array,
        state: optax.OptState,
        params: jax.Array,
        *,
        probed: jax.Array | None = None,
        **extra: Any,
    ) -> tuple[jax.Array, optax.OptState]:
        delta, state = inner.update(signal, state, params, probed=probed, **extra)
        return _among(delta, params, probed), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


@jax.jit
def _among(
    delta: jax.Array, log_weights: jax.Array, probed: jax.Array | None
) -> jax.Array:
    """Increments [k] that leave the rest alone, within bounds; NaN stays NaN."""
    everyone, alive = moving(log_weights, None), moving(log_weights, probed)
    delta = jnp.where(alive, jnp.asarray(delta, log_weights.dtype), 0.0)
    # Twice what `exponentiated_gradient` may need: its increments stay as they are.
    bound = 2 * _MAX_LOG_RATIO
    far = jnp.max(jnp.abs(delta), initial=0.0) > bound
    delta = jax.lax.cond(
        far, _bounded, lambda x, *_: x, delta, log_weights, probed, bound
    )
    if probed is None:  # all have a mass of 1, which normalising gives them
        return delta
    mass = log_total(log_weights, alive)
    new = log_weights + delta
    excess = log_total(new, alive) - mass
    alone = jnp.where(alive, delta - excess, 0.0)
    # What is right but for rounding stays: to correct it would move the last bits. By
    # domain, as one that loses all its weight says nothing of how exact the others are.
    top = jnp.max(new, where=alive, initial=-jnp.inf)
    winners = alive & (new == top)  # not argmax, which XLA takes one by one
    shared = jnp.max(jnp.abs(delta), where=winners, initial=0.0) + jnp.abs(mass)
    near = _ROUNDING * (10.0 + jnp.abs(delta) + jnp.where(top > -jnp.inf, shared, 0.0))
    right = jnp.all((jnp.abs(alone - delta) <= near) | ~everyone)
    return jnp.where(everyone & right, delta, alone)


def _bounded(
    delta: jax.Array,
    log_weights: jax.Array,
    probed: jax.Array | None,
    bound: float,
) -> jax.Array:
    alive = moving(log_weights, probed)
    top = jnp.max(delta, where=alive, initial=-jnp.inf)
    return jnp.where(alive, jnp.maximum(delta - top, -bound), 0.0)


def log_total(log_weights: jax.Array, alive: jax.Array | bool = True) -> jax.Array:
    """The logarithm of Σ exp over those `alive`, [].

    Faster than `jax.nn.logsumexp`, whose care for signs and gradients is not needed.
    """
    values = jnp.where(alive, log_weights, -jnp.inf)
    top = jnp.max(values)
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    return jnp.log(jnp.sum(jnp.exp(values - top))) + top


@jax.jit
def normalise(log_weights: jax.Array) -> jax.Array:
    """Subtracts log Σ α, the rounding that many updates would pile up."""
    total = log_total(log_weights)
    # A large total is rounded, and so is what is left: once more, where it was.
    rest = jax.lax.cond(
        jnp.abs(total) > 1.0,
        lambda values, total: log_total(values - total),
        lambda values, total: jnp.zeros_like(total),
        *(log_weights, total),
    )
    return log_weights - total - rest
