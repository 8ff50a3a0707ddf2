"""Cholesky factorisation of the leading part of a matrix, whose size is known only when it runs.

One compiled shape serves every size: tiles with a trip count that follows the size (right-looking block
Cholesky, Golub and Van Loan 2013, section 4.2.9). There is no call of LAPACK: its threads wait for each
other, which on a busy machine takes a hundred times as long as the arithmetic.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

__all__ = ["Factor", "factor", "inverse_factor", "no_factor", "padded", "substitute"]


def _tile(m: int) -> int:
    """The size of a tile for matrices of size m."""
    return m if m <= 32 else 32 if m <= 256 else 64 if m <= 1024 else 128


def _wide(m: int) -> int:
    """How many columns of a row of tiles are updated at once: a part of m that is `padded`."""
    tiles = m // _tile(m)
    return m if m <= 512 else _tile(m) * max(k for k in range(1, 9) if tiles % k == 0)


def padded(m: int) -> int:
    """The smallest size ≥ m that is a whole number of tiles, of two where it is large."""
    size = _tile(m) if m <= 512 else 2 * _tile(m)
    return -(-m // size) * size


class Factor(NamedTuple):
    """The Cholesky factor (m, m), where it has no meaning above its diagonal; the inverses of its diagonal
    tiles; how many of the coordinates it is of.
    """

    lower: Array
    inverses: Array
    count: Array


def no_factor(m: int, dtype: Any) -> Factor:
    """Of no coordinates, in the shapes of others."""
    b = _tile(m)
    return Factor(jnp.zeros((m, m), dtype), jnp.zeros((m // b, b, b), dtype), jnp.array(0))


def factor(matrix: Array, count: Array) -> Factor:
    """Of matrix[:count, :count]. `matrix` (m, m) is symmetric, m `padded`, and the identity where the last
    tile goes beyond `count`. NaN where it is not positive definite.
    """
    m = matrix.shape[0]
    b = _tile(m)
    tiles = (count + b - 1) // b
    rows, wide = jnp.arange(m), _wide(m)

    def column(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        lower, inverses = carry
        at = j * b
        inverse = _halved(jax.lax.dynamic_slice(lower, (at, at), (b, b)))
        panel = jax.lax.dynamic_slice(lower, (0, at), (m, b)) @ inverse.T
        panel = jnp.where(rows[:, None] >= at, panel, 0.0)

        def trail(i: Array, lower: Array) -> Array:
            here = jax.lax.dynamic_slice(panel, (i * b, 0), (b, b))

            # From the column of the panel to the diagonal: what is above it is asked of nowhere.
            def part(k: Array, lower: Array) -> Array:
                there = jax.lax.dynamic_slice(panel, (k * wide, 0), (wide, b))
                old = jax.lax.dynamic_slice(lower, (i * b, k * wide), (b, wide))
                return jax.lax.dynamic_update_slice(lower, old - here @ there.T, (i * b, k * wide))

            return jax.lax.fori_loop((j + 1) * b // wide, i * b // wide + 1, part, lower)

        lower = jax.lax.fori_loop(j + 1, tiles, trail, lower)
        return (
            jax.lax.dynamic_update_slice(lower, panel, (0, at)),
            jax.lax.dynamic_update_slice(inverses, inverse[None], (j, 0, 0)),
        )

    start = (matrix, jnp.zeros((m // b, b, b), matrix.dtype))
    return Factor(*jax.lax.fori_loop(0, tiles, column, start), count)


def substitute(of: Factor, right: Array) -> Array:
    """x with matrix[:count, :count] x[:count] = right[:count]; the rest is that of the tile they end in,
    else 0.
    """
    lower, inverses, count = of
    m, b = right.size, _tile(right.size)
    tiles, rows = (count + b - 1) // b, jnp.arange(m)

    def forward(j: Array, x: Array) -> Array:
        part = inverses[j] @ jax.lax.dynamic_slice(x, (j * b,), (b,))
        below = jax.lax.dynamic_slice(lower, (0, j * b), (m, b)) @ part
        x = jnp.where(rows >= (j + 1) * b, x - below, x)
        return jax.lax.dynamic_update_slice(x, part, (j * b,))

    def backward(k: Array, x: Array) -> Array:
        j = tiles - 1 - k
        panel = jax.lax.dynamic_slice(lower, (0, j * b), (m, b))
        known = jnp.where((rows >= (j + 1) * b) & (rows < tiles * b), x, 0.0)
        part = jax.lax.dynamic_slice(x, (j * b,), (b,)) - known @ panel
        return jax.lax.dynamic_update_slice(x, part @ inverses[j], (j * b,))

    return jax.lax.fori_loop(0, tiles, backward, jax.lax.fori_loop(0, tiles, forward, right))


def _halved(block: Array) -> Array:
    """`inverse_factor` of a block, of a large one by halves."""
    half = block.shape[0] // 2
    if half < 64:
        return inverse_factor(block)[0]
    first = _halved(block[:half, :half])
    across = block[half:, :half] @ first.T
    last = _halved(block[half:, half:] - across @ across.T)
    return jnp.block([[first, jnp.zeros_like(across)], [-last @ across @ first, last]])


def inverse_factor(block: Array, least: Array | float = -jnp.inf) -> tuple[Array, Array]:
    """The inverse of the Cholesky factor of a small matrix, one row after the other; and which rows have one.

    A row whose pivot is below `least` depends on those before it: it and its column count as not there.
    """
    places = jnp.arange(block.shape[0])
    least = jnp.broadcast_to(jnp.asarray(least, block.dtype), places.shape)

    def row(k: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        left, inverse, there = carry
        good = ~(left[k, k] < least[k])
        root = jnp.where(good, jnp.sqrt(left[k, k]), jnp.inf)
        below = jnp.where(places > k, left[k] / root, 0.0)
        solved = inverse[k] / root
        inverse = (inverse - below[:, None] * solved).at[k].set(solved)
        return left - below[:, None] * below, inverse, there.at[k].set(good)

    start = (block, jnp.eye(block.shape[0], dtype=block.dtype), jnp.ones_like(places, bool))
    return jax.lax.fori_loop(0, block.shape[0], row, start)[1:]
