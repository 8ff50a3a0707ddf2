"""A path on working sets: Newton on few columns, checks on all of them, for several λ at once.

The next block of λ is solved by Newton's method, or by its pivots alone, on the columns that it seems to
need; one matrix product then gives the gradient of all of them on all columns, and with it every certificate.
The λ that hold are kept, the columns that the first other one lacks join, and the block goes on from there
(the screening of BASIL, Qian et al. 2020; of the strong rules, Tibshirani et al. 2012). What a λ needs is
asked of its prox alone: a coordinate at 0 that a prox step moves. So it serves every family of penalties, and
no λ is left without its certificate.

Only this module, `buffer` and `path` run on the host between compiled blocks.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg._typing import Scalar
from jaxreg.linear.certificate import certificate_at, curvature_bound, evaluate
from jaxreg.linear.null_fit import NullFit
from jaxreg.linear.path.columns import Checked, Working, whole, whole_gram
from jaxreg.linear.path.kernels import BlockResult, PathPoint
from jaxreg.linear.problem import Problem
from jaxreg.linear.solvers._active_inverse import prox_slopes_are_0_or_1
from jaxreg.linear.solvers._smooth_part import gram_suffices
from jaxreg.linear.solvers.newton import Newton
from jaxreg.penalties import Penalty, PenaltyGrid

__all__ = ["Found", "follow", "gram_matrix"]

#: λ in a block; how many further on the screening looks.
_BLOCK, _AHEAD = 10, 25
#: Columns, dense and sparse ones, beyond which no matrices are made of them; Newton steps for one λ, unless
#: the user says less.
_LIMIT, _THIN, _STEPS = 4032, 448, 100


class Found(NamedTuple):
    """What was found for the first `done` λ, in working coordinates; the others are left undone. `free` of
    the former were solved without matrices.
    """

    coef: np.ndarray
    intercept: np.ndarray
    objective: np.ndarray
    gap: np.ndarray
    kkt: np.ndarray
    steps: np.ndarray
    converged: np.ndarray
    done: int
    free: int


@eqx.filter_jit
def _check(
    problem: Problem, grid: PenaltyGrid, null_fit: NullFit, lanes: Array, coef: Array, intercept: Array,
    outside: Array, enough: Scalar, last: Array,
) -> Checked:  # fmt: skip
    """Every certificate of a block, and which columns each λ moves: those outside, and further on, up to the
    `last` λ.
    """
    unit = 1e4 * jnp.finfo(problem.dtype).eps * null_fit.max_grad

    def one(lane: Any) -> Checked:
        own, ahead, coef, intercept = lane
        penalty = grid.row(own)
        at = evaluate(problem, coef, intercept)
        t = 1 / curvature_bound(problem, at.z, null_fit.max_eigenvalue)

        def moved(penalty: Any) -> Array:
            move = jnp.abs(penalty.prox(coef - t * at.gradient, t) - coef) / t
            return move.reshape(move.shape[0], -1).max(axis=1)

        objective, now = problem.value(at.z) + penalty.value(coef), moved(penalty)
        missing = jnp.where(outside & (now > unit), now, 0.0)
        # A point that lacks columns is not kept: no better dual point is looked for.
        found = certificate_at(
            problem, penalty, null_fit, at, jnp.where(jnp.any(missing > 0), jnp.inf, enough)
        )
        return Checked(objective, *found, missing, moved(grid.row(ahead)))

    ahead = jnp.minimum(lanes + _AHEAD, last)
    return jax.vmap(one)((grid.part(lanes), grid.part(ahead), coef, intercept))


@eqx.filter_jit
def _null(problem: Problem, intercept: Array) -> tuple[Array, Scalar]:
    """The gradient in the coefficients and the loss, where they are all 0."""
    at = evaluate(problem, problem.zeros()[0], intercept)
    return at.gradient, problem.value(at.z)


@eqx.filter_jit
def _is_flat(grid: PenaltyGrid, scale: Scalar, p: int) -> Array:
    """Whether the prox has slopes 0 or 1 under the first and the last λ of the grid."""
    return jnp.all(jnp.stack([prox_slopes_are_0_or_1(grid.at(k), (p,), scale) for k in (0, -1)]))


def gram_matrix(problem: Problem, solver: Newton) -> Array | None:
    """That of all columns, where a path works on it: `follow` and the null fit share it."""
    return whole_gram(problem) if whole(problem) and _reduced(problem, solver) else None


def _reduced(problem: Problem, solver: Newton) -> bool:
    return gram_suffices(problem) and solver.gram is not False


def follow(
    problem: Problem,
    grid: PenaltyGrid,
    lambdas: Array,
    null_fit: NullFit,
    solver: Newton,
    tol: float,
    max_steps: int,
    gram: Array | None,
    limit: int | None = None,
) -> Found:
    """Solve for every λ of a falling grid, and its penalties, to a certificate ≤ `tol`, each from the one
    before.

    From `limit` columns in use on no matrices are made of them; stops where there is no room for them. A λ
    that is not solved after `max_steps` is left as it is, marked as not converged. `gram` is that of
    `gram_matrix`. Concrete problems only.
    """
    count, values = lambdas.size, np.asarray(lambdas)
    first = grid.at(0)
    working = _begun(problem, grid, first, values, null_fit, solver, gram)
    checks = _Checks(problem, grid, null_fit, tol, count - 1)
    block = _BLOCK if working.outside.any() else count
    least = _least(problem)
    limit = limit or (_LIMIT if problem.design.dense_like else _THIN)
    out = _empty(problem, count)
    null = PathPoint(*map(np.asarray, (null_fit.coef, null_fit.intercept, values[0], 0)))
    trail, more = (null, null), True
    if working.outside.any():
        points = (np.repeat(part[None], block, 0) for part in null[:2])
        seen = checks(np.zeros(block, int), *points, working.outside)
        more = working.next(null.coef, seen, 1, np.ones(block, bool), limit)
    k, use, ask, reduced, free = 0, block, _first_ask(working, tol), working.reduced, 0
    while k < count and more:
        # A λ given again costs nothing: fewer of them are tried where the screening often fails.
        tried = min(use, count - k)
        lanes = np.minimum(k + np.arange(block), k + tried - 1)
        found = working.solve(lanes, null_fit, trail, ask, min(_STEPS, max_steps))
        seen = checks(lanes, *found[:2], working.outside)
        keep, lacks = _verdict(seen, found.solved, tol, tried, first.has_conjugate)
        if keep == tried:
            use = min(block, use + 2)
        elif lacks:
            use = max(2 if working.products is None else block // 2, min(use, keep + 1))
        elif found.solved[keep] and ask > least:
            # The certificate asks for more than the solver gave: this λ again, to another digit, or two where
            # a step of Newton's method gives them at once.
            ask = max((0.2 if working.products is not None else 0.02) * ask, least)
        elif not keep:
            out.converged[k], ask, keep = False, _first_ask(working, tol), 1
        _record(out, k, keep, found, seen)
        free += keep * (working.products is not None)
        for i in range(max(keep - 2, 0), keep):
            trail = trail[1], _reached(found, i, values, k + i)
        more = working.next(trail[1].coef, seen, keep, found.solved, limit)
        if working.reduced != reduced:
            ask, reduced = _first_ask(working, tol), working.reduced
        k += keep
    return out._replace(done=k, free=free)


def _least(problem: Problem) -> float:
    """The smallest residual that is asked for."""
    return 64 * float(jnp.finfo(problem.dtype).eps)


def _first_ask(working: Working, tol: float) -> float:
    """The residual that is asked for until a certificate wants less: of a Gram matrix one costs nothing.

    Single precision begins far from what it can reach: it has no digits to waste.
    """
    return 1e-9 if working.reduced else max(0.0002 * np.sqrt(tol), 16 * _least(working.problem))


class _Checks:
    """The checks of a path."""

    def __init__(self, problem: Problem, grid: PenaltyGrid, null_fit: NullFit, tol: float, last: int) -> None:
        self.fixed = (problem, grid, null_fit)
        self.more = np.asarray(tol, problem.dtype), np.asarray(last)

    def __call__(
        self, lanes: np.ndarray, coef: np.ndarray, intercept: np.ndarray, outside: np.ndarray
    ) -> Checked:
        return Checked(*map(np.asarray, _check(*self.fixed, lanes, coef, intercept, outside, *self.more)))


def _begun(
    problem: Problem,
    grid: PenaltyGrid,
    first: Penalty,
    lambdas: np.ndarray,
    null_fit: NullFit,
    solver: Newton,
    gram: Array | None,
) -> Working:
    """No columns in use, or all of them where they are few."""
    reduced = _reduced(problem, solver)
    # An inverse that is changed again and again needs the digits of double precision.
    able = problem.dtype == jnp.float64 and not problem.outputs and first.separable
    flat = able and bool(_is_flat(grid, null_fit.max_grad, problem.shape[1]))
    return Working(
        problem,
        (grid, lambdas),
        _null(problem, null_fit.intercept),
        _labels(problem, first),
        gram,
        reduced,
        flat,
    )


def _verdict(seen: Checked, solved: np.ndarray, tol: float, tried: int, convex: bool) -> tuple[int, bool]:
    """How many λ hold, and whether the next one lacks columns."""
    lacking = seen.missing.any(axis=1) & solved
    fine = ~lacking & ((seen.gap if convex else seen.kkt) <= tol)
    keep = tried if fine.all() else min(int(np.argmin(fine)), tried)
    return keep, keep < tried and bool(lacking[keep])


def _labels(problem: Problem, penalty: Penalty) -> np.ndarray:
    """Which block of the penalty each column is in."""
    coef = problem.zeros()[0]
    blocks = None if penalty.separable else penalty.blocks(coef)
    labels = np.arange(coef.size) if blocks is None else np.asarray(blocks.labels)
    return np.unique(labels.reshape(coef.shape[0], -1)[:, 0], return_inverse=True)[1]


def _reached(found: BlockResult, i: int, lambdas: np.ndarray, place: int) -> PathPoint:
    """The point of the i-th λ of a block, at its place on the grid."""
    return PathPoint(*map(np.asarray, (found.coef[i], found.intercept[i], lambdas[place], place)))


def _record(out: Found, k: int, keep: int, found: BlockResult, seen: Checked) -> None:
    """Write the first `keep` λ of a block, which begins at k."""
    coef, intercept, steps, _ = found
    for name, value in zip(out._fields[:5], (coef, intercept, *seen[:3]), strict=True):
        getattr(out, name)[k : k + keep] = value[:keep]
    out.steps[k : k + keep] = steps[:keep]


def _empty(problem: Problem, count: int) -> Found:
    coef, intercept = (np.zeros((count, *x.shape), x.dtype) for x in problem.zeros())
    objective, gap, kkt = (np.zeros(count, coef.dtype) for _ in range(3))
    return Found(coef, intercept, objective, gap, kkt, np.zeros(count, int), np.ones(count, bool), 0, 0)
