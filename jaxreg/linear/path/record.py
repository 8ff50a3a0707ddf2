"""Record of a path: the results at each λ, with their checks, on the host."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxreg.linear.path.checks import BlockCheck, check_block
from jaxreg.linear.path.kernels import BlockResult
from jaxreg.linear.path.path_problem import PathProblem
from jaxreg.linear.problem import Problem

__all__ = ["MAX_BLOCK", "PathRecord", "record_checked"]

#: Number of λ in a block: of a working set without all columns, and of `record_checked`.
MAX_BLOCK = 10


@dataclass
class PathRecord:
    """Results at the first `n_done` of L values of λ, in working units; zeros at the others.

    Attributes:
        coef: working coefficients.
        intercept: working intercepts, the best ones for the coefficients.
        objective: objectives.
        gap: relative duality gaps.
        kkt: relative KKT residuals.
        steps: solver steps.
        converged: mask of the λ whose certificate meets the tolerance.
        n_matrix_free: number of values of λ solved in matrix-free mode.
        n_done: number of values of λ recorded so far, which is the index of the next one.
    """

    coef: Shaped[np.ndarray, "L p ..."]
    intercept: Shaped[np.ndarray, "L ..."]
    objective: Float[np.ndarray, " L"]
    gap: Float[np.ndarray, " L"]
    kkt: Float[np.ndarray, " L"]
    steps: Int[np.ndarray, " L"]
    converged: Bool[np.ndarray, " L"]
    n_matrix_free: int = 0
    n_done: int = 0

    @classmethod
    def empty(cls, problem: Problem, n_lambdas: int) -> "PathRecord":
        """Return a record with room for `n_lambdas` values of λ."""
        coef, intercept = (np.zeros((n_lambdas, *x.shape), x.dtype) for x in problem.zeros())
        objective, gap, kkt = (np.zeros(n_lambdas, coef.dtype) for _ in range(3))
        steps, converged = np.zeros(n_lambdas, int), np.zeros(n_lambdas, bool)
        return cls(coef, intercept, objective, gap, kkt, steps, converged)

    def append(self, result: BlockResult, check: BlockCheck, n: int, *, matrix_free: bool = False) -> None:
        """Record the first `n` values of λ of a block; those whose check `meets_tol` have converged."""
        new = slice(self.n_done, self.n_done + n)
        self.coef[new], self.intercept[new] = result.coef[:n], check.intercept[:n]
        self.objective[new], self.gap[new], self.kkt[new] = check.objective[:n], check.gap[:n], check.kkt[:n]
        self.steps[new], self.converged[new] = result.steps[:n], check.meets_tol[:n]
        self.n_matrix_free += n * matrix_free
        self.n_done += n


def record_checked(
    path: PathProblem, n_lambdas: int, solve: Callable[[Int[np.ndarray, " B"]], BlockResult]
) -> PathRecord:
    """Return the record of solutions on all columns, each of which is checked on the data.

    Args:
        path: the path.
        n_lambdas: number of values of λ to record.
        solve: function from indices (B,) on the grid to solutions.
    """
    size, outside = MAX_BLOCK, np.zeros(path.problem.shape[1], bool)
    record = PathRecord.empty(path.problem, n_lambdas)
    for start in range(0, n_lambdas, size):
        # The last index is repeated up to the compiled size.
        lam_index = np.minimum(np.arange(start, start + size), n_lambdas - 1)
        result = solve(lam_index)
        check = check_block(path, lam_index, result, outside)
        record.append(result, check, min(size, n_lambdas - start))
    return record
