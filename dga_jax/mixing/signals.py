"""What a mixer may read: a `Signals` of arrays over the n domains of a mixture.

With a basis, "domain" is a distribution of it, as everywhere here.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Signals(NamedTuple):
    """What was measured for one update; None for what the mixer does not read.

    Attributes:
      alignments: [n], a_i = ⟨∇ℓ_i, ∇ℓ_target⟩.
      standard_errors: [n], of the alignments, with which they come; NaN where unknown.
      losses: [n], nats per token of each domain's probe rows.
      train_losses: [n], nats per token of the rows that were trained on since the last
        update; NaN for a domain of which there were none.
      rows: [n], trained on since the run began.
      tokens: [n], that these rows predict on average.
      reference_losses: [n], of the probe rows, under the parameters of another run.
      gradient_norms: [n], ‖∇ℓ_i‖, of the mean gradient of the probe rows.
      gradient_variances: [n], trace of the covariance of one probe row's gradient; NaN
        where all probe rows are one.
      generic_alignments: [n], ⟨∇ℓ_i, Σ_j ∇ℓ_j⟩ over all domains probed, itself
        included.
      target_alignments: [m, n], with each of m targets; one target is [1, n].
      target_losses: [m], nats per token of the target rows.
      learning_rate: [], of the train step before the update.
    """

    alignments: jax.Array | None = None
    standard_errors: jax.Array | None = None
    losses: jax.Array | None = None
    train_losses: jax.Array | None = None
    rows: jax.Array | None = None
    tokens: jax.Array | None = None
    reference_losses: jax.Array | None = None
    gradient_norms: jax.Array | None = None
    gradient_variances: jax.Array | None = None
    generic_alignments: jax.Array | None = None
    target_alignments: jax.Array | None = None
    target_losses: jax.Array | None = None
    learning_rate: jax.Array | None = None


# Not by domain: whether a domain was probed says nothing of them.
ALONE = ("target_losses", "learning_rate")
# Where NaN is an answer, "not known", and not the sign of a run gone wrong.
WITH_GAPS = ("standard_errors", "train_losses", "gradient_variances")
# Counted while training; all else by domain is measured on probe rows.
COUNTED = ("train_losses", "rows", "tokens")
# Measured on equally many rows of each domain.
OF_EQUAL_ROWS = (
    "reference_losses",
    "gradient_norms",
    "gradient_variances",
    "generic_alignments",
)


def only(signals: Signals, names: tuple[str, ...]) -> Signals:
    """The signals of these names, and the errors of alignments where they are known.

    Raises:
      TypeError: one of them is not there.
    """
    for name in names:
        if getattr(signals, name) is None:
            raise TypeError(f"the mixer reads {name}, which is not among its signals")
    if "alignments" in names:
        names = (*names, "standard_errors")
    return Signals(**{name: getattr(signals, name) for name in names})


def spread(signals: Signals, indices: jax.Array, count: int) -> Signals:
    """What was measured of those at `indices` [m], at their places among `count`; 0."""

    def wide(name: str, values: jax.Array | None) -> jax.Array | None:
        if values is None or name in ALONE or name in COUNTED:
            return values
        everywhere = jnp.zeros((*jnp.shape(values)[:-1], count), jnp.float32)
        return everywhere.at[..., indices].set(values)

    return Signals(**{name: wide(name, x) for name, x in signals._asdict().items()})


def gathered(signals: Signals, indices: jax.Array) -> Signals:
    """What was counted of all, of those at `indices` [m] alone; the rest as it is."""
    found = signals._asdict()
    for name in COUNTED:
        if found[name] is not None:
            found[name] = jnp.asarray(found[name])[indices]
    return Signals(**found)


def all_finite(values: jax.Array) -> jax.Array:
    """Whether no number [...] is NaN or infinite: bool [].

    By a sum, which XLA takes in one pass over many; `jnp.all` takes several.
    """
    return jnp.sum(values - values) == 0


def usable(signals: Signals, probed: jax.Array | None) -> jax.Array:
    """Whether every number that was measured is one: bool [].

    Args:
      signals: any.
      probed: bool [n], or None for all; what was not probed may hold anything.
    """
    good = jnp.ones((), bool)
    for name, values in signals._asdict().items():
        if values is None or name == "standard_errors":
            continue
        values = jnp.asarray(values)
        asked = ~jnp.isnan(values) if name in WITH_GAPS else True
        if probed is not None and name not in ALONE:
            asked &= probed
        good &= all_finite(jnp.where(asked, values, 0))
    return good


def filled(signals: Signals) -> Signals:
    """The same with 0 for what is no finite number, gaps aside."""

    def fill(name: str, values: jax.Array | None) -> jax.Array | None:
        if values is None:
            return None
        values = jnp.asarray(values, jnp.float32)
        gap = jnp.isnan(values) if name in WITH_GAPS else False
        return jnp.where(jnp.isfinite(values) | gap, values, 0.0)

    return Signals(**{name: fill(name, v) for name, v in signals._asdict().items()})
