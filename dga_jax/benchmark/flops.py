"""Matrix products that a program computes, counted in what JAX traced.

XLA's own count (`cost_analysis`) takes the body of a loop once, however often it runs;
here each counts as often as it runs. What is computed again for rematerialisation
counts, and so does what a causal mask throws away where the program computes it.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax

Equation = Any  # jax.extend.core.JaxprEqn


def matmul_flops(jaxpr: Any) -> float:
    """FLOPs of all matrix products, over all devices.

    A multiplication with an addition is two. A Pallas kernel counts as it says of
    itself (`cost_estimate`), else as its body on each point of its grid. Of a
    conditional its largest branch counts, and a loop of unknown length once.

    Args:
      jaxpr: `jax.jit(f).trace(...).jaxpr`.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)  # a closed one holds it
    return sum(map(_flops, jaxpr.eqns))


def _flops(equation: Equation) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _dot(equation)
    if name == "pallas_call" and params.get("cost_estimate") is not None:
        return params["cost_estimate"].flops
    inner = [matmul_flops(jaxpr) for jaxpr in _inner(params)]
    if name == "cond":
        return max(inner, default=0)
    return sum(inner) * _repeats(name, params)


def _repeats(name: str, params: dict[str, Any]) -> int:
    """How often what is inside runs, over all devices."""
    if name == "scan":
        return params["length"]
    if name == "shard_map":  # its body is one device's
        return params["mesh"].size
    if name == "pallas_call":
        return math.prod(params["grid_mapping"].grid)
    return 1


def _dot(equation: Equation) -> float:
    """2 x result x what is contracted."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * equation.outvars[0].aval.size * math.prod(left[i] for i in contracted)


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs among an equation's parameters; not functions that make some."""
    for value in jax.tree.leaves(
        list(params.values()), is_leaf=lambda x: hasattr(x, "eqns")
    ):
        if hasattr(getattr(value, "jaxpr", value), "eqns"):
            yield value
