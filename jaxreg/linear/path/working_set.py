"""Host loop of a path on working sets: solve a block of values of λ on few columns, check it on all columns.

Each block is solved by Newton's method, or by pivots alone, on the columns of the working set. One matrix
product then gives the gradients at all values of λ in the block on all columns, and with them every
certificate. The values of λ before the first one that lacks columns or misses the tolerance are accepted. The
missing columns join the working set, and the next block starts at that first value (BASIL, Qian et al. 2020).
The rules for columns evaluate only the prox of a penalty, so that they apply to every family whose prox acts
on coordinates, groups or rows. Every solution is recorded with its certificate.
"""

from typing import Literal, NamedTuple

import numpy as np

from jaxreg.linear.path.buffer_sizes import uses_all_columns
from jaxreg.linear.path.checks import BlockCheck, check_block
from jaxreg.linear.path.columns import ColumnStore
from jaxreg.linear.path.kernels import BlockResult, PathPoint, WarmStart
from jaxreg.linear.path.matrix_columns import init_columns
from jaxreg.linear.path.path_problem import PathProblem
from jaxreg.linear.path.record import MAX_BLOCK, PathRecord

__all__ = ["solve_on_working_sets"]

#: Growth of the next block, in values of λ, after a block that was accepted as a whole.
_BLOCK_GROWTH = 2
#: Smallest number of values of λ in a block that is not matrix-free.
_MIN_BLOCK = 2
#: First inner_tol on a Gram matrix, where another digit costs nothing.
_GRAM_INNER_TOL = 1e-9
#: First inner_tol on the data, in units of √tol: a gap is of second order in the gradient of the objective.
_INNER_TOL = 2e-4
#: Lower bound of the first inner_tol, in units of the smallest inner_tol: float32 has few digits to spare.
_FIRST_OVER_MIN = 16
#: Smallest inner_tol, in units of the machine epsilon.
_MIN_INNER_TOL = 64
#: Factor on inner_tol after a failed certificate: a Newton step gains about two digits.
_REFINEMENT = 0.02
#: Factor on inner_tol after a failed certificate in matrix-free mode, where each digit costs conjugate
#: gradient steps.
_MATRIX_FREE_REFINEMENT = 0.2


class PathState(NamedTuple):
    """State between two blocks.

    Attributes:
        columns: working set; None if no store has room for the required columns.
        start: iterates at the last two accepted values of λ.
        block_size: number of values of λ in the next block.
        inner_tol: residual to which the next block is solved, in units of the largest null gradient.
    """

    columns: ColumnStore | None
    start: WarmStart
    block_size: int
    inner_tol: float


class Verdict(NamedTuple):
    """Decision on a block.

    Attributes:
        n_accepted: number of values of λ that are accepted, from the start of the block.
        status: "accepted" if the whole block is. Otherwise the reason to reject the first λ that is not
            accepted:

            - "columns_missing": prox steps move columns outside the working set.
            - "imprecise": the solver met inner_tol, but the certificate fails, and inner_tol can be reduced.
            - "unsolved": the solver failed; the next block starts at this λ.
            - "given_up": the solver failed at the first λ of the block, which is recorded as not converged.
    """

    n_accepted: int
    status: Literal["accepted", "columns_missing", "imprecise", "unsolved", "given_up"]


def solve_on_working_sets(path: PathProblem, n_lambdas: int) -> PathRecord:
    """Solve for the first `n_lambdas` of a decreasing grid of λ to certificates ≤ `path.tol`.

    The solver starts each λ from the solutions at the two values before it. Where it fails, its last iterate
    is recorded as not converged. The record ends early if no column store has room for the required columns.
    The problem must be concrete.
    """
    record, state = PathRecord.empty(path.problem, n_lambdas), _init_state(path)
    while _not_done(state, record):
        # Choose the values of λ of the block; the last one is repeated up to the compiled size.
        n_tried = min(state.block_size, n_lambdas - record.n_done)
        lam_index = record.n_done + np.minimum(np.arange(_max_block_size(path)), n_tried - 1)
        # Solve the block on the working set.
        result, columns = state.columns.solve(lam_index, state.start, state.inner_tol)
        state = state._replace(columns=columns)
        # Check the result on all columns.
        check = check_block(path, lam_index, result, columns.outside)
        # Accept and record the values of λ that pass.
        verdict = _verdict(path, state, result, check, n_tried)
        record.append(result, check, verdict.n_accepted, matrix_free=columns.matrix_free)
        # Choose columns.
        state = _next_state(path, state, lam_index, result, check, verdict)
    return record


def _not_done(state: PathState, record: PathRecord) -> bool:
    """Return whether another block follows.

    A rule for early stopping belongs here. Its pieces: the record has objectives, not losses, which
    `check_block` computes. A block may hold the whole grid (`_max_block_size`), so that a stop inside of a
    block must shorten the record. `all_columns.complete` solves for all values of λ of the record that are
    not done, and `solve_grid` takes the record to be as long as the grid. Ridge paths and paths by outputs
    fill their record in `record_checked`, without this loop.
    """
    return record.n_done < record.gap.size and state.columns is not None


def _init_state(path: PathProblem) -> PathState:
    """Start from the null fit, with the columns that prox steps from the null fit move."""
    null_fit, columns, size = path.null_fit, init_columns(path), _max_block_size(path)
    null = _point(path, 0, np.asarray(null_fit.coef), np.asarray(null_fit.intercept))
    if not columns.holds_all:
        # Copies of one λ fill the block, so that the check runs the compiled program of the later checks.
        coef, intercept = (np.repeat(part[None], size, 0) for part in (null.coef, null.intercept))
        copies = BlockResult(coef, intercept, np.zeros(size, int), np.ones(size, bool))
        check = check_block(path, np.zeros(size, int), copies, columns.outside)
        columns = columns.adapt(null.coef, 1, check)
    return PathState(columns, WarmStart(null, null), size, _first_inner_tol(path, columns))


def _verdict(
    path: PathProblem, state: PathState, result: BlockResult, check: BlockCheck, n_tried: int
) -> Verdict:
    """Accept the values of λ before the first one that lacks columns or misses the tolerance."""
    lacks_columns = check.missing.any(axis=1)
    passes = ~lacks_columns & check.meets_tol
    n = n_tried if passes.all() else min(int(np.argmin(passes)), n_tried)
    if n == n_tried:
        return Verdict(n, "accepted")
    if lacks_columns[n]:
        return Verdict(n, "columns_missing")
    if result.solved[n] and state.inner_tol > _min_inner_tol(path):
        return Verdict(n, "imprecise")
    return Verdict(n, "unsolved") if n else Verdict(1, "given_up")


def _next_state(
    path: PathProblem, state: PathState, lam_index: np.ndarray, result: BlockResult, check: BlockCheck,
    verdict: Verdict,
) -> PathState:  # fmt: skip
    """Return the state for the next block: columns, warm start, block size and inner_tol."""
    n, start = verdict.n_accepted, state.start
    for i in range(max(n - 2, 0), n):
        start = WarmStart(start.last, _point(path, lam_index[i], result.coef[i], check.intercept[i]))
    columns = state.columns.adapt(start.last.coef, n, check)
    inner_tol = _next_inner_tol(path, state, verdict, columns)
    return PathState(columns, start, _next_block_size(path, state, verdict), inner_tol)


def _point(path: PathProblem, index: int, coef: np.ndarray, intercept: np.ndarray) -> PathPoint:
    return PathPoint(coef, intercept, np.asarray(path.lambdas)[index], np.asarray(index))


def _max_block_size(path: PathProblem) -> int:
    """Return the size of a compiled block: 10, or the length of the grid if no columns are selected."""
    return path.lambdas.size if uses_all_columns(path.problem) else MAX_BLOCK


def _next_block_size(path: PathProblem, state: PathState, verdict: Verdict) -> int:
    """Return the number of values of λ in the next block.

    After a block that was accepted as a whole: 2 more. After missing columns: 1 more than were accepted, but
    at least 2 values of λ; in matrix-free mode half a block, since there products with the data set the cost
    of a block.
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
    """Divide inner_tol by 50 (by 5 in matrix-free mode) after a failed certificate.

    Start again from the first inner_tol after a λ that was given up, and when the working set starts or stops
    using a Gram matrix.
    """
    gram_changes = columns is not None and columns.uses_gram != state.columns.uses_gram
    if verdict.status == "given_up" or gram_changes:
        return _first_inner_tol(path, columns)
    if verdict.status == "imprecise":
        factor = _MATRIX_FREE_REFINEMENT if state.columns.matrix_free else _REFINEMENT
        return max(factor * state.inner_tol, _min_inner_tol(path))
    return state.inner_tol


def _first_inner_tol(path: PathProblem, columns: ColumnStore | None) -> float:
    """Return 1e-9 on a Gram matrix, otherwise 2e-4·√tol, but at least 1024 times the machine epsilon."""
    if columns is not None and columns.uses_gram:
        return _GRAM_INNER_TOL
    return max(_INNER_TOL * np.sqrt(float(path.tol)), _FIRST_OVER_MIN * _min_inner_tol(path))


def _min_inner_tol(path: PathProblem) -> float:
    """Return the smallest inner_tol: 64 times the machine epsilon."""
    return _MIN_INNER_TOL * float(np.finfo(path.problem.dtype).eps)
