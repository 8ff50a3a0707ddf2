"""Compiled solvers of a block of λ: each λ is solved from the one before, by Newton's method or by pivots.

The host loop in `working_set` chooses the λ of a block, the column stores in `columns` its columns.
"""

from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxreg._compilation import jit_at_level
from jaxreg._pytree import tree_where
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

__all__ = ["BlockProblem", "BlockResult", "PathPoint", "WarmStart", "newton_block", "pivot_block"]

# A λ counts as solved up to this residual, in units of `inner_tol`: the certificate decides in the end.
_SOLVED_BELOW = 10


class PathPoint(NamedTuple):
    """Iterate at one λ of a path, with the index of that λ on the grid."""

    coef: Float[AnyArray, "m *K"]
    intercept: Float[AnyArray, "*K"]
    lam: Float[AnyArray, ""]
    lam_index: Int[AnyArray, ""]


class WarmStart(NamedTuple):
    """Iterates at the two λ before a block: a block starts from the secant through them."""

    earlier: PathPoint
    last: PathPoint


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
        lambdas: grid of the path.
        columns: index of the feature in each row of the buffer.
        count: number of ravelled coordinates in use; rows beyond hold zeros.
        max_grad: unit of residuals, ‖∇f‖∞ at the null fit.
        allows_inverse: whether the inverse of the active block may be kept with a cached Hessian, as for a
            prox with slopes 0 or 1.
    """

    smooth: SmoothPart
    grid: PenaltyGrid
    lambdas: Float[Array, " L"]
    columns: Int[Array, " m"]
    count: Count
    max_grad: Scalar
    allows_inverse: bool = eqx.field(static=True)

    @property
    def keeps_inverse(self) -> bool:
        """Return whether Newton's method keeps the inverse of the active block, and takes no damped steps."""
        return self.smooth.costly_hessian and self.allows_inverse

    def without_inverse(self) -> "BlockProblem":
        """Return the block for Newton's method with damped steps."""
        return replace(self, allows_inverse=False)

    def penalty(self, carried: list[Array]) -> Penalty:
        """Return the penalty on the columns of the buffer, given its leaves that depend on λ."""
        return self.grid.row(carried).take(self.columns)

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
    """State carried from one λ to the next.

    Attributes:
        source: source of Hessians.
        at: smooth part at the last iterate.
        earlier: iterate at the λ before the last one.
        last: iterate at the last λ.
    """

    source: HessianSource
    at: SmoothEvaluation
    earlier: PathPoint
    last: PathPoint


@jit_at_level(2)
def newton_block(
    block: BlockProblem,
    lam_index: Int[Array, " B"],
    start: WarmStart,
    inner_tol: Scalar,
    max_steps: Count,
) -> BlockResult:
    """Solve for each λ at `lam_index` by Newton's method, each from the one before.

    Args:
        block: smooth part and penalties.
        lam_index: indices on the grid, ascending; the last one is repeated up to the compiled size.
        start: iterates at the two λ before the first one.
        inner_tol: residual to which each λ is solved, in units of `block.max_grad`.
        max_steps: limit of the steps for each λ.
    """

    def solve_one(carry: _Carry, lam: tuple[Count, Flag]) -> tuple[_Carry, BlockResult]:
        k, is_repeated = lam
        objective = block.objective(k)
        state = _warm_start(objective, carry, block.lambdas[k])
        state, steps = _solve(objective, state, inner_tol, jnp.where(is_repeated, 0, max_steps))
        point = PathPoint(state.coef, state.intercept, block.lambdas[k], k)
        earlier = tree_where(is_repeated, carry.earlier, carry.last)
        result = BlockResult(state.coef, state.intercept, steps, state.residual <= _SOLVED_BELOW * inner_tol)
        return _Carry(state.inner.source, state.inner.at, earlier, point), result

    at = block.smooth.evaluate(start.last.coef, start.last.intercept)
    is_repeated = jnp.concatenate([jnp.array([False]), lam_index[1:] == lam_index[:-1]])
    carry = _Carry(block.hessian_source(at), at, *start)
    return jax.lax.scan(solve_one, carry, (lam_index, is_repeated))[1]


def _warm_start(objective: Objective, carry: _Carry, lam: Scalar) -> State:
    """Return the state for the next λ, at the last iterate or on the secant: that of lower objective."""
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
    """Extrapolate two iterates linearly to another λ; coefficients that are 0 at the last one stay 0."""
    span = last.lam - earlier.lam
    ratio = jnp.where(span != 0, (lam - last.lam) / jnp.where(span != 0, span, 1.0), 0.0)
    coef = jnp.where(last.coef != 0, last.coef + ratio * (last.coef - earlier.coef), 0.0)
    return coef, last.intercept + ratio * (last.intercept - earlier.intercept)


class _PivotState(NamedTuple):
    """Last solution, inverse of its active block, index of its λ, and whether all λ so far are solved."""

    coef: Flat
    inverse: ActiveInverse
    lam_index: Count
    solved: Flag


@jit_at_level(2)
def pivot_block(
    block: BlockProblem,
    lam_index: Int[Array, " B"],
    last: PathPoint,
    inverse: ActiveInverse,
    inner_tol: Scalar,
) -> tuple[BlockResult, ActiveInverse]:
    """Solve for each λ at `lam_index` by pivots on the inverse of the active block.

    Args:
        block: a `QuadraticSmoothPart` and penalties whose prox has slopes 0 or 1.
        lam_index: indices on the grid, ascending; the last one may be repeated.
        last: iterate at the λ before the first one.
        inverse: inverse of its active block.
        inner_tol: residual to which each λ is solved, in units of `block.max_grad`.

    Returns:
        The result, in which all λ after one that is not solved count as not solved; and the inverse at the
        last λ.
    """
    form, grid = QuadraticForm(block.smooth.gram, block.smooth.linear), block.grid

    def solve_one(carry: _PivotState, k: Count) -> tuple[_PivotState, BlockResult]:
        end = continuation(
            form,
            lambda carried: block.penalty(carried).prox,
            (grid.part(carry.lam_index), grid.part(k)),
            carry.coef,
            carry.inverse,
            inner_tol * block.max_grad,
        )
        solved = carry.solved & end.solved
        result = BlockResult(end.coef, last.intercept, end.rounds, solved)
        return _PivotState(end.coef, end.inverse, k, solved), result

    start = _PivotState(last.coef, inverse, last.lam_index, jnp.array(True))
    end, result = jax.lax.scan(solve_one, start, lam_index)
    return result, end.inverse
