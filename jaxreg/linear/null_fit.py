"""The null fit: the model of intercept, offset and unpenalised directions alone, where every path begins.

Gaps and residuals are relative to it. Its units and the spectrum of the design are computed once per problem.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._typing import Scalar
from jaxreg._validation import holds, require
from jaxreg.linear.design import Design
from jaxreg.linear.problem import Problem
from jaxreg.linear.unpenalised import Capacity, capacity, orthonormal_basis, refit
from jaxreg.penalties import Penalty

__all__ = ["UNSETTLED", "NullFit", "fit_null_model", "fit_unpenalised", "start_of_intercept"]


#: A fit whose next Newton step changes some predictor by more than this, in units of the targets, has no
#: minimum: where directions separate the classes, each step changes a predictor by about 1.
UNSETTLED = 0.1


class NullFit(eqx.Module):
    """What gaps and residuals are relative to, and the geometry of the design: once per problem.

    `coef`, `intercept`: the null fit. `loss_range`: its loss − the saturated loss; `max_grad`: its largest
    gradient; both are 1 where they would be 0. `max_eigenvalue`: the largest of XᵀWX, within 2 %.
    `capacity`: how many unpenalised directions a certificate makes room for.
    """

    coef: Array
    intercept: Array
    loss_range: Scalar
    max_grad: Scalar
    max_eigenvalue: Scalar
    capacity: Capacity = eqx.field(static=True)


def fit_unpenalised(
    problem: Problem, penalty: Penalty, size: Capacity, start: tuple[Array, Array], steps: int = 50
) -> tuple[Array, Array, Scalar]:
    """Minimise the loss over intercept and unpenalised directions, from working coefficients and intercept.

    Returns both and the largest change of the predictor in a further Newton step: large where the minimum
    does not exist, as for classes that these directions separate.
    """
    coef, intercept = start
    if not (problem.intercept or any(size)):
        return coef, intercept, jnp.zeros((), problem.dtype)
    basis = orthonormal_basis(problem, penalty, size, coef)
    found = refit(problem, basis, problem.predictor(coef, intercept), steps)
    change = basis.change(found.u, problem)
    return coef + change[0], intercept + change[1], found.step


def start_of_intercept(problem: Problem) -> Array:
    """Return the intercept of the model without features, exact where the loss has a closed form for it."""
    if not problem.intercept:
        return problem.zeros()[1]
    y = problem.y
    exact = problem.loss.optimal_shift(problem.offset, y, problem.weight)
    if exact is not None:
        return exact
    if problem.outputs and y.ndim == 1:
        y = jax.nn.one_hot(y, problem.outputs[0], dtype=problem.dtype)
    mean = problem.weight @ y
    tiny = jnp.finfo(problem.dtype).tiny
    near = problem.loss.link(mean if problem.loss.smoothness() == 1.0 else jnp.maximum(mean, tiny))
    return near - problem.weight @ problem.offset


def fit_null_model(
    problem: Problem, penalty: Penalty, gram: Array | None = None, size: Capacity | None = None
) -> NullFit:
    """Fit the null model (intercept, offset, unpenalised directions) and derive the units from it.

    Given the Gram matrix XᵀWX, the spectrum takes no pass over X. `size` is the capacity for unpenalised
    directions, None for that of the penalty. Two programs: the null fit depends on loss and penalty, the
    spectrum on the design alone, so that all of them share it. Raises ValueError where concrete data have no
    finite null fit.
    """
    size = capacity(problem, penalty) if size is None else size
    fit = _null_fit(problem, penalty, size)
    require(
        holds(lambda step, unit: step <= UNSETTLED * unit, fit.step, fit.unit),
        "the null fit did not converge: the model of intercept and unpenalised features alone has no finite"
        " fit, since they separate the targets (classes, zero counts) exactly, or offsets are extreme."
        " Penalise or drop these features, or rescale the offsets",
    )
    return _with_spectrum(problem.design, problem.weight, gram, fit, size)


class _NullModel(NamedTuple):
    """Null model: coefficients, intercept, loss over the saturated one, largest gradient, Σ residual²."""

    coef: Array
    intercept: Array
    loss_range: Scalar
    gradient: Scalar
    square: Scalar
    step: Scalar
    unit: Scalar


@eqx.filter_jit
def _null_fit(problem: Problem, penalty: Penalty, size: Capacity) -> _NullModel:
    with jax.default_matmul_precision("highest"):
        eps = jnp.finfo(problem.dtype).eps
        start = problem.zeros()[0], start_of_intercept(problem)
        exact = problem.loss.optimal_shift(problem.offset, problem.y, problem.weight) is not None
        if exact and not any(size):
            coef, intercept, step = *start, jnp.zeros((), problem.dtype)
        else:
            coef, intercept, step = fit_unpenalised(problem, penalty, size, start)
        z = problem.predictor(coef, intercept)
        saturated = jnp.sum(problem.weight * problem.loss.saturated(problem.y))
        # Where unpenalised features explain y exactly, the rounding errors that are left are no unit.
        floor = eps * (problem.value(problem.predictor(*start)) - saturated)
        residual = problem.residual(z)
        return _NullModel(
            coef,
            intercept,
            jnp.maximum(problem.value(z) - saturated, floor),
            jnp.max(jnp.abs(problem.design.rmatmul(residual))),
            jnp.sum(residual * problem.loss.gradient(z, problem.y)),
            step,
            problem.loss.target_scale(problem.y, problem.weight),
        )


@eqx.filter_jit
def _with_spectrum(
    design: Design, weight: Array, gram: Array | None, fit: _NullModel, size: Capacity
) -> NullFit:
    with jax.default_matmul_precision("highest"):
        spectrum = _spectrum(design, weight, gram)
        # A null fit that explains all that X can leaves rounding errors, which are no unit to measure with.
        largest = jnp.sqrt(fit.square * spectrum)
        gradient = jnp.where(
            fit.gradient > 1e3 * jnp.finfo(largest.dtype).eps * largest, fit.gradient, largest
        )
        positive = lambda x: jnp.where(x > 0, x, 1.0).astype(largest.dtype)  # noqa: E731
        return NullFit(fit.coef, fit.intercept, positive(fit.loss_range), positive(gradient), spectrum, size)


#: Lanczos steps: more than enough for the largest eigenvalue to a percent.
_LANCZOS = 12


def _spectrum(design: Design, weight: Array, gram: Array | None) -> Scalar:
    """Largest eigenvalue of XᵀWX by Lanczos' method, a little above; the solvers guard against the rest."""
    tiny = jnp.finfo(design.dtype).tiny
    v = jnp.cos(jnp.arange(design.shape[1]) * 1.7 + 0.3).astype(design.dtype)

    def body(carry: tuple[Array, Array, Array], _: None) -> tuple[Any, tuple[Array, Array]]:
        before, v, beta = carry
        u = (design.rmatmul(weight * design.matmul(v)) if gram is None else gram @ v) - beta * before
        alpha = u @ v
        u = u - alpha * v
        # A Krylov space that is exhausted leaves rounding: it ends there.
        size = jnp.linalg.norm(u)
        beta = jnp.where(size > 1e3 * jnp.finfo(u.dtype).eps * jnp.abs(alpha), size, 0.0)
        return (v, jnp.where(beta > 0, u / jnp.maximum(beta, tiny), 0.0), beta), (alpha, beta)

    start = (jnp.zeros_like(v), v / jnp.linalg.norm(v), jnp.zeros((), v.dtype))
    alphas, betas = jax.lax.scan(body, start, None, _LANCZOS)[1]
    small = jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1)

    def square(_: int, power: Array) -> Array:
        return power @ power / jnp.maximum(jnp.linalg.norm(power @ power), tiny)

    power = jax.lax.fori_loop(0, 10, square, small / jnp.maximum(jnp.linalg.norm(small), tiny))
    top = jnp.sum(power * small) / jnp.maximum(jnp.trace(power), tiny)
    diagonal = design.squares(weight) if gram is None else jnp.diagonal(gram)
    top = 1.02 * jnp.maximum(top, jnp.max(diagonal))
    return jnp.where(top > 0, top, 1.0)
