"""The null fit: the model of intercept, offset and unpenalised directions alone, where every path begins.

Duality gaps and KKT residuals are relative to the null fit. Its units and the largest eigenvalue of the
design's Gram matrix are computed once per problem.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreg._typing import Scalar
from jaxreg._validation import holds, require
from jaxreg.linear.design import Design
from jaxreg.linear.problem import Problem
from jaxreg.linear.unpenalised import Capacity, capacity, orthonormal_basis, refit
from jaxreg.penalties import Penalty

__all__ = ["UNSETTLED", "NullFit", "UnpenalisedFit", "fit_null_model", "fit_unpenalised", "initial_intercept"]


#: A fit whose next Newton step changes some predictor by more than this, in units of the targets, has no
#: minimum: where directions separate the classes, each step changes a predictor by about 1.
UNSETTLED = 0.1

#: Lanczos steps: more than enough for the largest eigenvalue to a percent.
_LANCZOS_STEPS = 12

#: Factor on the eigenvalue from below, by which it becomes an upper bound on nearly all designs.
_EIGENVALUE_MARGIN = 1.02


class NullFit(eqx.Module):
    """The null fit, the units of gaps and residuals, and the geometry of the design.

    Attributes:
        coef: working coefficients (p,) or (p, K), 0 but for unpenalised directions.
        intercept: working intercept () or (K,).
        loss_range: null loss − saturated loss, or 1 where that is 0.
        max_grad: the largest gradient at the null fit, or 1 where that is 0.
        max_eigenvalue: the largest eigenvalue of XᵀWX, within 2 %.
        capacity: the number of unpenalised directions for which a certificate has room.
    """

    coef: Array
    intercept: Array
    loss_range: Scalar
    max_grad: Scalar
    max_eigenvalue: Scalar
    capacity: Capacity = eqx.field(static=True)


class UnpenalisedFit(NamedTuple):
    """Working coefficients and intercept, and the largest change of the predictor in a further Newton step.

    `step` is large where the minimum does not exist, as for classes that these directions separate.
    """

    coef: Array
    intercept: Array
    step: Scalar


def fit_unpenalised(
    problem: Problem, penalty: Penalty, size: Capacity, start: tuple[Array, Array], steps: int = 50
) -> UnpenalisedFit:
    """Minimise the loss over the intercept and the unpenalised directions.

    Args:
        problem: the problem.
        penalty: the working penalty, which says what is unpenalised.
        size: the capacity for unpenalised directions.
        start: working coefficients and intercept, whose penalised part stays as it is.
        steps: the limit of Newton steps.
    """
    coef, intercept = start
    if not (problem.intercept or any(size)):
        return UnpenalisedFit(coef, intercept, jnp.zeros((), problem.dtype))
    basis = orthonormal_basis(problem, penalty, size, coef)
    fitted = refit(problem, basis, problem.predictor(coef, intercept), steps)
    coef_change, intercept_change = basis.change(fitted.u, problem)
    return UnpenalisedFit(coef + coef_change, intercept + intercept_change, fitted.step)


def initial_intercept(problem: Problem) -> Array:
    """Return the intercept of the model without features, exact where the loss has a closed form for it."""
    if not problem.intercept:
        return problem.zeros()[1]
    exact = problem.loss.optimal_shift(problem.offset, problem.y, problem.weight)
    if exact is not None:
        return exact
    null = problem.loss.null_predictor(problem.y, problem.weight, problem.outputs)
    return null - problem.weight @ problem.offset


def fit_null_model(
    problem: Problem, penalty: Penalty, gram: Array | None = None, size: Capacity | None = None
) -> NullFit:
    """Fit the null model and derive the units of certificates from it.

    There are two compiled programs: the null model depends on loss and penalty, the largest eigenvalue on the
    design alone, so that all losses and penalties share its program.

    Args:
        problem: the problem.
        penalty: the working penalty.
        gram: the Gram matrix XᵀWX (p, p), with which the largest eigenvalue takes no pass over X.
        size: the capacity for unpenalised directions; None for that of the penalty.

    Raises:
        ValueError: if concrete data have no finite null fit.
    """
    size = capacity(problem, penalty) if size is None else size
    model = _fit_null_model(problem, penalty, size)
    require(
        holds(lambda step, unit: step <= UNSETTLED * unit, model.step, model.unit),
        "the null fit did not converge: the model of intercept and unpenalised features alone has no finite"
        " fit, since they separate the targets (classes, zero counts) exactly, or offsets are extreme."
        " Penalise or drop these features, or rescale the offsets",
    )
    return _with_eigenvalue(problem.design, problem.weight, gram, model, size)


class _NullModel(NamedTuple):
    """The null model before its units are known to be positive.

    `max_grad` is the largest gradient in the coefficients, `residual_square` Σ ω·∇f², `step` as in
    `UnpenalisedFit`, and `unit` the unit of the targets.
    """

    coef: Array
    intercept: Array
    loss_range: Scalar
    max_grad: Scalar
    residual_square: Scalar
    step: Scalar
    unit: Scalar


@eqx.filter_jit
def _fit_null_model(problem: Problem, penalty: Penalty, size: Capacity) -> _NullModel:
    with jax.default_matmul_precision("highest"):
        loss, weight, y = problem.loss, problem.weight, problem.y
        start = problem.zeros()[0], initial_intercept(problem)
        z_start = z = problem.predictor(*start)
        fit = UnpenalisedFit(*start, jnp.zeros((), problem.dtype))
        exact = loss.optimal_shift(problem.offset, y, weight) is not None
        if any(size) or not exact:
            fit = fit_unpenalised(problem, penalty, size, start)
            z = problem.predictor(fit.coef, fit.intercept)
        saturated = jnp.sum(weight * loss.saturated(y))
        # Where unpenalised features explain y exactly, the rounding errors that are left are no unit.
        floor = jnp.finfo(problem.dtype).eps * (problem.value(z_start) - saturated)
        u = loss.gradient(z, y)
        residual = problem.weighted(u)
        return _NullModel(
            fit.coef,
            fit.intercept,
            loss_range=jnp.maximum(problem.value(z) - saturated, floor),
            max_grad=jnp.max(jnp.abs(problem.design.rmatmul(residual))),
            residual_square=jnp.sum(residual * u),
            step=fit.step,
            unit=loss.target_scale(y, weight),
        )


@eqx.filter_jit
def _with_eigenvalue(
    design: Design, weight: Array, gram: Array | None, model: _NullModel, size: Capacity
) -> NullFit:
    with jax.default_matmul_precision("highest"):
        max_eigenvalue = _largest_eigenvalue(design, weight, gram)
        # A null fit that explains all that X can leaves rounding errors, which are no unit to measure with.
        bound = jnp.sqrt(model.residual_square * max_eigenvalue)
        measurable = model.max_grad > 1e3 * jnp.finfo(bound.dtype).eps * bound
        max_grad = jnp.where(measurable, model.max_grad, bound)

    def positive(x: Scalar) -> Scalar:
        return jnp.where(x > 0, x, 1.0).astype(bound.dtype)

    return NullFit(
        model.coef, model.intercept, positive(model.loss_range), positive(max_grad), max_eigenvalue, size
    )


def _largest_eigenvalue(design: Design, weight: Array, gram: Float[Array, "p p"] | None) -> Scalar:
    """Estimate the largest eigenvalue of XᵀWX from above; solvers guard against the rare underestimate."""
    tiny = jnp.finfo(design.dtype).tiny
    tridiagonal = _lanczos(design, weight, gram)

    def square(_: int, power: Array) -> Array:
        return power @ power / jnp.maximum(jnp.linalg.norm(power @ power), tiny)

    # The Rayleigh quotient of the 2¹⁰th power: a projection on the first eigenvector.
    start = tridiagonal / jnp.maximum(jnp.linalg.norm(tridiagonal), tiny)
    power = jax.lax.fori_loop(0, 10, square, start)
    largest = jnp.sum(power * tridiagonal) / jnp.maximum(jnp.trace(power), tiny)
    diagonal = design.squares(weight) if gram is None else jnp.diagonal(gram)
    largest = _EIGENVALUE_MARGIN * jnp.maximum(largest, jnp.max(diagonal))
    return jnp.where(largest > 0, largest, 1.0)


def _lanczos(design: Design, weight: Array, gram: Float[Array, "p p"] | None) -> Float[Array, "k k"]:
    """Return the tridiagonal matrix of Lanczos' method for XᵀWX, from a start in general position."""
    tiny, eps = jnp.finfo(design.dtype).tiny, jnp.finfo(design.dtype).eps
    v = jnp.cos(jnp.arange(design.shape[1]) * 1.7 + 0.3).astype(design.dtype)

    def step(carry: tuple[Array, Array, Array], _: None) -> tuple[Any, tuple[Array, Array]]:
        previous, v, beta = carry
        u = (design.rmatmul(weight * design.matmul(v)) if gram is None else gram @ v) - beta * previous
        alpha = u @ v
        u = u - alpha * v
        # An exhausted Krylov space leaves rounding errors only: end there.
        size = jnp.linalg.norm(u)
        beta = jnp.where(size > 1e3 * eps * jnp.abs(alpha), size, 0.0)
        return (v, jnp.where(beta > 0, u / jnp.maximum(beta, tiny), 0.0), beta), (alpha, beta)

    start = (jnp.zeros_like(v), v / jnp.linalg.norm(v), jnp.zeros((), v.dtype))
    alphas, betas = jax.lax.scan(step, start, None, _LANCZOS_STEPS)[1]
    return jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1)
