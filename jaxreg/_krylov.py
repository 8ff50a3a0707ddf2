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
    """State of preconditioned conjugate gradients: `rz` is ⟨residual, preconditioned residual⟩."""

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
        product = times(now.direction)
        curvature = jnp.sum(now.direction * product)
        length = jnp.where(curvature > 0, now.rz / curvature, 0.0)
        x, residual = now.x + length * now.direction, now.residual - length * product
        z = precondition(residual)
        rz = jnp.sum(residual * z)
        steps = jnp.where(curvature > 0, now.steps + 1, max_steps)
        return _Iteration(x, residual, z + rz / now.rz * now.direction, rz, steps)

    def not_done(now: _Iteration) -> Array:
        return (jnp.max(jnp.abs(now.residual)) > target) & (now.steps < max_steps)

    z = precondition(right)
    start = _Iteration(jnp.zeros_like(right), right, z, jnp.sum(right * z), jnp.array(0))
    return jax.lax.while_loop(not_done, step, start).x
