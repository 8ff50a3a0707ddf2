"""Total variation along a chain: the dynamic programming algorithm of Johnson (2013)."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxreg._numerics import add_parts, at_least_float32, divide_parts, product_less, two_sum
from jaxreg._typing import ArrayLike
from jaxreg.prox._sequential import (
    cells,
    level_with_derivative,
    one_lane_at_a_time,
    one_program,
    put_row,
    row_at,
    run_means,
)

__all__ = ["total_variation"]


def _find_root(side: int, start: list, j: Array, last: Array, knots: Array) -> tuple[Array, Array, Array]:
    """Walk over the knots from one end to the root of the message's derivative, less its bound.

    Args:
        side: 1 to walk from the left, −1 from the right.
        start: Root, in parts, of the line before the first knot, which has slope 1.
        j: Index of the first knot.
        last: Index of the last knot.
        knots: Queue of knots, one per row.

    Returns:
        The root, the knot to insert there, and the index of the next knot that stays.
    """
    parts = len(start)

    def below(state: tuple) -> Array:
        j, slope, *moment = state
        return (side * (last - j) >= 0) & (
            side * product_less(cells(knots, j, *range(parts)), slope, moment) < 0
        )

    def step(state: tuple) -> tuple:
        j, slope, *moment = state
        *change, slope_change = (side * a for a in cells(knots, j, *range(parts, 2 * parts + 1)))
        return j + side, slope + slope_change, *add_parts(moment, change)

    j, slope, *moment = lax.while_loop(below, step, (j, jnp.ones_like(start[0]), *start))
    root = divide_parts(moment, slope)
    return sum(root), jnp.stack([*root, *(side * a for a in (*moment, slope))]), j


@one_lane_at_a_time
def _fuse(y: Float[Array, " n"], w: Float[Array, " n-1"]) -> Float[Array, " n"]:
    """Minimise by dynamic programming: exact fusions, values up to rounding.

    The message of the first i entries is the least cost as a function of the next value: convex and piecewise
    quadratic. Its derivative is kept as a queue of knots and clipped to ±w_i; each step cuts the queue at
    both ends. A knot is stored as position, moment (position times change of slope) and change of slope, an
    integer. The lines between knots are sums of moments and slopes, and a new position is a quotient of two
    such sums, so that rounding errors of positions are not passed on. In float32, positions and moments have
    two parts; otherwise the moments, whose sum has to stay −2w_i, would drift by one rounding per step.

    The buffer is read by one loop before it is written (two loops would copy it each time), and the state is
    small bound for XLA to compile the whole as one function (on CPU: below 1024 bytes in a step, else 15
    times slower).
    """
    n, parts = y.shape[0], 2 if y.dtype == jnp.float32 else 1
    w = jnp.pad(w, 1)
    gap = two_sum(w[1:], -w[:-1])[:parts]
    starts = jnp.stack(
        [a for side in (-1, 1) for a in add_parts((y, jnp.zeros_like(y))[:parts], [side * g for g in gap])], 1
    )

    def forward(i: Array, state: tuple) -> tuple:
        knots, left, right, ends = state
        start = list(row_at(starts, i))
        low, knot, j = _find_root(1, start[:parts], left, right, knots)
        knots = put_row(knots, knot, j - 1)
        high, knot, k = _find_root(-1, start[parts:], right, j, knots)
        knots = put_row(knots, knot, k + 1)
        right = jnp.where(row_at(w, i + 1) == 0, j - 2, k + 1)  # weight 0 cuts the chain: forget all knots
        return knots, j - 1, right, put_row(ends, jnp.stack([low, high]), i)

    knots, ends = jnp.zeros((2 * n + 2, 2 * parts + 1), y.dtype), jnp.zeros((n, 2), y.dtype)
    start = (knots, jnp.int32(n + 1), jnp.int32(n), ends)
    ends = lax.fori_loop(jnp.int32(0), jnp.int32(n), forward, start)[-1]

    def backward(after: Array, ends: Array) -> tuple[Array, Array]:
        u = jnp.maximum(jnp.minimum(after, ends[1]), ends[0])
        return u, u

    return lax.scan(backward, ends[-1, 0], ends, reverse=True)[1]


@one_program
def total_variation(v: Float[Array, " n"], weights: ArrayLike) -> Float[Array, " n"]:
    r"""The prox of $\sum_i w_i |u_{i+1} - u_i|$, in time linear in the length.

    `v` is (n,), `weights` a scalar or (n − 1,), ≥ 0; an infinite weight ties its neighbours. Fused
    neighbours are equal exactly: each run has the mean of its data, moved by the weights at its two ends.
    Source: Johnson (2013), A dynamic programming algorithm for the fused lasso; weighted as in Barbero and
    Sra (2018).

    >>> total_variation(jnp.array([0.0, 1.0, 5.0, 6.0]), 1.0).tolist()
    [1.0, 1.0, 5.0, 5.0]
    """
    x, w = at_least_float32(v, weights)
    n = x.shape[0]
    if n < 2:
        return v
    w = jnp.broadcast_to(w, (n - 1,))
    y = lax.stop_gradient(x)
    # Larger weights never bind, and would put the first knots too far out to be told apart.
    bound = 0.5 * n * (jnp.max(y) - jnp.min(y))
    u = _fuse(y, jnp.minimum(lax.stop_gradient(w), bound))
    rise = jnp.sign(jnp.diff(u))
    pull = jnp.pad(jnp.where(rise == 0, 0.0, w) * rise, 1)
    cut = (rise != 0) | (w == 0)
    labels = jnp.pad(jnp.cumsum(cut.astype(jnp.int32)), (1, 0))
    shift = run_means(jnp.diff(pull), labels)
    base = u - lax.stop_gradient(shift)  # near the mean of the data, so that the sum stays small
    return level_with_derivative(u, base + run_means(x - base, labels) + shift).astype(v.dtype)
