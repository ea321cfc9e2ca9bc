"""Gradient alignments, a_i = ⟨∇ℓ(θ; x_i), ∇ℓ(θ; y)⟩, without the domains' gradients.

⟨∇ℓ_i, g⟩ is the directional derivative of ℓ_i along g. Forward-mode differentiation
gives it in one pass, holding neither ∇ℓ_i nor the activations that a backward pass
would need, and k numbers, not k gradients, cross the mesh.

All functions take `loss_fn(params, batch) -> losses [b]`, one loss a row, where row r
of the result depends on row r of the batch alone; the loss of a batch is the mean.
`params` is any pytree. `loss_fn` is a static argument: pass the same object again or it
is compiled again. It must be forward-differentiable: no `custom_vjp` inside.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any
LossFn = Callable[[PyTree, PyTree], jax.Array]

ESTIMATORS = ("forward", "reverse")


class Alignment(NamedTuple):
    """Alignments of k domains, each float32 [k].

    Attributes:
      alignments: a_i, in squared loss per squared parameter (nats² for an LM).
      standard_errors: of a_i, for the direction as given: how far it would be from
        its mean over other draws of as many rows; NaN where all rows are one.
      losses: mean loss of each domain's probe rows.
    """

    alignments: jax.Array
    standard_errors: jax.Array
    losses: jax.Array


@functools.partial(jax.jit, static_argnames=("loss_fn", "chunk", "constrain"))
def target_direction(
    loss_fn: LossFn,
    params: PyTree,
    batch: PyTree,
    *,
    chunk: int | None = None,
    constrain: Callable[[PyTree], PyTree] = lambda gradient: gradient,
) -> tuple[PyTree, jax.Array]:
    """Gradient of the target loss and its norm.

    Args:
      loss_fn: per-row losses, see the module.
      params: pytree of parameters.
      batch: pytree with leading axis [b], rows of the target.
      chunk: rows differentiated at a time (None: all). Must divide b.
      constrain: applied to every gradient, and to their sum while it is made: where a
        sharding is pinned down. As static as `loss_fn`.

    Returns:
      g = ∇ mean(loss_fn(params, batch)), shaped as `params`, and ‖g‖ [].

    Raises:
      ValueError: `chunk` does not divide b.
    """
    rows = jax.tree.leaves(batch)[0].shape[0]
    chunk = rows if chunk is None else chunk
    if chunk < 1 or rows % chunk:
        raise ValueError(f"chunk={chunk} does not divide the {rows} target rows")
    loss_gradient = jax.grad(lambda p, part: jnp.sum(loss_fn(p, part)) / rows)

    def gradient(params: PyTree, part: PyTree) -> PyTree:
        return constrain(loss_gradient(params, part))

    if chunk == rows:
        direction = gradient(params, batch)
    else:

        def add(total: PyTree, part: PyTree) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, total, gradient(params, part)), None

        zero = constrain(jax.tree.map(jnp.zeros_like, params))
        direction, _ = jax.lax.scan(add, zero, strided(batch, rows // chunk))
    return direction, jnp.sqrt(tree_dot(direction, direction))


@functools.partial(
    jax.jit, static_argnames=("loss_fn", "estimator", "chunk", "domain_axes")
)
def alignment_step(
    loss_fn: LossFn,
    params: PyTree,
    direction: PyTree,
    probe_batches: PyTree,
    *,
    estimator: str = "forward",
    chunk: int | None = None,
    row_weights: jax.Array | None = None,
    row_ids: jax.Array | None = None,
    owners: jax.Array | None = None,
    domain_axes: tuple[str, ...] | None = None,
) -> Alignment:
    """Directional derivative of every domain's loss, with its standard error.

    Args:
      loss_fn: per-row losses, see the module.
      params: pytree of parameters.
      direction: pytree shaped as `params`; the target's gradient, or P⁻¹ times it.
      probe_batches: pytree with leading axes [k, b]: b rows for each of k domains.
      estimator: "forward" (Jacobian-vector products, vmapped over domains) or
        "reverse" (one gradient a row, then a dot product: the reference, slower).
      chunk: domains computed at a time (None: all). Bounds the memory; the result
        is the same to rounding, also where it does not divide k.
      row_weights: [k, b] ≥ 0, what share of the mean a row has, in any unit: its
        tokens, where `loss_fn` gives sums over tokens on a common scale. For the
        standard errors alone. None: the same for all.
      row_ids: int32 [k, b]; equal ids of one domain are one row drawn again. For the
        standard errors alone. None: all rows differ.
      owners: int32 [k, b], in [0, k): whose each row is, where domains do not have b
        each; a domain's loss is then the mean of its own rows, wherever they lie.
        Ids are in [0, k b) then, and those of two domains differ. None: row by row.
      domain_axes: axes of a mesh that domains are pinned to wherever `loss_fn` pins
        the sharding of a row; they divide k and `chunk`. None: the compiler decides.

    Returns:
      An `Alignment`.

    Raises:
      ValueError: unknown `estimator`, or `chunk` below 1.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator={estimator!r} is none of {', '.join(ESTIMATORS)}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk} must be at least 1")
    row_rates = _forward_rates if estimator == "forward" else _reverse_rates
    rates_of = jax.vmap(
        functools.partial(row_rates, loss_fn, params, direction),
        spmd_axis_name=domain_axes,
    )
    pinned = domain_axes is not None
    rates_kxb, losses_kxb = _map_chunks(rates_of, probe_batches, chunk, pinned)
    if row_weights is None:
        row_weights = jnp.ones(rates_kxb.shape)
    if owners is not None:
        if row_ids is None:
            row_ids = jnp.arange(owners.size)
        return _by_owner(rates_kxb, losses_kxb, row_weights, row_ids, owners)
    if row_ids is None:
        row_ids = jnp.broadcast_to(jnp.arange(rates_kxb.shape[1]), rates_kxb.shape)
    return Alignment(
        jnp.mean(rates_kxb, axis=1),
        jax.vmap(_standard_error)(rates_kxb, row_weights, row_ids),
        jnp.mean(losses_kxb, axis=1),
    )


@functools.partial(jax.jit, static_argnames="loss_fn")
def gradient_moments(
    loss_fn: LossFn, params: PyTree, probe_batches: PyTree
) -> tuple[jax.Array, jax.Array]:
    """Norm of each domain's mean gradient, and how its rows' gradients vary.

    One row's gradient is computed at a time, and one sum of them held.

    Args:
      loss_fn: per-row losses, see the module.
      params: pytree of parameters.
      probe_batches: pytree with leading axes [k, b].

    Returns:
      ‖g_i‖ [k], with g_i the mean of the b rows' gradients, and σ_i² [k] = Σ_r
      ‖g_ir - g_i‖² / (b - 1), the trace of their covariance; NaN where b is 1.
    """

    def of_domain(rows: PyTree) -> tuple[jax.Array, jax.Array]:
        count = jax.tree.leaves(rows)[0].shape[0]

        def add(total: tuple[PyTree, jax.Array], row: PyTree) -> tuple:
            gradient = jax.grad(_alone(loss_fn, row))(params)
            squares = total[1] + tree_dot(gradient, gradient)
            return (jax.tree.map(jnp.add, total[0], gradient), squares), None

        zero = jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.float32)
        (total, squares), _ = jax.lax.scan(add, zero, rows)
        square = tree_dot(total, total) / count**2
        rest = jnp.maximum(squares - count * square, 0.0)
        variance = rest / (count - 1) if count > 1 else jnp.full((), jnp.nan)
        return jnp.sqrt(square), variance

    return jax.lax.map(of_domain, probe_batches)


def strided(batch: PyTree, parts: int) -> PyTree:
    """Leading axis [b] as [parts, b / parts]: part j holds rows j, j + parts, ...

    Cut so, the sharded major part of the row axis stays in front and no row changes
    device.
    """
    return jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), batch
    )


def tree_dot(a: PyTree, b: PyTree) -> jax.Array:
    """⟨a, b⟩ over two pytrees of the same structure, float32 []."""
    products = jax.tree.map(
        lambda x, y: jnp.sum(x.astype(jnp.float32) * y.astype(jnp.float32)), a, b
    )
    return jax.tree.reduce(jnp.add, products)


def _standard_error(
    rates_b: jax.Array, weights_b: jax.Array, ids_b: jax.Array
) -> jax.Array:
    """Standard error [] of the mean of one domain's derivatives.

    The mean a = Σ_r d_r / b is a ratio of sums: row r brings d_r / b of the numerator
    and p_r = w_r / Σ w of the denominator, hence the residual e_r = d_r / b - p_r a.
    Summed over the clusters c of equal rows, the variance is Σ_c E_c² / (1 - P_c), with
    s² / b as the case of equal weights and distinct rows.

    Source: HC2 of MacKinnon and White (1985, doi 10.1016/0304-4076(85)90158-7) for the
    regression through the origin that a ratio is; its clusters as in Bell and McCaffrey
    (2002, Survey Methodology 28(2)).
    """
    weights_b = weights_b.astype(jnp.float32)
    shares_b = weights_b / jnp.maximum(jnp.sum(weights_b), jnp.finfo(jnp.float32).tiny)
    residuals_b = rates_b / rates_b.shape[0] - shares_b * jnp.mean(rates_b)
    same_bxb = ids_b[:, None] == ids_b
    cluster_b = jnp.sum(jnp.where(same_bxb, residuals_b, 0.0), axis=1)
    # Not 1 - P_c: where a cluster is all there is, this is 0 without rounding.
    rest_b = jnp.sum(jnp.where(same_bxb, 0.0, shares_b), axis=1)
    # Every member of a cluster stands for an equal part of it.
    parts_b = cluster_b**2 / (rest_b * jnp.sum(same_bxb, axis=1))
    return jnp.sqrt(jnp.sum(jnp.where(rest_b > 0, parts_b, jnp.nan)))


def _by_owner(
    rates_kxb: jax.Array,
    losses_kxb: jax.Array,
    weights_kxb: jax.Array,
    ids_kxb: jax.Array,
    owners_kxb: jax.Array,
) -> Alignment:
    """Means and standard errors, as of `_standard_error`, over each owner's rows."""
    k = rates_kxb.shape[0]
    rates, losses, weights, ids, owners = (
        x.reshape(-1) for x in (rates_kxb, losses_kxb, weights_kxb, ids_kxb, owners_kxb)
    )
    weights = weights.astype(jnp.float32)

    def total(values: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(values, owners, k)

    def clusters(values: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(values, ids, ids.size)[ids]

    ones = jnp.ones_like(rates)
    counts, means = total(ones), total(rates) / total(ones)
    whole = jnp.maximum(total(weights), jnp.finfo(jnp.float32).tiny)[owners]
    residuals = rates / counts[owners] - weights / whole * means[owners]
    # Tokens are whole numbers: where a cluster is all there is, this is exactly 0.
    rest = (whole - clusters(weights)) / whole
    parts = clusters(residuals) ** 2 / (rest * clusters(ones))
    errors = jnp.sqrt(total(jnp.where(rest > 0, parts, jnp.nan)))
    return Alignment(means, errors, total(losses) / counts)


def _forward_rates(
    loss_fn: LossFn, params: PyTree, direction: PyTree, batch: PyTree
) -> tuple[jax.Array, jax.Array]:
    """(derivatives [b], losses [b]) of one domain's rows along the direction."""
    losses, rates = jax.jvp(lambda p: loss_fn(p, batch), (params,), (direction,))
    return rates, losses


def _reverse_rates(
    loss_fn: LossFn, params: PyTree, direction: PyTree, batch: PyTree
) -> tuple[jax.Array, jax.Array]:
    """The same from one gradient a row; rows in turn, so that one is held at a time."""

    def rate(row: PyTree) -> tuple[jax.Array, jax.Array]:
        loss, gradient = jax.value_and_grad(_alone(loss_fn, row))(params)
        return tree_dot(gradient, direction), loss

    return jax.lax.map(rate, batch)


def _alone(loss_fn: LossFn, row: PyTree) -> Callable[[PyTree], jax.Array]:
    """The loss [] of one row, of the parameters."""
    return lambda params: loss_fn(params, jax.tree.map(lambda x: x[None], row))[0]


def _map_chunks(
    function: Callable[[PyTree], PyTree],
    batches: PyTree,
    chunk: int | None,
    full: bool = False,
) -> PyTree:
    """`function` over the leading axis [k], at most `chunk` entries at a time.

    Entry i is computed in round i % rounds. Rounds are thus strided: the k axis, cut as
    [chunk, rounds], keeps its major part first, and a domain axis that is sharded over
    the mesh stays where it is. What fills the last round up is computed twice, so that
    `chunk` may be chosen to suit the mesh. Rounds are as small as their number lets
    them be, or with `full` of `chunk` entries each.
    """
    k = jax.tree.leaves(batches)[0].shape[0]
    if chunk is None or chunk >= k:
        return function(batches)
    rounds = -(-k // chunk)
    size = chunk if full else -(-k // rounds)
    fill = size * rounds - k

    def in_rounds(x: jax.Array) -> jax.Array:
        filled = jnp.concatenate([x, x[:fill]]) if fill else x
        return filled.reshape(size, rounds, *x.shape[1:])

    parts = jax.tree.map(in_rounds, batches)

    def one_round(i: jax.Array) -> PyTree:
        # Indexed here, not scanned over: a transposed copy of all rows would be held.
        return function(jax.tree.map(lambda x: x[:, i], parts))

    results = jax.lax.map(one_round, jnp.arange(rounds))
    return jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])[:k], results
    )
