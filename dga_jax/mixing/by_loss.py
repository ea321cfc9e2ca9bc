"""Mixers of other papers that read losses and counts, and cost no alignment.

Each is a function, as in `mixers`; k are the domains that have rows. Every update here
comes after `mixer.interval` steps, also where theirs comes at each step.
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dga_jax.bounds import AtLeast, Within
from dga_jax.mixing import simplex
from dga_jax.mixing.recipe import UnfitError, mixer
from dga_jax.mixing.signals import Signals

_TINY = jnp.finfo(jnp.float32).tiny


def _excess(rate: float, smoothing: float) -> optax.GradientTransformation:
    """α ← (1-c) α exp(η max(ℓ - ℓ_ref, 0)) / Σ + c / k."""

    def increment(
        signals: Signals, log_weights: jax.Array, probed: jax.Array, step: Any
    ) -> jax.Array:
        excess = jnp.maximum(signals.losses - signals.reference_losses, 0.0)
        raised = jnp.where(probed, log_weights + rate * excess, -jnp.inf)
        hat = jax.nn.softmax(raised)
        return (
            jnp.log((1 - smoothing) * hat + smoothing / jnp.sum(probed)) - log_weights
        )

    return simplex.rule(increment)


@mixer(reads=("losses", "reference_losses"), local=True)
def doremi(
    rate: Annotated[float, AtLeast(0)] = 1.0,
    smoothing: Annotated[float, Within("[0, 1]")] = 1e-3,
) -> optax.GradientTransformation:
    """DoReMi, online (2023, arXiv 2305.10429): up with what a reference does better.

    α ← (1-c) softmax(log α + η max(ℓ - ℓ_ref, 0)) + c / k. The paper bounds each
    token's excess at 0, here it is each domain's mean that is bounded.

    Args:
      rate: η.
      smoothing: c, share of the uniform mixture.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> signals = dict(losses=[4.0, 2.0], reference_losses=[3.0, 3.0])
    >>> print(weights_after(doremi(), [0.5, 0.5], **signals))
    [0.7308 0.2692]
    """
    return _excess(rate, smoothing)


@mixer(reads=("losses", "reference_losses"), local=True)
def sheared(
    smoothing: Annotated[float, Within("[0, 1]")] = 1e-4,
) -> optax.GradientTransformation:
    """Dynamic batch loading of Sheared-LLaMA (2023, arXiv 2310.06694).

    α ← (1-c) α exp(max(ℓ - ℓ_ref, 0)) / Σ + c / k, ℓ_ref being the losses aimed at:
    those of the reference run.

    Args:
      smoothing: c, share of the uniform mixture.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> signals = dict(losses=[4.0, 2.0], reference_losses=[3.0, 3.0])
    >>> print(weights_after(sheared(), [0.5, 0.5], **signals))
    [0.731 0.269]
    """
    return _excess(1.0, smoothing)


class FirstState(NamedTuple):
    """State of `velocitune`: losses [n] when first probed, and whether they were."""

    losses: jax.Array
    known: jax.Array


@mixer(reads=("losses", "reference_losses"), local=True)
def velocitune() -> optax.GradientTransformation:
    """Velocitune (2024, arXiv 2411.14318): up with what learns slowest.

    α ∝ α exp(V), V_i = clip((ℓ - ℓ_aim) / (ℓ_0 - ℓ_aim), 0, 1): ℓ_0 is the loss at
    the first update, ℓ_aim that of the reference run, where the paper predicts it.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> signals = dict(losses=[4.0, 2.0], reference_losses=[3.0, 3.0])
    >>> print(weights_after(velocitune(), [0.5, 0.5], **signals))
    [0.73109996 0.2689    ]
    """

    def init(log_weights: jax.Array) -> FirstState:
        zero = jnp.zeros(log_weights.shape)
        return FirstState(zero, zero)

    def update(
        signals: Signals,
        state: FirstState,
        params: jax.Array,
        *,
        probed: jax.Array | None = None,
        **extra: Any,
    ) -> tuple[jax.Array, FirstState]:
        measured = jnp.ones(params.shape, bool) if probed is None else probed
        first = measured & (state.known == 0)
        begin = jnp.where(first, signals.losses, state.losses)
        way = begin - signals.reference_losses
        left = signals.losses - signals.reference_losses
        # Who begins where it is aimed at has no way to go.
        velocity = jnp.where(way > 0, jnp.clip(left / jnp.maximum(way, _TINY), 0, 1), 0)
        known = jnp.where(first, 1.0, state.known)
        return velocity, FirstState(begin, known)

    return optax.GradientTransformationExtraArgs(init, update)


class WindowState(NamedTuple):
    """State of `skill_it`: losses last known [n], A ℓ of the last updates [w, n]."""

    losses: jax.Array
    window: jax.Array


@mixer(reads=("losses",), files=("graph",))
def skill_it(
    rate: Annotated[float, AtLeast(0)] = 0.5,
    window: Annotated[int, AtLeast(1)] = 3,
    graph: np.ndarray | None = None,
) -> optax.GradientTransformation:
    """Skill-it with a graph that is given (2023, arXiv 2307.14430).

    α ∝ exp(η Σ A ℓ) over the last three updates, A_ij how much domain i teaches skill
    j. Skills are the domains; a column of zeros is a skill that nobody aims at.

    Args:
      rate: η.
      window: updates that are summed over.
      graph: a .npy file with A [k, k], domains in the store's order; "": the identity.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> print(weights_after(skill_it(), [0.5, 0.5], losses=[4.0, 2.0]))
    [0.73109996 0.2689    ]
    """

    def init(log_weights: jax.Array) -> WindowState:
        size = log_weights.shape[0]
        if graph is not None and graph.shape != (size, size):
            found = " x ".join(map(str, graph.shape)) or "a number"
            raise UnfitError(
                "graph",
                f"it is {found}, but there are {size} domains; give one of "
                f"{size} x {size}",
            )
        return WindowState(jnp.zeros(size), jnp.zeros((window, size)))

    def update(
        signals: Signals,
        state: WindowState,
        params: jax.Array,
        *,
        probed: jax.Array | None = None,
        **extra: Any,
    ) -> tuple[jax.Array, WindowState]:
        measured = True if probed is None else probed
        losses = jnp.where(measured, signals.losses, state.losses)
        taught = losses if graph is None else jnp.asarray(graph) @ losses
        last = jnp.concatenate([state.window[1:], taught[None]])
        return rate * jnp.sum(last, axis=0) - params, WindowState(losses, last)

    return optax.GradientTransformationExtraArgs(init, update)


class RewardState(NamedTuple):
    """State of `odm`: rewards R [n], and how many updates were made, []."""

    rewards: jax.Array
    updates: jax.Array


@mixer(reads=("train_losses",))
def odm(
    memory: Annotated[float, Within("[0, 1)")] = 0.9,
) -> optax.GradientTransformation:
    """Online Data Mixing (2023, arXiv 2312.02406), in the form of its authors' code.

    R_i ← m R_i + (1-m) exp(ℓ_i) for domains that were drawn, ε_t = min(1/k,
    √(ln k / (k t))), α = (1 - k ε_t) R / Σ R + ε_t; t counts updates.

    Args:
      memory: m.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> print(weights_after(odm(), [0.5, 0.5], train_losses=[4.0, 2.0]))
    [0.5 0.5]
    """

    def init(log_weights: jax.Array) -> RewardState:
        return RewardState(jnp.zeros(log_weights.shape), jnp.zeros(()))

    def update(
        signals: Signals, state: RewardState, params: jax.Array
    ) -> tuple[jax.Array, RewardState]:
        alive, losses = params > -jnp.inf, signals.train_losses
        new = memory * state.rewards + (1 - memory) * jnp.exp(losses)
        rewards = jnp.where(alive & ~jnp.isnan(losses), new, state.rewards)
        k, t = jnp.sum(alive, dtype=jnp.float32), state.updates + 1
        least = jnp.minimum(1 / k, jnp.sqrt(jnp.log(k) / (k * t)))
        total = jnp.maximum(jnp.sum(rewards), _TINY)
        share = (1 - k * least) * rewards / total + least
        return jnp.log(share) - params, RewardState(rewards, t)

    return optax.GradientTransformation(init, update)


class Exp3State(NamedTuple):
    """State of `odm_exp3`: log w [n]."""

    log_scores: jax.Array


@mixer(reads=("train_losses",))
def odm_exp3(
    rate: Annotated[float, AtLeast(0)] = 0.3,
    gamma: Annotated[float, Within("(0, 1]")] = 0.1,
) -> optax.GradientTransformation:
    """Online Data Mixing (2023, arXiv 2312.02406), as EXP3.

    w_i ← w_i exp(η (ℓ_i / α_i) / k) for domains that were drawn, w = 1 at first;
    α = (1-γ) w / Σ w + γ / k.

    Args:
      rate: η.
      gamma: γ, share of the uniform mixture.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> print(weights_after(odm_exp3(), [0.5, 0.5], train_losses=[4.0, 2.0]))
    [0.6311 0.3689]
    """

    def init(log_weights: jax.Array) -> Exp3State:
        return Exp3State(jnp.zeros(log_weights.shape))

    def update(
        signals: Signals, state: Exp3State, params: jax.Array
    ) -> tuple[jax.Array, Exp3State]:
        alive, losses = params > -jnp.inf, signals.train_losses
        drawn = alive & ~jnp.isnan(losses)
        k = jnp.sum(alive, dtype=jnp.float32)
        reward = rate * losses * jnp.exp(-params) / k
        scores = state.log_scores + jnp.where(drawn, reward, 0.0)
        top = jnp.max(scores, where=alive, initial=-jnp.inf)
        scores = jnp.where(alive, scores - top, 0.0)
        raised = jnp.where(alive, jnp.exp(scores), 0.0)
        hat = raised / jnp.sum(raised)
        return jnp.log((1 - gamma) * hat + gamma / k) - params, Exp3State(scores)

    return optax.GradientTransformation(init, update)
