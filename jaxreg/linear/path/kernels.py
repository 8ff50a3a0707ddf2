"""A block of λ, one after the other, in one compiled program: by Newton's method, or by pivots alone.

What is compiled lives here; which λ and which columns are in a block is decided in `working_set` and
`columns`.
"""

from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxreg._compilation import jit_at_level
from jaxreg._typing import AnyArray, Scalar
from jaxreg.linear._shapes import Coef, Count, Flag, Flat, Intercept
from jaxreg.linear.solvers._active_inverse import QuadraticForm, continuation
from jaxreg.linear.solvers._hessian_cache import CachedHessian, CachedInverse, FreshHessian, HessianSource
from jaxreg.linear.solvers._packed_inverse import ActiveInverse
from jaxreg.linear.solvers._smooth_part import SmoothEvaluation, SmoothPart
from jaxreg.linear.solvers._subproblem import Objective
from jaxreg.linear.solvers.base import State
from jaxreg.linear.solvers.newton import lower_state, newton_step
from jaxreg.penalties import Penalty, PenaltyGrid

__all__ = ["BlockProblem", "BlockResult", "PathPoint", "newton_block", "pivot_block"]

# Residual of a λ, in units of `inner_tol`, up to which it counts as solved: the certificate decides.
_SOLVED_BELOW = 10


class PathPoint(NamedTuple):
    """Point of a path, with its λ and the place of that on the grid."""

    coef: Float[AnyArray, "m *K"]
    intercept: Float[AnyArray, "*K"]
    lam: Float[AnyArray, ""]
    place: Int[AnyArray, ""]


class BlockResult(NamedTuple):
    """Result of a block, one row per λ; `solved` where the residual is at most ten times `inner_tol`."""

    coef: Float[AnyArray, "B m *K"]
    intercept: Float[AnyArray, "B *K"]
    steps: Int[AnyArray, " B"]
    solved: Bool[AnyArray, " B"]


class BlockProblem(eqx.Module):
    """Smooth part on the m columns of a buffer, with the penalties of a path.

    Attributes:
        smooth: smooth part.
        grid: penalties of the path.
        lambdas: its λ.
        columns: features in the rows of the buffer, (m,).
        count: ravelled coordinates in use; rows beyond hold zeros.
        max_grad: unit of residuals, ‖∇f‖∞ at the null fit.
        prox_slopes_are_0_or_1: keep the inverse of the active block along with a Hessian that serves several
            steps.
    """

    smooth: SmoothPart
    grid: PenaltyGrid
    lambdas: Float[Array, " lams"]
    columns: Int[Array, " m"]
    count: Count
    max_grad: Scalar
    prox_slopes_are_0_or_1: bool = eqx.field(static=True)

    @property
    def keeps_inverse(self) -> bool:
        """Return whether Newton's method keeps the inverse of the active block, and takes no damped steps."""
        return self.smooth.costly_hessian and self.prox_slopes_are_0_or_1

    def without_inverse(self) -> "BlockProblem":
        """Return the block for Newton's method with damped steps."""
        return replace(self, prox_slopes_are_0_or_1=False)

    def penalty(self, numbers: list[Array]) -> Penalty:
        """Return the penalty with these numbers, on the columns of the buffer."""
        return self.grid.row(numbers).take(self.columns)

    def objective(self, k: Count) -> Objective:
        """Return the objective of the k-th λ of the path."""
        return Objective(self.smooth, self.penalty(self.grid.part(k)), self.max_grad)

    def hessian_source(self, at: SmoothEvaluation) -> HessianSource:
        """Return the source of Hessians: a cache for a costly Hessian, computed at a first iterate."""
        if not self.smooth.costly_hessian:
            return FreshHessian()
        cache = CachedInverse if self.keeps_inverse else CachedHessian
        return cache.compute(self.smooth, at, self.count)


class _Carry(NamedTuple):
    """State carried from one λ to the next: the source of Hessians and the last two points of the path.

    `at` is the smooth part at the last point.
    """

    source: HessianSource
    at: SmoothEvaluation
    earlier: PathPoint
    last: PathPoint


@jit_at_level(2)
def newton_block(
    block: BlockProblem,
    lam_index: Int[Array, " B"],
    start: tuple[PathPoint, PathPoint],
    inner_tol: Scalar,
    max_steps: Count,
) -> BlockResult:
    """Solve for each λ at `lam_index` by Newton's method, each from the one before.

    Args:
        block: smooth part and penalties.
        lam_index: places on the grid, ascending; the last one is repeated to fill up.
        start: the two points before the first λ.
        inner_tol: residual to which each λ is solved, in units of `block.max_grad`.
        max_steps: steps for each λ at most.
    """

    def solve_one(carry: _Carry, lam: tuple[Count, Flag]) -> tuple[_Carry, BlockResult]:
        k, is_repeated = lam
        objective = block.objective(k)
        state = _warm_start(objective, carry, block.lambdas[k])
        state, steps = _solve(objective, state, inner_tol, jnp.where(is_repeated, 0, max_steps))
        point = PathPoint(state.coef, state.intercept, block.lambdas[k], k)
        earlier = jax.tree.map(lambda a, b: jnp.where(is_repeated, a, b), carry.earlier, carry.last)
        result = BlockResult(state.coef, state.intercept, steps, state.residual <= _SOLVED_BELOW * inner_tol)
        return _Carry(state.inner.source, state.inner.at, earlier, point), result

    at = block.smooth.evaluate(start[1].coef, start[1].intercept)
    is_repeated = jnp.concatenate([jnp.array([False]), lam_index[1:] == lam_index[:-1]])
    carry = _Carry(block.hessian_source(at), at, *start)
    return jax.lax.scan(solve_one, carry, (lam_index, is_repeated))[1]


def _warm_start(objective: Objective, carry: _Carry, lam: Scalar) -> State:
    """Return the state for the next λ, at the last point or on the secant through two, whichever is lower."""
    coef, intercept = _secant(carry.earlier, carry.last, lam)
    coef = objective.penalty.prox(coef, jnp.zeros((), coef.dtype))
    ahead = coef, intercept, objective.smooth.evaluate(coef, intercept)
    return lower_state(objective, (carry.last.coef, carry.last.intercept, carry.at), ahead, carry.source)


def _solve(objective: Objective, state: State, inner_tol: Scalar, max_steps: Count) -> tuple[State, Count]:
    """Take Newton steps until the residual is ≤ `inner_tol`; return the state and the number of steps."""
    max_damping = state.inner.source.max_damping

    def not_done(carry: tuple[State, Count]) -> Flag:
        state, steps = carry
        unsolved = (state.residual > inner_tol) & (steps < max_steps)
        return unsolved & (state.inner.damping < max_damping)

    def step(carry: tuple[State, Count]) -> tuple[State, Count]:
        state, steps = carry
        return newton_step(objective, state, inner_tol), steps + 1

    return jax.lax.while_loop(not_done, step, (state, jnp.array(0)))


def _secant(earlier: PathPoint, last: PathPoint, lam: Scalar) -> tuple[Coef, Intercept]:
    """Return the secant through two points at another λ; what is 0 at the last one stays 0."""
    span = last.lam - earlier.lam
    ratio = jnp.where(span != 0, (lam - last.lam) / jnp.where(span != 0, span, 1.0), 0.0)
    coef = jnp.where(last.coef != 0, last.coef + ratio * (last.coef - earlier.coef), 0.0)
    return coef, last.intercept + ratio * (last.intercept - earlier.intercept)


class _PivotState(NamedTuple):
    """Last solution, its inverse, its place on the grid, and whether all λ so far are solved."""

    coef: Flat
    inverse: ActiveInverse
    place: Count
    solved: Flag


@jit_at_level(2)
def pivot_block(
    block: BlockProblem, lam_index: Int[Array, " B"], last: PathPoint, kept: ActiveInverse, inner_tol: Scalar
) -> tuple[BlockResult, ActiveInverse]:
    """Solve for each λ at `lam_index` by pivots on the inverse of the active block.

    Args:
        block: a `QuadraticSmoothPart` and penalties whose prox has slopes 0 or 1.
        lam_index: places on the grid, ascending; the last one may be repeated.
        last: the point before the first λ.
        kept: inverse of the active block there.
        inner_tol: residual to which each λ is solved, in units of `block.max_grad`.

    Returns:
        The result, in which what comes after a λ that is not solved is not either; and the inverse at the
        end.
    """
    form, grid = QuadraticForm(block.smooth.gram, block.smooth.linear), block.grid

    def solve_one(carry: _PivotState, k: Count) -> tuple[_PivotState, BlockResult]:
        end = continuation(
            form,
            lambda numbers: block.penalty(numbers).prox,
            (grid.part(carry.place), grid.part(k)),
            carry.coef,
            carry.inverse,
            inner_tol * block.max_grad,
        )
        solved = carry.solved & end.solved
        result = BlockResult(end.coef, last.intercept, end.rounds, solved)
        return _PivotState(end.coef, end.inverse, k, solved), result

    start = _PivotState(last.coef, kept, last.place, jnp.array(True))
    end, result = jax.lax.scan(solve_one, start, lam_index)
    return result, end.inverse
