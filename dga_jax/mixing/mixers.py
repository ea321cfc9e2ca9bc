"""The mixers a config can name.

A mixer is an optax-style pair, `init` and `update`, over log-weights (see `simplex`),
and a word on which signal it reads. To add one, write a function that makes it and
enter it in `MIXERS`: `--config.mixer.name` then knows it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dga_jax.mixing import simplex


class Mixer(NamedTuple):
    """A rule that turns signals into new weights.

    Attributes:
      init: log-weights [n] -> the mixer's state.
      update: (signal [n], state, log-weights [n], *, step, probed) -> (increment of the
        log-weights, state), as an optax transform with extra arguments.
      signal: "alignments", or None if the weights never move.
      start: what the weights are at first, unless the config says: "uniform", or
        "importance", P(domain | target).
    """

    init: optax.TransformInitFn
    update: optax.TransformUpdateExtraArgsFn
    signal: str | None
    start: str = "uniform"


def dga(
    eta: optax.ScalarOrSchedule, beta: optax.ScalarOrSchedule, floor: float = 0.0
) -> Mixer:
    """Dynamic Gradient Alignment (Fan, Grangier and Ablin 2024, arXiv 2410.02498).

    α̂ ∝ α exp(+η a), then α ← (1-β) α + β α̂, with a_i = ⟨∇ℓ(θ; x_i), ∇ℓ(θ; y)⟩.

    Args:
      eta: step size η ≥ 0 of mirror ascent, or a schedule of the train step.
      beta: EMA coefficient β in (0, 1], or a schedule of the train step.
      floor: least weight of any domain (or basis distribution) with rows.
    """
    stages = [simplex.exponentiated_gradient(eta), simplex.log_space_ema(beta)]
    if floor:
        stages.append(simplex.floor(floor))
    return Mixer(*simplex.skip_nonfinite(optax.chain(*stages)), "alignments")


def static() -> Mixer:
    """The weights stay where they began: uniform, natural, or given by name."""
    return Mixer(*optax.with_extra_args_support(optax.set_to_zero()), None)


def importance() -> Mixer:
    """Importance sampling: the constant α_i = P(domain i | target), a histogram."""
    return static()._replace(start="importance")


@dataclasses.dataclass(frozen=True)
class MixerOptions:
    """What a config says to its mixer: `dga` has the meaning of each."""

    eta: optax.ScalarOrSchedule
    beta: optax.ScalarOrSchedule
    floor: float


MIXERS: dict[str, Callable[[MixerOptions], Mixer]] = {
    "dga": lambda options: dga(options.eta, options.beta, options.floor),
    "static": lambda options: static(),
    "importance": lambda options: importance(),
}


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
