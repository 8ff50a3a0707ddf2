"""Sparse matrices of features, stored by rows and by columns.

The entries of a row (or a column) are cut into pieces of 8, the last one filled up with zeros. The k-th
entries of all pieces are adjacent in memory: a product runs over them for one k after the other, without a
scatter, and adds few sums per row at the end. That is as fast as a compiled loop over the entries and four
times as fast as a scatter of each entry, and one long row makes no other row longer.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Int

from jaxreg._typing import CompressedMatrix, DTypeLike, ScipyMatrix
from jaxreg.linear.design.base import Design, Moments
from jaxreg.linear.design.dense import Columns

__all__ = ["SparseDesign", "sparse"]

#: Entries of a piece.
_WIDTH = 8

#: Up to p/100 columns are taken piece by piece, more of them by one scatter.
_FEW = 100


class Pieces(eqx.Module):
    """A matrix in pieces of its rows; for its columns, the pieces of the transposed matrix.

    Attributes:
        value: the entries.
        column: the column of each entry.
        row: the row of each piece, in rising order.
        count: the number of rows.
    """

    value: Float[Array, "width c"]
    column: Int[Array, "width c"]
    row: Int[Array, " c"]
    count: int = eqx.field(static=True)

    def sums(self, value: Array, x: Array) -> Array:
        """Return Σ value·x over each row, for one `value` per entry and x (columns,) or (columns, K)."""
        x, by_entry = jnp.asarray(x), (-1, *(1,) * (x.ndim - 1))
        # Unrolled, the terms fuse into one loop; a sum along an axis would store them first.
        total = sum(value[k].reshape(by_entry) * x[self.column[k]] for k in range(_WIDTH))
        return jax.ops.segment_sum(total, self.row, self.count, indices_are_sorted=True)

    def largest(self, value: Array) -> Array:
        """Return the largest `value` of each row's entries, −inf in an empty row."""
        return jax.ops.segment_max(jnp.max(value, axis=0), self.row, self.count, indices_are_sorted=True)


class SparseDesign(Design):
    """A sparse matrix; the rows of `by_column` are its columns."""

    by_row: Pieces
    by_column: Pieces

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""
        return self.by_row.count, self.by_column.count

    @property
    def dtype(self) -> np.dtype:
        """The dtype of X."""
        return self.by_row.value.dtype

    @property
    def dense_like(self) -> bool:
        """False."""
        return False

    def matmul(self, w: Float[Array, "p *K"]) -> Float[Array, "n *K"]:
        """Return X @ w."""
        return self.by_row.sums(self.by_row.value, w)

    def rmatmul(self, u: Float[Array, "n *K"]) -> Float[Array, "p *K"]:
        """Return Xᵀ @ u."""
        return self.by_column.sums(self.by_column.value, u)

    def squares(self, u: Float[Array, " n"]) -> Float[Array, " p"]:
        """Return (X²)ᵀ u."""
        return self.by_column.sums(self.by_column.value**2, u)

    def magnitudes(self, u: Float[Array, "n *K"]) -> Float[Array, "p *K"]:
        """Return |X|ᵀ |u|."""
        return self.by_column.sums(jnp.abs(self.by_column.value), jnp.abs(u))

    def moments(self, weight: Float[Array, " n"]) -> Moments:
        """Return moments of the entries; the zeros of a column count as one entry with their total weight.

        Zeros of positive weight are counted as integers: in a column without any, the rounding of the sum of
        weights must not stand for one.
        """
        pieces = self.by_column
        filled, counts = pieces.value != 0, weight > 0
        entry = filled & counts[pieces.column]
        entries = pieces.sums(filled.astype(jnp.int32), counts.astype(jnp.int32))
        has_zeros = jnp.sum(counts, dtype=jnp.int32) - entries > 0
        zero_weight = 1 - pieces.sums(filled.astype(self.dtype), weight)
        zero_weight = jnp.where(has_zeros, jnp.maximum(zero_weight, 0.0), 0.0)
        low = -pieces.largest(jnp.where(entry, -pieces.value, -jnp.inf))
        high = pieces.largest(jnp.where(entry, pieces.value, -jnp.inf))
        low = jnp.where(has_zeros, jnp.minimum(low, 0.0), low)
        high = jnp.where(has_zeros, jnp.maximum(high, 0.0), high)

        def centred(anchor: Array, unit: Array) -> Array:
            return jnp.where(filled, (pieces.value - anchor[pieces.row]) / unit[pieces.row], 0.0)

        def centred_mean(anchor: Array, unit: Array) -> Array:
            return pieces.sums(centred(anchor, unit), weight) - zero_weight * anchor / unit

        def variance(anchor: Array, unit: Array, mean: Array) -> Array:
            deviation = jnp.where(entry, centred(anchor, unit) - mean[pieces.row], 0.0)
            return pieces.sums(deviation**2, weight) + zero_weight * (anchor / unit + mean) ** 2

        return Moments.from_range(low, high, centred_mean, variance)

    def columns(self, index: Int[Array, " m"]) -> Columns:
        """Return some of the columns as a dense matrix, 0 for each index of p."""
        pieces, (n, p) = self.by_column, self.shape
        XT = jnp.zeros((index.size, n), self.dtype)
        if _FEW * index.size > p:
            position = jnp.full(p, index.size).at[index].set(jnp.arange(index.size), mode="drop")
            return Columns(XT.at[position[pieces.row], pieces.column].add(pieces.value, mode="drop"))
        first, last = (jnp.searchsorted(pieces.row, index, side=side) for side in ("left", "right"))

        def add_column(k: Array, XT: Array) -> Array:
            def add_piece(c: Array, XT: Array) -> Array:
                return XT.at[k, pieces.column[:, c]].add(pieces.value[:, c])

            return jax.lax.fori_loop(first[k], last[k], add_piece, XT)

        return Columns(jax.lax.fori_loop(0, index.size, add_column, XT))

    def narrowed(self, index: np.ndarray, room: int) -> "SparseDesign":
        """Return some of the columns as a sparse matrix; `room` also sets the number of pieces, a size class.

        The number of pieces is 5/4 of the average of `room` columns, and doubled until the columns fit.
        """
        pieces, (n, p) = self.by_column, self.shape
        position = np.full(p, -1)
        position[index] = np.arange(index.size)
        value, sample, feature = (np.asarray(x) for x in (pieces.value, pieces.column, pieces.row))
        taken = position[feature] >= 0
        value, sample = value[:, taken], sample[:, taken]
        filled = value != 0
        column = np.broadcast_to(position[feature[taken]], value.shape)[filled]
        some = scipy.sparse.csc_matrix((value[filled], (sample[filled], column)), (n, room))
        share = 1.25 * room / p
        row_pieces = int(share * np.count_nonzero(pieces.value) / _WIDTH + n / 2)
        return sparse(some, self.dtype, (row_pieces, int(share * feature.size)))


def sparse(X: ScipyMatrix, dtype: DTypeLike | None = None, room: tuple[int, int] = (0, 0)) -> SparseDesign:
    """Return the design of a `scipy.sparse` matrix.

    Args:
        X: the matrix.
        dtype: the working dtype; None is that of X.
        room: the smallest numbers of pieces of rows and of columns.
    """
    by_row, by_column = X.tocsr(copy=True), X.T.tocsr(copy=True)
    return SparseDesign(_cut(by_row, dtype, room[0]), _cut(by_column, dtype, room[1]))


def _cut(matrix: CompressedMatrix, dtype: DTypeLike | None, room: int) -> Pieces:
    """Cut a CSR matrix into pieces; `room` is doubled until it holds them."""
    matrix.sum_duplicates()
    length = np.diff(matrix.indptr)
    pieces = -(-length // _WIDTH)
    count, first = int(pieces.sum()), np.cumsum(pieces) - pieces
    while 0 < room < count:
        room *= 2
    in_row = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], length)
    at = in_row % _WIDTH, np.repeat(first, length) + in_row // _WIDTH
    value = np.zeros((_WIDTH, max(room, count)), matrix.dtype)
    column = np.zeros(value.shape, np.int32)
    value[at], column[at] = matrix.data, matrix.indices
    row = np.full(value.shape[1], matrix.shape[0] - 1, np.int32)
    row[:count] = np.repeat(np.arange(matrix.shape[0]), pieces)
    return Pieces(jnp.asarray(value, dtype), jnp.asarray(column), jnp.asarray(row), int(matrix.shape[0]))
