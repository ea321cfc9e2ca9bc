"""AdamW, its learning-rate schedules, and the preconditioner for alignments."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

SCHEDULES = ("cosine", "wsd", "constant")
_ADAM, _RATE = "adam", "rate"


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019) and its schedule.

    Attributes:
      learning_rate: the peak.
      schedule: "cosine" decays to `final_fraction` of the peak over all steps after the
        warm-up; "wsd" (warm-up, stable, decay) is flat until the last
        `decay_fraction` of the steps, then linear; "constant" does not decay.
      steps: train steps in all.
      warmup_steps: linear from 0; step s trains with (s+1)/warmup of the peak.
      decay_fraction: see "wsd".
      final_fraction: of the peak, where decay ends.
      b1, b2, eps, weight_decay: of AdamW. Norm scales and biases
        do not decay.
      clip_norm: bound on the gradient's global norm; 0 for none.
    """

    learning_rate: float
    schedule: str
    steps: int
    warmup_steps: int
    decay_fraction: float
    final_fraction: float
    b1: float
    b2: float
    eps: float
    weight_decay: float
    clip_norm: float


def learning_rate(config: OptimizerConfig) -> optax.Schedule:
    """Learning rate as a function of the number of updates already made."""
    peak, final = config.learning_rate, config.learning_rate * config.final_fraction
    after = max(config.steps - config.warmup_steps, 1)
    if config.schedule == "cosine":
        body = optax.cosine_decay_schedule(peak, after, alpha=config.final_fraction)
    elif config.schedule == "wsd":
        decay = min(max(round(config.steps * config.decay_fraction), 1), after)
        stable = optax.constant_schedule(peak)
        ramp = optax.linear_schedule(peak, final, decay)
        body = optax.join_schedules([stable, ramp], [after - decay])
    else:
        body = optax.constant_schedule(peak)
    if not config.warmup_steps:
        return body
    # The first update, at count 0, would be lost to a ramp that starts at 0.
    start = peak / config.warmup_steps
    ramp = optax.linear_schedule(start, peak, max(config.warmup_steps - 1, 1))
    return optax.join_schedules([ramp, body], [config.warmup_steps])


@functools.lru_cache(maxsize=32)
def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clipping, Adam, decoupled weight decay, schedule; in that order.

    The same object for an equal config, by which programs know each other again.
    """
    clip = (
        optax.clip_by_global_norm(config.clip_norm)
        if config.clip_norm
        else optax.identity()
    )
    return optax.named_chain(
        ("clip", clip),
        (_ADAM, optax.scale_by_adam(config.b1, config.b2, config.eps)),
        ("decay", optax.add_decayed_weights(config.weight_decay, mask=_is_matrix)),
        (_RATE, optax.scale_by_learning_rate(learning_rate(config))),
    )


def updates_made(opt_state: Any) -> jax.Array:
    """How many updates the optimizer has made, by which its schedule goes: int32 []."""
    return opt_state[_RATE].count


def _is_matrix(params: Any) -> Any:
    """True for kernels and embeddings, False for the norms' scales and biases."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key not in ("scale", "bias"), params
    )


def precondition(config: OptimizerConfig, opt_state: Any, gradient: Any) -> Any:
    """P⁻¹g with P = diag(√v̂ + ε), Adam's second moments, bias corrected.

    ⟨∇ℓ_i, P⁻¹g⟩ is, up to the learning rate, what an Adam step on domain i would take
    off the target loss.
    """
    adam = opt_state[_ADAM]
    correction = 1.0 - config.b2 ** jnp.maximum(adam.count, 1)
    return jax.tree.map(
        lambda g, v: g / (jnp.sqrt(v / correction) + config.eps), gradient, adam.nu
    )
