"""Paths of several outputs that do not share a penalty: one path for each output, on the same columns.

Squared error is a sum over outputs, and a separable penalty a sum over coefficients. Each output then has
working sets and Newton systems of its own, of a size that does not grow with the number of outputs, and all
of them share the Gram matrix and the compiled programs.
"""

import jax
import numpy as np
from jaxtyping import Int

from jaxreg._threads import map_in_threads
from jaxreg.linear.null_fit import fit_null_model
from jaxreg.linear.path.kernels import BlockResult
from jaxreg.linear.path.path_problem import PathProblem
from jaxreg.linear.path.record import PathRecord, record_checked
from jaxreg.linear.path.working_set import solve_on_working_sets
from jaxreg.linear.problem import Problem
from jaxreg.linear.unpenalised import Capacity
from jaxreg.losses import SquaredError
from jaxreg.penalties import PenaltyGrid

__all__ = ["outputs_are_separate", "solve_each_output"]


def outputs_are_separate(problem: Problem, grid: PenaltyGrid, capacity: Capacity) -> bool:
    """Return whether the objective is a sum over outputs with one penalty for all of them."""
    if not (problem.outputs and isinstance(problem.loss, SquaredError)) or any(capacity):
        return False
    return grid.at(0).separable and grid.is_scalar


def solve_each_output(path: PathProblem, n_lambdas: int) -> PathRecord:
    """Solve for the first `n_lambdas` of a path whose `outputs_are_separate`; check each λ on all outputs."""
    y, offset = np.asarray(path.problem.y), np.asarray(path.problem.offset)
    mean = np.asarray(path.problem.target_mean)
    (n_outputs,), penalty = path.problem.outputs, path.grid.at(0)

    # A thread does not inherit the precision, which programs are compiled for.
    @jax.default_matmul_precision("highest")
    def solve_one(k: int) -> PathRecord:
        arrays = jax.device_put((y[:, k], offset[:, k], mean[k] if mean.ndim else mean))
        problem = path.problem.with_one_output(*arrays)
        null_fit = fit_null_model(problem, penalty, path.gram, path.null_fit.capacity)
        return solve_on_working_sets(path._replace(problem=problem, null_fit=null_fit), n_lambdas)

    records = map_in_threads(solve_one, n_outputs)
    coef, intercept = (np.stack([getattr(r, name) for r in records], -1) for name in ("coef", "intercept"))
    steps, solved = (np.stack([getattr(r, name) for r in records]) for name in ("steps", "converged"))

    def solution(lam_index: Int[np.ndarray, " B"]) -> BlockResult:
        at = lambda x: x[lam_index]  # noqa: E731
        return BlockResult(at(coef), at(intercept), at(steps.max(axis=0)), at(solved.all(axis=0)))

    return record_checked(path, n_lambdas, solution)
