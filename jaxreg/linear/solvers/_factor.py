"""Cholesky factorisation of the leading block of a matrix, whose size is known only at run time.

`jnp.linalg.cholesky` factorises a matrix of the compiled shape, while the active set changes its size at
every step. Measured on two CPU cores in float64, both ways to follow the size cost more than the arithmetic:

- the whole shape at every step: 0.17, 0.65 and 3.6 ms at m = 200, 400 and 800, even where few coordinates are
  active;
- one compiled shape per size class: 0.2 to 0.3 s of compilation for each, 9 to 12 s in all for the first path
  of a prototype on 1000×5000 data.

Here one compiled shape serves every size: a right-looking block Cholesky (Golub and Van Loan 2013, section
4.2.9) over tiles, whose trip count follows the size. The inverses of the diagonal tiles turn the triangular
solves into products. No LAPACK is called, whose threads wait for each other on a busy machine. The gain over
the library's factorisation has not been measured in isolation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float

from jaxreg.linear._shapes import Count, Flat, Square

__all__ = ["Factor", "empty_factor", "factor", "inverse_factor", "padded", "substitute"]

# Largest block whose inverse factor is found row by row; a larger one is halved.
_ROW_BY_ROW = 128
# Largest matrix, in rows, whose rows of tiles are updated in one product.
_WHOLE_ROWS = 512
# Most tiles of a row that one product updates: work beyond the diagonal is wasted.
_TILES_PER_UPDATE = 8


class Factor(NamedTuple):
    """Cholesky factor L of the leading block of a matrix.

    Attributes:
        lower: L, without meaning above its diagonal and beyond `count`.
        tile_inverses: inverses of the diagonal tiles of L.
        count: size of the block.
    """

    lower: Square
    tile_inverses: Float[Array, "tiles b b"]
    count: Count


def _tile(m: int) -> int:
    """Return the size of a tile for matrices of size m."""
    return m if m <= 32 else 32 if m <= 256 else 64 if m <= 1024 else 128


def _columns_per_update(m: int) -> int:
    """Return how many columns of a row of tiles one product updates: a divisor of a `padded` m."""
    tiles = m // _tile(m)
    if m <= _WHOLE_ROWS:
        return m
    return _tile(m) * max(k for k in range(1, _TILES_PER_UPDATE + 1) if tiles % k == 0)


def padded(m: int) -> int:
    """Return the smallest size ≥ m of whole tiles, of pairs of tiles for m > 512.

    >>> padded(20), padded(100), padded(600)
    (20, 128, 640)
    """
    size = _tile(m) if m <= _WHOLE_ROWS else 2 * _tile(m)
    return -(-m // size) * size


def empty_factor(m: int, dtype: DTypeLike) -> Factor:
    """Return the factor of an empty block of an (m, m) matrix."""
    b = _tile(m)
    return Factor(jnp.zeros((m, m), dtype), jnp.zeros((m // b, b, b), dtype), jnp.array(0))


def factor(matrix: Square, count: Count) -> Factor:
    """Factorise matrix[:count, :count]; the factor is NaN where the block is not positive definite.

    Args:
        matrix: symmetric matrix of a `padded` size, equal to the identity where the last tile goes beyond
            `count`.
        count: size of the leading block.
    """
    m = matrix.shape[0]
    b, width = _tile(m), _columns_per_update(m)
    tiles, rows = (count + b - 1) // b, jnp.arange(m)

    def column(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        """Make the j-th column of tiles of L and subtract its outer product from the columns behind."""
        lower, tile_inverses = carry
        start = j * b
        inverse = _inverse_factor_by_halves(jax.lax.dynamic_slice(lower, (start, start), (b, b)))
        panel = jax.lax.dynamic_slice(lower, (0, start), (m, b)) @ inverse.T
        panel = jnp.where(rows[:, None] >= start, panel, 0.0)

        def update_row(i: Array, lower: Array) -> Array:
            left = jax.lax.dynamic_slice(panel, (i * b, 0), (b, b))

            def update(k: Array, lower: Array) -> Array:
                right = jax.lax.dynamic_slice(panel, (k * width, 0), (width, b))
                old = jax.lax.dynamic_slice(lower, (i * b, k * width), (b, width))
                return jax.lax.dynamic_update_slice(lower, old - left @ right.T, (i * b, k * width))

            # From the column behind the panel to the diagonal; nothing reads what is above that.
            return jax.lax.fori_loop((j + 1) * b // width, i * b // width + 1, update, lower)

        lower = jax.lax.fori_loop(j + 1, tiles, update_row, lower)
        return (
            jax.lax.dynamic_update_slice(lower, panel, (0, start)),
            jax.lax.dynamic_update_slice(tile_inverses, inverse[None], (j, 0, 0)),
        )

    start = (matrix, jnp.zeros((m // b, b, b), matrix.dtype))
    return Factor(*jax.lax.fori_loop(0, tiles, column, start), count)


def substitute(chol: Factor, right: Flat) -> Flat:
    """Solve matrix[:count, :count] x[:count] = right[:count] by forward and backward substitution.

    Beyond `count` the solution is that of the tile in which the block ends, then `right` itself.
    """
    lower, tile_inverses, count = chol
    m, b = right.size, _tile(right.size)
    tiles, rows = (count + b - 1) // b, jnp.arange(m)

    def forward(j: Array, x: Array) -> Array:
        part = tile_inverses[j] @ jax.lax.dynamic_slice(x, (j * b,), (b,))
        below = jax.lax.dynamic_slice(lower, (0, j * b), (m, b)) @ part
        x = jnp.where(rows >= (j + 1) * b, x - below, x)
        return jax.lax.dynamic_update_slice(x, part, (j * b,))

    def backward(k: Array, x: Array) -> Array:
        j = tiles - 1 - k
        panel = jax.lax.dynamic_slice(lower, (0, j * b), (m, b))
        known = jnp.where((rows >= (j + 1) * b) & (rows < tiles * b), x, 0.0)
        part = jax.lax.dynamic_slice(x, (j * b,), (b,)) - known @ panel
        return jax.lax.dynamic_update_slice(x, part @ tile_inverses[j], (j * b,))

    return jax.lax.fori_loop(0, tiles, backward, jax.lax.fori_loop(0, tiles, forward, right))


def _inverse_factor_by_halves(block: Float[Array, "b b"]) -> Float[Array, "b b"]:
    """Return the inverse of the Cholesky factor, of a large block by 2 × 2 block elimination."""
    half = block.shape[0] // 2
    if block.shape[0] < _ROW_BY_ROW:
        return inverse_factor(block)[0]
    first = _inverse_factor_by_halves(block[:half, :half])
    across = block[half:, :half] @ first.T
    last = _inverse_factor_by_halves(block[half:, half:] - across @ across.T)
    return jnp.block([[first, jnp.zeros_like(across)], [-last @ across @ first, last]])


def inverse_factor(
    block: Float[Array, "b b"],
    min_pivot: Float[Array, " b"] | float = -jnp.inf,
    sign: Float[Array, " b"] | None = None,
) -> tuple[Float[Array, "b b"], Bool[Array, " b"]]:
    """Return the inverse F of the Cholesky factor of a small matrix, and which of its rows are independent.

    A row whose pivot is below `min_pivot` depends on the rows before it and is left out with its column,
    which no library factorisation offers.

    Args:
        block: a symmetric matrix.
        min_pivot: smallest pivot of an independent row, in absolute value.
        sign: signs of the pivots, where these are known and not all positive: the inverse of the matrix is
            Fᵀ diag(sign) F. A matrix that is definite on the rows of either sign has such a factor in any
            order of the rows (Vanderbei 1995, Symmetric quasidefinite matrices).
    """
    index = jnp.arange(block.shape[0])
    min_pivot = jnp.broadcast_to(jnp.asarray(min_pivot, block.dtype), index.shape)

    def row(k: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        schur, inverse, independent = carry
        signed = lambda x: x if sign is None else sign[k] * x  # noqa: E731
        pivot = signed(schur[k, k])
        good = ~(pivot < min_pivot[k])
        root = jnp.where(good, jnp.sqrt(pivot), jnp.inf)
        below = jnp.where(index > k, schur[k] / root, 0.0)
        solved = inverse[k] / root
        inverse = (
            (inverse - signed(below)[:, None] * solved)
            .at[k]
            .set(solved, mode="promise_in_bounds", wrap_negative_indices=False)
        )
        return (
            schur - signed(below)[:, None] * below,
            inverse,
            independent.at[k].set(good, mode="promise_in_bounds", wrap_negative_indices=False),
        )

    start = (block, jnp.eye(block.shape[0], dtype=block.dtype), jnp.ones_like(index, bool))
    return jax.lax.fori_loop(0, block.shape[0], row, start)[1:]
