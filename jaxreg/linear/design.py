"""What a solver may ask of a matrix of features: products, moments, and some of its columns made dense.

A design is a pure pytree; every method may be traced. To add one: subclass `Design`, write its abstract
methods, and choose it in `design`, where the data come in.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array

__all__ = ["Columns", "DenseDesign", "Design", "SparseDesign", "Standardized", "design"]


class Design(eqx.Module):
    """Base of all designs: a matrix X (n, p)."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(n, p)."""

    @property
    @abstractmethod
    def dtype(self) -> Any:
        """That of the numbers."""

    @abstractmethod
    def matmul(self, w: Array) -> Array:
        """X @ w for w (p,) or (p, K)."""

    @abstractmethod
    def rmatmul(self, u: Array) -> Array:
        """Xᵀ @ u for u (n,) or (n, K)."""

    @abstractmethod
    def squares(self, u: Array) -> Array:
        """Σ_i u_i x_ij² for u (n,): (p,)."""

    @abstractmethod
    def moments(self, weight: Array) -> tuple[Array, Array, Array]:
        """Mean, 1/n standard deviation (weights sum to 1) and largest |x| of each column."""

    @abstractmethod
    def magnitudes(self, u: Array) -> Array:
        """Σ_i |u_i| |x_ij|, or a bound on it, for u (n,) or (n, K): the scale of rounding in `rmatmul`."""

    @abstractmethod
    def columns(self, index: Array) -> "Columns":
        """Some of the columns, made dense; an index of p stands for a column of zeros."""

    @property
    def dense_like(self) -> bool:
        """Whether all columns may be made dense without taking much more memory."""
        return True

    def dense(self) -> Array:
        """All of it, (n, p)."""
        return self.columns(jnp.arange(self.shape[1])).XT.T

    def weighted_gram(self, weight: Array) -> Array:
        """Xᵀ diag(weight) X, (p, p)."""
        return self.columns(jnp.arange(self.shape[1])).weighted_gram(weight)


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
        return u @ self.X**2

    def moments(self, weight: Array) -> tuple[Array, Array, Array]:
        """In two passes: no difference of large numbers."""
        mean = weight @ self.X
        top = jnp.maximum(jnp.max(self.X, axis=0), -jnp.min(self.X, axis=0))
        return mean, jnp.sqrt(weight @ (self.X - mean) ** 2), top

    def magnitudes(self, u: Array) -> Array:
        """|u|ᵀ |X|."""
        return (jnp.abs(u).T @ jnp.abs(self.X)).T

    def columns(self, index: Array) -> "Columns":
        """Some of the columns."""
        return Columns(jnp.take(self.X, index, axis=1, mode="fill", fill_value=0).T)

    def dense(self) -> Array:
        """X."""
        return self.X

    def weighted_gram(self, weight: Array) -> Array:
        """Xᵀ diag(weight) X."""
        return (self.X * weight[:, None]).T @ self.X


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

    def moments(self, weight: Array) -> tuple[Array, Array, Array]:
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


class Standardized(Design):
    """(X − mean)/scale, columns where `constant` set to 0, without a copy of X."""

    inner: Design
    mean: Array
    scale: Array
    constant: Array

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""
        return self.inner.shape

    @property
    def dtype(self) -> Any:
        """That of X."""
        return self.inner.dtype

    @property
    def factor(self) -> Array:
        """What a column is multiplied by after centring."""
        return jnp.where(self.constant, 0.0, 1 / self.scale)

    def matmul(self, w: Array) -> Array:
        """X(w·f) − meanᵀ(w·f), f the factor."""
        w = w * (self.factor if w.ndim == 1 else self.factor[:, None])
        return self.inner.matmul(w) - self.mean @ w

    def rmatmul(self, u: Array) -> Array:
        """f·(Xᵀu − mean·Σu)."""
        if u.ndim == 1:
            return self.factor * (self.inner.rmatmul(u) - self.mean * jnp.sum(u))
        return self.factor[:, None] * (self.inner.rmatmul(u) - self.mean[:, None] * jnp.sum(u, axis=0))

    def squares(self, u: Array) -> Array:
        """The square multiplied out."""
        total = self.inner.squares(u) - self.mean * (2 * self.inner.rmatmul(u) - self.mean * jnp.sum(u))
        return jnp.maximum(self.factor**2 * total, 0.0)

    def moments(self, weight: Array) -> tuple[Array, Array, Array]:
        """Those of X, moved and scaled."""
        mean, deviation, top = self.inner.moments(weight)
        return (
            self.factor * (mean - self.mean),
            self.factor * deviation,
            self.factor * (top + jnp.abs(self.mean)),
        )

    def magnitudes(self, u: Array) -> Array:
        """A bound: |x| + |mean|."""
        mean, factor = (x if u.ndim == 1 else x[:, None] for x in (jnp.abs(self.mean), self.factor))
        return factor * (self.inner.magnitudes(u) + mean * jnp.sum(jnp.abs(u), axis=0))

    def columns(self, index: Array) -> Columns:
        """Some of the columns, centred and scaled."""
        some = lambda x: jnp.take(x, index, mode="fill", fill_value=0)[:, None]  # noqa: E731
        return Columns((self.inner.columns(index).XT - some(self.mean)) * some(self.factor))

    @property
    def dense_like(self) -> bool:
        """As X."""
        return self.inner.dense_like


class SparseDesign(Design):
    """A matrix of which only the entries that are not 0 are kept, once by rows and once by columns.

    `by_row` and `by_column` hold (value, row, column) of each, in the order of rows and of columns.
    """

    by_row: tuple[Array, Array, Array]
    by_column: tuple[Array, Array, Array]
    size: tuple[int, int] = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""
        return self.size

    @property
    def dtype(self) -> Any:
        """That of the numbers."""
        return self.by_row[0].dtype

    @property
    def dense_like(self) -> bool:
        """False."""
        return False

    def matmul(self, w: Array) -> Array:
        """X @ w."""
        value, row, column = self.by_row
        return _sums(_times(value, w[column]), row, self.size[0])

    def rmatmul(self, u: Array) -> Array:
        """Xᵀ @ u."""
        value, row, column = self.by_column
        return _sums(_times(value, u[row]), column, self.size[1])

    def squares(self, u: Array) -> Array:
        """(X²)ᵀ u."""
        value, row, column = self.by_column
        return _sums(value**2 * u[row], column, self.size[1])

    def moments(self, weight: Array) -> tuple[Array, Array, Array]:
        """The zeros of a column count as one entry with their weight: no difference of large numbers."""
        value, row, column = self.by_column
        p = self.size[1]
        mean = self.rmatmul(weight)
        there = _sums(weight[row], column, p)
        around = _sums(weight[row] * (value - mean[column]) ** 2, column, p)
        variance = around + jnp.maximum(1 - there, 0.0) * mean**2
        top = jax.ops.segment_max(jnp.abs(value), column, p, indices_are_sorted=True)
        return mean, jnp.sqrt(variance), jnp.maximum(top, 0.0)

    def magnitudes(self, u: Array) -> Array:
        """|X|ᵀ |u|."""
        value, row, column = self.by_column
        return _sums(_times(jnp.abs(value), jnp.abs(u)[row]), column, self.size[1])

    def columns(self, index: Array) -> Columns:
        """Some of the columns, one of zeros for each index of p."""
        value, row, column = self.by_column
        n, p = self.size
        place = jnp.full(p, index.size).at[index].set(jnp.arange(index.size), mode="drop")
        XT = jnp.zeros((index.size, n), value.dtype)
        return Columns(XT.at[place[column], row].add(value, mode="drop"))


def _sums(x: Array, label: Array, count: int) -> Array:
    return jax.ops.segment_sum(x, label, count, indices_are_sorted=True)


def _times(value: Array, x: Array) -> Array:
    return value * x if x.ndim == 1 else value[:, None] * x


def design(X: Any, dtype: Any = None) -> Design:
    """The design of an array or a `scipy.sparse` matrix; integers become the default float."""
    if not scipy.sparse.issparse(X):
        X = jnp.asarray(X, dtype)
        return DenseDesign(X if jnp.issubdtype(X.dtype, jnp.floating) else X.astype(jnp.result_type(float)))
    if not np.issubdtype(X.dtype, np.floating):
        X = X.astype(float)
    by_row, by_column = X.tocsr(copy=True), X.tocsc(copy=True)
    parts = []
    for matrix in (by_row, by_column):
        matrix.sum_duplicates()
        major = np.repeat(np.arange(len(matrix.indptr) - 1), np.diff(matrix.indptr))
        pair = (major, matrix.indices) if matrix is by_row else (matrix.indices, major)
        parts.append((jnp.asarray(matrix.data, dtype), *(jnp.asarray(x, jnp.int32) for x in pair)))
    return SparseDesign(*parts, size=tuple(int(k) for k in X.shape))
