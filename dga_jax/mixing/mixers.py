"""The mixers a config can name: a function each. To add one, write it here.

Its arguments are its options: `--config.mixer.name` and `--config.mixer.NAME.OPTION`
then know it. `recipe.mixer` says what it returns, and what is put around all of them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dga_jax.mixing import simplex
from dga_jax.mixing.recipe import MIXERS as MIXERS  # those below, by name
from dga_jax.mixing.recipe import Mixer, mixer


@mixer(signal="alignments")
def dga(eta: float, beta: float) -> optax.GradientTransformation:
    """Dynamic Gradient Alignment (Fan, Grangier and Ablin 2024, arXiv 2410.02498).

    α̂ ∝ α exp(+η a), then α ← (1-β) α + β α̂, with a_i = ⟨∇ℓ(θ; x_i), ∇ℓ(θ; y)⟩.

    Args:
      eta: step size η ≥ 0 of mirror ascent.
      beta: EMA coefficient β in (0, 1].
    """
    return optax.chain(simplex.exponentiated_gradient(eta), simplex.log_space_ema(beta))


@mixer(signal=None)
def static() -> optax.GradientTransformation:
    """The weights stay where they began: uniform, natural, or given by name."""
    return optax.set_to_zero()


@mixer(signal=None, start="importance")
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
    signal: jax.Array,
    *,
    step: jax.typing.ArrayLike,
    probed: jax.Array | None = None,
) -> MixerState:
    """One update of the weights after train step `step`.

    Args:
      mixer: the recipe.
      state: what the last update left.
      signal: [n]; what is not probed is not read.
      step: train step, for schedules.
      probed: bool [n] or None for all.

    Returns:
      The new state; its weights are on the simplex whatever the signal was.
    """
    delta, inner = mixer.update(
        signal, state.inner, state.log_weights, step=step, probed=probed
    )
    moved = simplex.normalise(optax.apply_updates(state.log_weights, delta))
    # Normalising is not idempotent: a skipped update would move the last bits.
    still = jnp.all(delta == 0)
    return MixerState(jnp.where(still, state.log_weights, moved), inner)
