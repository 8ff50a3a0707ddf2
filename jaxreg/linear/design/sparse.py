"""Sparse matrices of features, by rows and by columns.

The entries of a row (or a column) are cut into pieces of `_WIDTH`, the last one filled up with zeros. The
k-th entries of all pieces lie next to each other: a product goes over them one k after the other, without a
scatter, and adds up few sums at the end. That is as fast as a compiled loop over the entries, four times as
fast as adding each entry where it belongs, and one long row makes no other row longer.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array

from jaxreg.linear.design.base import Design, Moments
from jaxreg.linear.design.dense import Columns

__all__ = ["SparseDesign", "sparse"]

#: Entries of a piece; what part of all columns counts as few.
_WIDTH, _FEW = 8, 100


class Pieces(eqx.Module):
    """Entries of a matrix in pieces of its rows: values (width, c), their columns (width, c), and the row
    (c,) of each piece, in order. Of the transposed matrix, rows and columns the other way round.
    """

    value: Array
    other: Array
    own: Array
    count: int = eqx.field(static=True)

    def sums(self, value: Array, x: Array) -> Array:
        """Σ value·x over each row, for numbers `value` of the entries, and x (columns,) or (columns, K)."""
        x, by_entry = jnp.asarray(x), (-1, *(1,) * (x.ndim - 1))
        # Written out, all of them are one loop; as a sum along an axis they would be stored first.
        total = sum(value[k].reshape(by_entry) * x[self.other[k]] for k in range(_WIDTH))
        return jax.ops.segment_sum(total, self.own, self.count, indices_are_sorted=True)

    def largest(self, value: Array) -> Array:
        """Return the largest of the numbers in each row, −inf in a row of none."""
        return jax.ops.segment_max(jnp.max(value, axis=0), self.own, self.count, indices_are_sorted=True)


class SparseDesign(Design):
    """A matrix of which only the entries that are not 0 are kept, once by rows and once by columns."""

    by_row: Pieces
    by_column: Pieces

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""
        return self.by_row.count, self.by_column.count

    @property
    def dtype(self) -> Any:
        """That of the numbers."""
        return self.by_row.value.dtype

    @property
    def dense_like(self) -> bool:
        """False."""
        return False

    def matmul(self, w: Array) -> Array:
        """X @ w."""
        return self.by_row.sums(self.by_row.value, w)

    def rmatmul(self, u: Array) -> Array:
        """Xᵀ @ u."""
        return self.by_column.sums(self.by_column.value, u)

    def squares(self, u: Array) -> Array:
        """(X²)ᵀ u."""
        return self.by_column.sums(self.by_column.value**2, u)

    def moments(self, weight: Array) -> Moments:
        """Moments of the entries; the zeros of a column count as one entry with their weight.

        The zeros of positive weight are counted: of a column without any, no rounding of the weights' sum may
        stand for one.
        """
        part = self.by_column
        filled, counts = part.value != 0, weight > 0
        entry = filled & counts[part.other]
        zeros = jnp.sum(counts, dtype=jnp.int32) - part.sums(
            filled.astype(jnp.int32), counts.astype(jnp.int32)
        )
        left = 1 - part.sums(filled.astype(self.dtype), weight)
        left = jnp.where(zeros > 0, jnp.maximum(left, 0.0), 0.0)
        low = -part.largest(jnp.where(entry, -part.value, -jnp.inf))
        high = part.largest(jnp.where(entry, part.value, -jnp.inf))
        low = jnp.where(zeros > 0, jnp.minimum(low, 0.0), low)
        high = jnp.where(zeros > 0, jnp.maximum(high, 0.0), high)

        def centred(anchor: Array, unit: Array) -> Array:
            return jnp.where(filled, (part.value - anchor[part.own]) / unit[part.own], 0.0)

        def centred_mean(anchor: Array, unit: Array) -> Array:
            return part.sums(centred(anchor, unit), weight) - left * anchor / unit

        def variance(anchor: Array, unit: Array, mean: Array) -> Array:
            around = jnp.where(entry, centred(anchor, unit) - mean[part.own], 0.0)
            return part.sums(around**2, weight) + left * (anchor / unit + mean) ** 2

        return Moments.of(low, high, centred_mean, variance)

    def magnitudes(self, u: Array) -> Array:
        """|X|ᵀ |u|."""
        return self.by_column.sums(jnp.abs(self.by_column.value), jnp.abs(u))

    def columns(self, index: Array) -> Columns:
        """Some of the columns, one of zeros for each index of p."""
        part, (n, p) = self.by_column, self.shape
        XT = jnp.zeros((index.size, n), self.dtype)
        if _FEW * index.size > p:
            place = jnp.full(p, index.size).at[index].set(jnp.arange(index.size), mode="drop")
            return Columns(XT.at[place[part.own], part.other].add(part.value, mode="drop"))
        # Few columns: their pieces alone.
        first, last = (jnp.searchsorted(part.own, index, side=side) for side in ("left", "right"))

        def column(k: Array, XT: Array) -> Array:
            def piece(c: Array, XT: Array) -> Array:
                return XT.at[k, part.other[:, c]].add(part.value[:, c])

            return jax.lax.fori_loop(first[k], last[k], piece, XT)

        return Columns(jax.lax.fori_loop(0, index.size, column, XT))

    def narrowed(self, index: np.ndarray, room: int) -> "SparseDesign":
        """Sparse again; `room` says how many pieces there are room for too, unless they are longer."""
        part, (n, p) = self.by_column, self.shape
        place = np.full(p, -1)
        place[index] = np.arange(index.size)
        value, row, own = (np.asarray(x) for x in (part.value, part.other, part.own))
        taken = place[own] >= 0
        value, row = value[:, taken], row[:, taken]
        filled = value != 0
        column = np.broadcast_to(place[own[taken]], value.shape)[filled]
        some = scipy.sparse.csc_matrix((value[filled], (row[filled], column)), (n, room))
        # What as many columns have in the mean, and a quarter again: one shape for one room.
        share = 1.25 * room / p
        by_row = int(share * np.count_nonzero(part.value) / _WIDTH + n / 2)
        return sparse(some, self.dtype, (by_row, int(share * own.size)))


def sparse(X: Any, dtype: Any = None, room: tuple[int, int] = (0, 0)) -> SparseDesign:
    """Of a `scipy.sparse` matrix, with room for so many pieces of rows and of columns."""
    return SparseDesign(
        _pieces(X.tocsr(copy=True), dtype, room[0]), _pieces(X.T.tocsr(copy=True), dtype, room[1])
    )


def _pieces(matrix: Any, dtype: Any, room: int) -> Pieces:
    """Of a matrix in rows (CSR); where `room` is too small, in twice the room until it is not."""
    matrix.sum_duplicates()
    length = np.diff(matrix.indptr)
    pieces = -(-length // _WIDTH)
    count, first = int(pieces.sum()), np.cumsum(pieces) - pieces
    while 0 < room < count:
        room *= 2
    place = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], length)
    at = place % _WIDTH, np.repeat(first, length) + place // _WIDTH
    value = np.zeros((_WIDTH, max(room, count)), matrix.dtype)
    other = np.zeros(value.shape, np.int32)
    value[at], other[at] = matrix.data, matrix.indices
    own = np.full(value.shape[1], matrix.shape[0] - 1, np.int32)
    own[:count] = np.repeat(np.arange(matrix.shape[0]), pieces)
    return Pieces(jnp.asarray(value, dtype), jnp.asarray(other), jnp.asarray(own), int(matrix.shape[0]))
