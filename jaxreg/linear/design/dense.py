"""Dense matrices of features, by rows or by columns in memory, and their Gram matrices."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg.linear.design.base import Design, Moments

__all__ = ["Columns", "DenseDesign", "gram_of_rows"]

#: Numbers from which on a Gram matrix is made by tiles; rows at once, columns of a tile, and tiles at most:
#: each is written out, and all of them are to stay in the cache. Numbers from which on no intermediate matrix
#: is stored.
_LARGE, _ROWS, _TILE, _TILES, _STORED = 1_000_000, 512, 128, 8, 4_000_000


class DenseDesign(Design):
    """A dense matrix (n, p); its rows may be spread over devices."""

    X: Array

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""
        return self.X.shape

    @property
    def dtype(self) -> Any:
        """That of X."""
        return self.X.dtype

    def matmul(self, w: Array) -> Array:
        """X @ w."""
        return self.X @ w

    def rmatmul(self, u: Array) -> Array:
        """Xᵀ @ u, written as u @ X, which runs along memory."""
        return u @ self.X if u.ndim == 1 else (u.T @ self.X).T

    def squares(self, u: Array) -> Array:
        """uᵀ X²."""
        return _over_rows(u, self.X, jnp.square)

    def moments(self, weight: Array) -> Moments:
        """Moments in three passes: range, mean, deviation."""
        X, counts = self.X, (weight > 0)[:, None]
        low = jnp.min(jnp.where(counts, X, jnp.inf), axis=0)
        high = jnp.max(jnp.where(counts, X, -jnp.inf), axis=0)

        def centred_mean(anchor: Array, unit: Array) -> Array:
            return _over_rows(weight, X, lambda X: (X - anchor) * (1 / unit))

        def variance(anchor: Array, unit: Array, mean: Array) -> Array:
            # A sample of weight 0 may be so far off that its square is infinite.
            return _over_rows(
                weight, X, lambda X: jnp.where(counts, (X - anchor) * (1 / unit) - mean, 0.0) ** 2
            )

        return Moments.of(low, high, centred_mean, variance)

    def magnitudes(self, u: Array) -> Array:
        """|u|ᵀ |X|."""
        if u.ndim == 1:
            return _over_rows(jnp.abs(u), self.X, jnp.abs)
        return (jnp.abs(u).T @ jnp.abs(self.X)).T

    def columns(self, index: Array) -> "Columns":
        """Some of the columns."""
        return Columns(jnp.take(self.X, index, axis=1, mode="fill", fill_value=0).T)

    def dense(self) -> Array:
        """X."""
        return self.X

    def weighted_gram(self, weight: Array) -> Array:
        """Xᵀ diag(weight) X."""
        return gram_of_rows(self.X, weight, lambda rows: rows)


class Columns(Design):
    """Columns one after the other in memory, which makes their Gram matrix and a choice of them cheap."""

    XT: Array

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""
        return self.XT.shape[::-1]

    @property
    def dtype(self) -> Any:
        """That of the numbers."""
        return self.XT.dtype

    def matmul(self, w: Array) -> Array:
        """X @ w."""
        return w @ self.XT if w.ndim == 1 else (w.T @ self.XT).T

    def rmatmul(self, u: Array) -> Array:
        """Xᵀ @ u."""
        return self.XT @ u

    def squares(self, u: Array) -> Array:
        """(X²)ᵀ u."""
        return self.XT**2 @ u

    def moments(self, weight: Array) -> Moments:
        """As of any dense matrix."""
        return DenseDesign(self.XT.T).moments(weight)

    def magnitudes(self, u: Array) -> Array:
        """|X|ᵀ |u|."""
        return jnp.abs(self.XT) @ jnp.abs(u)

    def columns(self, index: Array) -> "Columns":
        """Some of the columns."""
        return Columns(jnp.take(self.XT, index, axis=0, mode="fill", fill_value=0))

    def weighted_gram(self, weight: Array) -> Array:
        """Xᵀ diag(weight) X."""
        return (self.XT * weight) @ self.XT.T


def _over_rows(u: Array, X: Array, f: Callable[[Array], Array]) -> Array:
    """Σ_i u_i f(x_ij). What f makes of a large X is not stored: memory is slower than arithmetic."""
    return u @ f(X) if X.size < _STORED else jnp.sum(u[:, None] * f(X), axis=0)


def gram_of_rows(X: Array, weight: Array, made: Callable[[Array], Array]) -> Array:
    """Yᵀ diag(weight) Y, where Y is what is `made` of the rows of X."""

    def whole(X: Array, weight: Array) -> Array:
        Y = made(X)
        return (Y * weight[:, None]).T @ Y

    if X.size < _LARGE or X.shape[1] > _TILES * _TILE:
        return whole(X, weight)
    return jax.lax.platform_dependent(X, weight, cpu=partial(_tiled_gram, made=made), default=whole)


def _tiled_gram(X: Array, weight: Array, made: Callable[[Array], Array]) -> Array:
    """The same by tiles on and above its diagonal, which halves the work; a block of rows after the other,
    so that what is made of them stays in the cache.
    """
    n, p = X.shape
    size, starts = min(_ROWS, n), range(0, p, _TILE)

    def block(k: Array, tiles: list[Array]) -> list[Array]:
        # The last block reaches back over rows that were counted, whose weight is then 0.
        at = jnp.minimum(k * size, n - size)
        rows = made(jax.lax.dynamic_slice_in_dim(X, at, size))
        own = jax.lax.dynamic_slice_in_dim(weight, at, size) * (at + jnp.arange(size) >= k * size)
        scaled = rows * own[:, None]
        return [
            tile + scaled[:, a : a + _TILE].T @ rows[:, a:] for a, tile in zip(starts, tiles, strict=True)
        ]

    start = [jnp.zeros((min(_TILE, p - a), p - a), X.dtype) for a in starts]
    found = jax.lax.fori_loop(0, -(-n // size), block, start)
    upper = jnp.concatenate([jnp.pad(tile, ((0, 0), (a, 0))) for a, tile in zip(starts, found, strict=True)])
    return jnp.triu(upper) + jnp.triu(upper, 1).T
