"""Column stores: the columns of a working set, laid out for the compiled solvers of blocks.

`MatrixColumns` keeps dense columns with their matrices, `MatrixFreeColumns` the columns alone. Stores live on
the host and are immutable: `solve` and `adapt` return the store that follows.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxreg.linear.path.checks import BlockCheck
from jaxreg.linear.path.kernels import BlockProblem, BlockResult, PathPoint, WarmStart, newton_block
from jaxreg.linear.path.path_problem import PathProblem
from jaxreg.linear.solvers._smooth_part import SmoothPart

__all__ = ["ColumnStore", "Demand", "support"]

#: Limit of the Newton steps for one λ: a λ that converges takes far fewer.
_MAX_NEWTON_STEPS = 100


class Demand(NamedTuple):
    """Columns for the next block: `n_required` ones, then optional ones by descending prox step."""

    columns: Int[np.ndarray, " k"]
    n_required: int


@dataclass(frozen=True, eq=False)
class ColumnStore(ABC):
    """Base of both stores.

    Attributes:
        path: problem and grid.
        blocks: block of the penalty that each column is in; columns of one block join and leave together.
        allows_inverse: see `BlockProblem`.
        capacity: number of columns that the store has room for.
        index: columns in the store, in its order.
    """

    path: PathProblem
    blocks: Int[np.ndarray, " p"]
    allows_inverse: bool
    capacity: int
    index: Int[np.ndarray, " k"]

    matrix_free: ClassVar[bool]

    @property
    @abstractmethod
    def uses_gram(self) -> bool:
        """Return whether the loss is evaluated from a Gram matrix, without the data."""

    @abstractmethod
    def smooth_part(self) -> SmoothPart:
        """Return the loss on the columns of the store."""

    @abstractmethod
    def solve(
        self, lam_index: Int[np.ndarray, " B"], start: WarmStart, inner_tol: float
    ) -> tuple[BlockResult, "ColumnStore"]:
        """Solve a block.

        Args:
            lam_index: indices (B,) on the grid, ascending; the last one is repeated up to the compiled size.
            start: iterates at the two λ before, on all columns.
            inner_tol: residual to which each λ is solved, in units of the largest null gradient.

        Returns:
            The result on all columns, and the store for the next block (with the inverse of its active block,
            if it keeps one).
        """

    @abstractmethod
    def adapt(
        self, coef: Float[np.ndarray, "p *K"], n_accepted: int, check: BlockCheck
    ) -> "ColumnStore | None":
        """Return a store with the columns for the next block, or None where there is no room for them.

        Args:
            coef: coefficients (p, …) at the last accepted λ.
            n_accepted: number of λ accepted from the start of the last block.
            check: check of the last block.
        """

    @cached_property
    def outside(self) -> Bool[np.ndarray, " p"]:
        """Return the mask of the columns outside the store."""
        outside = np.ones(self.blocks.size, bool)
        outside[self.index] = False
        return outside

    @property
    def holds_all(self) -> bool:
        """Return whether every column is in the store."""
        return self.index.size == self.blocks.size

    def block_problem(self) -> BlockProblem:
        """Return the loss and the penalties on the columns of the store."""
        path, order = self.path, np.zeros(self.capacity, int)
        order[: self.index.size] = self.index
        n_unknowns = np.asarray(self.index.size * np.prod(path.problem.outputs, dtype=int))
        penalties = path.grid, path.lambdas, order
        unit = path.null_fit.max_grad
        return BlockProblem(self.smooth_part(), *penalties, n_unknowns, unit, self.allows_inverse)

    def solve_by_newton(
        self, block: BlockProblem, lam_index: Int[np.ndarray, " B"], start: WarmStart, inner_tol: float
    ) -> BlockResult:
        """Solve a block by Newton's method; return the result on all columns.

        If undamped steps with the inverse of the active block fail at the first λ, take damped steps.
        """
        start = WarmStart(self.narrow(start.earlier), self.narrow(start.last))
        max_steps = np.asarray(min(_MAX_NEWTON_STEPS, int(self.path.max_steps)))
        inner_tol = np.asarray(inner_tol, self.path.problem.dtype)
        result = newton_block(block, lam_index, start, inner_tol, max_steps)
        if block.keeps_inverse and not result.solved[0]:
            result = newton_block(block.without_inverse(), lam_index, start, inner_tol, max_steps)
        return self.widen(result)

    def narrow(self, point: PathPoint) -> PathPoint:
        """Restrict coefficients (p, …) to the columns of the store, (capacity, …) with zeros at the end."""
        out = np.zeros((self.capacity, *point.coef.shape[1:]), point.coef.dtype)
        out[: self.index.size] = point.coef[self.index]
        return point._replace(coef=out)

    def widen(self, result: BlockResult) -> BlockResult:
        """Extend coefficients (B, capacity, …) to all columns, (B, p, …), on the host."""
        coef, *rest = map(np.asarray, result)
        out = np.zeros((coef.shape[0], self.blocks.size, *coef.shape[2:]), coef.dtype)
        out[:, self.index] = coef[:, : self.index.size]
        return BlockResult(out, *rest)

    def demand(
        self, stay: Bool[Array, " p"], missing: Float[Array, "l p"], wanted: Float[Array, " p"]
    ) -> Demand:
        """Return the columns for the next block: those that stay or are missing, then the wanted ones."""
        missing = missing.max(axis=0, initial=0.0)
        stay, missing, wanted = (_over_blocks(x, self.blocks) for x in (stay, missing, wanted))
        required = stay | (missing > 0)
        optional = np.flatnonzero((wanted > 0) & ~required)
        optional = optional[np.argsort(-wanted[optional], kind="stable")]
        required = np.flatnonzero(required)
        return Demand(np.concatenate([required, optional]), required.size)


def support(coef: Shaped[np.ndarray, "p ..."]) -> Bool[np.ndarray, " p"]:
    """Return the mask of columns with a nonzero coefficient in some output."""
    return np.any(coef.reshape(coef.shape[0], -1) != 0, axis=1)


def _over_blocks(x: Shaped[np.ndarray, " p"], blocks: Int[np.ndarray, " p"]) -> Shaped[np.ndarray, " p"]:
    """Return the largest entry of each block, at all of its columns."""
    largest = np.zeros(blocks.max() + 1, x.dtype)
    np.maximum.at(largest, blocks, x)
    return largest[blocks]
