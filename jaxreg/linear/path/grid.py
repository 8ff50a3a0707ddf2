"""Where a path starts: λ_max and grids of λ."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._typing import ArrayLike, Scalar
from jaxreg._validation import holds, require
from jaxreg.linear.certificate import curvature_bound, evaluate, kkt_residual
from jaxreg.linear.null_fit import NullFit, fit_null_model
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.solvers import Outcome, ProximalGradient, iterate
from jaxreg.penalties import Family, Penalty, PenaltyGrid
from jaxreg.penalties.family import checked

__all__ = ["check_lambdas", "lambda_grid", "lambda_max"]


#: Multiples of a rounding error below which a gradient counts as 0.
_ROUNDING = 16
#: The part of its terms that the gradient of a null fit may keep where it should be 0: three digits of λ_max.
_UNFITTED = 1e-3


def lambda_grid(lambda_max: ArrayLike, num: int = 100, ratio: float = 1e-3) -> Array:
    """`num` values from `lambda_max` down to ratio·lambda_max, evenly spaced in log λ.

    ValueError where num < 1, ratio is outside (0, 1) or lambda_max is not positive.

    >>> lambda_grid(1.0, num=3, ratio=0.01).round(3).tolist()
    [1.0, 0.1, 0.01]
    """
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}")
    if not 0 < ratio < 1:
        raise ValueError(f"ratio must lie between 0 and 1, got {ratio}")
    top = jnp.asarray(lambda_max)
    require(holds(lambda top: top > 0, top), f"lambda_max must be > 0, got {lambda_max}")
    return top * ratio ** (jnp.arange(num) / max(num - 1, 1)).astype(top.dtype)


def check_lambdas(lambdas: ArrayLike) -> Array:
    """The grid as an array, or ValueError: empty, negative, NaN or not falling."""
    grid = jnp.asarray(lambdas)
    if grid.ndim != 1 or grid.size == 0:
        raise ValueError(f"lambdas must be a non-empty 1-D grid, got shape {grid.shape}")
    if not isinstance(grid, jax.core.Tracer):
        values = np.asarray(grid)
        if not np.all(values >= 0) or not np.all(np.isfinite(values)):
            raise ValueError("lambdas must be finite and ≥ 0: the grid holds negative, NaN or infinite ones")
        if np.any(np.diff(values) >= 0):
            raise ValueError("lambdas must fall from the largest to the smallest: sort them in reverse")
    return grid


class _NullGradient(NamedTuple):
    """The gradient that the penalty sees at a null fit, its rounding error, and the kkt residual there.

    `unfitted`: the gradient along the intercept and the unpenalised directions, which a null fit makes 0, as
    a part of the sum of its terms' magnitudes; rounding is not counted.
    """

    gradient: Array
    noise: Array
    kkt: Array
    unfitted: Array


@eqx.filter_jit
def _gradient(
    problem: Problem, penalty: Penalty, null_fit: NullFit, coef: Array, intercept: Array
) -> _NullGradient:
    at = evaluate(problem, coef, intercept)
    gradient, unseen = at.gradient, jnp.zeros_like(at.gradient)
    if penalty.has_conjugate:
        unseen = penalty.unpenalised(gradient)
        gradient = jnp.where(unseen == gradient, 0.0, gradient - unseen)
    # The gradient of a sample is a difference of its mean and its target, each of them rounded.
    weight = problem.weight if at.z.ndim == 1 else problem.weight[:, None]
    terms = weight * jnp.abs(problem.loss.mean(at.z)) + jnp.abs(at.residual)
    eps, tiny = jnp.finfo(problem.dtype).eps, jnp.finfo(problem.dtype).tiny
    noise = eps * jnp.max(problem.design.magnitudes(terms))

    def part(left: Array, rounding: Array, size: Array) -> Array:
        return (jnp.max(jnp.abs(left)) - _ROUNDING * rounding) / jnp.maximum(size, tiny)

    unfitted = part(unseen, noise, jnp.max(problem.design.magnitudes(at.residual)))
    if problem.intercept:
        tilt, rounding = jnp.sum(at.residual, axis=0), eps * jnp.max(jnp.sum(terms, axis=0))
        size = jnp.max(jnp.sum(jnp.abs(at.residual), axis=0))
        unfitted = jnp.maximum(unfitted, part(tilt, rounding, size))
    return _NullGradient(gradient, noise, kkt_residual(problem, penalty, null_fit, at), unfitted)


@eqx.filter_jit
def _moves(problem: Problem, grid: PenaltyGrid, null_fit: NullFit, coef: Array, gradient: Array) -> Array:
    """For each λ, whether the prox step of length 1/curvature moves the null fit."""
    step = 1 / curvature_bound(
        problem, problem.predictor(null_fit.coef, null_fit.intercept), null_fit.max_eigenvalue
    )
    eps = jnp.finfo(problem.dtype).eps

    def moved(part: list[Array]) -> Array:
        penalty = grid.row(part)
        held = jnp.where(gradient == 0, coef, penalty.prox(coef - step * gradient, step))
        # A prox that lands on 0 does so exactly; one that lands on a common level may round.
        exact = penalty.separable or penalty.keeps_signs
        slack = 0.0 if exact else 8 * eps * (jnp.max(jnp.abs(coef)) + step * jnp.max(jnp.abs(gradient)))
        return jnp.any(jnp.abs(held - coef) > slack)

    return jax.vmap(moved)(grid.carried)


@on_auto_axes(replicated)
@jax.default_matmul_precision("highest")
def lambda_max(problem: Problem, family: Family) -> Scalar:
    """The smallest λ whose solution is the null fit: intercept, offset and unpenalised directions alone.

    The prox step of length 1/curvature from the null fit stays put there; found by repeated subdivision to
    machine precision. Families that never hold it (ridge) take 1000·‖∇f(null)‖∞ / sd(y), glmnet's floor of
    α = 1e-3 with y scaled as glmnet scales it, so that the units of y do not matter (sd(y) is 1 for losses of
    classes and counts). Raises ValueError where λ_max is 0 (nothing in X explains y) or
    the null fit did not converge. Concrete problems only.
    """
    require_problem(problem, "jaxreg.lambda_max(jaxreg.Problem(loss, X, y), jaxreg.L1)")
    checked(family)
    null_fit = fit_null_model(problem, problem.working_penalty(family(jnp.ones((), problem.dtype))))
    huge = 1e12 * max(float(null_fit.max_grad), float(null_fit.max_eigenvalue))
    penalty = problem.working_penalty(family(jnp.asarray(huge, problem.dtype)))
    coef, intercept = null_fit.coef, null_fit.intercept
    null = _gradient(problem, penalty, null_fit, coef, intercept)
    if null.kkt > 1e-9:
        # Bounds or a reference point hold the null fit elsewhere: it takes a solver to find it.
        tol, limit = jnp.asarray(1e-12, problem.dtype), jnp.asarray(2000)
        found = _constrained(problem, penalty, null_fit, tol, limit)
        coef, intercept = found.coef, found.intercept
        null = _gradient(problem, penalty, null_fit, coef, intercept)
    gradient, eps = null.gradient, float(np.finfo(problem.dtype).eps)
    top = float(np.max(np.abs(gradient)))
    if not float(null.unfitted) <= _UNFITTED:
        raise ValueError(
            "the null fit did not converge, so there is no λ_max: the gradient along the intercept or an"
            f" unpenalised column is still {float(null.unfitted):.1%} of its terms. Rescale extreme offsets"
            " or features, penalise columns that separate the classes, or give lambdas"
        )
    if not top > _ROUNDING * float(null.noise):
        raise ValueError(
            "λ_max is 0: the null fit explains y as well as X can (a constant target, no column left, or"
            " a family that does not depend on λ)"
        )
    lower, upper = 1e-12 * top, 1e12 * top
    for _ in range(12):
        lambdas = jnp.asarray(np.geomspace(lower, upper, 48), problem.dtype)
        grid = problem.working_grid(family, lambdas)
        held = ~np.asarray(_moves(problem, grid, null_fit, coef, gradient))
        if not held.any():
            scale = float(problem.loss.target_scale(problem.y, problem.weight))
            return jnp.asarray(1000 * float(null_fit.max_grad) / scale, problem.dtype)
        first = int(np.argmax(held))
        upper = float(lambdas[first])
        lower = float(lambdas[first - 1]) if first else lower
        if upper <= lower * (1 + 2 * eps) or first == 0:
            break
    return jnp.asarray(upper, problem.dtype)


@eqx.filter_jit
def _constrained(problem: Problem, penalty: Penalty, null_fit: NullFit, tol: Scalar, limit: Array) -> Outcome:
    start = (null_fit.coef, null_fit.intercept)
    return iterate(ProximalGradient(), problem, penalty, null_fit, start, tol, limit)
