"""The columns in use, and their place in a buffer on which blocks of λ are solved.

The buffer's size takes few values, so that few programs are compiled: columns that are not needed any more
leave it before a larger one is made. For squared error it keeps the Gram matrix too, and for flat penalties
the inverse of its active block (`_active_inverse`). Where too many columns are in use for matrices of their
number, they are kept in the form that products like best, and nothing else is.
"""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg.linear.design import Columns, Design
from jaxreg.linear.null_fit import NullFit
from jaxreg.linear.path.kernels import BlockProblem, BlockResult, PathPoint, newton_block, pivot_block
from jaxreg.linear.problem import Problem
from jaxreg.linear.solvers._active_inverse import ActiveInverse
from jaxreg.linear.solvers._smooth_part import DataSmoothPart, QuadraticSmoothPart, SmoothPart
from jaxreg.penalties import PenaltyGrid

__all__ = ["Checked", "Working", "whole", "whole_gram"]

#: Up to this many columns all are used from the start. Buffers: the first (or the one before it, see below),
#: what the next ones are multiplied by, and how many columns join at once; how much larger than what must be
#: in it a buffer is.
_ALL, _FIRST, _GROWTH, _CHUNK, _TIGHT = 512, 512, 2, 64, 1.2
#: The least room for columns without matrices, what it is multiplied by, and as how many numbers at most
#: dense columns are copied there.
_ROOM, _WIDER, _COPIED = 8192, 2, 2**28
#: How much more room than what must be there; tries without a λ that held, after which no column leaves.
_CLOSE, _PATIENCE = 1.1, 3


class Checked(NamedTuple):
    """Of each λ of a block: its certificate; what it moves of the columns outside, and of all further on."""

    objective: Any
    gap: Any
    kkt: Any
    missing: Any
    wanted: Any


class _Buffer(eqx.Module):
    """Columns in use, one after the other, 0 where there is none yet; their Gram matrix for squared error."""

    XT: Array | None
    gram: Array | None
    kept: ActiveInverse | None


@partial(jax.jit, donate_argnums=1)
def _join(problem: Problem, buffer: _Buffer, index: Array, at: Array) -> _Buffer:
    """The buffer with the columns `index` (p for none) from row `at` on."""
    rows = problem.design.columns(index).XT
    XT = jax.lax.dynamic_update_slice_in_dim(buffer.XT, rows, at, 0)
    if buffer.gram is None:
        return _Buffer(XT, None, None)
    fresh = (rows * problem.weight) @ XT.T
    gram = jax.lax.dynamic_update_slice_in_dim(buffer.gram, fresh, at, 0)
    gram = jax.lax.dynamic_update_slice_in_dim(gram, fresh.T, at, 1)
    return _Buffer(XT, gram, buffer.kept)


@jax.jit
def _moved(buffer: _Buffer, order: Array) -> _Buffer:
    """The rows `order` of a buffer, 0 beyond; the inverse too, unless a part of its active block is left."""
    some = lambda x: x.at[order].get(mode="fill", fill_value=0)  # noqa: E731
    both = lambda x: x.at[order[:, None], order].get(mode="fill", fill_value=0)  # noqa: E731
    kept = buffer.kept
    if kept is not None:
        active = some(kept.active)
        whole = jnp.sum(active) == jnp.sum(kept.active)
        kept = ActiveInverse(
            jnp.where(whole, both(kept.inverse), 0.0), active & whole, some(kept.prox_curvature)
        )
    return _Buffer(some(buffer.XT), None if buffer.gram is None else both(buffer.gram), kept)


def whole(problem: Problem) -> bool:
    """Whether all columns are in use from the start."""
    return problem.shape[1] <= min(_ALL, problem.shape[0])


@jax.jit
def whole_gram(problem: Problem) -> Array:
    """XᵀWX of all columns."""
    return problem.design.weighted_gram(problem.weight)


class Working:
    """The columns in use, on the host: which they are and the buffer that holds them."""

    def __init__(
        self,
        problem: Problem,
        grid: tuple[PenaltyGrid, np.ndarray],
        null: tuple[Array, Array],
        labels: np.ndarray,
        gram: Array | None,
        reduced: bool,
        flat: bool,
    ) -> None:
        p = problem.shape[1]
        self.problem, (self.grid, self.lambdas) = problem, grid
        self.linear, self.value = np.asarray(null[0]), null[1]
        self.index = np.zeros(0, int)
        self.outside = np.ones(p, bool)
        #: Whether squared error is reduced to its Gram matrix; whether an inverse of active blocks is kept.
        self.reduced, self.flat = reduced, flat
        #: The columns in use, where products with them stand for matrices; tries since a λ held.
        self.products: Design | None = None
        self.failed = 0
        #: Columns of one label are in use together: the blocks of the penalty.
        self.labels = labels
        # The inverse of a flat penalty costs by its room, so that room grows in smaller strides.
        self.growth = _GROWTH if flat else _GROWTH**2
        first = min(_FIRST, self._enough) if flat else _FIRST // _GROWTH
        self._make(p if whole(problem) else first)
        if whole(problem):
            self._all(gram)

    def _make(self, capacity: int) -> None:
        """An empty buffer."""
        room = _chunks(capacity)
        XT = jnp.zeros((room, self.problem.shape[0]), self.problem.dtype)
        gram = jnp.zeros((room, room), self.problem.dtype) if self.reduced else None
        kept = ActiveInverse.empty(gram) if gram is not None and self.flat else None
        self.capacity, self.buffer = room, _Buffer(XT, gram, kept)

    def _all(self, gram: Array | None) -> None:
        """Every column; of them squared error needs nothing but the Gram matrix."""
        p = self.problem.shape[1]
        if gram is None:
            return self.join(np.arange(p))
        room = self.capacity - p
        self.buffer = _Buffer(
            jnp.zeros((self.capacity, 0), gram.dtype), jnp.pad(gram, (0, room)), self.buffer.kept
        )
        self.index, self.outside[:] = np.arange(p), False

    def change(self, need: np.ndarray, capacity: int) -> None:
        """Have the columns `need`, in a buffer of `capacity`: others leave where room is wanted."""
        fresh = np.setdiff1d(need, self.index, assume_unique=True)
        if self.index.size + fresh.size > self.room or capacity > self.capacity:
            places = np.flatnonzero(np.isin(self.index, need, assume_unique=True))
            order = np.full(capacity, self.capacity)
            order[: places.size] = places
            self.capacity, self.buffer = capacity, _moved(self.buffer, order)
            self.index = self.index[places]
        self.join(fresh)
        self.outside[:] = True
        self.outside[self.index] = False

    def next(self, coef: np.ndarray, seen: Checked, keep: int, solved: np.ndarray, limit: int) -> bool:
        """Have the columns for the next block, after one of which `keep` λ held, the last with `coef`.

        Beyond `limit` of those that it cannot do without there are no matrices; False where there is no room.
        """
        if not self.outside.any():
            return True
        # What a try that kept nothing had in use stays: columns join until the next λ holds.
        free = self.products is not None
        stay = _used(coef) if keep else ~self.outside
        missing = (seen.missing * solved[:, None])[keep : keep + (len(solved) if free else 3)]
        missing = missing.max(axis=0, initial=0.0)
        wanted = seen.wanted[max(keep - 1, 0)] if keep or free else np.zeros_like(missing)
        must, soon = _need(*(_whole(x, self.labels) for x in (stay, missing, wanted)))
        if must.size > limit or free:
            self.failed = 0 if keep else self.failed + 1
            if must.size > self.capacity and self.failed < _PATIENCE:
                must, soon = _need(*(_whole(x, self.labels) for x in (_used(coef), missing, wanted)))
            return self._by_products(must, soon)
        capacity = self.capacity
        # A tight buffer lets too few columns in before they are missing.
        while min(_TIGHT * must.size, limit) > capacity - _CHUNK:
            capacity = self._larger(capacity, limit)
        most = min(capacity - _CHUNK, limit, must.size + max(must.size, 4 * _CHUNK))
        self.change(np.concatenate([must, soon])[:most], capacity)
        return True

    def _by_products(self, must: np.ndarray, soon: np.ndarray) -> bool:
        """Have columns without matrices: those that `must` be there, and others to the end of the room.

        False where there is no room.
        """
        (n, p), design = self.problem.shape, self.problem.design
        most = _COPIED // n if design.dense_like else p
        if must.size > most:
            return False
        room = _ROOM if self.products is None else self.capacity
        while room < min(_CLOSE * must.size, p):
            room *= _WIDER
        self.capacity, self.reduced = min(room, _chunks(p)), False
        # Where there is room for all, all are there.
        every = np.arange(p) if min(room, most) >= p else np.concatenate([must, soon])
        self.index = np.sort(every[: min(room, most)])
        self.products, self.buffer = design.narrowed(self.index, self.capacity), _Buffer(None, None, None)
        self.outside[:] = True
        self.outside[self.index] = False
        return True

    def _larger(self, capacity: int, limit: int) -> int:
        """The next capacity: after the second what `limit` asks for, or less as long as the samples ask for
        less.
        """
        largest = _chunks(limit) + _CHUNK
        larger = min(self.growth * capacity, largest) if capacity <= _FIRST else largest
        return self._enough if self.flat and capacity < self._enough < larger else larger

    @property
    def _enough(self) -> int:
        """No more columns than samples are independent; half as many again may wait to join."""
        return _chunks(int(1.5 * min(self.problem.shape))) + _CHUNK

    def join(self, index: np.ndarray) -> None:
        """More columns, for which there is room."""
        for k in range(0, index.size, _CHUNK):
            part = np.full(_CHUNK, self.problem.shape[1])
            chunk = index[k : k + _CHUNK]
            part[: chunk.size] = chunk
            self.buffer = _join(self.problem, self.buffer, jnp.asarray(part), jnp.asarray(self.index.size))
            self.index = np.concatenate([self.index, chunk])
        self.outside[index] = False

    @property
    def room(self) -> int:
        """Columns that the buffer holds; a chunk is left free, since columns join by the chunk."""
        return self.capacity - _CHUNK

    def solve(
        self, lanes: np.ndarray, null_fit: NullFit, start: tuple[PathPoint, PathPoint], ask: float, most: int
    ) -> BlockResult:
        """The λ `lanes` after two points, in all columns."""
        points = tuple(point._replace(coef=self._narrow(point.coef)) for point in start)
        smooth, inner_tol = self._smooth(), np.asarray(ask, self.problem.dtype)
        count = np.asarray(self.index.size * np.prod(self.problem.outputs, dtype=int))
        order, unit = self._order(), null_fit.max_grad
        block = BlockProblem(smooth, self.grid, self.lambdas, order, count, unit, self.flat)
        found, kept = None, self.buffer.kept
        if isinstance(smooth, QuadraticSmoothPart) and kept is not None:
            found, kept = pivot_block(block, lanes, points[1], kept, inner_tol)
            self.buffer = _Buffer(self.buffer.XT, self.buffer.gram, kept)
        if found is None or not found.solved[0]:
            # Pivots may fail, for dependent columns or from afar; Newton's method has more to set against it.
            found = newton_block(block, lanes, points, inner_tol, np.asarray(most))
        return BlockResult(self._widen(found.coef), *map(np.asarray, found[1:]))

    def _smooth(self) -> SmoothPart:
        """The loss on the columns in use."""
        if self.products is not None:
            return DataSmoothPart(
                eqx.tree_at(lambda p: p.design, self.problem, self.products), matrices=False
            )
        if self.reduced:
            linear = np.zeros(self.capacity, self.linear.dtype)
            linear[: self.index.size] = self.linear[self.index]
            return QuadraticSmoothPart(self.buffer.gram, linear, self.value)
        return DataSmoothPart(eqx.tree_at(lambda p: p.design, self.problem, Columns(self.buffer.XT)))

    def _order(self) -> np.ndarray:
        """The column of each row of the buffer; where there is none, any."""
        order = np.zeros(self.capacity, int)
        order[: self.index.size] = self.index
        return order

    def _narrow(self, coef: np.ndarray) -> np.ndarray:
        """Coefficients of all columns (p, …) on those in use."""
        out = np.zeros((self.capacity, *coef.shape[1:]), coef.dtype)
        out[: self.index.size] = coef[self.index]
        return out

    def _widen(self, coef: Array) -> np.ndarray:
        """The inverse, for a block (B, m, …)."""
        coef = np.asarray(coef)
        out = np.zeros((coef.shape[0], self.problem.shape[1], *coef.shape[2:]), coef.dtype)
        out[:, self.index] = coef[:, : self.index.size]
        return out


def _chunks(columns: int) -> int:
    """The smallest number of columns ≥ `columns` that is whole chunks."""
    return -(-columns // _CHUNK) * _CHUNK


def _used(coef: np.ndarray) -> np.ndarray:
    """The features in use, of coefficients (p, …)."""
    return np.any(coef.reshape(coef.shape[0], -1) != 0, axis=1)


def _whole(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The largest entry of each block, at all of its columns."""
    top = np.zeros(labels.max() + 1, x.dtype)
    np.maximum.at(top, labels, x)
    return top[labels]


def _need(stay: np.ndarray, missing: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns for the next block: those that stay or are missing; and others, what is wanted most first."""
    must = stay | (missing > 0)
    soon = np.flatnonzero((wanted > 0) & ~must)
    return np.flatnonzero(must), soon[np.argsort(-wanted[soon], kind="stable")]
