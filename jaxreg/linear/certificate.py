"""How near the optimum a point is: asked of the mathematics and the data, never of a solver.

Source of the gap: Fenchel duality (Rockafellar 1970, section 31) and the rescaled residual as dual point
(Massias, Gramfort and Salmon 2018). With an intercept or unpenalised columns U the dual point must be
orthogonal to them: they are refitted by Newton steps and what is left is projected out.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._types import ArrayLike, Scalar
from jaxreg.linear.null_fit import Reference, fit_free, reference
from jaxreg.linear.problem import Problem
from jaxreg.penalties import Penalty

__all__ = [
    "Certificate",
    "Point",
    "certify",
    "curvature",
    "judge",
    "kkt_residual",
    "look",
    "measure",
]


class Certificate(NamedTuple):
    """`gap`: relative duality gap, inf where no dual point was found. `kkt`: relative KKT residual."""

    gap: Scalar
    kkt: Scalar


def curvature(problem: Problem, z: Array, spectrum: Scalar) -> Scalar:
    """An upper bound on the loss's curvature in the coefficients, at z where it has no global one."""
    smoothness = jnp.asarray(problem.loss.smoothness(), problem.dtype)
    here = jax.jvp(lambda z: problem.loss.gradient(z, problem.y), (z,), (jnp.ones_like(z),))[1]
    local = jnp.maximum(jnp.max(jnp.abs(here)), jnp.finfo(problem.dtype).tiny)
    return spectrum * jnp.where(jnp.isinf(smoothness), local, smoothness)


class Point(NamedTuple):
    """Working coefficients and intercept, with what follows from them by one product each way."""

    coef: Array
    intercept: Array
    z: Array
    residual: Array
    gradient: Array


def look(problem: Problem, coef: Array, intercept: Array) -> Point:
    """The predictor there, its residual, and the gradient in the coefficients."""
    z = problem.predictor(coef, intercept)
    residual = problem.residual(z)
    return Point(coef, intercept, z, residual, problem.design.rmatmul(residual))


def kkt_residual(problem: Problem, penalty: Penalty, base: Reference, at: Point) -> Scalar:
    """‖(w − prox(w − t∇f, t))/t‖∞ at t = 1/curvature, intercept included, over ‖∇f(null)‖∞."""
    t = 1 / curvature(problem, at.z, base.spectrum)
    moved = penalty.prox(at.coef - t * at.gradient, t)
    top = jnp.max(jnp.abs(at.coef - moved)) / t
    if problem.intercept:
        top = jnp.maximum(top, jnp.max(jnp.abs(jnp.sum(at.residual, axis=0))))
    return jnp.where(_feasible(problem, at), top / base.gradient, jnp.inf)


def _feasible(problem: Problem, at: Point) -> Array:
    """Whether the intercept is 0 where the problem has none."""
    return jnp.array(problem.intercept) | jnp.all(at.intercept == 0)


@on_auto_axes(replicated)
@jax.default_matmul_precision("highest")
def certify(problem: Problem, penalty: Penalty, coef: ArrayLike, intercept: ArrayLike) -> Certificate:
    """How near the optimum any point is: coefficients (p,) or (p, K) and intercept on the scale of the data.

    It may come from any solver of any library. Raises TypeError where `penalty` is not a penalty, and
    ValueError where there is an intercept and the problem has none.

    >>> from jaxreg.losses import SquaredError
    >>> from jaxreg.penalties import L1
    >>> problem = Problem(SquaredError(), 2.0 * jnp.eye(4), jnp.arange(4.0), intercept=False)
    >>> found = certify(problem, L1(1.0), jnp.array([0.0, 0.0, 0.0, 0.5]), 0.0)
    >>> bool(found.gap < 1e-12), bool(found.kkt < 1e-6)
    (True, True)
    """
    working = problem.working_penalty(penalty)
    return _certify(problem, working, reference(problem, working), *problem.point(coef, intercept))


@eqx.filter_jit
def _certify(
    problem: Problem, penalty: Penalty, base: Reference, coef: Array, intercept: Array
) -> Certificate:
    return measure(problem, penalty, base, *problem.to_working(coef, intercept))


def measure(
    problem: Problem,
    penalty: Penalty,
    base: Reference,
    coef: Array,
    intercept: Array,
    enough: ArrayLike = 0.0,
) -> Certificate:
    """Both numbers for working coefficients, in the highest matrix-product precision there is."""
    with jax.default_matmul_precision("highest"):
        return judge(problem, penalty, base, look(problem, coef, intercept), enough)


def judge(
    problem: Problem,
    penalty: Penalty,
    base: Reference,
    at: Point,
    enough: ArrayLike = 0.0,
    refit: bool = True,
) -> Certificate:
    """Both numbers for a point that was looked at; a gap ≤ `enough` is not made smaller by a better dual.

    Without `refit` the gap is inf where directions that the penalty does not see are not fitted well enough.
    """
    with jax.default_matmul_precision("highest"):
        kkt = kkt_residual(problem, penalty, base, at)
        if not penalty.has_conjugate:
            return Certificate(jnp.full_like(kkt, jnp.inf), kkt)
        dual = _dual_point(problem, penalty, base, at, refit)
        gap = _gap(problem, penalty, base, at, dual, enough) / base.loss_range
        sound = jnp.isfinite(gap) & _feasible(problem, at)
        return Certificate(jnp.where(sound, jnp.maximum(gap, 0.0), jnp.inf), kkt)


class _Dual(NamedTuple):
    """v per sample, without weights; −Xᵀ(weight·v) less what the penalty does not see; whether that is 0."""

    v: Array
    dual: Array
    closed: Array


def _gap(
    problem: Problem, penalty: Penalty, base: Reference, at: Point, dual_point: _Dual, enough: ArrayLike
) -> Scalar:
    """Primal − dual as a sum of Fenchel–Young terms, none negative: no large numbers cancel."""
    eps = jnp.finfo(problem.dtype).eps
    v, dual, closed = dual_point

    def value(s: Scalar) -> Scalar:
        loss = jnp.sum(problem.weight * problem.loss.fenchel_gap(at.z, problem.y, s * v))
        return loss + penalty.conjugate(s * dual) - jnp.sum(s * dual * at.coef)

    top = penalty.dual_scale(dual)
    # The largest s is one rounding inside the domain, so that the conjugate is finite there.
    top = jnp.where(top < 1, top * (1 - 4 * eps), top)
    primal = penalty.value(at.coef)

    def refine(carry: tuple[Scalar, Scalar, Array]) -> tuple[Scalar, Scalar, Array]:
        """A Newton step on the dual in s, kept where it helps."""
        s, best, k = carry
        first, second = jax.jvp(jax.grad(value), (s,), (jnp.ones_like(s),))
        moved = jnp.clip(s - first / jnp.where(second > 0, second, 1.0), 0.0, top)
        sound = jnp.isfinite(moved) & (second > 0) & (k < 3)
        moved = jnp.where(sound, moved, 0.0)
        return moved, jnp.minimum(best, value(moved)), k + 1

    # Near the optimum s = top does, and looking for a better one is most of a certificate's time.
    far = lambda c: (c[1] + primal > enough * base.loss_range) & (c[2] < 4)  # noqa: E731
    best = jax.lax.while_loop(far, refine, (top, value(top), jnp.array(0)))[1]
    return jnp.where(closed, best + primal, jnp.inf)


def _dual_point(problem: Problem, penalty: Penalty, base: Reference, at: Point, refit: bool) -> _Dual:
    """The gradient at the point, made orthogonal to the intercept and to the directions that are free there.

    Refitting the intercept costs no product with the design; the free directions are refitted where that is
    not enough.
    """
    eps = jnp.finfo(problem.dtype).eps

    def dual_at(z: Array, gradient: Array) -> _Dual:
        v = problem.loss.gradient(z, problem.y)
        theta = problem.weight * v.T
        leak = penalty.free(-gradient, at.coef)
        # Orthogonal up to rounding, which is relative to the size of the terms that cancel.
        terms = jnp.sqrt(jnp.sum(theta * v.T))
        closed = jnp.max(jnp.abs(leak)) <= 1e3 * eps * (base.gradient + terms * jnp.sqrt(base.spectrum))
        if problem.intercept:
            closed &= jnp.max(jnp.abs(jnp.sum(theta, axis=-1))) <= 1e3 * eps * (base.gradient + terms)
        # Where the penalty sees nothing the dual is 0 up to rounding; an exact 0 keeps it in the domain.
        return _Dual(v, jnp.where(leak == -gradient, 0.0, -gradient - leak), closed)

    def again(carry: tuple[_Dual, Array, Array, Array]) -> tuple[_Dual, Array, Array, Array]:
        _, coef, intercept, k = carry
        fitted = fit_free(problem, coef, intercept, lambda d: penalty.free(d, at.coef), steps=10)
        z = problem.predictor(*fitted)
        return dual_at(z, problem.design.rmatmul(problem.residual(z))), *fitted, k + 1

    if problem.intercept:
        z = _fit_intercept(problem, at.z)
        first = dual_at(z, problem.design.rmatmul(problem.residual(z)))
    else:
        first = dual_at(at.z, at.gradient)
    if not refit:
        return first
    # A loop and not a branch: under vmap it is skipped where no lane needs it. What it starts from is
    # carried, or XLA would move it out of the loop.
    start = (first, at.coef, at.intercept, jnp.array(0))
    return jax.lax.while_loop(lambda c: ~c[0].closed & (c[3] < 1), again, start)[0]


def _fit_intercept(problem: Problem, z: Array, steps: int = 8) -> Array:
    """The predictor with the intercept that is best for it, in closed form or by Newton steps."""
    exact = problem.loss.optimal_shift(z, problem.y, problem.weight)
    if exact is not None:
        return z + exact

    def tilt(z: Array) -> Array:
        return jnp.sum(problem.residual(z), axis=0)

    def going(carry: tuple[Array, Array, Array, Array]) -> Array:
        _, slope, better, k = carry
        return better & (k < steps) & (jnp.max(jnp.abs(slope)) > 0)

    def body(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        z, slope, _, k = carry
        bend = jnp.sum(problem.curvatures(z), axis=0)
        new = z - (jnp.linalg.pinv(bend) @ slope if z.ndim == 2 else slope / jnp.where(bend > 0, bend, 1.0))
        left = tilt(new)
        before, after = jnp.max(jnp.abs(slope)), jnp.max(jnp.abs(left))
        kept, least = jnp.where(after < before, new, z), jnp.where(after < before, left, slope)
        return kept, least, after < 0.1 * before, k + 1

    return jax.lax.while_loop(going, body, (z, tilt(z), jnp.array(True), jnp.array(0)))[0]
