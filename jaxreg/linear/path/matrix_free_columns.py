"""Working set whose Newton systems are solved matrix-free, by products with its columns."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from jaxreg.linear.design import Design
from jaxreg.linear.path.buffer_sizes import grow_matrix_free, max_matrix_free_columns, round_up
from jaxreg.linear.path.checks import BlockCheck
from jaxreg.linear.path.columns import ColumnStore, Demand, support
from jaxreg.linear.path.kernels import BlockResult, WarmStart
from jaxreg.linear.solvers._smooth_part import DataSmoothPart, SmoothPart

__all__ = ["MatrixFreeColumns", "matrix_free_columns"]

#: Blocks in a row without an accepted λ after which no column leaves and the store grows instead.
_MAX_FAILURES = 3


@dataclass(frozen=True, eq=False)
class MatrixFreeColumns(ColumnStore):
    """Columns in the layout that their design multiplies best.

    Attributes:
        design: the columns, in ascending order.
        n_failures: blocks since a λ was accepted.
    """

    design: Design
    n_failures: int

    matrix_free: ClassVar[bool] = True
    uses_gram: ClassVar[bool] = False

    def smooth_part(self) -> SmoothPart:
        """Return the loss, whose Hessians are products with the columns."""
        return DataSmoothPart(eqx.tree_at(lambda p: p.design, self.path.problem, self.design), matrices=False)

    def solve(
        self, lam_index: Int[np.ndarray, " B"], start: WarmStart, inner_tol: float
    ) -> tuple[BlockResult, ColumnStore]:
        """Solve a block by Newton's method and conjugate gradients."""
        return self.solve_by_newton(self.block_problem(), lam_index, start, inner_tol), self

    def adapt(
        self, coef: Float[np.ndarray, "p *K"], n_accepted: int, check: BlockCheck
    ) -> ColumnStore | None:
        """Return a store of at least the capacity of this one, filled up with optional columns."""
        if self.holds_all:
            return self
        n_failures = 0 if n_accepted else self.n_failures + 1
        missing, wanted = check.missing[n_accepted:], check.wanted[max(n_accepted - 1, 0)]
        # Columns only join until a λ is accepted, as long as there is room for them.
        demand = self.demand(support(coef) if n_accepted else ~self.outside, missing, wanted)
        if demand.n_required > self.capacity and n_failures < _MAX_FAILURES:
            demand = self.demand(support(coef), missing, wanted)
        return matrix_free_columns(self, demand, self.capacity, n_failures)


def matrix_free_columns(
    store: ColumnStore, demand: Demand, capacity: int, n_failures: int
) -> MatrixFreeColumns | None:
    """Return a matrix-free store in place of another one, or None where there is no room.

    Args:
        store: the store before.
        demand: columns for the next block; optional ones fill the room.
        capacity: smallest capacity.
        n_failures: blocks since a λ was accepted.
    """
    problem = store.path.problem
    p, max_columns = problem.shape[1], max_matrix_free_columns(problem)
    if demand.n_required > max_columns:
        return None
    room = grow_matrix_free(capacity, demand.n_required, p)
    n_columns = min(room, max_columns)
    # If there is room for all columns, take all of them.
    columns = np.arange(p) if n_columns >= p else demand.columns
    index, capacity = np.sort(columns[:n_columns]), min(room, round_up(p))
    design = problem.design.narrowed(index, capacity)
    common = store.path, store.blocks, store.allows_inverse
    return MatrixFreeColumns(*common, capacity, index, design, n_failures)
