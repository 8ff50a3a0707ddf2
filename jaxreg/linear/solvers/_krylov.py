"""Conjugate gradients, where a product with a matrix is all there is of it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._typing import Scalar

__all__ = ["conjugate_gradients"]


def conjugate_gradients(
    times: Callable[[Array], Array], near: Callable[[Array], Array], right: Array, goal: Scalar, most: int
) -> Array:
    """x with ‖times(x) − right‖∞ ≤ goal, or what `most` iterations come to (Hestenes and Stiefel 1952).

    `near` is a product with a matrix near the inverse. Where the matrix turns out not to be positive, the
    last x before that. (`jax.scipy.sparse.linalg.cg` stops by another norm than that of the residuals here,
    and goes on where curvature is negative.)
    """

    def step(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        x, r, along, size, k = carry
        bent = times(along)
        curvature = jnp.sum(along * bent)
        length = jnp.where(curvature > 0, size / curvature, 0.0)
        x, r = x + length * along, r - length * bent
        z = near(r)
        fresh = jnp.sum(r * z)
        return x, r, z + fresh / size * along, fresh, jnp.where(curvature > 0, k + 1, most)

    def going(carry: tuple[Array, ...]) -> Array:
        return (jnp.max(jnp.abs(carry[1])) > goal) & (carry[4] < most)

    z = near(right)
    start = (jnp.zeros_like(right), right, z, jnp.sum(right * z), jnp.array(0))
    return jax.lax.while_loop(going, step, start)[0]
