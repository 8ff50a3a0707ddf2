"""Check of a block of λ on all columns: certificates, missing columns, and a ranking for the next blocks.

One matrix product gives the gradient of every λ of the block on every column. A column is missing where a
prox step from 0 moves its coefficient, so that the rule needs only the prox of a penalty. The same prox steps
under a λ further down the grid rank the columns for the next blocks (the sequential screening of Tibshirani
et al. 2012, in blocks as in BASIL, Qian et al. 2020).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxreg._compilation import jit_at_level
from jaxreg.linear._shapes import Coef, Intercept
from jaxreg.linear.certificate import certificate_at, curvature_bound, evaluate_at_best_intercept
from jaxreg.linear.path.kernels import BlockResult
from jaxreg.linear.path.path_problem import PathProblem
from jaxreg.penalties import Penalty

__all__ = ["BlockCheck", "check_block"]

#: Steps on the grid from the λ that is checked to the λ under which columns are ranked.
_LOOKAHEAD = 25
#: Change by a prox step above which a column is missing, in units of eps times the largest null gradient.
_MISSING = 1e4


class BlockCheck(NamedTuple):
    """Check of B λ on all p columns.

    Attributes:
        intercept: the best intercepts for the coefficients; all other fields are evaluated there.
        objective: objective in working units.
        gap: relative duality gap, inf without a conjugate.
        kkt: relative KKT residual.
        meets_tol: whether the gap, or the KKT residual without a conjugate, is at most the tolerance.
        missing: change of each column outside the working set by a prox step, divided by the step size; 0
            below rounding error, and at a λ that the solver did not solve.
        wanted: the same change for all columns under the λ 25 steps further down the grid.
    """

    intercept: Float[np.ndarray, "B *K"]
    objective: Float[np.ndarray, " B"]
    gap: Float[np.ndarray, " B"]
    kkt: Float[np.ndarray, " B"]
    meets_tol: Bool[np.ndarray, " B"]
    missing: Float[np.ndarray, "B p"]
    wanted: Float[np.ndarray, "B p"]


def check_block(
    path: PathProblem,
    lam_index: Int[np.ndarray, " B"],
    result: BlockResult,
    outside: Bool[np.ndarray, " p"],
) -> BlockCheck:
    """Check the result of the block at `lam_index`; `outside` marks the columns outside the working set."""
    check = _check(path, lam_index, result.coef, result.intercept, outside)
    check = BlockCheck(*map(np.asarray, check))
    return check._replace(missing=check.missing * result.solved[:, None])


@jit_at_level(2)
def _check(
    path: PathProblem,
    lam_index: Int[Array, " B"],
    coef: Float[Array, "B p *K"],
    intercept: Float[Array, "B *K"],
    outside: Bool[Array, " p"],
) -> BlockCheck:
    problem, grid, null_fit = path.problem, path.grid, path.null_fit
    missing_above = _MISSING * jnp.finfo(problem.dtype).eps * null_fit.max_grad

    def check_one(lane: tuple[list[Array], list[Array], Coef, Intercept]) -> BlockCheck:
        carried, carried_ahead, coef, intercept = lane
        penalty = grid.row(carried)
        at = evaluate_at_best_intercept(problem, coef, intercept)
        t = 1 / curvature_bound(problem, at.z, null_fit.max_eigenvalue)

        def prox_step(penalty: Penalty) -> Float[Array, " p"]:
            step = jnp.abs(penalty.prox(coef - t * at.gradient, t) - coef) / t
            return step.reshape(step.shape[0], -1).max(axis=1)

        objective, step = problem.value(at.z) + penalty.value(coef), prox_step(penalty)
        missing = jnp.where(outside & (step > missing_above), step, 0.0)
        # An iterate that lacks columns is rejected anyway: do not search for a better dual point.
        sufficient = jnp.where(jnp.any(missing > 0), jnp.inf, path.tol)
        certificate = certificate_at(problem, penalty, null_fit, at, sufficient)
        meets_tol = (certificate.gap if penalty.has_conjugate else certificate.kkt) <= path.tol
        return BlockCheck(
            at.intercept, objective, *certificate, meets_tol, missing, prox_step(grid.row(carried_ahead))
        )

    ahead = jnp.minimum(lam_index + _LOOKAHEAD, path.lambdas.size - 1)
    return jax.vmap(check_one)((grid.part(lam_index), grid.part(ahead), coef, intercept))
