"""Sorted ℓ1 norm: isotonic regression by the pool adjacent violators algorithm."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxreg._numerics import add_parts, at_least_float32, divide_parts, product_less, split
from jaxreg._typing import ArrayLike
from jaxreg.prox._sequential import (
    cells,
    level_with_derivative,
    one_lane_at_a_time,
    one_program,
    put_row,
    run_means,
)

__all__ = ["sorted_l1"]


@one_lane_at_a_time
def _pool(z: Float[Array, " p"]) -> tuple[Int[Array, " p"], Float[Array, " p"]]:
    """Labels and means of the blocks of the non-increasing least-squares fit to z.

    Pool adjacent violators: push each entry as a block of its own, and merge blocks while the order of their
    means is violated. A block is stored as mean, sum and count: only sums are added, so that rounding does
    not accumulate. The inner loop carries scalars only and the outer loop writes once: XLA would copy a
    buffer that both loops carry.
    """
    p, parts = z.shape[0], len(split(z))

    def push(state: tuple, value: Array) -> tuple:
        blocks, last = state

        def violated(block: tuple) -> Array:
            k, count, *total = block
            return (k >= 0) & (product_less(cells(blocks, k, *range(parts)), count, total) < 0)

        def merge(block: tuple) -> tuple:
            k, count, *total = block
            *other, more = cells(blocks, k, *range(parts, 2 * parts + 1))
            return k - 1, count + more, *add_parts(total, other)

        k, count, *total = lax.while_loop(violated, merge, (last, jnp.ones_like(value), *split(value)))
        return (put_row(blocks, jnp.stack([*divide_parts(total, count), *total, count]), k + 1), k + 1), None

    (blocks, last), _ = lax.scan(push, (jnp.zeros((p, 2 * parts + 1), z.dtype), jnp.int32(-1)), z)
    counts = blocks[:, -1].astype(jnp.int32)
    starts = jnp.where(jnp.arange(p) <= last, jnp.cumsum(counts) - counts, p)
    labels = jnp.cumsum(jnp.zeros(p, jnp.int32).at[starts].set(1, mode="drop")) - 1
    return labels, jnp.sum(blocks[:, :parts], 1)[labels]


@one_program
def sorted_l1(v: Float[Array, " p"], lams: ArrayLike) -> Float[Array, " p"]:
    r"""The prox of the sorted ℓ1 norm $\sum_i \lambda_i |u|_{(i)}$, the largest magnitude first (SLOPE).

    `v` and `lams` are (p,); `lams` is non-increasing and ≥ 0. The sorted magnitudes minus `lams`, made
    non-increasing by pooling, then clipped at 0; pooled coordinates have one magnitude exactly.
    Source: Bogdan et al. (2015), SLOPE, algorithms 3 and 4.

    >>> sorted_l1(jnp.array([4.0, -5.0, 1.0]), jnp.array([3.0, 1.0, 1.0])).tolist()
    [2.5, -2.5, 0.0]
    """
    x, lams = at_least_float32(v, lams)
    size = jnp.abs(x)
    order = jnp.argsort(lax.stop_gradient(size), descending=True)
    z = size[order] - lams
    labels, level = _pool(lax.stop_gradient(z))
    fit = level_with_derivative(level, level + run_means(z - level, labels))
    means = level_with_derivative(level, run_means(z, labels))  # exactly 0 where the sum is
    zero = (means <= 0) | (fit <= 0)
    u = jnp.zeros_like(x).at[order].set(jnp.where(zero, 0.0, fit), unique_indices=True)
    return jnp.copysign(u, x).astype(v.dtype)
