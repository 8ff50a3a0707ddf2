r"""Shrinkage that a model needs: the heuristic factor, optimism by bootstrap, and the λ that calibrates.

Each coefficient of an unpenalised fit is (nearly) unbiased, but the predictions on new samples are too
extreme: their calibration slope is below 1 (Copas 1983; van Houwelingen and le Cessie 1990). This slope is
the factor by which coefficients should have been shrunk. Three ways to know it before new samples come:

- `heuristic_factor` estimates the slope from the likelihood ratio of the fit.
- `optimism` estimates slope, R², deviance and AUC on new samples by the bootstrap, for any penalty and for
  penalties chosen from the data.
- `calibrated_lambda` returns the λ at which out-of-fold or held-out predictions have slope 1.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxreg import metrics
from jaxreg._calibration import recalibrate, require_glm
from jaxreg._compilation import jit_at_level
from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._module import with_public_names
from jaxreg._typing import ArrayLike
from jaxreg._validation import require
from jaxreg.linear._shapes import Coef, Intercept
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.selection._optimism import Optimism, optimism
from jaxreg.linear.solve import unpenalized
from jaxreg.losses import Loss, SquaredError

__all__ = ["CalibratedLambda", "Optimism", "calibrated_lambda", "heuristic_factor", "optimism"]


@on_auto_axes(replicated)
def heuristic_factor(problem: Problem, *, observations: float | None = None) -> float:
    r"""Return the heuristic shrinkage factor (LR − p)/LR, an estimate of the slope on new samples.

    LR = 2·(log-likelihood of the unpenalised fit − that of the intercept alone) and p the number of features
    that are not constant. In least squares the factor is (n−p−1)/(n−1)·R²_adj/R² = 1 − p/((n−1)R²); Copas's
    1 − 1/F = R²_adj/R² shrinks less, since it takes the variance of the noise for that of y. Below 0.9 the
    unpenalised fit needs shrinkage (Harrell); a factor below 0 means that p noise features explain as much.

    p must count every feature that was a candidate, also those left out because of their estimates.

    Args:
        problem: a concrete problem with an intercept, `SquaredError`, `Logistic` or `Poisson`, and one
            output.
        observations: number n of observations that the sample weights add up to, such as the number of trials
            behind proportions; None is the number of samples of positive weight.

    Raises:
        TypeError: for other losses.
        ValueError: without an intercept, with several outputs, and where no unique finite unpenalised fit
            exists: p ≥ n, dependent columns, classes that the features separate.

    References:
        J. C. van Houwelingen, S. le Cessie: Predictive value of statistical models. Statistics in Medicine 9
        (1990). J. B. Copas: Regression, prediction and shrinkage. JRSS B 45 (1983). F. E. Harrell: Regression
        Modeling Strategies, 2nd edition (2015), section 4.5.

    >>> from jaxreg.losses import SquaredError
    >>> x = np.arange(6.0)
    >>> problem = Problem(SquaredError(), x[:, None], x + np.array([1, -1, 0, 0, -1, 1]))
    >>> round(heuristic_factor(problem), 4)  # R² = 0.8140 and 1 − 1/(5·0.8140)
    0.7543
    """
    require_problem(problem, "jaxreg.shrinkage.heuristic_factor(jaxreg.Problem(loss, X, y))")
    require_glm(problem.loss, "heuristic_factor")
    require(not problem.outputs, f"heuristic_factor needs one output, got {problem.outputs}")
    require(problem.intercept, "heuristic_factor compares with the intercept alone: needs intercept=True")
    fit = unpenalized(problem)
    if fit is None:
        raise ValueError(
            "no unique finite unpenalised fit exists (p ≥ n, dependent columns or separated classes), so that"
            " the likelihood ratio is not defined: use jaxreg.shrinkage.optimism of a penalised fit"
        )
    losses = np.asarray(_losses_of_fit_and_null(problem, *fit), float)
    p = int(np.sum(~np.asarray(problem.constant)))
    n = float(np.sum(np.asarray(problem.weight) > 0)) if observations is None else float(observations)
    if isinstance(problem.loss, SquaredError):
        gain, degrees = 1 - losses[0] / losses[1], (n - 1)
    else:
        gain, degrees = losses[1] - losses[0], 2 * n
    return float(1 - p / (degrees * gain)) if gain > 0 else float("-inf")


@jit_at_level(0)
def _losses_of_fit_and_null(problem: Problem, coef: Coef, intercept: Intercept) -> Float[Array, "2"]:
    """Return the mean losses of a fit and of the intercept alone, in working units."""
    z = problem.predictor(*problem.to_working(coef, intercept))
    # A problem of one constant column has the intercept alone as its fit.
    null = recalibrate(problem.loss, problem.offset, problem.y, problem.weight).in_the_large
    return jnp.stack([problem.value(z), problem.value(problem.offset + null)])


# ---------------------------------------------------------------- λ by calibration


@with_public_names
class CalibratedLambda(NamedTuple):
    """The λ at which predictions have calibration slope 1.

    Attributes:
        lam: the λ, interpolated in log λ.
        slopes: calibration slopes (L,) along the grid, NaN where they are not determined.
        index: position on the grid of the λ nearest to `lam`.
    """

    lam: float
    slopes: Float[np.ndarray, " L"]
    index: int


def calibrated_lambda(
    loss: Loss, lambdas: ArrayLike, z: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> CalibratedLambda:
    """Return the smallest λ at which predictions for samples outside of the fit have calibration slope 1.

    Args:
        loss: `SquaredError`, `Logistic` or `Poisson`.
        lambdas: a falling grid (L,), such as `path.lambdas`.
        z: linear predictors (L, n) of samples that did not enter the fits: held out, `path.linear(X_new)`, or
            out of fold.
        y: their targets (n,).
        sample_weight: number of observations that each sample stands for.

    Raises:
        TypeError: for other losses.
        ValueError: for a grid that does not fall, shapes that disagree, and slopes that do not cross 1.

    >>> from jaxreg.losses import SquaredError
    >>> y = jnp.array([-1.0, 0.0, 1.0, 2.0])
    >>> z = jnp.array([0.5, 1.0, 2.0])[:, None] * y  # slopes 2, 1 and ½
    >>> calibrated_lambda(SquaredError(), [1.0, 0.1, 0.01], z, y).index
    1
    """
    grid, z = np.asarray(lambdas, float), np.asarray(z)
    require(grid.ndim == 1 and z.ndim == 2 and len(z) == len(grid), _shapes_message(grid, z))
    require(np.all(np.diff(grid) < 0) and np.all(grid > 0), "lambdas must fall and be > 0")
    slopes = np.asarray(metrics.calibration(loss, z, y, sample_weight=sample_weight).slope, float)
    known = np.flatnonzero(np.isfinite(slopes))[::-1]
    rising = slopes[known] - 1
    crossing = np.flatnonzero((rising[:-1] < 0) & (rising[1:] >= 0))
    if not crossing.size:
        raise ValueError(_no_crossing_message(slopes[known], grid))
    low, high = known[crossing[0]], known[crossing[0] + 1]
    share = (1 - slopes[low]) / (slopes[high] - slopes[low])
    log_lam = (1 - share) * np.log(grid[low]) + share * np.log(grid[high])
    return CalibratedLambda(float(np.exp(log_lam)), slopes, int(np.argmin(np.abs(np.log(grid) - log_lam))))


def _shapes_message(grid: np.ndarray, z: np.ndarray) -> str:
    return f"lambdas must be (L,) and z (L, n), one row for each λ, got shapes {grid.shape} and {z.shape}"


def _no_crossing_message(slopes: np.ndarray, grid: np.ndarray) -> str:
    if not slopes.size:
        return "no λ of the grid has predictions that vary: take smaller λ"
    where = f"from {slopes.min():.3g} to {slopes.max():.3g} for λ from {grid[-1]:.3g} to {grid[0]:.3g}"
    if slopes.max() < 1:
        return f"the calibration slope is below 1 at every λ, {where}: extend the grid to larger λ"
    if slopes.min() >= 1:
        return f"the calibration slope is at least 1 at every λ, {where}: extend the grid to smaller λ"
    return f"the calibration slope does not rise through 1 with λ, {where}: predict more samples"
