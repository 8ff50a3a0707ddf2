"""Optimality certificates, computed from the problem and its data: relative duality gap and KKT residual.

With z = Xw + b + offset, sample weights ω, loss f and penalty g, primal and dual are

    P(w, b) = Σᵢ ωᵢ f(zᵢ) + g(w),    D(u) = ⟨ωu, offset⟩ − Σᵢ ωᵢ f*(uᵢ) − g*(θ),    θ = −Xᵀ(ωu),

where Σᵢ ωᵢuᵢ = 0 if there is an intercept (Rockafellar 1970, section 31). Their difference is a sum of
Fenchel–Young terms, none of them negative, so that no large numbers cancel:

    P − D = Σᵢ ωᵢ [f(zᵢ) + f*(uᵢ) − uᵢzᵢ] + [g(w) + g*(θ) − ⟨θ, w⟩].

The dual point is the rescaled loss gradient u = s·∇f(z), for which any s in [0, s_max] gives a valid bound
(Massias, Gramfort and Salmon 2018). Feasibility needs Σᵢ ωᵢuᵢ = 0 and Xᵀ(ωu) orthogonal to the unpenalised
directions; so the loss is first minimised over the intercept and these directions. Two rounding errors are
added to the gap: half the squared Newton decrement of the gradient that remains along these directions, and a
bound on the rounding of the predictor.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreg._compilation import jit_at_level
from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._numerics import norm
from jaxreg._pytree import apply_if, tree_where
from jaxreg._typing import ArrayLike, Scalar
from jaxreg.linear._intercept import fit_intercept
from jaxreg.linear._shapes import Coef, Count, Flag, Intercept, Predictor
from jaxreg.linear.null_fit import UNSETTLED, NullFit, fit_null_model
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.size_classes import in_size_class
from jaxreg.linear.unpenalised import Basis, Refit, orthonormal_basis, refit
from jaxreg.penalties import Penalty

#: Limit of the dual scales that the search for the best one evaluates.
_MAX_SCALES = 12
#: The golden ratio, 0.618.
_GOLDEN = 0.5 * (math.sqrt(5) - 1)

__all__ = [
    "Certificate",
    "Evaluation",
    "certificate_at",
    "certify",
    "curvature_bound",
    "evaluate",
    "evaluate_at_best_intercept",
    "kkt_residual",
]


class Certificate(NamedTuple):
    """Relative duality gap, inf if no dual point was found, and relative KKT residual."""

    gap: Scalar
    kkt: Scalar


@on_auto_axes(replicated)
@jax.default_matmul_precision("highest")
def certify(problem: Problem, penalty: Penalty, coef: ArrayLike, intercept: ArrayLike) -> Certificate:
    """Compute the certificate of coefficients and intercept, which may come from any solver of any library.

    Args:
        problem: the problem.
        penalty: the penalty; without a conjugate (non-convex penalties) the gap is inf.
        coef: coefficients (p,) or (p, K) on the scale of the data.
        intercept: intercept () or (K,) on the scale of the data.

    Returns:
        `gap`, the duality gap over (null loss − saturated loss), and `kkt`, the KKT residual over the largest
        gradient at the null fit.

    Raises:
        TypeError: if `problem` is not a problem or `penalty` not a penalty.
        ValueError: for an intercept other than 0 where the problem has none.

    >>> from jaxreg.losses import SquaredError
    >>> from jaxreg.penalties import L1
    >>> problem = Problem(SquaredError(), 2.0 * jnp.eye(4), jnp.arange(4.0), intercept=False)
    >>> certificate = certify(problem, L1(1.0), jnp.array([0.0, 0.0, 0.0, 0.5]), 0.0)
    >>> bool(certificate.gap < 1e-12), bool(certificate.kkt < 1e-6)
    (True, True)
    """
    require_problem(problem, "jaxreg.certify(jaxreg.Problem(loss, X, y), penalty, coef, intercept)")
    problem = in_size_class(problem)
    working = problem.working_penalty(penalty)
    null_fit = fit_null_model(problem, working)
    return _certify(problem, working, null_fit, *problem.as_working_arrays(coef, intercept))


@jit_at_level(0)
def _certify(
    problem: Problem, penalty: Penalty, null_fit: NullFit, coef: Coef, intercept: Intercept
) -> Certificate:
    at = evaluate(problem, *problem.to_working(coef, intercept))
    return certificate_at(problem, penalty, null_fit, at)


class Evaluation(NamedTuple):
    """An iterate in working coordinates, with its predictor and its loss gradient.

    Attributes:
        coef: working coefficients.
        intercept: working intercept.
        z: predictor.
        residual: weighted loss gradient ω∇f(z) in the predictor.
        gradient: loss gradient Xᵀω∇f(z) in the coefficients.
        intercept_cost: half the squared Newton decrement in the intercept, if the intercept minimises the
            loss at these coefficients; None for any other intercept.
    """

    coef: Float[Array, "p *K"]
    intercept: Float[Array, "*K"]
    z: Float[Array, "n *K"]
    residual: Float[Array, "n *K"]
    gradient: Float[Array, "p *K"]
    intercept_cost: Scalar | None = None


def evaluate(problem: Problem, coef: Coef, intercept: Intercept) -> Evaluation:
    """Evaluate predictor and gradient at working coefficients, by one product with X and one with Xᵀ."""
    z = problem.predictor(coef, intercept)
    residual = problem.residual(z)
    return Evaluation(coef, intercept, z, residual, problem.design.rmatmul(residual))


def evaluate_at_best_intercept(problem: Problem, coef: Coef, intercept: Intercept) -> Evaluation:
    """Evaluate coefficients at the best intercept for them; the search for it starts at the given one."""
    return _with_best_intercept(problem, coef, intercept, problem.predictor(coef, intercept))


def _with_best_intercept(problem: Problem, coef: Coef, intercept: Intercept, z: Predictor) -> Evaluation:
    """Evaluate the predictor z of an iterate, shifted to the best intercept."""
    if not problem.intercept:
        shift, u, cost = 0.0, problem.loss.gradient(z, problem.y), jnp.zeros((), z.dtype)
    else:
        shift, u, cost = fit_intercept(problem, z)
    residual = problem.weighted(u)
    return Evaluation(
        coef, intercept + shift, z + shift, residual, problem.design.rmatmul(residual), intercept_cost=cost
    )


def certificate_at(
    problem: Problem, penalty: Penalty, null_fit: NullFit, at: Evaluation, tol: ArrayLike = 0.0
) -> Certificate:
    """Compute the certificate of an iterate; a gap ≤ `tol` is not refined by a better dual scale."""
    with jax.default_matmul_precision("highest"):
        kkt = kkt_residual(problem, penalty, null_fit, at)
        if not penalty.has_conjugate:
            return Certificate(jnp.full_like(kkt, jnp.inf), kkt)
        dual = _dual_point(problem, penalty, null_fit, at)
        gap = _gap(problem, penalty, at, dual, tol * null_fit.loss_range) / null_fit.loss_range
        gap = jnp.where(jnp.isfinite(gap), jnp.maximum(gap, 0.0), jnp.inf)
        return Certificate(_inf_if_infeasible(problem, at, gap), kkt)


def _inf_if_infeasible(problem: Problem, at: Evaluation, x: Scalar) -> Scalar:
    """Replace x by inf where the problem has no intercept and the iterate has one."""
    return x if problem.intercept else jnp.where(jnp.all(at.intercept == 0), x, jnp.inf)


# ---------------------------------------------------------------- KKT residual


def curvature_bound(problem: Problem, z: Predictor, max_eigenvalue: Scalar) -> Scalar:
    """Bound the loss's curvature in the coefficients: globally if the loss is smooth, otherwise at z.

    Args:
        problem: the problem.
        z: the predictor (n,) or (n, K).
        max_eigenvalue: the largest eigenvalue of XᵀWX.
    """
    smoothness = problem.loss.smoothness()
    if isinstance(smoothness, float) and math.isfinite(smoothness):
        return max_eigenvalue * smoothness
    smoothness = jnp.asarray(smoothness, problem.dtype)
    curvature = jax.jvp(lambda z: problem.loss.gradient(z, problem.y), (z,), (jnp.ones_like(z),))[1]
    local = jnp.maximum(jnp.max(jnp.abs(curvature)), jnp.finfo(problem.dtype).tiny)
    return max_eigenvalue * jnp.where(jnp.isinf(smoothness), local, smoothness)


def kkt_residual(problem: Problem, penalty: Penalty, null_fit: NullFit, at: Evaluation) -> Scalar:
    """Return ‖(w − prox(w − t∇f, t))/t‖∞ at t = 1/curvature, intercept included, over ‖∇f(null)‖∞."""
    t = 1 / curvature_bound(problem, at.z, null_fit.max_eigenvalue)
    prox_step = penalty.prox(at.coef - t * at.gradient, t)
    largest = jnp.max(jnp.abs(at.coef - prox_step)) / t
    if problem.intercept:
        largest = jnp.maximum(largest, jnp.max(jnp.abs(jnp.sum(at.residual, axis=0))))
    return _inf_if_infeasible(problem, at, largest / null_fit.max_grad)


# ---------------------------------------------------------------- duality gap


class _DualPoint(NamedTuple):
    """A dual point before rescaling.

    Attributes:
        u: loss gradient ∇f of each sample.
        theta: θ = −Xᵀ(ωu), 0 along unpenalised directions.
        infeasibility: bound on the effect of rounding on the gap: Σᵢ ωᵢuᵢ and the part of Xᵀ(ωu) along
            unpenalised directions are not exactly 0.
    """

    u: Float[Array, "n *K"]
    theta: Float[Array, "p *K"]
    infeasibility: Scalar


def _gap(problem: Problem, penalty: Penalty, at: Evaluation, dual: _DualPoint, target: ArrayLike) -> Scalar:
    """Bound P − D at the dual point s·u with the best s found; the search ends at a gap ≤ `target`."""
    u, theta, infeasibility = dual
    value_plus_rounding = penalty.value(at.coef) + infeasibility + _predictor_rounding(problem, at, u)

    def loss_part(s: Scalar) -> Scalar:
        return jnp.sum(problem.weight * problem.loss.fenchel_gap(at.z, problem.y, s * u))

    def inner(s: Scalar) -> Scalar:
        return jnp.sum(s * theta * at.coef)

    def gap(s: Scalar) -> Scalar:
        return loss_part(s) + penalty.conjugate(s * theta) - inner(s) + value_plus_rounding

    s_max = penalty.dual_scale(theta)
    # A few roundings inside the domain of the conjugate, where its value is finite.
    s_max = jnp.where(s_max < 1, s_max * (1 - 4 * jnp.finfo(problem.dtype).eps), s_max)
    return _minimise_over_scale(gap, s_max, target)


class _Point(NamedTuple):
    """A dual scale s and the gap there."""

    s: Scalar
    value: Scalar


class _Bracket(NamedTuple):
    """State of the search for the best scale.

    Attributes:
        low: lower end.
        best: best scale so far, between the ends.
        high: upper end.
        trial: next scale to evaluate.
        count: number of scales evaluated.
    """

    low: _Point
    best: _Point
    high: _Point
    trial: Scalar
    count: Count

    def next_trial(self) -> Scalar:
        """Return the vertex of the parabola through the three points if it lies between the ends.

        Otherwise return the mirror image of the best scale between the ends. While no value is finite, halve
        the scale.
        """
        low, best, high = self.low, self.best, self.high
        left, right = best.s - low.s, high.s - best.s
        a, b = left * (best.value - high.value), right * (low.value - best.value)
        vertex = best.s - 0.5 * (left * a + right * b) / (a - b)
        usable = (vertex > low.s) & (vertex < high.s) & (vertex != best.s)
        opposite = jnp.where(usable, vertex, low.s + high.s - best.s)
        return jnp.where(jnp.isfinite(best.value), opposite, 0.5 * self.trial)


def _minimise_over_scale(f: Callable[[Scalar], Scalar], s_max: Scalar, target: ArrayLike) -> Scalar:
    """Return the smallest value of a convex f that a search of [0, s_max] finds, starting at s_max.

    The search is that of Brent (1973), Algorithms for minimization without derivatives, chapter 5, without
    its safeguards: golden sections, then parabolas. It ends at the first value ≤ `target`, which is f(s_max)
    near an optimum, or after 12 values.
    """

    def search(at: _Bracket) -> _Bracket:
        new = _Point(at.trial, jnp.where(at.trial <= s_max, f(at.trial), jnp.inf))
        better = new.value < at.best.value
        # The worse of the two points becomes the end on its side of the better one.
        end, best = tree_where(better, at.best, new), tree_where(better, new, at.best)
        end_is_low = end.s < best.s
        low, high = tree_where(end_is_low, end, at.low), tree_where(end_is_low, at.high, end)
        bracket = _Bracket(low, best, high, at.trial, at.count + 1)
        return bracket._replace(trial=bracket.next_trial())

    def unfinished(at: _Bracket) -> Flag:
        return (at.best.value > target) & (at.count < _MAX_SCALES)

    nothing = _Point(jnp.zeros_like(s_max), jnp.full_like(s_max, jnp.inf))
    # s_max divides [0, s_max/0.618] by the golden section.
    start = _Bracket(nothing, nothing, nothing._replace(s=s_max / _GOLDEN), s_max, jnp.array(0))
    return jax.lax.while_loop(unfinished, search, start).best.value


def _predictor_rounding(problem: Problem, at: Evaluation, u: Predictor) -> Scalar:
    """Bound the effect on the loss of rounding each sample's predictor, to first order.

    The bound holds in working coordinates. On the scale of the data the intercept is rounded once more, which
    matters if features or targets have large means.
    """
    size = jnp.abs(at.z) + jnp.abs(problem.offset) + jnp.abs(at.intercept)
    return 2 * jnp.finfo(problem.dtype).eps * norm(problem.weighted(u * size))


# ---------------------------------------------------------------- dual point


def _dual_point(problem: Problem, penalty: Penalty, null_fit: NullFit, at: Evaluation) -> _DualPoint:
    """Return the loss gradient after minimising over the intercept and the unpenalised directions.

    If the iterate does not have the best intercept, this takes one product with the design; with unpenalised
    directions it takes further products.
    """
    if at.intercept_cost is None:
        at = _with_best_intercept(problem, at.coef, at.intercept, at.z)
    z, gradient = at.z, at.gradient
    dual = _DualPoint(problem.loss.gradient(z, problem.y), -gradient, at.intercept_cost)
    if not any(null_fit.capacity):
        return dual

    def fit_unpenalised(at_coef: tuple[_DualPoint, Coef]) -> tuple[_DualPoint, Coef]:
        _, coef = at_coef
        basis = orthonormal_basis(problem, penalty, null_fit.capacity, coef)
        fitted = refit(problem, basis, z, steps=10)
        u = problem.loss.gradient(fitted.z, problem.y)
        gradient = problem.design.rmatmul(problem.weighted(u))
        unpenalised = penalty.project_on_unpenalised(gradient, coef)
        penalised = gradient - unpenalised
        # gradient − penalised, not `unpenalised`: this includes the rounding error of `penalised`.
        cost = _refit_infeasibility(problem, basis, fitted, gradient - penalised)
        return _DualPoint(u, -penalised, cost), coef

    needed = jnp.any(penalty.project_on_unpenalised(-gradient, at.coef) != 0)
    return apply_if(needed, fit_unpenalised, (dual, at.coef))[0]


def _refit_infeasibility(problem: Problem, basis: Basis, fitted: Refit, unpenalised_grad: Coef) -> Scalar:
    """Bound the further decrease of the loss along unpenalised directions, rounding included."""
    eps = jnp.finfo(problem.dtype).eps
    curvature = _mean_curvature(problem, fitted.z)
    # A basis vector of small singular value σ is itself known within eps/σ.
    rounding = fitted.noise * basis.error
    cost = fitted.decrement + 0.5 * jnp.sum(rounding**2) / curvature
    cost += jnp.sum(jnp.abs(fitted.u) * (jnp.abs(fitted.grad) + rounding))
    # Directions beyond the capacity of the basis: a bound for singular values down to √√eps.
    length = jnp.sqrt(problem.design.squares(problem.weight))
    length = jnp.where(length > 0, length, 1.0)
    cost += 0.5 * jnp.sum((unpenalised_grad.T / length) ** 2) / (jnp.sqrt(eps) * curvature)
    settled = fitted.step <= UNSETTLED * problem.loss.target_scale(problem.y, problem.weight)
    return jnp.where(settled, cost, jnp.inf)


def _mean_curvature(problem: Problem, z: Predictor) -> Scalar:
    """Return the loss's mean curvature along (1, −1, 1, …) over the outputs, the same for all samples."""
    signs = jnp.ones_like(z) if z.ndim == 1 else jnp.broadcast_to((-1.0) ** jnp.arange(z.shape[1]), z.shape)
    signs = signs.astype(z.dtype)
    curvature = jnp.sum(signs * jax.jvp(problem.residual, (z,), (signs,))[1]) / (z.size / z.shape[0])
    return jnp.where(curvature > 0, curvature, 1.0)
