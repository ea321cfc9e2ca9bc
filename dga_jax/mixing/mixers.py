"""The mixers a config can name: a function each. To add one, write it here.

Its arguments are its options: `--config.mixer.name` and `--config.mixer.NAME.OPTION`
then know it. `recipe.mixer` says what it returns, and what is put around all of them.
Here is the method, and what needs no signal; those of others are in `by_loss`,
`by_curve` and `by_alignment`, and there controls of the method, too.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dga_jax.mixing import ascent, simplex
from dga_jax.mixing import by_alignment as by_alignment  # so that they are declared
from dga_jax.mixing import by_curve as by_curve
from dga_jax.mixing import by_loss as by_loss
from dga_jax.mixing.recipe import MIXERS as MIXERS  # those below and there, by name
from dga_jax.mixing.recipe import Mixer, mixer
from dga_jax.mixing.signals import Signals, gathered, spread


@mixer(reads=("alignments",), local=True)
def dga(
    eta: float,
    beta: float,
    *,
    kl: float,
    debias: bool,
    adapt: bool,
) -> optax.GradientTransformation:
    """Dynamic Gradient Alignment (Fan, Grangier and Ablin 2024, arXiv 2410.02498).

    α̂ ∝ α exp(+η a), then α ← (1-β) α + β α̂, with a_i = ⟨∇ℓ(θ; x_i), ∇ℓ(θ; y)⟩.

    Args:
      eta: step size η ≥ 0 of mirror ascent.
      beta: EMA coefficient β in (0, 1].
      kl: departure from the paper, see `ascent.dga`; as with the other two, what it
        means and that it is off by default is in `recipe.SWITCHES`.
      debias: likewise.
      adapt: likewise.

    >>> print(weights_after(dga(eta=1.0, beta=0.1), [0.5, 0.5],
    ...                     alignments=jnp.log(jnp.array([3.0, 1.0]))))
    [0.525 0.475]
    """
    if kl or debias or adapt:
        return ascent.dga(eta, beta, kl=kl, debias=debias, adapt=adapt)
    return simplex.reading(
        lambda signals: signals.alignments,
        optax.chain(simplex.exponentiated_gradient(eta), simplex.log_space_ema(beta)),
    )


@mixer(reads=())
def static() -> optax.GradientTransformation:
    """The weights stay where they began: uniform, natural, or given by name."""
    return optax.set_to_zero()


@mixer(reads=(), start="importance")
def importance() -> optax.GradientTransformation:
    """Importance sampling: the constant α_i = P(domain i | target), a histogram."""
    return optax.set_to_zero()


class MixerState(NamedTuple):
    """What a checkpoint keeps of the mixture.

    Attributes:
      log_weights: float32 [n], log α, or log w where a basis is in use.
      inner: the mixer's own state.
    """

    log_weights: jax.Array
    inner: optax.OptState


def init(mixer: Mixer, weights: jax.typing.ArrayLike) -> MixerState:
    """The state for initial weights [n] ≥ 0 that sum to 1."""
    log_weights = simplex.normalise(jnp.log(jnp.asarray(weights, jnp.float32)))
    return MixerState(log_weights, mixer.init(log_weights))


@functools.partial(jax.jit, static_argnames=("mixer",))
def update(
    mixer: Mixer,
    state: MixerState,
    signals: Signals | jax.Array,
    *,
    step: jax.typing.ArrayLike,
    probed: jax.Array | None = None,
    indices: jax.Array | None = None,
) -> MixerState:
    """One update of the weights after train step `step`.

    Args:
      mixer: the recipe.
      state: what the last update left.
      signals: what it reads, of what is probed; an array [n] is the alignments.
      step: train step, for schedules.
      probed: bool [n] or None for all.
      indices: int [m], which were probed, instead of `probed`: what is measured on
        probe rows is then [m], in this order.

    Returns:
      The new state; its weights are on the simplex whatever the signals were.
    """
    if not mixer.moves:
        return state
    if not isinstance(signals, Signals):
        signals = Signals(alignments=signals)
    if indices is not None and mixer.local:
        return _update_of_few(mixer, state, signals, step, indices)
    if indices is not None:
        count = len(state.log_weights)
        signals = spread(signals, indices, count)
        probed = jnp.zeros(count, bool).at[indices].set(True)
    delta, inner = mixer.update(
        signals, state.inner, state.log_weights, step=step, probed=probed
    )
    moved = optax.apply_updates(state.log_weights, delta)
    return _settled(state.log_weights, moved, delta, inner)


def _update_of_few(
    mixer: Mixer,
    state: MixerState,
    signals: Signals,
    step: jax.typing.ArrayLike,
    indices: jax.Array,
) -> MixerState:
    """`update` of a local mixer: it sees log-weights, state and signals of m alone."""
    axes = _axes(mixer, len(state.log_weights))

    def taken(values: jax.Array, axis: int) -> jax.Array:
        return values if axis < 0 else jnp.take(values, indices, axis)

    def put(values: jax.Array, part: jax.Array, axis: int) -> jax.Array:
        at = (slice(None),) * max(axis, 0)
        return part if axis < 0 else values.at[(*at, indices)].set(part)

    inner = jax.tree.map(taken, state.inner, axes)
    delta, inner = mixer.update(
        gathered(signals, indices),
        inner,
        state.log_weights[indices],
        step=step,
        probed=jnp.ones(len(indices), bool),
    )
    inner = jax.tree.map(put, state.inner, inner, axes)
    moved = state.log_weights.at[indices].add(delta)
    return _settled(state.log_weights, moved, delta, inner)


def _axes(mixer: Mixer, count: int) -> optax.OptState:
    """Which axis of each array of the mixer's state is the domains'; -1: none."""

    def shapes(size: int) -> optax.OptState:
        return jax.eval_shape(mixer.init, jax.ShapeDtypeStruct((size,), jnp.float32))

    def axis(one: jax.ShapeDtypeStruct, more: jax.ShapeDtypeStruct) -> int:
        pairs = enumerate(zip(one.shape, more.shape, strict=True))
        return next((i for i, (a, b) in pairs if a != b), -1)

    return jax.tree.map(axis, shapes(count), shapes(count + 1))


def _settled(
    before: jax.Array, moved: jax.Array, delta: jax.Array, inner: optax.OptState
) -> MixerState:
    # Normalising is not idempotent: a skipped update would move the last bits.
    still = jnp.sum(jnp.abs(delta)) == 0
    return MixerState(jnp.where(still, before, simplex.normalise(moved)), inner)


def weights_after(
    mixer: Mixer, weights: jax.typing.ArrayLike, **signals: jax.typing.ArrayLike
) -> jax.Array:
    """Weights [n] after one update from `weights` by signals of these names."""
    given = {name: jnp.asarray(values) for name, values in signals.items()}
    state = update(mixer, init(mixer, weights), Signals(**given), step=1)
    return jnp.exp(state.log_weights).round(4)
