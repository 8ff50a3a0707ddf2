r"""Calibration of predictions: the regression of the target on the linear predictor.

The recalibration model of Cox (1958) is a generalised linear model of the target with one feature, the linear
predictor z: intercept α + slope β·z. Predictions for new samples are calibrated where α = 0 and β = 1. A
model that was fitted without enough shrinkage predicts extremes that are too extreme, β < 1; with too much, β
> 1. Calibration in the large is the intercept with β fixed at 1, the error of the mean prediction on the
scale of the link.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from jaxreg._compilation import jit_at_level
from jaxreg._module import with_public_names
from jaxreg._typing import ArrayLike, Scalar
from jaxreg._validation import require
from jaxreg.losses import Logistic, Loss, Poisson, SquaredError

__all__ = ["Calibration", "calibration", "recalibrate", "require_glm"]

#: Newton steps at most; quadratic convergence takes about 6.
_MAX_STEPS = 60
#: Lengths 1, ½, ¼, … of a Newton step that are compared.
_STEP_LENGTHS = 20


@with_public_names
class Calibration(NamedTuple):
    """Calibration of predictions; each field is a number, or (L,) for predictors at L values of λ.

    Attributes:
        slope: slope β of the target on the linear predictor; 1 is calibrated, below 1 too extreme.
        intercept: intercept α beside the slope, in units of the linear predictor; 0 is calibrated.
        in_the_large: intercept with the slope fixed at 1.
        slope_se: standard error of `slope`, from the information matrix.
        intercept_se: standard error of `intercept`.
        in_the_large_se: standard error of `in_the_large`.
    """

    slope: Float[Array, "*L"]
    intercept: Float[Array, "*L"]
    in_the_large: Float[Array, "*L"]
    slope_se: Float[Array, "*L"]
    intercept_se: Float[Array, "*L"]
    in_the_large_se: Float[Array, "*L"]


def calibration(
    loss: Loss, z: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> Calibration:
    """Fit calibration slope and intercept of predictions for samples that were not used in the fit.

    Squared error: the least-squares line of y on the prediction. Logistic and Poisson: the generalised linear
    model of y with the linear predictor as its only feature. On the samples of the fit itself the slope of an
    unpenalised fit is 1 by construction, so that only new samples or out-of-fold predictions inform.

    Args:
        loss: `SquaredError`, `Logistic` or `Poisson`.
        z: linear predictors (n,), `fit.linear(X_new)`; or (L, n), one row for each λ, `path.linear(X_new)`.
        y: targets (n,).
        sample_weight: number of observations that each sample stands for (n,), such as trials for
            proportions; None counts each as one. Standard errors depend on their sum.

    Returns:
        Slope, intercept and calibration in the large, with standard errors. In a row of several λ they are
        NaN where predictions do not determine them: all predictions equal (as at λ_max) or classes separated.

    Raises:
        TypeError: for a loss without a likelihood for single targets (`Huber`, `Multinomial`).
        ValueError: for shapes that disagree, targets outside the domain of the loss, fewer than 3 samples,
            and for one row z that does not determine the slope.

    References:
        D. R. Cox: Two further applications of a model for binary regression. Biometrika 45 (1958).
        F. E. Harrell: Regression Modeling Strategies, 2nd edition (2015), sections 5.3 and 10.9.

    >>> from jaxreg.losses import SquaredError
    >>> z = jnp.array([-2.0, 0.0, 2.0, 4.0])
    >>> found = calibration(SquaredError(), z, 0.5 * z + jnp.array([1.1, 0.9, 0.9, 1.1]))
    >>> round(float(found.slope), 3), round(float(found.intercept), 3), round(float(found.in_the_large), 3)
    (0.5, 1.0, 0.5)
    """
    z, y, weight = _checked(loss, z, y, sample_weight)
    rows = z if z.ndim == 2 else z[None]
    result, determined = _recalibrate_rows(
        loss, jnp.asarray(rows), loss.encode(y, z.dtype), jnp.asarray(weight)
    )
    if z.ndim == 2:
        return result
    if not bool(determined[0]):
        equal = np.ptp(z[weight > 0]) <= 8 * np.finfo(z.dtype).eps * np.max(np.abs(z))
        reason = "all predictions are equal" if equal else "the predictions separate the targets exactly"
        raise ValueError(f"{reason}: no finite calibration slope exists; take more samples or a smaller λ")
    return Calibration(*(x[0] for x in result))


def require_glm(loss: Loss, what: str) -> None:
    """Raise TypeError for a loss other than squared error, logistic and Poisson."""
    if not isinstance(loss, SquaredError | Logistic | Poisson):
        raise TypeError(
            f"{what} needs SquaredError, Logistic or Poisson, a generalised linear model with one linear"
            f" predictor, got {type(loss).__name__}"
        )


def _checked(
    loss: Loss, z: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return predictors, targets and weights on the host, in one dtype."""
    require_glm(loss, "calibration")
    z, y = np.asarray(z), np.asarray(y)
    z = z.astype(jax.dtypes.canonicalize_dtype(np.result_type(z.dtype, np.float32)))
    good = z.ndim in (1, 2) and y.shape == z.shape[-1:]
    require(good, f"z must be (n,) or (L, n) and y (n,), got shapes {z.shape} and {y.shape}")
    require(y.size >= 3, f"calibration needs at least 3 samples, got {y.size}")
    require(np.isfinite(z), "z has NaN or infinite entries: leave those rows or values of λ out")
    weight = np.ones(y.shape, z.dtype) if sample_weight is None else np.asarray(sample_weight, z.dtype)
    require(weight.shape == y.shape, f"sample_weight must be (n,) = {y.shape}, got {weight.shape}")
    require(np.isfinite(weight) & (weight >= 0), "sample_weight must be finite and ≥ 0")
    require(weight.sum() > 0, "sample_weight is 0 for every sample")
    loss.check(y, weight)
    return z, y, weight


@jit_at_level(0)
def _recalibrate_rows(
    loss: Loss, z: Float[Array, "L n"], y: Shaped[Array, " n"], weight: Float[Array, " n"]
) -> tuple[Calibration, Bool[Array, " L"]]:
    rows = jax.vmap(lambda z: recalibrate(loss, z, y, weight))(z)
    return rows, jnp.isfinite(rows.slope)


@jax.default_matmul_precision("highest")
def recalibrate(
    loss: Loss, z: Float[Array, " n"], y: Shaped[Array, " n"], weight: Float[Array, " n"]
) -> Calibration:
    """Return the calibration of one predictor; pure, NaN where it is not determined."""
    total, counts = jnp.sum(weight), weight > 0
    mean = jnp.sum(weight * z) / total
    deviation = jnp.sqrt(jnp.sum(weight * (z - mean) ** 2) / total)
    varies = deviation > 8 * jnp.finfo(z.dtype).eps * jnp.max(jnp.abs(z))
    # In units of its deviation the predictor gives a well-conditioned system, whatever the unit of z.
    unit = jnp.where(varies, deviation, 1.0)
    columns = jnp.stack([jnp.ones_like(z), (z - mean) / unit])
    line = _newton(loss, columns, jnp.zeros_like(z), y, weight / total)
    shift = _newton(loss, columns[:1], z, y, weight / total)

    slope, scale = line.coef[1] / unit, _dispersion(loss, line.z, y, weight, 2) / total
    cov = jnp.linalg.inv(line.hessian) * scale
    at_zero = jnp.stack([jnp.ones_like(mean), -mean / unit])
    line_se = jnp.sqrt(at_zero @ cov @ at_zero), jnp.sqrt(cov[1, 1]) / unit
    shift_se = jnp.sqrt(_dispersion(loss, shift.z, y, weight, 1) / (total * shift.hessian[0, 0]))
    good = varies & line.converged & ~_separated(loss, z, y, counts)

    def where_good(x: Array) -> Array:
        return jnp.where(good, x, jnp.nan)

    return Calibration(
        slope=where_good(slope),
        intercept=where_good(line.coef[0] - slope * mean),
        in_the_large=jnp.where(shift.converged, shift.coef[0], jnp.nan),
        slope_se=where_good(line_se[1]),
        intercept_se=where_good(line_se[0]),
        in_the_large_se=jnp.where(shift.converged, shift_se, jnp.nan),
    )


class _Fit(NamedTuple):
    """Unpenalised fit on k columns: coefficients, predictor, Hessian of the mean loss, convergence."""

    coef: Float[Array, " k"]
    z: Float[Array, " n"]
    hessian: Float[Array, "k k"]
    converged: Bool[Array, ""]


def _newton(
    loss: Loss, columns: Float[Array, "k n"], offset: Array, y: Array, weight: Float[Array, " n"]
) -> _Fit:
    """Minimise the weighted mean loss over offset + coef @ columns by damped Newton steps."""
    k, dtype = columns.shape[0], columns.dtype
    lengths = 0.5 ** jnp.arange(_STEP_LENGTHS, dtype=dtype)
    tol = jnp.sqrt(jnp.finfo(dtype).eps) * loss.target_scale(y, weight)

    def value(coef: Array) -> Scalar:
        losses = loss.value(offset + coef @ columns, y)
        return jnp.sum(jnp.where(weight > 0, weight * losses, 0.0))

    def hessian(coef: Array) -> Array:
        return jax.hessian(value)(coef)

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        coef, _, count = state
        change = -jnp.linalg.solve(hessian(coef), jax.grad(value)(coef))
        values = jax.vmap(lambda length: value(coef + length * change))(lengths)
        # NaN and inf, where a Poisson mean overflows, lose against every shorter step.
        best = jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))
        change = jnp.where(jnp.all(jnp.isfinite(change)), lengths[best] * change, 0.0)
        return coef + change, jnp.max(jnp.abs(change)), count + 1

    def continues(state: tuple[Array, Array, Array]) -> Array:
        coef, last, count = state
        return (last > tol + jnp.sqrt(jnp.finfo(dtype).eps) * jnp.max(jnp.abs(coef))) & (count < _MAX_STEPS)

    # The constant that fits best beside the mean offset, a start at which no curvature vanishes.
    null = loss.null_predictor(y, weight) - jnp.sum(weight * offset)
    start = jnp.zeros(k, dtype).at[0].set(null)
    coef, _, count = jax.lax.while_loop(continues, step, (start, jnp.asarray(jnp.inf, dtype), 0))
    return _Fit(coef, offset + coef @ columns, hessian(coef), count < _MAX_STEPS)


def _dispersion(loss: Loss, z: Array, y: Array, weight: Array, fitted: int) -> Scalar:
    """Return the variance of the noise: that of the residuals for squared error, else 1."""
    if not isinstance(loss, SquaredError):
        return jnp.ones((), z.dtype)
    return jnp.sum(weight * (z - y) ** 2) / (jnp.sum(weight) - fitted)


def _separated(loss: Loss, z: Array, y: Array, counts: Bool[Array, " n"]) -> Bool[Array, ""]:
    """Return whether the likelihood has no finite maximum over intercept and slope.

    Logistic: all failures lie on one side of all successes. Poisson: all positive counts share one z, and no
    sample lies beyond it on one of the sides.
    """

    def extremes(mask: Array) -> tuple[Array, Array]:
        return jnp.min(jnp.where(mask, z, jnp.inf)), jnp.max(jnp.where(mask, z, -jnp.inf))

    positive = extremes(counts & (y > 0))
    if isinstance(loss, Logistic):
        negative = extremes(counts & (y < 1))
        return (negative[1] <= positive[0]) | (positive[1] <= negative[0])
    if isinstance(loss, Poisson):
        zero = extremes(counts & (y == 0))
        return (positive[0] == positive[1]) & ((zero[1] <= positive[0]) | (zero[0] >= positive[0]))
    return jnp.zeros((), bool)
