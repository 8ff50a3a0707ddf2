"""Host loop of a path on working sets: solve a block of λ on few columns, check it on all of them.

Each block of λ is solved by Newton's method, or by pivots alone, on the columns of the working set. One
matrix product then gives the gradients of all its λ on all columns, and with them every certificate. The λ
that meet the tolerance are accepted, the columns that the next λ lacks join the working set, and the next
block starts there (BASIL, Qian et al. 2020). The rules ask a penalty for its prox alone, so that they serve
every family, and no λ is left without its certificate.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxreg.linear.path.buffer_sizes import uses_all_columns
from jaxreg.linear.path.checks import BlockCheck, check_block
from jaxreg.linear.path.columns import ColumnStore, Trail
from jaxreg.linear.path.kernels import BlockResult, PathPoint
from jaxreg.linear.path.matrix_columns import init_columns
from jaxreg.linear.path.path_problem import PathProblem
from jaxreg.linear.problem import Problem

__all__ = ["PathRecord", "solve_on_working_sets"]

#: λ in a block at most, where columns are selected.
_MAX_BLOCK = 10
#: λ that the next block has more after a block that was accepted as a whole.
_BLOCK_GROWTH = 2
#: λ in a block at least, with matrices.
_MIN_BLOCK = 2
#: First inner_tol on a Gram matrix, where another digit costs nothing.
_GRAM_INNER_TOL = 1e-9
#: First inner_tol on the data, over √tol: a gap is of second order in the residual.
_INNER_TOL = 2e-4
#: Smallest first inner_tol, over the smallest inner_tol: single precision has no digits to waste.
_FIRST_OVER_MIN = 16
#: Smallest inner_tol, in rounding errors.
_MIN_INNER_TOL = 64
#: Factor on inner_tol where a certificate fails: a step of Newton's method gives about two digits.
_REFINEMENT = 0.02
#: Factor on inner_tol matrix-free: there each digit takes conjugate gradient steps.
_MATRIX_FREE_REFINEMENT = 0.2


class PathState(NamedTuple):
    """State between two blocks.

    Attributes:
        columns: working set; None where no store has room for the required columns.
        trail: iterates at the last two λ.
        block_size: λ that the next block tries.
        inner_tol: residual to which the next block is solved, in units of the largest null gradient.
    """

    columns: ColumnStore | None
    trail: Trail
    block_size: int
    inner_tol: float


class Verdict(NamedTuple):
    """Decision on a block.

    Attributes:
        n_accepted: λ accepted from the start of the block.
        status: "accepted" for the whole block, else the reason against the next λ. "columns_missing": prox
            steps move columns outside the working set. "imprecise": the solver met inner_tol, the
            certificate fails, and inner_tol can fall. "unsolved": the solver failed; the next block starts at
            this λ. "given_up": the solver failed at the first λ of the block, which is recorded as it is.
    """

    n_accepted: int
    status: Literal["accepted", "columns_missing", "imprecise", "unsolved", "given_up"]


@dataclass
class PathRecord:
    """Results at the first `n_done` of L values of λ, in working units; zeros at the others.

    Attributes:
        n_matrix_free: λ solved without matrices.
        n_done: λ recorded so far, which is the place of the next one.
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
        """Return a record with room for a grid."""
        coef, intercept = (np.zeros((n_lambdas, *x.shape), x.dtype) for x in problem.zeros())
        objective, gap, kkt = (np.zeros(n_lambdas, coef.dtype) for _ in range(3))
        steps, converged = np.zeros(n_lambdas, int), np.zeros(n_lambdas, bool)
        return cls(coef, intercept, objective, gap, kkt, steps, converged)

    def append(
        self, result: BlockResult, check: BlockCheck, n: int, converged: bool, matrix_free: bool
    ) -> None:
        """Record the first `n` λ of a block."""
        new = slice(self.n_done, self.n_done + n)
        self.coef[new], self.intercept[new] = result.coef[:n], result.intercept[:n]
        self.objective[new], self.gap[new], self.kkt[new] = check.objective[:n], check.gap[:n], check.kkt[:n]
        self.steps[new], self.converged[new] = result.steps[:n], converged
        self.n_matrix_free += n * matrix_free
        self.n_done += n


def solve_on_working_sets(path: PathProblem) -> PathRecord:
    """Solve for every λ of a falling grid, each from the two before, to a certificate ≤ `path.tol`.

    A λ that the solver gives up is recorded as it is, not converged. The record ends early where no working
    set has room. Concrete problems only.
    """
    record, state = PathRecord.empty(path.problem, path.lambdas.size), _init_state(path)
    while _not_done(path, state, record):
        # Choose λ.
        n_tried = min(state.block_size, path.lambdas.size - record.n_done)
        lam_index = record.n_done + np.minimum(np.arange(_max_block_size(path)), n_tried - 1)
        # Solve them on the working set.
        result, columns = state.columns.solve(lam_index, state.trail, state.inner_tol)
        state = state._replace(columns=columns)
        # Check the result on all columns.
        check = check_block(path, lam_index, result, columns.outside)
        # Accept and record the λ that pass.
        verdict = _verdict(path, state, result, check, n_tried)
        record.append(result, check, verdict.n_accepted, verdict.status != "given_up", columns.matrix_free)
        # Choose columns.
        state = _next_state(path, state, lam_index, result, check, verdict)
    return record


def _not_done(path: PathProblem, state: PathState, record: PathRecord) -> bool:
    """Return whether another block follows.

    A rule for early stopping goes here and may read the record; `all_columns.complete` then has to leave out
    the λ beyond the end of the record, which it otherwise solves.
    """
    return record.n_done < path.lambdas.size and state.columns is not None


def _init_state(path: PathProblem) -> PathState:
    """Start from the null fit, with the columns that prox steps from there ask for."""
    null_fit, columns, size = path.null_fit, init_columns(path), _max_block_size(path)
    null = _point(path, 0, np.asarray(null_fit.coef), np.asarray(null_fit.intercept))
    if not columns.holds_all:
        # Copies of one λ fill the block, so that the program of the later checks serves.
        coef, intercept = (np.repeat(part[None], size, 0) for part in (null.coef, null.intercept))
        copies = BlockResult(coef, intercept, np.zeros(size, int), np.ones(size, bool))
        check = check_block(path, np.zeros(size, int), copies, columns.outside)
        columns = columns.adapt(null.coef, 1, check)
    return PathState(columns, (null, null), size, _first_inner_tol(path, columns))


def _verdict(
    path: PathProblem, state: PathState, result: BlockResult, check: BlockCheck, n_tried: int
) -> Verdict:
    """Accept the λ before the first one that lacks columns or whose certificate is above the tolerance."""
    lacking = check.missing.any(axis=1)
    fine = ~lacking & check.meets_tol
    n = n_tried if fine.all() else min(int(np.argmin(fine)), n_tried)
    if n == n_tried:
        return Verdict(n, "accepted")
    if lacking[n]:
        return Verdict(n, "columns_missing")
    if result.solved[n] and state.inner_tol > _min_inner_tol(path):
        return Verdict(n, "imprecise")
    return Verdict(n, "unsolved") if n else Verdict(1, "given_up")


def _next_state(
    path: PathProblem, state: PathState, lam_index: np.ndarray, result: BlockResult, check: BlockCheck,
    verdict: Verdict,
) -> PathState:  # fmt: skip
    """Move on to the next block: columns, trail, number of λ, and inner_tol."""
    n, trail = verdict.n_accepted, state.trail
    for i in range(max(n - 2, 0), n):
        trail = trail[1], _point(path, lam_index[i], result.coef[i], result.intercept[i])
    columns = state.columns.adapt(trail[1].coef, n, check)
    inner_tol = _next_inner_tol(path, state, verdict, columns)
    return PathState(columns, trail, _next_block_size(path, state, verdict), inner_tol)


def _point(path: PathProblem, place: int, coef: np.ndarray, intercept: np.ndarray) -> PathPoint:
    return PathPoint(coef, intercept, np.asarray(path.lambdas)[place], np.asarray(place))


def _max_block_size(path: PathProblem) -> int:
    """Return the number of λ in a compiled block: 10, or the whole grid where no columns are selected."""
    return path.lambdas.size if uses_all_columns(path.problem) else _MAX_BLOCK


def _next_block_size(path: PathProblem, state: PathState, verdict: Verdict) -> int:
    """Try 2 λ more after a block accepted as a whole, and 1 more than were accepted after missing columns.

    A try has at least 2 λ, or half a block without matrices, where a block has the cost of its products with
    the data.
    """
    largest = _max_block_size(path)
    if verdict.status == "accepted":
        return min(largest, state.block_size + _BLOCK_GROWTH)
    if verdict.status == "columns_missing":
        smallest = largest // 2 if state.columns.matrix_free else _MIN_BLOCK
        return max(smallest, min(state.block_size, verdict.n_accepted + 1))
    return state.block_size


def _next_inner_tol(
    path: PathProblem, state: PathState, verdict: Verdict, columns: ColumnStore | None
) -> float:
    """Ask for 50 times less where a certificate failed, 5 times less without matrices.

    Start again after a λ that was given up, and where the working set leaves its Gram matrix behind.
    """
    leaves_gram = columns is not None and columns.gram_suffices != state.columns.gram_suffices
    if verdict.status == "given_up" or leaves_gram:
        return _first_inner_tol(path, columns)
    if verdict.status == "imprecise":
        factor = _MATRIX_FREE_REFINEMENT if state.columns.matrix_free else _REFINEMENT
        return max(factor * state.inner_tol, _min_inner_tol(path))
    return state.inner_tol


def _first_inner_tol(path: PathProblem, columns: ColumnStore | None) -> float:
    """Return 1e-9 on a Gram matrix, elsewhere 2e-4·√tol, but at least 1024 rounding errors."""
    if columns is not None and columns.gram_suffices:
        return _GRAM_INNER_TOL
    return max(_INNER_TOL * np.sqrt(float(path.tol)), _FIRST_OVER_MIN * _min_inner_tol(path))


def _min_inner_tol(path: PathProblem) -> float:
    """Return the smallest inner_tol: 64 rounding errors."""
    return _MIN_INNER_TOL * float(np.finfo(path.problem.dtype).eps)
