"""A block of λ, one after the other, in one compiled program: by Newton's method, or by pivots alone.

What is compiled lives here; which λ and which columns are in a block is decided in `working_set` and
`buffer`.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._types import Scalar
from jaxreg.linear.null_fit import Reference
from jaxreg.linear.solvers._pivot import Pivoted, continued
from jaxreg.linear.solvers._smooth import Quadratic, Smooth
from jaxreg.linear.solvers.base import State
from jaxreg.linear.solvers.newton import advance, aging, begin, chosen, keep, reprice
from jaxreg.penalties import PenaltyGrid

__all__ = ["Block", "Reached", "newton_block", "pivot_block"]


class Reached(NamedTuple):
    """A point of a path: its coefficients, its intercept, its λ, and the place of that on the grid."""

    coef: Any
    intercept: Any
    lam: Any
    place: Any


class Block(NamedTuple):
    """Of each λ: coefficients, intercepts, steps, and whether they are solved, within ten times what was
    asked.
    """

    coef: Any
    intercept: Any
    steps: Any
    solved: Any


@eqx.filter_jit
def newton_block(
    smooth: Smooth, grid: PenaltyGrid, lambdas: Array, lanes: Array, order: Array, count: Array,
    base: Reference, start: tuple[Reached, Reached], ask: Scalar, limit: Array, flat: bool,
) -> Block:  # fmt: skip
    """The λ `lanes`, from two points before them: at most `limit` steps for each, to a residual of `ask`.

    `order` says which column each row of the buffer is, `count` how many of the ravelled coordinates there
    are. Where the penalty is `flat`, a curvature that is kept has the inverse of its active block.
    """
    unit = base.gradient

    def one(carry: Any, lane: Any) -> tuple[Any, Block]:
        (state, earlier, last), (k, again) = carry, lane
        here = grid.row(grid.part(k)).take(order)
        coef, intercept = _ahead(earlier, last, lambdas[k])
        coef = here.prox(coef, jnp.zeros((), coef.dtype))
        same = reprice(here, unit, state)
        ahead = begin(smooth, here, unit, (coef, intercept), kept=state.inner.kept)
        better = ahead.objective < same.objective
        state = aging(chosen(better, ahead, same), better)
        most = jnp.where(again, 0, limit)

        def going(carry: tuple[State, Array]) -> Array:
            state, k = carry
            return (state.residual > ask) & (k < most) & (state.inner.damping < 1e12)

        def step(carry: tuple[State, Array]) -> tuple[State, Array]:
            return advance(smooth, here, unit, carry[0], ask), carry[1] + 1

        state, steps = jax.lax.while_loop(going, step, (state, jnp.array(0)))
        found = Reached(state.coef, state.intercept, lambdas[k], k)
        earlier = jax.tree.map(lambda a, b: jnp.where(again, a, b), earlier, last)
        return (state, earlier, found), Block(*found[:2], steps, state.residual <= 10 * ask)

    point = start[1][:2]
    kept = keep(smooth, smooth.look(*point), count, flat) if smooth.costly else None
    first = grid.row(grid.part(lanes[0])).take(order)
    # A λ that is given again only fills the block up.
    again = jnp.concatenate([jnp.array([False]), lanes[1:] == lanes[:-1]])
    return jax.lax.scan(one, (begin(smooth, first, unit, point, kept=kept), *start), (lanes, again))[1]


def _ahead(earlier: Reached, last: Reached, lam: Array) -> tuple[Array, Array]:
    """The secant through two points, at another λ; what is 0 at the last one stays 0."""
    span = last.lam - earlier.lam
    far = jnp.where(span != 0, (lam - last.lam) / jnp.where(span != 0, span, 1.0), 0.0)
    coef = jnp.where(last.coef != 0, last.coef + far * (last.coef - earlier.coef), 0.0)
    return coef, last.intercept + far * (last.intercept - earlier.intercept)


@eqx.filter_jit
def pivot_block(
    smooth: Quadratic, grid: PenaltyGrid, lanes: Array, order: Array, base: Reference, last: Reached,
    kept: Pivoted, ask: Scalar,
) -> tuple[Block, Pivoted]:  # fmt: skip
    """The λ `lanes` after the `last` one, of a flat penalty, and the inverse at the end.

    What comes after a λ that is not solved is not either.
    """

    def one(carry: Any, k: Array) -> tuple[Any, Block]:
        coef, kept, place, fine = carry
        penalty = lambda part: grid.row(part).take(order).prox  # noqa: E731
        ends = grid.part(place), grid.part(k)
        coef, kept, rounds, reached = continued(
            smooth.gram, smooth.linear, penalty, ends, coef, kept, ask * base.gradient
        )
        return (coef, kept, k, fine & reached), Block(coef, last.intercept, rounds, fine & reached)

    start = (last.coef, kept, last.place, jnp.array(True))
    (_, kept, _, _), found = jax.lax.scan(one, start, lanes)
    return found, kept
