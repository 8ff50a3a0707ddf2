"""Working set with matrices: dense columns, their Gram matrix, and the inverse of its active block.

The buffer takes few sizes (`buffer_sizes`), so that few programs are compiled: columns that are not needed
any more leave before a larger buffer is made. Squared error keeps the Gram matrix of the columns, and
penalties whose prox has slopes 0 or 1 the inverse of its active block.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxreg._compilation import jit_at_level, on_device
from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Count, Flag, Intercept
from jaxreg.linear.certificate import evaluate
from jaxreg.linear.design import Columns
from jaxreg.linear.path.buffer_sizes import CHUNK, MatrixSizes, round_up, uses_all_columns
from jaxreg.linear.path.checks import BlockCheck
from jaxreg.linear.path.columns import ColumnStore, support
from jaxreg.linear.path.kernels import BlockResult, WarmStart, pivot_block
from jaxreg.linear.path.matrix_free_columns import matrix_free_columns
from jaxreg.linear.path.path_problem import PathProblem
from jaxreg.linear.problem import Problem
from jaxreg.linear.solvers import Newton
from jaxreg.linear.solvers._active_inverse import prox_slopes_are_0_or_1
from jaxreg.linear.solvers._packed_inverse import ActiveInverse
from jaxreg.linear.solvers._smooth_part import DataSmoothPart, QuadraticSmoothPart, SmoothPart, gram_suffices
from jaxreg.losses import SquaredError
from jaxreg.penalties import Penalty, PenaltyGrid

__all__ = ["MatrixColumns", "gram_applies", "init_columns", "whole_gram"]

#: Number of rejected λ whose missing columns join the working set together.
_JOINED_LAMBDAS = 3


class _Buffer(NamedTuple):
    """Rows XT (capacity, n), zero where there is no column yet; their Gram matrix; its active inverse."""

    XT: Float[Array, "m n"]
    gram: Float[Array, "m m"] | None
    inverse: ActiveInverse | None


class _Expansion(NamedTuple):
    """Value and gradient (p,) of squared error at coefficients of 0 and the null intercept."""

    value: Scalar
    grad: Float[Array, " p"]


@dataclass(frozen=True, eq=False)
class MatrixColumns(ColumnStore):
    """Dense columns in a buffer with their matrices.

    Attributes:
        sizes: sizes that the buffer may have.
        buffer: the columns and their matrices.
        expansion: expansion of squared error at 0, which the Gram matrix completes; None for other losses.
    """

    sizes: MatrixSizes
    buffer: _Buffer
    expansion: _Expansion | None

    matrix_free: ClassVar[bool] = False

    @property
    def uses_gram(self) -> bool:
        """Return whether the loss is squared error, evaluated from its Gram matrix."""
        return self.expansion is not None

    def smooth_part(self) -> SmoothPart:
        """Return squared error from its Gram matrix, other losses from the columns."""
        if self.expansion is None:
            return DataSmoothPart(eqx.tree_at(lambda p: p.design, self.path.problem, Columns(self.buffer.XT)))
        grad = np.asarray(self.expansion.grad)
        linear = np.zeros(self.capacity, grad.dtype)
        linear[: self.index.size] = grad[self.index]
        return QuadraticSmoothPart(self.buffer.gram, linear, self.expansion.value)

    def solve(
        self, lam_index: Int[np.ndarray, " B"], start: WarmStart, inner_tol: float
    ) -> tuple[BlockResult, ColumnStore]:
        """Solve a block by pivots on the inverse where there is one, else by Newton's method."""
        block, store = self.block_problem(), self
        if self.buffer.inverse is not None:
            last, tol = self.narrow(start.last), np.asarray(inner_tol, self.buffer.XT.dtype)
            result, inverse = pivot_block(block, lam_index, last, self.buffer.inverse, tol)
            result, store = self.widen(result), replace(self, buffer=self.buffer._replace(inverse=inverse))
            if result.solved[0]:
                return result, store
        # Pivots may fail, for dependent columns or far from the solution; Newton's method is damped.
        return self.solve_by_newton(block, lam_index, start, inner_tol), store

    def adapt(
        self, coef: Float[np.ndarray, "p *K"], n_accepted: int, check: BlockCheck
    ) -> ColumnStore | None:
        """Return a buffer that is large enough, or a matrix-free store above `sizes.max_columns`."""
        if self.holds_all:
            return self
        missing = check.missing[n_accepted : n_accepted + _JOINED_LAMBDAS]
        # Until a λ is accepted, columns only join, and only missing ones.
        stay = support(coef) if n_accepted else ~self.outside
        wanted = check.wanted[n_accepted - 1] if n_accepted else np.zeros_like(check.wanted[0])
        demand = self.demand(stay, missing, wanted)
        if demand.n_required > self.sizes.max_columns:
            if demand.n_required > self.capacity:
                demand = self.demand(support(coef), missing, wanted)
            return matrix_free_columns(self, demand, 0, 0 if n_accepted else 1)
        capacity = self.sizes.grow(self.capacity, demand.n_required)
        n_columns = self.sizes.n_columns(capacity, demand.n_required)
        return self._with(demand.columns[:n_columns], capacity)

    def _with(self, columns: Int[np.ndarray, " k"], capacity: int) -> "MatrixColumns":
        """Return a store with these columns; others stay as long as a chunk of room is left."""
        store, new = self, np.setdiff1d(columns, self.index, assume_unique=True)
        if self.index.size + new.size > self.capacity - CHUNK or capacity > self.capacity:
            stay = np.flatnonzero(np.isin(self.index, columns, assume_unique=True))
            order = np.full(capacity, self.capacity)
            order[: stay.size] = stay
            buffer = _reorder(self.buffer, order)
            store = replace(self, capacity=capacity, buffer=buffer, index=self.index[stay])
        return store.join(new)

    def join(self, columns: Int[np.ndarray, " k"]) -> "MatrixColumns":
        """Return a store with more columns, for which there is room; the buffer of this store is donated."""
        index, buffer = self.index, self.buffer
        for k in range(0, columns.size, CHUNK):
            chunk = columns[k : k + CHUNK]
            filled = np.full(CHUNK, self.blocks.size)
            filled[: chunk.size] = chunk
            buffer = _join(self.path.problem, buffer, filled, np.asarray(index.size))
            index = np.concatenate([index, chunk])
        return replace(self, buffer=buffer, index=index)


def gram_applies(problem: Problem, solver: Newton) -> bool:
    """Return whether a path, or that of each output, works on all columns by their Gram matrix."""
    quadratic = isinstance(problem.loss, SquaredError) and problem.dtype == jnp.float64
    return quadratic and uses_all_columns(problem) and solver.gram is not False


def init_columns(path: PathProblem) -> MatrixColumns:
    """Return a store without columns, or with all of them where they are few."""
    problem, penalty, n_features = path.problem, path.grid.at(0), path.problem.shape[1]
    reduced, use_all = _reduces_to_gram(problem, path.solver), uses_all_columns(problem)
    # An inverse that is updated again and again needs the digits of double precision.
    allows_inverse = problem.dtype == jnp.float64 and not problem.outputs and penalty.separable
    if allows_inverse and not penalty.elementary:
        allows_inverse = bool(_prox_slopes_are_0_or_1(path.grid, path.null_fit.max_grad, n_features))
    sizes = MatrixSizes.of(problem, with_inverse=allows_inverse)
    capacity = round_up(n_features) if use_all else sizes.first
    # Squared error on all columns needs nothing but their Gram matrix, which is given.
    n_rows = 0 if path.gram is not None else problem.shape[0]
    gram = on_device(np.zeros((capacity, capacity), problem.dtype)) if reduced else None
    if path.gram is not None:
        gram = on_device(np.pad(np.asarray(path.gram), (0, capacity - n_features)))
    inverse = ActiveInverse.empty(gram) if reduced and allows_inverse else None
    store = MatrixColumns(
        path,
        _penalty_blocks(problem, penalty),
        allows_inverse,
        capacity,
        np.arange(0 if path.gram is None else n_features),
        sizes,
        _Buffer(on_device(np.zeros((capacity, n_rows), problem.dtype)), gram, inverse),
        _expand(problem, path.null_fit.intercept) if reduced else None,
    )
    return store.join(np.arange(n_features)) if use_all and not store.holds_all else store


def _reduces_to_gram(problem: Problem, solver: Newton) -> bool:
    return gram_suffices(problem) and solver.gram is not False


def _penalty_blocks(problem: Problem, penalty: Penalty) -> Int[np.ndarray, " p"]:
    """Return for each column the label, from 0 on, of the penalty's block that the column is in."""
    coef = problem.zeros()[0]
    blocks = None if penalty.separable else penalty.blocks(coef)
    labels = np.arange(coef.size) if blocks is None else np.asarray(blocks.labels)
    return np.unique(labels.reshape(coef.shape[0], -1)[:, 0], return_inverse=True)[1]


@jit_at_level(2)
def whole_gram(problem: Problem) -> Float[Array, "p p"]:
    """Return XᵀWX."""
    return problem.design.weighted_gram(problem.weight)


@jit_at_level(2)
def _expand(problem: Problem, intercept: Intercept) -> _Expansion:
    at = evaluate(problem, problem.zeros()[0], intercept)
    return _Expansion(problem.value(at.z), at.gradient)


@jit_at_level(0)
def _prox_slopes_are_0_or_1(grid: PenaltyGrid, scale: Scalar, p: int) -> Flag:
    """Return whether the prox has slopes 0 or 1 under the first and under the last λ of the grid."""
    ends = grid.part(np.array([0, -1]))
    return jnp.all(jax.vmap(lambda part: prox_slopes_are_0_or_1(grid.row(part), (p,), scale))(ends))


@partial(jax.jit, donate_argnums=1)
def _join(problem: Problem, buffer: _Buffer, index: Int[Array, " k"], at: Count) -> _Buffer:
    """Write the columns `index` (p for none) into the buffer from row `at` on."""
    rows = problem.design.columns(index).XT
    XT = jax.lax.dynamic_update_slice_in_dim(buffer.XT, rows, at, 0)
    if buffer.gram is None:
        return _Buffer(XT, None, None)
    fresh = (rows * problem.weight) @ XT.T
    gram = jax.lax.dynamic_update_slice_in_dim(buffer.gram, fresh, at, 0)
    gram = jax.lax.dynamic_update_slice_in_dim(gram, fresh.T, at, 1)
    return _Buffer(XT, gram, buffer.inverse)


@jax.jit
def _reorder(buffer: _Buffer, order: Int[Array, " capacity"]) -> _Buffer:
    """Take rows in another order, zeros beyond. The inverse is emptied where an active column leaves."""
    rows = lambda x: x.at[order].get(mode="fill", fill_value=0)  # noqa: E731
    block = lambda x: x.at[order[:, None], order].get(mode="fill", fill_value=0)  # noqa: E731
    gram = None if buffer.gram is None else block(buffer.gram)
    inverse = None if buffer.inverse is None else buffer.inverse.reordered(order)
    return _Buffer(rows(buffer.XT), gram, inverse)
