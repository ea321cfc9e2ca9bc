"""Mixers of other papers that read gradients: DoGE, R&B, FastMix, GRAPE, PiKE.

And controls of DGA, which deal the alignments of an update out to other domains.

Each is a function, as in `mixers`; u are the log-weights, k the domains, a the
alignments. Every update here comes after `mixer.interval` steps, whatever theirs.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dga_jax.bounds import Above, AtLeast
from dga_jax.mixing import simplex
from dga_jax.mixing.recipe import mixer
from dga_jax.mixing.signals import Signals

_TINY = jnp.finfo(jnp.float32).tiny
# What is dealt to, and what is dealt, in order; see `_dealt`.
_Orders = tuple[jax.Array, jax.Array]


@mixer(reads=("alignments", "learning_rate"), local=True)
def doge(
    mu: Annotated[float, Above(0)] = 0.05, least: float = 0.0, most: float = 5.0
) -> optax.GradientTransformation:
    """DoGE towards a target (Fan, Pagliardini and Jaggi 2023, arXiv 2310.15393).

    u ← u + lr clip(a, least, most) / μ, α = softmax(u). Its authors weight the loss of
    evenly drawn batches (`mixer.apply=loss`) at every step, and divide a by the mean
    norm of the domains' gradients, we by that of the target (`mixer.normalise`).

    Args:
      mu: μ, of the Bregman term.
      least: lower bound of an alignment; the authors' 0 takes no notice of harm.
      most: upper bound of an alignment.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> signals = dict(alignments=[3.0, -1.0], learning_rate=0.01)
    >>> print(weights_after(doge(), [0.5, 0.5], **signals))
    [0.6457 0.3543]
    """

    def rule(signals: Signals, log_weights: jax.Array) -> jax.Array:
        scores = jnp.clip(signals.alignments, least, most)
        return signals.learning_rate * scores / mu

    return optax.stateless(rule)


@mixer(reads=("generic_alignments", "gradient_norms", "learning_rate"))
def doge_universal(
    mu: Annotated[float, Above(0)] = 0.05, least: float = 0.0, most: float = 5.0
) -> optax.GradientTransformation:
    """DoGE without a target: what helps all other domains (arXiv 2310.15393).

    u ← u + lr clip(s, least, most) / μ with s_i = ⟨∇ℓ_i, Σ_{j≠i} ∇ℓ_j⟩.

    Args:
      mu: μ, of the Bregman term.
      least: lower bound of a score.
      most: upper bound of a score.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> print(weights_after(doge_universal(), [0.5, 0.5], learning_rate=0.01,
    ...     generic_alignments=[5.0, 2.0], gradient_norms=[1.0, 2.0]))
    [0.69 0.31]
    """

    def rule(signals: Signals, log_weights: jax.Array) -> jax.Array:
        others = signals.generic_alignments - signals.gradient_norms**2
        return signals.learning_rate * jnp.clip(others, least, most) / mu

    return optax.stateless(rule)


@mixer(reads=("alignments",), local=True)
def rb(sharpness: Annotated[float, AtLeast(0)] = 1.0) -> optax.GradientTransformation:
    """R&B's balancing (2025, arXiv 2505.00358): a softmax of alignments, no memory.

    α = softmax(λ a / ‖a‖). Its regrouping of the data is for `prepare` to do.

    Args:
      sharpness: λ; what the authors took could not be read.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> print(weights_after(rb(), [0.5, 0.5], alignments=[0.4, -0.3]))
    [0.80219996 0.1978    ]
    """

    def increment(
        signals: Signals, log_weights: jax.Array, probed: jax.Array, step: Any
    ) -> jax.Array:
        values = jnp.where(probed, signals.alignments, 0.0)
        largest = jnp.maximum(jnp.max(jnp.abs(values)), _TINY)  # its square may be inf
        values /= largest
        norm = jnp.maximum(jnp.sqrt(jnp.sum(values**2)), _TINY)
        return sharpness * values / norm - log_weights

    return simplex.rule(increment)


@mixer(reads=("alignments", "learning_rate"), head=True)
def fastmix(
    rate: Annotated[float, Above(0)] = 0.01,
    decay: Annotated[float, AtLeast(0)] = 0.01,
) -> optax.GradientTransformation:
    """FastMix (2026, arXiv 2606.14971): AdamW on the logits, by the head's gradients.

    α = softmax(z), and AdamW steps on z along -lr (diag α - αα^T) a, where a takes the
    gradients of the output head alone. Its authors weight the loss of evenly drawn
    batches (`mixer.apply=loss`).

    Args:
      rate: learning rate of the logits.
      decay: weight decay of the logits; that of PyTorch's AdamW if they left it alone.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> signals = dict(alignments=[3.0, -1.0], learning_rate=0.01)
    >>> print(weights_after(fastmix(), [0.5, 0.5], **signals))
    [0.505      0.49499997]
    """

    def gradient(
        signals: Signals, log_weights: jax.Array, probed: jax.Array, step: Any
    ) -> jax.Array:
        share = jnp.where(probed, jnp.exp(log_weights), 0.0)
        total = jnp.maximum(jnp.sum(share), _TINY)
        middle = jnp.sum(share * signals.alignments) / total
        return -signals.learning_rate * share * (signals.alignments - middle)

    # optax makes of a loss's gradient the step that lowers it.
    return optax.chain(simplex.rule(gradient), _finite_adamw(rate, decay))


def _finite_adamw(rate: float, decay: float) -> optax.GradientTransformation:
    """AdamW that leaves logits of -inf, of domains without rows, out of the decay."""
    adamw = optax.adamw(rate, weight_decay=decay)

    def update(
        updates: jax.Array, state: optax.OptState, params: jax.Array
    ) -> tuple[jax.Array, optax.OptState]:
        finite = jnp.where(params > -jnp.inf, params, 0.0)
        return adamw.update(updates, state, finite)

    return optax.GradientTransformation(adamw.init, update)


class TargetState(NamedTuple):
    """State of `grape`: log z, logarithms of the targets' weights, [m]."""

    log_targets: jax.Array


@mixer(reads=("target_alignments", "target_losses"))
def grape(
    rate: Annotated[float, AtLeast(0)] = 1.5,
    target_rate: Annotated[float, AtLeast(0)] = 10.0,
    *,
    targets: int,
) -> optax.GradientTransformation:
    """GRAPE, for several targets (2025, arXiv 2505.20380).

    α ∝ α exp(r Σ_n z_n ⟨∇ℓ_k, ∇log ℓ_n⟩) and, by the weights before it, z ∝ z
    exp(-s ⟨∇log ℓ_n, Σ_k α_k ∇ℓ_k⟩): targets that the mixture helps least weigh most.

    Args:
      rate: r, of the domains.
      target_rate: s, of the targets.
      targets: m, how many there are.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> signals = dict(target_alignments=[[3.0, -1.0]], target_losses=[4.0])
    >>> print(weights_after(grape(targets=1), [0.5, 0.5], **signals))
    [0.81759995 0.18239999]
    """

    def init(log_weights: jax.Array) -> TargetState:
        return TargetState(jnp.full(targets, -jnp.log(float(targets))))

    def update(
        signals: Signals,
        state: TargetState,
        params: jax.Array,
        *,
        probed: jax.Array | None = None,
        **extra: Any,
    ) -> tuple[jax.Array, TargetState]:
        alive = simplex.moving(params, probed)
        gains_mxn = signals.target_alignments / signals.target_losses[:, None]
        gains_mxn = jnp.where(alive, gains_mxn, 0.0)
        share = jnp.where(alive, jnp.exp(params), 0.0)
        helped = gains_mxn @ (share / jnp.maximum(jnp.sum(share), _TINY))
        moved = state.log_targets - target_rate * helped
        delta = rate * jnp.exp(state.log_targets) @ gains_mxn
        return delta, TargetState(jax.nn.log_softmax(moved))

    return optax.GradientTransformationExtraArgs(init, update)


@mixer(reads=("gradient_norms", "gradient_variances"), local=True)
def pike(
    zeta1: Annotated[float, AtLeast(0)] = 1.0,
    zeta2: Annotated[float, AtLeast(0)] = 1.0,
    *,
    batch_size: int,
) -> optax.GradientTransformation:
    """PiKE (2025, arXiv 2502.06244): large gradients and little noise, no target.

    α ∝ α exp(ζ1 ‖∇ℓ_i‖² - ζ2 σ_i² / (2 b)), b the rows of a batch.

    Args:
      zeta1: ζ1; what the authors took could not be read.
      zeta2: ζ2; likewise.
      batch_size: b.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> signals = dict(gradient_norms=[1.0, 1.0], gradient_variances=[1.0, 3.0])
    >>> print(weights_after(pike(batch_size=1), [0.5, 0.5], **signals))
    [0.73109996 0.2689    ]
    """

    def rule(signals: Signals, log_weights: jax.Array) -> jax.Array:
        noise = jnp.nan_to_num(signals.gradient_variances)
        return zeta1 * signals.gradient_norms**2 - zeta2 * noise / (2 * batch_size)

    return optax.stateless(rule)


@mixer(reads=("alignments",))
def random(eta: float, beta: float, seed: int) -> optax.GradientTransformation:
    """A control: DGA's update by alignments that were dealt out to the domains anew.

    α̂ ∝ α exp(+η a_π), then DGA's EMA, with π a random permutation of those probed,
    another at each update: the sizes of the steps are those of DGA, and the directions
    say nothing. It costs what DGA costs.

    Args:
      eta: η.
      beta: β.
      seed: of the permutations.
    """

    def drawn(signals: Signals, step: jax.typing.ArrayLike) -> _Orders:
        key = jax.random.fold_in(jax.random.key(seed), jnp.max(jnp.asarray(step)))
        shape = signals.alignments.shape
        return jnp.zeros(shape), jax.random.uniform(key, shape)

    return _dealt(drawn, eta, beta)


@mixer(reads=("alignments", "losses"))
def by_loss(eta: float, beta: float) -> optax.GradientTransformation:
    """A control: DGA's update, the highest alignment dealt to the highest loss ℓ_i.

    As `random`, with π such that a_π is in the order of another signal.

    Args:
      eta: η.
      beta: β.

    >>> from dga_jax.mixing.mixers import weights_after
    >>> signals = dict(alignments=jnp.log(jnp.array([3.0, 1.0])), losses=[4.0, 5.0])
    >>> print(weights_after(by_loss(eta=1.0, beta=1.0), [0.5, 0.5], **signals))
    [0.25 0.75]
    """
    return _dealt(lambda got, _: (got.losses, got.alignments), eta, beta)


@mixer(reads=("alignments", "gradient_norms"))
def by_norm(eta: float, beta: float) -> optax.GradientTransformation:
    """A control: `by_loss` in the order of ‖∇ℓ_i‖, norm of a domain's mean gradient.

    Args:
      eta: η.
      beta: β.
    """
    return _dealt(lambda got, _: (got.gradient_norms, got.alignments), eta, beta)


@mixer(reads=("alignments", "gradient_norms", "gradient_variances"))
def by_fisher(eta: float, beta: float) -> optax.GradientTransformation:
    """A control: `by_loss` in the order of the empirical Fisher information's trace.

    Σ over rows of ‖∇ℓ(x)‖² / m, which is ‖∇ℓ_i‖² + σ_i², up to σ_i² / m.

    Args:
      eta: η.
      beta: β.
    """

    def trace(signals: Signals, step: jax.typing.ArrayLike) -> _Orders:
        del step
        variances = jnp.nan_to_num(signals.gradient_variances)
        return signals.gradient_norms**2 + variances, signals.alignments

    return _dealt(trace, eta, beta)


def _dealt(
    orders: Callable[[Signals, jax.typing.ArrayLike], _Orders], eta: float, beta: float
) -> optax.GradientTransformation:
    """DGA's update, the alignments of those probed dealt out in another order.

    Args:
      orders: of signals and the train step, two arrays [n]: the domain that is lowest
        by the first gets the alignment of that lowest by the second, and so on.
      eta: η.
      beta: β.
    """
    follow = optax.chain(
        simplex.exponentiated_gradient(eta), simplex.log_space_ema(beta)
    )

    def update(
        signals: Signals,
        log_weights: jax.Array,
        probed: jax.Array,
        step: jax.typing.ArrayLike,
    ) -> jax.Array:
        here, there = (
            jnp.argsort(jnp.where(probed, values, jnp.inf), stable=True)
            for values in orders(signals, step)
        )
        values = (
            jnp.zeros_like(signals.alignments).at[here].set(signals.alignments[there])
        )
        state = follow.init(log_weights)
        return follow.update(values, state, log_weights, probed=probed)[0]

    return simplex.rule(update)
