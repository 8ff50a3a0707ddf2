"""Where a path starts: λ_max and grids of λ."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg._fields import require
from jaxreg._types import ArrayLike, Scalar
from jaxreg.linear.certificate import curvature, reference
from jaxreg.linear.problem import Problem
from jaxreg.linear.solvers import ProximalGradient, iterate
from jaxreg.penalties import L1, Family, Penalty, PenaltyGrid

__all__ = ["check_lambdas", "lambda_grid", "lambda_max"]


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
    require(top > 0, f"lambda_max must be > 0, got {lambda_max}")
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


@eqx.filter_jit
def _null(problem: Problem, penalty: Penalty) -> tuple[Array, Array, Scalar, Scalar]:
    """Solution under a huge λ (unpenalised coordinates fitted), its gradient, a step, ‖∇f(null)‖∞."""
    base = reference(problem, penalty)
    start, tol = (base.coef, base.intercept), jnp.asarray(1e-12, problem.dtype)
    found = iterate(ProximalGradient(), problem, penalty, base, start, tol, jnp.asarray(2000))
    z = problem.predictor(found.coef, found.intercept)
    gradient = problem.design.rmatmul(problem.residual(z))
    constant = problem.constant if gradient.ndim == 1 else problem.constant[:, None]
    gradient = jnp.where(penalty.free(found.coef) | constant, 0.0, gradient)
    return found.coef, gradient, 1 / curvature(problem, z, base.spectrum), base.gradient


@eqx.filter_jit
def _scales(problem: Problem) -> tuple[Scalar, Scalar]:
    """The gradient at coefficients 0, and the rounding error that it may carry."""
    unit = reference(problem, problem.working_penalty(L1(0.0, weights=jnp.inf))).gradient
    residual = problem.residual(problem.predictor(*problem.zeros()))
    sums = jnp.abs(residual).T @ jnp.abs(problem.design.X)
    return unit, jnp.finfo(problem.dtype).eps * jnp.max(sums)


@eqx.filter_jit
def _moves(problem: Problem, grid: PenaltyGrid, coef: Array, gradient: Array, step: Scalar) -> Array:
    """For each λ: how far the prox step from the null fit moves, in units of the gradient."""

    def moved(part: list[Array]) -> Array:
        penalty = grid.row(part)
        held = jnp.where(gradient == 0, coef, penalty.prox(coef - step * gradient, step))
        return jnp.max(jnp.abs(held - coef)) / step

    return jax.vmap(moved)(grid.carried)


def lambda_max(problem: Problem, family: Family) -> Scalar:
    """The smallest λ whose solution is the null fit: intercept, offset and unpenalised directions alone.

    The prox step of length 1/curvature from the null fit stays put there; found by repeated subdivision to
    machine precision. Families that never hold it (ridge) take 1000·‖∇f(null)‖∞, glmnet's floor of
    α = 1e-3. Raises ValueError where λ_max is 0: nothing in X explains y. Concrete problems only.
    """
    unit, noise = (float(x) for x in _scales(problem))
    coef, gradient, step, null_gradient = _null(
        problem, problem.working_penalty(family(jnp.asarray(1e6 * unit, problem.dtype)))
    )
    top = float(jnp.max(jnp.abs(gradient)))
    eps = float(jnp.finfo(problem.dtype).eps)
    if not top > 16 * noise:
        raise ValueError(
            "λ_max is 0: the null fit explains y as well as X can (a constant target, or no column is left)"
        )
    lower, upper = 1e-6 * top, 1e6 * top
    for _ in range(12):
        grid = jnp.asarray(np.geomspace(lower, upper, 48), problem.dtype)
        held = np.asarray(_moves(problem, problem.working_grid(family, grid), coef, gradient, step)) <= 0
        if not held.any():
            return jnp.asarray(1000 * null_gradient, problem.dtype)
        first = int(np.argmax(held))
        upper = float(grid[first])
        lower = float(grid[first - 1]) if first else lower
        if upper <= lower * (1 + 2 * eps) or first == 0:
            break
    return jnp.asarray(upper, problem.dtype)
