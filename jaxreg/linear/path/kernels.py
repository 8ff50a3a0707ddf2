"""A block of λ, one after the other, in one compiled program: by Newton's method, or by pivots alone.

What is compiled lives here; which λ and which columns are in a block is decided in `working_set` and
`buffer`.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._typing import Scalar
from jaxreg.linear.solvers._pivot import Pivoted, continued
from jaxreg.linear.solvers._smooth import Smooth
from jaxreg.linear.solvers.base import State
from jaxreg.linear.solvers.newton import advance, aging, begin, chosen, keep, reprice
from jaxreg.penalties import PenaltyGrid

__all__ = ["BlockProblem", "BlockResult", "PathPoint", "newton_block", "pivot_block"]


class PathPoint(NamedTuple):
    """A point of a path: its coefficients, its intercept, its λ, and the place of that on the grid."""

    coef: Any
    intercept: Any
    lam: Any
    place: Any


class BlockResult(NamedTuple):
    """Of each λ: coefficients, intercepts, steps, and whether they are solved, within ten times what was
    asked.
    """

    coef: Any
    intercept: Any
    steps: Any
    solved: Any


class BlockProblem(eqx.Module):
    """The loss on the m columns of a buffer, with the penalties of a path.

    `columns` (m,) are the features in the rows of the buffer; rows beyond the first `count` ravelled
    coordinates hold zeros. Residuals are in units of `max_grad`. With `prox_slopes_are_0_or_1` the inverse of
    the active block is kept beside a Hessian that serves several steps.
    """

    smooth: Smooth
    grid: PenaltyGrid
    lambdas: Array
    columns: Array
    count: Array
    max_grad: Scalar
    prox_slopes_are_0_or_1: bool = eqx.field(static=True)


@eqx.filter_jit
def newton_block(
    block: BlockProblem,
    lam_index: Array,
    start: tuple[PathPoint, PathPoint],
    inner_tol: Scalar,
    max_steps: Array,
) -> BlockResult:
    """Solve for each λ at `lam_index` (B,) by Newton's method, each from the one before.

    Args:
        block: loss and penalties.
        lam_index: places on the grid, ascending; the last one is repeated to fill up.
        start: the two points before the first λ.
        inner_tol: residual to which each λ is solved, in units of `block.max_grad`.
        max_steps: steps for each λ at most.
    """
    smooth, grid, lambdas, unit = block.smooth, block.grid, block.lambdas, block.max_grad
    flat = block.prox_slopes_are_0_or_1

    def one(carry: Any, lane: Any) -> tuple[Any, BlockResult]:
        (state, earlier, last), (k, again) = carry, lane
        here = grid.row(grid.part(k)).take(block.columns)
        coef, intercept = _ahead(earlier, last, lambdas[k])
        coef = here.prox(coef, jnp.zeros((), coef.dtype))
        same = reprice(here, unit, state)
        ahead = begin(smooth, here, unit, (coef, intercept), kept=state.inner.kept)
        better = ahead.objective < same.objective
        state = aging(chosen(better, ahead, same), better)
        most = jnp.where(again, 0, max_steps)

        def going(carry: tuple[State, Array]) -> Array:
            state, k = carry
            return (state.residual > inner_tol) & (k < most) & (state.inner.damping < 1e12)

        def step(carry: tuple[State, Array]) -> tuple[State, Array]:
            return advance(smooth, here, unit, carry[0], inner_tol), carry[1] + 1

        state, steps = jax.lax.while_loop(going, step, (state, jnp.array(0)))
        found = PathPoint(state.coef, state.intercept, lambdas[k], k)
        earlier = jax.tree.map(lambda a, b: jnp.where(again, a, b), earlier, last)
        return (state, earlier, found), BlockResult(*found[:2], steps, state.residual <= 10 * inner_tol)

    point = start[1][:2]
    kept = keep(smooth, smooth.look(*point), block.count, flat) if smooth.costly else None
    first = grid.row(grid.part(lam_index[0])).take(block.columns)
    # A λ that is given again only fills the block up.
    again = jnp.concatenate([jnp.array([False]), lam_index[1:] == lam_index[:-1]])
    return jax.lax.scan(one, (begin(smooth, first, unit, point, kept=kept), *start), (lam_index, again))[1]


def _ahead(earlier: PathPoint, last: PathPoint, lam: Array) -> tuple[Array, Array]:
    """The secant through two points, at another λ; what is 0 at the last one stays 0."""
    span = last.lam - earlier.lam
    far = jnp.where(span != 0, (lam - last.lam) / jnp.where(span != 0, span, 1.0), 0.0)
    coef = jnp.where(last.coef != 0, last.coef + far * (last.coef - earlier.coef), 0.0)
    return coef, last.intercept + far * (last.intercept - earlier.intercept)


@eqx.filter_jit
def pivot_block(
    block: BlockProblem, lam_index: Array, last: PathPoint, kept: Pivoted, inner_tol: Scalar
) -> tuple[BlockResult, Pivoted]:
    """Solve for each λ at `lam_index` (B,) by pivots on the inverse of the active block.

    The loss is `Quadratic`, the prox has slopes 0 or 1. Returns the result and the inverse at the end; what
    comes after a λ that is not solved is not either.
    """
    smooth, grid = block.smooth, block.grid

    def one(carry: Any, k: Array) -> tuple[Any, BlockResult]:
        coef, kept, place, fine = carry
        penalty = lambda part: grid.row(part).take(block.columns).prox  # noqa: E731
        ends = grid.part(place), grid.part(k)
        coef, kept, rounds, reached = continued(
            smooth.gram, smooth.linear, penalty, ends, coef, kept, inner_tol * block.max_grad
        )
        return (coef, kept, k, fine & reached), BlockResult(coef, last.intercept, rounds, fine & reached)

    start = (last.coef, kept, last.place, jnp.array(True))
    (_, kept, _, _), found = jax.lax.scan(one, start, lam_index)
    return found, kept
