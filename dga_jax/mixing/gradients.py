"""Norms and variances of domains' gradients, which reverse mode alone can give."""

import functools

import jax
import jax.numpy as jnp

from dga_jax.mixing.alignment import LossFn, PyTree, tree_dot


@functools.partial(jax.jit, static_argnames="loss_fn")
def gradient_moments(
    loss_fn: LossFn, params: PyTree, probe_batches: PyTree
) -> tuple[jax.Array, jax.Array]:
    """Norm of each domain's mean gradient, and how its rows' gradients vary.

    One row's gradient is computed at a time, and one sum of them held.

    Args:
      loss_fn: per-row losses, as in `alignment`.
      params: pytree of parameters.
      probe_batches: pytree with leading axes [k, b].

    Returns:
      ‖g_i‖ [k], with g_i the mean of the b rows' gradients, and σ_i² [k] = Σ_r
      ‖g_ir - g_i‖² / (b - 1), the trace of their covariance; NaN where b is 1.
    """

    def of_domain(rows: PyTree) -> tuple[jax.Array, jax.Array]:
        count = jax.tree.leaves(rows)[0].shape[0]

        def add(total: tuple[PyTree, jax.Array], row: PyTree) -> tuple:
            def loss_of(p: PyTree) -> jax.Array:
                return loss_fn(p, jax.tree.map(lambda x: x[None], row))[0]

            gradient = jax.grad(loss_of)(params)
            squares = total[1] + tree_dot(gradient, gradient)
            return (jax.tree.map(jnp.add, total[0], gradient), squares), None

        zero = jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.float32)
        (total, squares), _ = jax.lax.scan(add, zero, rows)
        square = tree_dot(total, total) / count**2
        rest = jnp.maximum(squares - count * square, 0.0)
        variance = rest / (count - 1) if count > 1 else jnp.full((), jnp.nan)
        return jnp.sqrt(square), variance

    return jax.lax.map(of_domain, probe_batches)
