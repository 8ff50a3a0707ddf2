"""Sizes of the buffers that hold the columns of a working set.

Each size is a compiled program of its own, so that sizes are few: multiples of a chunk, and a handful of
capacities on the way to the largest.
"""

from typing import NamedTuple

from jaxreg.linear.problem import Problem

__all__ = [
    "CHUNK",
    "MatrixSizes",
    "grow_matrix_free",
    "max_matrix_free_columns",
    "round_up",
    "uses_all_columns",
]

#: Columns up to which all of them are in the working set from the start, where there are as many samples.
_MAX_FOR_ALL = 512
#: Columns that join a buffer in one compiled copy. A buffer keeps one chunk of room for the last copy.
CHUNK = 64

#: Columns of dense data above which Newton systems are matrix-free: 4032² numbers of float64 take 130 MB.
_MAX_DENSE_COLUMNS = 4032
#: Columns of sparse data above which Newton systems are matrix-free: sparse products cost less than dense
#: copies of the columns.
_MAX_SPARSE_COLUMNS = 448
#: Columns of the first buffer.
_FIRST = 256
#: Columns of the first buffer with an inverse: fewer programs, since the next one is only twice as large.
_FIRST_WITH_INVERSE = 512
#: Factor between the first buffers.
_GROWTH = 4
#: Columns by which a buffer without an inverse grows at most: Newton steps pass over the whole Gram matrix.
#: Group lasso paths of 1000×5000 data take 1.1 to 1.4 times as long if 4,096 columns follow on 1,024.
_MAX_STRIDE = 1024
#: Factor between the first buffers with an inverse, whose cost follows the capacity.
_GROWTH_WITH_INVERSE = 2
#: Columns above which the next buffer with an inverse is the largest one.
_LAST_STRIDE = 512
#: Capacity per required column. A full buffer admits too few columns before they are missing.
_SLACK = 1.2
#: Columns per sample that suffice: no more than one is independent, and half as many may wait to join.
_PER_SAMPLE = 1.5
#: Optional columns that may join even a small working set.
_MIN_OPTIONAL = 4 * CHUNK

#: Columns of the smallest matrix-free buffer: products with fewer columns are not much faster.
_MIN_MATRIX_FREE = 8192
#: Factor between matrix-free capacities.
_MATRIX_FREE_GROWTH = 2
#: Capacity per required column, matrix-free: a wider buffer makes each product slower.
_MATRIX_FREE_SLACK = 1.1
#: Numbers that matrix-free copies of dense columns may have: 2 GiB in float64.
_MAX_COPIED = 2**28


def uses_all_columns(problem: Problem) -> bool:
    """Return whether the working set has all columns from the start, for p ≤ min(512, n)."""
    n, p = problem.shape
    return p <= min(_MAX_FOR_ALL, n)


def round_up(n_columns: int) -> int:
    """Return the smallest multiple of a chunk that is ≥ `n_columns`."""
    return -(-n_columns // CHUNK) * CHUNK


class MatrixSizes(NamedTuple):
    """Sizes of a buffer with matrices of its columns.

    Attributes:
        max_columns: columns above which Newton systems are matrix-free.
        full_rank: capacity that suffices for as many columns as can be independent.
        with_inverse: whether the inverse of the active block is kept.
    """

    max_columns: int
    full_rank: int
    with_inverse: bool

    @classmethod
    def of(cls, problem: Problem, *, with_inverse: bool) -> "MatrixSizes":
        """Return the sizes for a problem."""
        max_columns = _MAX_DENSE_COLUMNS if problem.design.dense_like else _MAX_SPARSE_COLUMNS
        full_rank = round_up(int(_PER_SAMPLE * min(problem.shape))) + CHUNK
        return cls(max_columns, full_rank, with_inverse)

    @property
    def first(self) -> int:
        """Capacity of the first buffer."""
        return round_up(min(_FIRST_WITH_INVERSE, self.full_rank) if self.with_inverse else _FIRST)

    def grow(self, capacity: int, n_required: int) -> int:
        """Return the first capacity from `capacity` on with 1.2 times the room for the required columns."""
        while min(_SLACK * n_required, self.max_columns) > capacity - CHUNK:
            capacity = self._next(capacity)
        return capacity

    def _next(self, capacity: int) -> int:
        largest = round_up(self.max_columns) + CHUNK
        if not self.with_inverse:
            return min(_GROWTH * capacity, capacity + _MAX_STRIDE, largest)
        larger = min(_GROWTH_WITH_INVERSE * capacity, largest) if capacity <= _LAST_STRIDE else largest
        return self.full_rank if capacity < self.full_rank < larger else larger

    def n_columns(self, capacity: int, n_required: int) -> int:
        """Return the largest number of columns of a block: twice the required ones, or 256 more."""
        n_optional = max(n_required, _MIN_OPTIONAL)
        return min(capacity - CHUNK, self.max_columns, n_required + n_optional)


def grow_matrix_free(capacity: int, n_required: int, n_features: int) -> int:
    """Double a matrix-free capacity, at least 8192, until it has 1.1 times the room that is required."""
    capacity = max(capacity, _MIN_MATRIX_FREE)
    while capacity < min(_MATRIX_FREE_SLACK * n_required, n_features):
        capacity *= _MATRIX_FREE_GROWTH
    return capacity


def max_matrix_free_columns(problem: Problem) -> int:
    """Return the largest number of columns of a matrix-free copy: p if sparse, 2²⁸/n if dense."""
    n, p = problem.shape
    return _MAX_COPIED // n if problem.design.dense_like else p
