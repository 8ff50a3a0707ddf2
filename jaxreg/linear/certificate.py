"""How near the optimum a point is: asked of the mathematics and the data, never of a solver.

Source of the gap: Fenchel duality (Rockafellar 1970, section 31) and the rescaled residual as dual point
(Massias, Gramfort and Salmon 2018). The dual point must be orthogonal to the intercept and to unpenalised
directions. The loss is minimised over these first, and what rounding leaves of the gradient along them is
charged to the gap at its cost, half the squared Newton decrement. So is the rounding of the predictor.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._numerics import norm
from jaxreg._typing import ArrayLike, Scalar
from jaxreg.linear.null_fit import UNSETTLED, NullFit, fit_null_model
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.unpenalised import Basis, Refit, orthonormal_basis, refit
from jaxreg.penalties import Penalty

__all__ = [
    "Certificate",
    "Evaluation",
    "certificate_at",
    "certify",
    "curvature",
    "evaluate",
    "kkt_residual",
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


class Evaluation(NamedTuple):
    """Working coefficients and intercept, with what follows from them by one product each way."""

    coef: Array
    intercept: Array
    z: Array
    residual: Array
    gradient: Array


def evaluate(problem: Problem, coef: Array, intercept: Array) -> Evaluation:
    """The predictor there, its residual, and the gradient in the coefficients."""
    z = problem.predictor(coef, intercept)
    residual = problem.residual(z)
    return Evaluation(coef, intercept, z, residual, problem.design.rmatmul(residual))


def kkt_residual(problem: Problem, penalty: Penalty, null_fit: NullFit, at: Evaluation) -> Scalar:
    """‖(w − prox(w − t∇f, t))/t‖∞ at t = 1/curvature, intercept included, over ‖∇f(null)‖∞."""
    t = 1 / curvature(problem, at.z, null_fit.max_eigenvalue)
    moved = penalty.prox(at.coef - t * at.gradient, t)
    top = jnp.max(jnp.abs(at.coef - moved)) / t
    if problem.intercept:
        top = jnp.maximum(top, jnp.max(jnp.abs(jnp.sum(at.residual, axis=0))))
    return jnp.where(_feasible(problem, at), top / null_fit.max_grad, jnp.inf)


def _feasible(problem: Problem, at: Evaluation) -> Array:
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
    require_problem(problem, "jaxreg.certify(jaxreg.Problem(loss, X, y), penalty, coef, intercept)")
    working = problem.working_penalty(penalty)
    return _certify(problem, working, fit_null_model(problem, working), *problem.point(coef, intercept))


@eqx.filter_jit
def _certify(
    problem: Problem, penalty: Penalty, null_fit: NullFit, coef: Array, intercept: Array
) -> Certificate:
    at = evaluate(problem, *problem.to_working(coef, intercept))
    return certificate_at(problem, penalty, null_fit, at)


def certificate_at(
    problem: Problem, penalty: Penalty, null_fit: NullFit, at: Evaluation, enough: ArrayLike = 0.0
) -> Certificate:
    """Both numbers for a point that was looked at; a gap ≤ `enough` is not made smaller by a better dual."""
    with jax.default_matmul_precision("highest"):
        kkt = kkt_residual(problem, penalty, null_fit, at)
        if not penalty.has_conjugate:
            return Certificate(jnp.full_like(kkt, jnp.inf), kkt)
        dual = _dual_point(problem, penalty, null_fit, at)
        gap = _gap(problem, penalty, null_fit, at, dual, enough) / null_fit.loss_range
        sound = jnp.isfinite(gap) & _feasible(problem, at)
        return Certificate(jnp.where(sound, jnp.maximum(gap, 0.0), jnp.inf), kkt)


class _Dual(NamedTuple):
    """Dual point: v per sample, without weights; −Xᵀ(weight·v), 0 along unpenalised directions.

    `charge` bounds what the rounding of v costs: it is not exactly orthogonal to the intercept and to the
    unpenalised directions.
    """

    v: Array
    dual: Array
    charge: Scalar


def _gap(
    problem: Problem,
    penalty: Penalty,
    null_fit: NullFit,
    at: Evaluation,
    dual_point: _Dual,
    enough: ArrayLike,
) -> Scalar:
    """Primal − dual as a sum of Fenchel–Young terms, none negative: no large numbers cancel."""
    eps = jnp.finfo(problem.dtype).eps
    v, dual, charge = dual_point

    def value(s: Scalar) -> Scalar:
        loss = jnp.sum(problem.weight * problem.loss.fenchel_gap(at.z, problem.y, s * v))
        return loss + penalty.conjugate(s * dual) - jnp.sum(s * dual * at.coef)

    top = penalty.dual_scale(dual)
    # The largest s is one rounding inside the domain, so that the conjugate is finite there.
    top = jnp.where(top < 1, top * (1 - 4 * eps), top)
    primal = penalty.value(at.coef) + charge + _predictor_rounding(problem, at, v)

    def refine(carry: tuple[Scalar, Scalar, Array]) -> tuple[Scalar, Scalar, Array]:
        """A Newton step on the dual in s, kept where it helps."""
        s, best, k = carry
        first, second = jax.jvp(jax.grad(value), (s,), (jnp.ones_like(s),))
        moved = jnp.clip(s - first / jnp.where(second > 0, second, 1.0), 0.0, top)
        sound = jnp.isfinite(moved) & (second > 0) & (k < 3)
        moved = jnp.where(sound, moved, 0.0)
        return moved, jnp.minimum(best, value(moved)), k + 1

    # Near the optimum s = top does, and looking for a better one is most of a certificate's time.
    far = lambda c: (c[1] + primal > enough * null_fit.loss_range) & (c[2] < 4)  # noqa: E731
    best = jax.lax.while_loop(far, refine, (top, value(top), jnp.array(0)))[1]
    return best + primal


def _predictor_rounding(problem: Problem, at: Evaluation, v: Array) -> Scalar:
    """Return what the rounding of each sample's predictor does to the loss, which has the slope v there.

    In working coordinates: the intercept on the scale of the data is rounded once more, where features or
    targets have large means.
    """
    size = jnp.abs(at.z) + jnp.abs(problem.offset) + jnp.abs(at.intercept)
    weight = problem.weight if v.ndim == 1 else problem.weight[:, None]
    return 2 * jnp.finfo(problem.dtype).eps * norm(weight * v * size)


def _dual_point(problem: Problem, penalty: Penalty, null_fit: NullFit, at: Evaluation) -> _Dual:
    """Return the loss's gradient where it is orthogonal to the intercept and to unpenalised directions.

    Refitting the intercept takes no product with the design, a basis of unpenalised directions does.
    """
    z = _fit_intercept(problem, at.z) if problem.intercept else at.z
    residual = problem.residual(z)
    gradient = problem.design.rmatmul(residual) if problem.intercept else at.gradient
    charge = _intercept_charge(problem, z, residual) if problem.intercept else jnp.zeros((), z.dtype)
    first = _Dual(problem.loss.gradient(z, problem.y), -gradient, charge)
    if not any(null_fit.capacity):
        return first

    def again(carry: tuple[_Dual, Array, Array]) -> tuple[_Dual, Array, Array]:
        _, coef, _ = carry
        basis = orthonormal_basis(problem, penalty, null_fit.capacity, coef)
        fitted = refit(problem, basis, z, steps=10)
        residual = problem.residual(fitted.z)
        gradient = problem.design.rmatmul(residual)
        seen = gradient - penalty.unpenalised(gradient, coef)
        charge = _refit_charge(problem, penalty, basis, fitted, gradient - seen)
        return _Dual(problem.loss.gradient(fitted.z, problem.y), -seen, charge), coef, jnp.array(False)

    # A loop and not a branch: under vmap it is skipped where no lane needs it. What it starts from is
    # carried, or XLA would move it out of the loop.
    needed = jnp.any(penalty.unpenalised(-gradient, at.coef) != 0)
    return jax.lax.while_loop(lambda c: c[2], again, (first, at.coef, needed))[0]


def _intercept_charge(problem: Problem, z: Array, residual: Array) -> Scalar:
    """Return what the loss could still fall by along the intercept: half the squared Newton decrement."""
    leak = jnp.sum(residual, axis=0)
    if z.ndim == 2 and problem.loss.optimal_shift(z, problem.y, problem.weight) is None:
        return 0.5 * leak @ jnp.linalg.pinv(jnp.sum(problem.curvatures(z), axis=0)) @ leak
    bend = jnp.sum(jax.jvp(problem.residual, (z,), (jnp.ones_like(z),))[1], axis=0)
    return 0.5 * jnp.sum(leak**2 / jnp.where(bend > 0, bend, 1.0))


def _mean_curvature(problem: Problem, z: Array) -> Scalar:
    """Return the loss's curvature along predictors of size 1 with signs that alternate over outputs."""
    d = jnp.ones_like(z) if z.ndim == 1 else jnp.broadcast_to((-1.0) ** jnp.arange(z.shape[1]), z.shape)
    d = d.astype(z.dtype)
    bend = jnp.sum(d * jax.jvp(problem.residual, (z,), (d,))[1]) / (z.size / z.shape[0])
    return jnp.where(bend > 0, bend, 1.0)


def _refit_charge(problem: Problem, penalty: Penalty, basis: Basis, fitted: Refit, leak: Array) -> Scalar:
    """Return what the loss could still fall by along unpenalised directions, rounding included."""
    eps = jnp.finfo(problem.dtype).eps
    bend = _mean_curvature(problem, fitted.z)
    # A basis vector of small singular value σ is itself known within eps/σ.
    rounding = fitted.noise * basis.error
    cost = fitted.decrement + 0.5 * jnp.sum(rounding**2) / bend
    cost += jnp.sum(jnp.abs(fitted.u) * (jnp.abs(fitted.grad) + rounding))
    # Directions without room in the basis: the cost if their singular values are as small as √√eps.
    length = jnp.sqrt(problem.design.squares(problem.weight))
    length = jnp.where(length > 0, length, 1.0)
    cost += 0.5 * jnp.sum((leak.T / length) ** 2) / (jnp.sqrt(eps) * bend)
    settled = fitted.step <= UNSETTLED * problem.loss.target_scale(problem.y, problem.weight)
    return jnp.where(settled, cost, jnp.inf)


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
