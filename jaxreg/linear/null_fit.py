"""The null fit: the model of intercept, offset and unpenalised directions alone, where every path begins.

Gaps and residuals are relative to it. Its units and the spectrum of the design are computed once per problem.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array

from jaxreg._types import Scalar
from jaxreg.linear.design import Design
from jaxreg.linear.problem import Problem
from jaxreg.penalties import Penalty

__all__ = ["Reference", "fit_free", "reference"]


class Reference(eqx.Module):
    """What gaps and residuals are relative to, and the geometry of the design: once per problem.

    `coef`, `intercept`: the null fit. `loss_range`: its loss − the saturated loss; `gradient`: its largest
    gradient; both are 1 where they would be 0. `spectrum`: the largest eigenvalue of XᵀWX, within 2 %.
    """

    coef: Array
    intercept: Array
    loss_range: Scalar
    gradient: Scalar
    spectrum: Scalar


def fit_free(
    problem: Problem, coef: Array, intercept: Array, free: Callable[[Array], Array], steps: int = 30
) -> tuple[Array, Array]:
    """Minimise the loss over the intercept and the directions that the projection `free` keeps.

    Damped Newton steps whose systems are solved by conjugate gradients, in working coordinates.
    """
    eps = jnp.finfo(problem.dtype).eps

    def seen(residual: Array) -> tuple[Array, Array]:
        tilt = jnp.sum(residual, axis=0)
        return free(problem.design.rmatmul(residual)), tilt if problem.intercept else 0.0 * tilt

    def at(w: Array, b: Array) -> tuple[Any, ...]:
        z = problem.predictor(w, b)
        gradient = seen(problem.residual(z))
        size = jnp.maximum(jnp.max(jnp.abs(gradient[0]), initial=0.0), jnp.max(jnp.abs(gradient[1])))
        return w, b, z, gradient, size, problem.value(z)

    def body(state: tuple[Any, ...]) -> tuple[Any, ...]:
        now, _, k = state
        w, b, z, gradient, size, value = now

        def hessian(d: tuple[Array, Array]) -> tuple[Array, Array]:
            along = problem.design.matmul(d[0]) + d[1]
            return seen(jax.jvp(problem.residual, (z,), (along,))[1])

        # Inexact on purpose: in a singular system the digits below rounding would grow without end.
        (dw, db), _ = cg(hessian, gradient, tol=1e-3, maxiter=200)
        scales = 0.5 ** jnp.arange(12, dtype=problem.dtype)
        along = problem.design.matmul(dw) + db
        # What rounding does to the loss, which is a difference of terms as large as z.
        slack = 4 * eps * (jnp.abs(value) + jnp.sum(problem.weight @ jnp.abs(z)))
        values = jax.vmap(lambda t: problem.value(z - t * along))(scales)
        # The longest step that does not raise the loss by more than rounding (NaN compares as false).
        lower = values <= value + slack
        t = scales[jnp.argmax(lower)]
        new = at(w - t * dw, b - t * db)
        # Where the loss no longer falls the gradient must: a singular curvature lets rounding drift far.
        taken = (new[-1] < value - slack) | (new[-2] < size)
        return jax.tree.map(lambda x, y: jnp.where(taken, x, y), new, now), taken, k + 1

    def going(state: tuple[Any, ...]) -> Array:
        now, taken, k = state
        return (k < steps) & taken & (now[-2] > 0)

    return jax.lax.while_loop(going, body, (at(coef, intercept), jnp.array(True), 0))[0][:2]


def _start_of_intercept(problem: Problem) -> Array:
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


def reference(problem: Problem, penalty: Penalty, gram: Array | None = None) -> Reference:
    """Fit the null model (intercept, offset, unpenalised directions) and derive the units from it.

    Given the Gram matrix XᵀWX, the spectrum takes no pass over X. Two programs: the null fit depends on loss
    and penalty, the spectrum on the design alone, so that all of them share it.
    """
    fit = _null_fit(problem, penalty)
    return _with_spectrum(problem.design, problem.weight, gram, fit)


class _NullFit(NamedTuple):
    """Null model: coefficients, intercept, loss over the saturated one, largest gradient, Σ residual²."""

    coef: Array
    intercept: Array
    loss_range: Scalar
    gradient: Scalar
    square: Scalar


@eqx.filter_jit
def _null_fit(problem: Problem, penalty: Penalty) -> _NullFit:
    with jax.default_matmul_precision("highest"):
        coef, _ = problem.zeros()
        coef, intercept = fit_free(problem, coef, _start_of_intercept(problem), _free(penalty))
        z = problem.predictor(coef, intercept)
        saturated = jnp.sum(problem.weight * problem.loss.saturated(problem.y))
        residual = problem.residual(z)
        return _NullFit(
            coef,
            intercept,
            problem.value(z) - saturated,
            jnp.max(jnp.abs(problem.design.rmatmul(residual))),
            jnp.sum(residual * problem.loss.gradient(z, problem.y)),
        )


@eqx.filter_jit
def _with_spectrum(design: Design, weight: Array, gram: Array | None, fit: _NullFit) -> Reference:
    with jax.default_matmul_precision("highest"):
        spectrum = _spectrum(design, weight, gram)
        # A null fit that explains all that X can leaves rounding errors, which are no unit to measure with.
        size = jnp.sqrt(fit.square * spectrum)
        gradient = jnp.where(fit.gradient > 1e3 * jnp.finfo(size.dtype).eps * size, fit.gradient, size)
        positive = lambda x: jnp.where(x > 0, x, 1.0).astype(size.dtype)  # noqa: E731
        return Reference(fit.coef, fit.intercept, positive(fit.loss_range), positive(gradient), spectrum)


def _free(penalty: Penalty) -> Callable[[Array], Array]:
    """What the penalty does not see, none of it where that is not known."""
    return penalty.free if penalty.has_conjugate else jnp.zeros_like


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
