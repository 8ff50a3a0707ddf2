"""Domains of conjugates: indicator functions and the largest multiple of a dual that stays inside."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._typing import ArrayLike, DTypeLike, Scalar

__all__ = ["indicator", "largest_scale", "smallest_ratio"]


def indicator(size: Array, bound: ArrayLike) -> Scalar:
    """Return 0 where every size is at most its bound, up to 64 roundings, else inf."""
    slack = 1 + 64 * jnp.finfo(size.dtype).eps
    return jnp.where(jnp.all(size <= bound * slack), 0.0, jnp.inf).astype(size.dtype)


def smallest_ratio(bound: ArrayLike, size: Array) -> Scalar:
    """Return the smallest bound/size, at most 1; entries of size 0 do not count."""
    return jnp.min(jnp.where(size > bound, bound / jnp.where(size > 0, size, 1.0), 1.0), initial=1.0)


def largest_scale(inside: Callable[[Scalar], Array], dtype: DTypeLike) -> Scalar:
    """Return the largest s in [0, 1] with inside(s), by bisection; inside(0) is taken to be true."""

    def halve(_: Array, bracket: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        lower, upper = bracket
        middle = 0.5 * (lower + upper)
        ok = inside(middle)
        return jnp.where(ok, middle, lower), jnp.where(ok, upper, middle)

    one = jnp.ones((), dtype)
    # All bits of the significand, and a few more for a scale far below 1.
    steps = jnp.finfo(dtype).nmant + 5
    lower, _ = jax.lax.fori_loop(0, steps, halve, (0 * one, one))
    return jax.lax.stop_gradient(jnp.where(inside(one), one, lower))
