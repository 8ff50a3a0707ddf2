"""Conjugate gradients for systems known only by their products.

`jax.scipy.sparse.linalg.cg` stops by the 2-norm of the residual, where the targets here are in ‖·‖∞, the norm
of the KKT residual. It also goes on along directions of negative curvature, which MCP and SCAD have, where
this one stops.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._typing import Scalar

__all__ = ["conjugate_gradients"]


class _Iteration(NamedTuple):
    """State of preconditioned conjugate gradients.

    `direction` is the last one, and `rz` the product of residual and preconditioned residual before it.
    """

    x: Array
    residual: Array
    direction: Array
    rz: Scalar
    steps: Array


def conjugate_gradients(
    times: Callable[[Array], Array],
    precondition: Callable[[Array], Array],
    right: Array,
    target: Scalar,
    max_steps: int,
) -> Array:
    """Solve A x = right approximately, from x = 0 (Hestenes and Stiefel 1952).

    Args:
        times: product with a symmetric matrix A.
        precondition: product with a positive definite approximation of A⁻¹.
        right: right side.
        target: residual ‖A x − right‖∞ at which the iteration stops.
        max_steps: iterations at most.

    Returns:
        The last x; the last before a direction of curvature ≤ 0 if there is one.
    """

    def step(now: _Iteration) -> _Iteration:
        z = precondition(now.residual)
        rz = jnp.sum(now.residual * z)
        direction = z + rz / now.rz * now.direction
        product = times(direction)
        curvature = jnp.sum(direction * product)
        length = jnp.where(curvature > 0, rz / curvature, 0.0)
        steps = jnp.where(curvature > 0, now.steps + 1, max_steps)
        x, residual = now.x + length * direction, now.residual - length * product
        return _Iteration(x, residual, direction, rz, steps)

    def not_done(now: _Iteration) -> Array:
        return (jnp.max(jnp.abs(now.residual)) > target) & (now.steps < max_steps)

    # The first direction is the first preconditioned residual, whatever it is divided by.
    zero = jnp.zeros_like(right)
    start = _Iteration(zero, right, zero, jnp.ones((), right.dtype), jnp.array(0))
    return jax.lax.while_loop(not_done, step, start).x
