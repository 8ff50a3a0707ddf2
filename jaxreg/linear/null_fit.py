"""The null fit: the model of intercept, offset and unpenalised directions alone, where every path begins.

Duality gaps are divided by the loss range of the null fit (null loss − saturated loss), KKT residuals by the
largest gradient there. These two units and the largest eigenvalue of XᵀWX are computed once per problem.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxreg._compilation import jit_at_level
from jaxreg._numerics import diagonal
from jaxreg._typing import Scalar
from jaxreg._validation import holds, require
from jaxreg.linear._shapes import Coef, Count, Flag, Intercept
from jaxreg.linear.design import Design
from jaxreg.linear.problem import Problem
from jaxreg.linear.unpenalised import Capacity, count_unpenalised, orthonormal_basis, refit
from jaxreg.penalties import Penalty

__all__ = [
    "UNSETTLED",
    "NullFit",
    "UnpenalisedFit",
    "fit_null_model",
    "fit_unpenalised",
    "initial_intercept",
    "is_unique_and_finite",
]


#: Change of a predictor by a further Newton step, in units of the targets, above which a loss has no minimum:
#: if directions separate the classes, each step changes a predictor by about 1.
UNSETTLED = 0.1

#: The same for unpenalised fits that are returned to the user. These take more Newton steps, so that the
#: change is far smaller where there is a minimum.
_NO_MINIMUM = 1e-3

#: Lanczos steps, usually more than enough for an error of 1 % in the largest eigenvalue.
_LANCZOS_STEPS = 12

#: Factor that turns the lower estimate of Lanczos' method into an upper bound on nearly all designs.
_EIGENVALUE_MARGIN = 1.02


class NullFit(eqx.Module):
    """The null fit, the units of gaps and residuals, and the geometry of the design.

    Attributes:
        coef: working coefficients (p,) or (p, K), 0 but for unpenalised directions.
        intercept: working intercept () or (K,).
        loss_range: null loss − saturated loss, or 1 where that is 0.
        max_grad: the largest gradient at the null fit, or 1 where that is 0.
        max_eigenvalue: an estimate of the largest eigenvalue of XᵀWX, usually up to 2 % too large.
        capacity: the upper limit of the number of unpenalised directions that a certificate handles.
    """

    coef: Coef
    intercept: Intercept
    loss_range: Scalar
    max_grad: Scalar
    max_eigenvalue: Scalar
    capacity: Capacity = eqx.field(static=True)


class UnpenalisedFit(NamedTuple):
    """Fit of the intercept and the unpenalised directions.

    Attributes:
        coef: working coefficients.
        intercept: working intercept.
        step: largest change of the predictor in a further Newton step. It is large if there is no minimum,
            for example if the directions separate the classes.
        rank: number of linearly independent directions, intercept included, summed over outputs.
    """

    coef: Coef
    intercept: Intercept
    step: Scalar
    rank: Count


def fit_unpenalised(
    problem: Problem, penalty: Penalty, capacity: Capacity, start: tuple[Coef, Intercept], steps: int = 50
) -> UnpenalisedFit:
    """Minimise the loss over the intercept and the unpenalised directions.

    Args:
        problem: the problem.
        penalty: the working penalty, which defines the unpenalised directions.
        capacity: the upper limit of the number of unpenalised directions.
        start: working coefficients and intercept, whose penalised part stays as it is.
        steps: the limit of Newton steps.
    """
    coef, intercept = start
    if not (problem.intercept or any(capacity)):
        return _without_directions(problem, start)
    basis = orthonormal_basis(problem, penalty, capacity, coef)
    fitted = refit(problem, basis, problem.predictor(coef, intercept), steps)
    coef_change, intercept_change = basis.change(fitted.u, problem)
    rank = jnp.sum(basis.error > 0)
    return UnpenalisedFit(coef + coef_change, intercept + intercept_change, fitted.step, rank)


def _without_directions(problem: Problem, start: tuple[Coef, Intercept]) -> UnpenalisedFit:
    """Return a start as its own fit, along no direction."""
    return UnpenalisedFit(*start, jnp.zeros((), problem.dtype), jnp.array(0))


def is_unique_and_finite(problem: Problem, fit: UnpenalisedFit, n_directions: Count) -> Flag:
    """Return whether a fit is the only one along `n_directions` over all outputs, and finite."""
    step = _NO_MINIMUM * problem.loss.target_scale(problem.y, problem.weight)
    return (fit.rank == n_directions) & (fit.step <= step)


def initial_intercept(problem: Problem) -> Intercept:
    """Return the intercept of the model without features, exact where the loss has a closed form for it."""
    if not problem.intercept:
        return problem.zeros()[1]
    exact = problem.loss.optimal_shift(problem.counted(problem.offset), problem.y, problem.weight)
    if exact is not None:
        return exact
    null = problem.loss.null_predictor(problem.y, problem.weight, problem.outputs)
    return null - problem.weight @ problem.offset


def _initial_intercept_is_exact(problem: Problem) -> bool:
    """Return whether `initial_intercept` minimises the loss, which is known while tracing."""
    loss = problem.loss
    if not problem.intercept or (loss.null_predictor_is_exact and not problem.with_offset):
        return True
    return loss.optimal_shift(problem.offset, problem.y, problem.weight) is not None


def fit_null_model(
    problem: Problem,
    penalty: Penalty,
    gram: Float[Array, "p p"] | None = None,
    capacity: Capacity | None = None,
) -> NullFit:
    """Fit the null model and derive the units of certificates from it.

    Two programs are compiled: the null model (per loss and penalty) and the largest eigenvalue (per design,
    shared by all losses and penalties).

    Args:
        problem: the problem.
        penalty: the working penalty.
        gram: the Gram matrix XᵀWX (p, p), with which the largest eigenvalue takes no pass over X.
        capacity: the upper limit of the number of unpenalised directions; None counts those of the penalty.

    Raises:
        ValueError: if concrete data have no finite null fit.
    """
    capacity = count_unpenalised(problem, penalty) if capacity is None else capacity
    model = _fit_null_model(problem, penalty, capacity)
    require(
        holds(lambda step, unit: step <= UNSETTLED * unit, model.step, model.unit),
        "the null fit did not converge: the model of intercept and unpenalised features alone has no finite"
        " fit, since they separate the targets (classes, zero counts) exactly, or offsets are extreme."
        " Penalise or drop these features, or rescale the offsets",
    )
    return _with_eigenvalue(problem.design, problem.weight, gram, model, capacity)


class _NullModel(NamedTuple):
    """The null model, with units that may still be 0 or rounding error.

    Attributes:
        coef: working coefficients.
        intercept: working intercept.
        loss_range: null loss − saturated loss.
        max_grad: largest gradient in the coefficients.
        residual_square: Σᵢ ωᵢ(∇fᵢ)².
        step: see `UnpenalisedFit`.
        unit: unit of the targets.
    """

    coef: Coef
    intercept: Intercept
    loss_range: Scalar
    max_grad: Scalar
    residual_square: Scalar
    step: Scalar
    unit: Scalar


@jit_at_level(0)
def _fit_null_model(problem: Problem, penalty: Penalty, capacity: Capacity) -> _NullModel:
    with jax.default_matmul_precision("highest"):
        loss, weight, y = problem.loss, problem.weight, problem.y
        start = problem.zeros()[0], initial_intercept(problem)
        z_start = z = problem.predictor(*start)
        fit = _without_directions(problem, start)
        if any(capacity) or not _initial_intercept_is_exact(problem):
            fit = fit_unpenalised(problem, penalty, capacity, start)
            z = problem.predictor(fit.coef, fit.intercept)
        saturated = jnp.sum(weight * loss.saturated(y))
        # If unpenalised features explain y exactly, the remaining rounding errors must not serve as the unit.
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


@jit_at_level(0)
def _with_eigenvalue(
    design: Design,
    weight: Float[Array, " n"],
    gram: Float[Array, "p p"] | None,
    model: _NullModel,
    capacity: Capacity,
) -> NullFit:
    with jax.default_matmul_precision("highest"):
        max_eigenvalue = _largest_eigenvalue(design, weight, gram)
        # If no column of X can improve the null fit, the gradient is rounding error, which must not serve as
        # the unit.
        bound = jnp.sqrt(model.residual_square * max_eigenvalue)
        measurable = model.max_grad > 1e3 * jnp.finfo(bound.dtype).eps * bound
        max_grad = jnp.where(measurable, model.max_grad, bound)

    def positive(x: Scalar) -> Scalar:
        return jnp.where(x > 0, x, 1.0).astype(bound.dtype)

    return NullFit(
        model.coef, model.intercept, positive(model.loss_range), positive(max_grad), max_eigenvalue, capacity
    )


def _largest_eigenvalue(
    design: Design, weight: Float[Array, " n"], gram: Float[Array, "p p"] | None
) -> Scalar:
    """Estimate the largest eigenvalue of XᵀWX from above; solvers guard against the rare underestimate."""
    largest = jnp.linalg.eigvalsh(_lanczos(design, weight, gram), symmetrize_input=False)[-1]
    squares = design.squares(weight) if gram is None else diagonal(gram)
    largest = _EIGENVALUE_MARGIN * jnp.maximum(largest, jnp.max(squares))
    return jnp.where(largest > 0, largest, 1.0)


def _lanczos(
    design: Design, weight: Float[Array, " n"], gram: Float[Array, "p p"] | None
) -> Float[Array, "k k"]:
    """Return the tridiagonal matrix of Lanczos' method for XᵀWX, 0 above the diagonal."""
    tiny, eps = jnp.finfo(design.dtype).tiny, jnp.finfo(design.dtype).eps
    # In general position: hardly any design has an eigenvector of its largest eigenvalue orthogonal to v.
    v = jnp.cos(jnp.arange(design.shape[1]) * 1.7 + 0.3).astype(design.dtype)

    def step(
        carry: tuple[Array, Array, Array], _: None
    ) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
        previous, v, beta = carry
        u = (design.rmatmul(weight * design.matmul(v)) if gram is None else gram @ v) - beta * previous
        alpha = u @ v
        u = u - alpha * v
        # Once the Krylov space is exhausted, only rounding errors remain: stop there.
        size = jnp.linalg.norm(u)
        beta = jnp.where(size > 1e3 * eps * jnp.abs(alpha), size, 0.0)
        return (v, jnp.where(beta > 0, u / jnp.maximum(beta, tiny), 0.0), beta), (alpha, beta)

    start = (jnp.zeros_like(v), v / jnp.linalg.norm(v), jnp.zeros((), v.dtype))
    alphas, betas = jax.lax.scan(step, start, None, _LANCZOS_STEPS)[1]
    # Row k of the lower triangle, the only part that is read, has alpha[k] and beta[k − 1].
    row, column = np.indices((_LANCZOS_STEPS, _LANCZOS_STEPS))
    return jnp.where(row == column, alphas, 0.0) + jnp.where(row == column + 1, betas, 0.0)
