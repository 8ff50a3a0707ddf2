"""Start of a path: λ_max, and grids of λ that fall from there."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from jaxreg._compilation import is_traced, jit_at_level, on_device
from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._typing import ArrayLike, Scalar
from jaxreg._validation import holds, require
from jaxreg.linear._shapes import Coef, Flag, Intercept
from jaxreg.linear.certificate import Evaluation, curvature_bound, evaluate, kkt_residual
from jaxreg.linear.null_fit import NullFit, fit_null_model
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.size_classes import in_size_class
from jaxreg.linear.solvers import Outcome, ProximalGradient, SolverTask, iterate
from jaxreg.penalties import Family, Penalty, PenaltyGrid
from jaxreg.penalties.family import checked

__all__ = ["check_lambdas", "fit_at_lambda_one", "lambda_grid", "lambda_max", "lambda_max_from"]


#: Rounding errors below which a gradient counts as 0.
_ROUNDING = 16
#: Largest gradient of a null fit along unpenalised directions, over the sum of its terms. It leaves three
#: digits of λ_max.
_UNFITTED = 1e-3
#: Largest KKT residual at which the null fit is held by a penalty of a huge λ.
_HELD_KKT = 1e-9
#: The huge λ, over the largest gradient or eigenvalue; λ_max is bracketed by this factor each way.
_HUGE = 1e12
#: Number of λ in one subdivision of the bracket.
_SUBDIVISION = 48
#: Limit of the subdivisions: 12 of them narrow a bracket of 10²⁴ to less than a rounding error.
_MAX_SUBDIVISIONS = 12
#: Tolerance of a null fit that bounds or a reference point hold away from 0.
_CONSTRAINED_TOL = 1e-12
#: Limit of the proximal gradient steps for such a null fit.
_CONSTRAINED_STEPS = 2000
#: Length of the prox steps that find λ_max of a non-convex penalty, in units of 1/curvature: slightly more
#: than 1, so that rounding lets no column enter at λ_max.
_LONGER_STEP = 1.001
#: Largest λ without a threshold, over the null gradient: glmnet's floor of α = 1e-3.
_WITHOUT_THRESHOLD = 1000


def lambda_grid(lambda_max: ArrayLike, num: int = 100, ratio: float = 1e-3) -> Float[Array, " num"]:
    """Return `num` values from `lambda_max` down to ratio·lambda_max, evenly spaced in log λ.

    Args:
        lambda_max: largest λ, > 0.
        num: number of λ, ≥ 1.
        ratio: smallest over largest λ, between 0 and 1.

    Raises:
        ValueError: for an argument outside its range.

    >>> lambda_grid(1.0, num=3, ratio=0.01).round(3).tolist()
    [1.0, 0.1, 0.01]
    """
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}")
    if not 0 < ratio < 1:
        raise ValueError(f"ratio must lie between 0 and 1, got {ratio}")
    require(holds(lambda top: top > 0, lambda_max), f"lambda_max must be > 0, got {lambda_max}")
    top = on_device(lambda_max)
    fractions = ratio ** (np.arange(num) / max(num - 1, 1))
    return (
        top * fractions.astype(top.dtype)
        if is_traced(top)
        else on_device(np.asarray(top) * fractions, top.dtype)
    )


def check_lambdas(lambdas: ArrayLike) -> Float[Array, " L"]:
    """Return a grid as an array; ValueError where it is empty, negative, NaN or not falling."""
    grid = on_device(lambdas)
    if grid.ndim != 1 or grid.size == 0:
        raise ValueError(f"lambdas must be a non-empty 1-D grid, got shape {grid.shape}")
    if not isinstance(grid, jax.core.Tracer):
        values = np.asarray(grid)
        if not np.all(values >= 0) or not np.all(np.isfinite(values)):
            raise ValueError("lambdas must be finite and ≥ 0: the grid holds negative, NaN or infinite ones")
        if np.any(np.diff(values) >= 0):
            raise ValueError("lambdas must fall from the largest to the smallest: sort them in reverse")
    return grid


@on_auto_axes(replicated)
@jax.default_matmul_precision("highest")
def lambda_max(problem: Problem, family: Family) -> Scalar:
    """Return the smallest λ whose solution is the null fit: intercept, offset and unpenalised directions.

    At that λ the prox step of length 1/curvature does not move the null fit. λ_max is found by repeated
    subdivision, to machine precision. A family that holds the null fit at no λ (ridge) takes
    1000·‖∇f(null)‖∞ / sd(y): glmnet's floor of α = 1e-3 with y scaled as glmnet scales it, so that the units
    of y do not matter (sd(y) is 1 for losses of classes and counts).

    Args:
        problem: loss and data, concrete.
        family: function of λ that returns a penalty, such as `jaxreg.L1`.

    Raises:
        TypeError: where the arguments are not a problem and a family.
        ValueError: where λ_max is 0 (nothing in X explains y) or the null fit did not converge.

    >>> import jaxreg as jr
    >>> problem = jr.Problem(jr.losses.SquaredError(), jnp.eye(4) * 2.0, jnp.arange(4.0), intercept=False)
    >>> float(lambda_max(problem, jr.L1))
    1.5
    """
    require_problem(problem, "jaxreg.lambda_max(jaxreg.Problem(loss, X, y), jaxreg.L1)")
    problem = in_size_class(problem)
    return lambda_max_from(problem, family, fit_at_lambda_one(problem, family))


def fit_at_lambda_one(problem: Problem, family: Family) -> NullFit:
    """Return the null fit under the penalty of λ = 1; ValueError under a trace."""
    if isinstance(problem.y, jax.core.Tracer):
        raise ValueError("λ_max cannot be found under a trace: give lambdas")
    return fit_null_model(problem, problem.working_penalty(checked(family)(on_device(1.0, problem.dtype))))


def lambda_max_from(problem: Problem, family: Family, null_fit: NullFit) -> Scalar:
    """Return `lambda_max` for a null fit that is given."""
    null = _null_point(problem, family, null_fit)
    _require_fitted(null)
    top = float(np.max(np.abs(null.grad)))
    lower, upper = top * (1 / _HUGE), top * _HUGE
    # The threshold of the lasso, up to rounding, is among the first values.
    near = top * (1 + 2 * float(np.finfo(problem.dtype).eps) * np.arange(-2, 3))
    for _ in range(_MAX_SUBDIVISIONS):
        spaced = np.geomspace(lower, upper, _SUBDIVISION - near.size)
        lambdas = np.sort(np.concatenate([spaced, near])).astype(problem.dtype)
        near = np.full(near.size, upper)
        grid = problem.working_grid(family, on_device(lambdas))
        held = np.asarray(_holds_null_fit(problem, grid, null_fit, null.coef, null.grad))
        if not held.any():
            scale = float(_target_scale(problem))
            return on_device(_WITHOUT_THRESHOLD * float(null_fit.max_grad) / scale, problem.dtype)
        first = int(np.argmax(held))
        upper = float(lambdas[first])
        lower = float(lambdas[first - 1]) if first else lower
        if upper <= lower * (1 + 2 * float(np.finfo(problem.dtype).eps)) or first == 0:
            break
    return on_device(upper, problem.dtype)


@jit_at_level(0)
def _target_scale(problem: Problem) -> Scalar:
    return problem.loss.target_scale(problem.y, problem.weight)


class _NullPoint(NamedTuple):
    """Solution under a huge λ, with the gradient that the penalty must hold there.

    Attributes:
        coef: working coefficients; those of the null fit, but for bounds and reference points.
        grad: gradient of the loss, 0 along unpenalised directions.
        noise: rounding error of the gradient.
        kkt: KKT residual under the huge λ.
        unfitted: gradient along the intercept and the unpenalised directions, less its rounding error, over
            the sum of the magnitudes of its terms. A null fit makes it 0.
    """

    coef: Shaped[Array, "p ..."]
    grad: Shaped[Array, "p ..."]
    noise: Scalar
    kkt: Scalar
    unfitted: Scalar


def _null_point(problem: Problem, family: Family, null_fit: NullFit) -> _NullPoint:
    """Return the null fit, or the solution under a huge λ where the penalty does not hold the null fit."""
    huge = _HUGE * max(float(null_fit.max_grad), float(null_fit.max_eigenvalue))
    penalty = problem.working_penalty(family(on_device(huge, problem.dtype)))
    null = _evaluate_null(problem, penalty, null_fit, null_fit.coef, null_fit.intercept)
    if not float(null.kkt) > _HELD_KKT:
        return null
    # Bounds or a reference point keep the coefficients away from the null fit: find them by a solver.
    outcome = _constrained_fit(problem, penalty, null_fit)
    return _evaluate_null(problem, penalty, null_fit, outcome.coef, outcome.intercept)


def _require_fitted(null: _NullPoint) -> None:
    """Raise ValueError where the null fit did not converge, or leaves no gradient to threshold."""
    if not float(null.unfitted) <= _UNFITTED:
        raise ValueError(
            "the null fit did not converge, so there is no λ_max: the gradient along the intercept or an"
            f" unpenalised column is still {float(null.unfitted):.1%} of its terms. Rescale extreme offsets"
            " or features, penalise columns that separate the classes, or give lambdas"
        )
    if not float(np.max(np.abs(null.grad))) > _ROUNDING * float(null.noise):
        raise ValueError(
            "λ_max is 0: the null fit explains y as well as X can (a constant target, no column left, or"
            " a family that does not depend on λ)"
        )


@jit_at_level(0)
def _evaluate_null(
    problem: Problem, penalty: Penalty, null_fit: NullFit, coef: Coef, intercept: Intercept
) -> _NullPoint:
    at = evaluate(problem, coef, intercept)
    grad, unpenalised_grad = at.gradient, jnp.zeros_like(at.gradient)
    if penalty.has_conjugate:
        unpenalised_grad = penalty.project_on_unpenalised(grad)
        grad = jnp.where(unpenalised_grad == grad, 0.0, grad - unpenalised_grad)
    # The gradient of a sample is a difference of its mean and its target, each of them rounded.
    weight = problem.weight if at.z.ndim == 1 else problem.weight[:, None]
    terms = weight * jnp.abs(problem.loss.mean(at.z)) + jnp.abs(at.residual)
    noise = jnp.finfo(problem.dtype).eps * jnp.max(problem.design.magnitudes(terms))
    unfitted = _unfitted(problem, at, terms, unpenalised_grad, noise)
    return _NullPoint(coef, grad, noise, kkt_residual(problem, penalty, null_fit, at), unfitted)


def _unfitted(
    problem: Problem, at: Evaluation, terms: Array, unpenalised_grad: Coef, noise: Scalar
) -> Scalar:
    """Return the largest relative gradient along unpenalised directions and the intercept."""
    eps, tiny = jnp.finfo(problem.dtype).eps, jnp.finfo(problem.dtype).tiny

    def relative(grad: Array, noise: Scalar, size: Array) -> Scalar:
        return (jnp.max(jnp.abs(grad)) - _ROUNDING * noise) / jnp.maximum(size, tiny)

    unfitted = relative(unpenalised_grad, noise, jnp.max(problem.design.magnitudes(at.residual)))
    if not problem.intercept:
        return unfitted
    intercept_grad, intercept_noise = jnp.sum(at.residual, axis=0), eps * jnp.max(jnp.sum(terms, axis=0))
    size = jnp.max(jnp.sum(jnp.abs(at.residual), axis=0))
    return jnp.maximum(unfitted, relative(intercept_grad, intercept_noise, size))


@jit_at_level(0)
def _constrained_fit(problem: Problem, penalty: Penalty, null_fit: NullFit) -> Outcome:
    tol, limit = on_device(_CONSTRAINED_TOL, problem.dtype), on_device(_CONSTRAINED_STEPS)
    task = SolverTask(ProximalGradient(), problem, penalty, null_fit, tol, limit)
    return iterate(task, None)


@jit_at_level(0)
def _holds_null_fit(
    problem: Problem, grid: PenaltyGrid, null_fit: NullFit, coef: Coef, grad: Coef
) -> Bool[Array, " L"]:
    """Return the mask of the λ at which the prox step of length 1/curvature does not move `coef`.

    For a convex penalty this does not depend on the length of the step. For a non-convex one the step is the
    longest that descends in each coordinate alone, 1/curvature of its column: with a shorter one more points
    would be stationary, such as the null fit of L0 at almost any λ.
    """
    z = problem.predictor(null_fit.coef, null_fit.intercept)
    eigenvalue = null_fit.max_eigenvalue
    if grid.at(0).separable and not grid.at(0).convex:
        squares = problem.design.squares(problem.weight)
        squares = jnp.where(squares > 0, jnp.minimum(squares, eigenvalue), eigenvalue)
        squares = squares / _LONGER_STEP
        eigenvalue = squares if coef.ndim == 1 else squares[:, None]
    step = 1 / curvature_bound(problem, z, eigenvalue)
    eps = jnp.finfo(problem.dtype).eps

    def holds_at(carried: list[Array]) -> Flag:
        penalty = grid.row(carried)
        after = jnp.where(grad == 0, coef, penalty.prox(coef - step * grad, step))
        # A prox that lands on 0 does so exactly; one that lands on a common level may round.
        exact = penalty.separable or penalty.keeps_signs
        slack = 0.0 if exact else 8 * eps * (jnp.max(jnp.abs(coef)) + jnp.max(jnp.abs(step * grad)))
        return ~jnp.any(jnp.abs(after - coef) > slack)

    return jax.vmap(holds_at)(grid.carried)
