"""Weighted Gram matrices Xᵀ diag(ω) X in blocks of samples, so that scaled samples stay in the cache."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_Total = TypeVar("_Total")

__all__ = ["blocked_gram", "gram_of_rows"]

#: Samples of a block where features are columns in memory.
_COLUMN_BLOCK = 1024

#: Features of a tile where features are columns in memory: tiles beyond `count` are left out.
_COLUMN_TILE = 256

#: Entries of X from which on the Gram matrix of rows is computed in tiles.
_TILED_SIZE = 1_000_000

#: Samples of a block where samples are rows in memory.
_ROW_BLOCK = 512

#: Features of a tile where samples are rows in memory.
_ROW_TILE = 128

#: Largest number of such tiles: each is a product of its own in the program, and all must fit in the cache.
_MAX_ROW_TILES = 8


def blocked_gram(
    XT: Float[Array, "p n"], weight: Float[Array, " n"], count: Int[Array, ""] | None = None
) -> Float[Array, "p p"]:
    """Return Xᵀ diag(weight) X of features that are rows of `XT`.

    Args:
        XT: the features.
        weight: one weight per sample, of any sign.
        count: the number of leading features that are not all 0; tiles of 256 features beyond it are left
            out. None is all of them.
    """
    p = XT.shape[0]
    tile = p if p <= _COLUMN_TILE else _COLUMN_TILE
    tiles = -(-p // tile)
    used = tiles if count is None else jnp.minimum((count + tile - 1) // tile, tiles)

    def add(gram: Array, start: Array, size: int, weight: Array) -> Array:
        part = jax.lax.dynamic_slice_in_dim(XT, start, size, 1)
        scaled = part * weight
        if tiles == 1:
            return gram + scaled @ part.T

        def add_tile(i: Array, gram: Array) -> Array:
            # The last tile reaches back over features that were added: these keep their sums.
            first = jnp.minimum(i * tile, p - tile)
            added = (first + jnp.arange(tile) < i * tile)[:, None]
            old = jax.lax.dynamic_slice_in_dim(gram, first, tile)
            new = old + jax.lax.dynamic_slice_in_dim(scaled, first, tile) @ part.T
            return jax.lax.dynamic_update_slice_in_dim(gram, jnp.where(added, old, new), first, 0)

        return jax.lax.fori_loop(0, used, add_tile, gram)

    return _sum_over_blocks(weight, _COLUMN_BLOCK, add, jnp.zeros((p, p), XT.dtype))


def gram_of_rows(
    X: Float[Array, "n p"],
    weight: Float[Array, " n"],
    transform: Callable[[Array], Array] = lambda rows: rows,
) -> Float[Array, "p p"]:
    """Return Yᵀ diag(weight) Y, where each row of Y is the `transform` of a row of X.

    Large X on a CPU are transformed block by block, so that Y is never stored.
    """

    def whole(X: Array, weight: Array) -> Array:
        Y = transform(X)
        return (Y * weight[:, None]).T @ Y

    if X.size < _TILED_SIZE or X.shape[1] > _MAX_ROW_TILES * _ROW_TILE:
        return whole(X, weight)
    return jax.lax.platform_dependent(
        X, weight, cpu=partial(_tiled_gram_of_rows, transform=transform), default=whole
    )


def _tiled_gram_of_rows(X: Array, weight: Array, transform: Callable[[Array], Array]) -> Array:
    """Compute the tiles on and above the diagonal only, which halves the work."""
    p = X.shape[1]
    starts = range(0, p, _ROW_TILE)

    def add(tiles: list[Array], start: Array, size: int, weight: Array) -> list[Array]:
        rows = transform(jax.lax.dynamic_slice_in_dim(X, start, size))
        scaled = rows * weight[:, None]
        products = [scaled[:, a : a + _ROW_TILE].T @ rows[:, a:] for a in starts]
        return [tile + product for tile, product in zip(tiles, products, strict=True)]

    zeros = [jnp.zeros((min(_ROW_TILE, p - a), p - a), X.dtype) for a in starts]
    tiles = _sum_over_blocks(weight, _ROW_BLOCK, add, zeros)
    upper = jnp.concatenate([jnp.pad(tile, ((0, 0), (a, 0))) for a, tile in zip(starts, tiles, strict=True)])
    return jnp.triu(upper) + jnp.triu(upper, 1).T


def _sum_over_blocks(
    weight: Float[Array, " n"], block: int, add: Callable[[_Total, Array, int, Array], _Total], zeros: _Total
) -> _Total:
    """Fold `add(total, start, size, weight)` over blocks of samples.

    The last block reaches back over samples that were counted, whose weight is then 0.
    """
    n = weight.shape[0]
    size = min(block, n)

    def body(k: Array, total: _Total) -> _Total:
        start = jnp.minimum(k * size, n - size)
        new = start + jnp.arange(size) >= k * size
        return add(total, start, size, jax.lax.dynamic_slice_in_dim(weight, start, size) * new)

    return jax.lax.fori_loop(0, -(-n // size), body, zeros)
