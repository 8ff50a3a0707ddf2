"""Metrics of coefficients and predictions: sparsity, shrinkage, degrees of freedom, error, calibration."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxreg._calibration import Calibration, calibration
from jaxreg._typing import Scalar
from jaxreg.losses import Loss

__all__ = [
    "Calibration",
    "auc",
    "calibration",
    "degrees_of_freedom",
    "explained_deviance",
    "prediction_error",
    "shrinkage",
    "shrinkage_per_coefficient",
    "support",
    "zero_fraction",
    "zeros",
]


def support(coef: Float[Array, "*s"]) -> Bool[Array, "*s"]:
    """Mark the weights that are not exactly 0, by booleans shaped like `coef`.

    >>> support(jnp.array([0.0, 2.0])).tolist()
    [False, True]
    """
    return coef != 0


def zeros(coef: Float[Array, "*s"]) -> Int[Array, ""]:
    """Count the weights that are exactly 0.

    >>> int(zeros(jnp.array([0.0, 2.0])))
    1
    """
    return jnp.sum(coef == 0)


def zero_fraction(coef: Float[Array, "*s"]) -> Scalar:
    """Return the fraction of weights that are exactly 0.

    >>> float(zero_fraction(jnp.array([0.0, 2.0])))
    0.5
    """
    return jnp.mean(coef == 0)


def shrinkage(coef: Float[Array, "*s"], reference: Float[Array, "*s"]) -> Scalar:
    """Return 1 − ‖coef‖₂/‖reference‖₂.

    0 is a norm as large as that of the reference, 1 all zeros, NaN a reference of 0.

    >>> float(shrinkage(jnp.array([0.0, 1.0]), jnp.array([0.0, 4.0])))
    0.75
    """
    return 1 - jnp.linalg.norm(coef.ravel()) / jnp.linalg.norm(reference.ravel())


def shrinkage_per_coefficient(coef: Float[Array, "*s"], reference: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Return 1 − coef/reference, entry by entry; NaN where the reference is 0.

    >>> shrinkage_per_coefficient(jnp.array([1.0]), jnp.array([4.0])).tolist()
    [0.75]
    """
    known = reference != 0
    return jnp.where(known, 1 - coef / jnp.where(known, reference, 1.0), jnp.nan)


def degrees_of_freedom(
    X: Float[Array, "n p"],
    curvature: Float[Array, " n"] | Float[Array, "n K K"],
    derivative: Float[Array, "p *K"],
    step: Scalar,
) -> Scalar:
    r"""Effective degrees of freedom $\operatorname{tr}[H_{AA}(H_{AA} + \operatorname{diag}((1-d)/(dt)))^+]$.

    H = XᵀWX is the Hessian of the loss and A the set of coefficients with d > 0. The result is rank(X_A) for
    the lasso and Σ σ²/(σ² + λ) for ridge.

    Args:
        X: Features (n, p) as the penalty sees them.
        curvature: Second derivative of the loss, times the sample weights: (n,) or (n, K, K).
        derivative: Derivative d of the prox at the solution: (p,) or (p, K).
        step: Step t of the prox.

    References:
        Tibshirani and Taylor (2012), Degrees of freedom in lasso problems.

    >>> X = jnp.eye(3)
    >>> float(degrees_of_freedom(X, jnp.ones(3), jnp.array([1.0, 1.0, 0.0]), jnp.array(1.0)).round(4))
    2.0
    """
    n, p = X.shape
    d = derivative if derivative.ndim == 2 else derivative[:, None]
    hessian = curvature if curvature.ndim == 3 else curvature[:, None, None]
    outputs = d.shape[1]
    # A direction without shrinkage counts only if its curvature exceeds eps^0.7 of the largest: less is a
    # rounding error of the null space.
    largest = jnp.max(jnp.einsum("ip,ikk->pk", X**2, hessian))
    floor = jnp.finfo(X.dtype).eps ** 0.7 * jnp.where(largest > 0, largest, 1.0)
    weight = d / jnp.maximum((1 - d) / step, floor * jnp.where(d > 0, d, 1.0))
    with jax.default_matmul_precision("highest"):
        if p <= n:
            root = jnp.sqrt(weight)
            gram = jnp.einsum("ia,ib,ikl->akbl", X, X, hessian, optimize="optimal")
            inner = root[:, :, None, None] * gram * root[None, None]
            size = p * outputs
        else:
            gram = jnp.einsum("ia,ja,ak->ijk", X, X, weight, optimize="optimal")
            inner = jnp.einsum("ikl,ijl->ikjl", hessian, gram)
            size = n * outputs
        inverse = jnp.linalg.inv(jnp.eye(size, dtype=X.dtype) + inner.reshape(size, size))
    return size - jnp.trace(inverse)


def explained_deviance(
    loss: Loss, z: Float[Array, "n *K"], y: Shaped[Array, "n *L"], weight: Float[Array, " n"] | None = None
) -> Scalar:
    """Return 1 − (loss − saturated)/(null − saturated), where the null model is the best constant predictor.

    1 is a perfect fit, 0 as good as the constant, negative worse; R² for squared error. No offset is
    subtracted.

    Args:
        loss: The loss.
        z: Linear predictor, (n,) or (n, K).
        y: Encoded target, (n,) or (n, K).
        weight: Sample weights (n,); None counts every sample alike.

    >>> from jaxreg.losses import SquaredError
    >>> y = jnp.array([0.0, 2.0])
    >>> float(explained_deviance(SquaredError(), y, y))
    1.0
    """
    weight = jnp.ones(z.shape[:1], z.dtype) if weight is None else weight
    weight = weight / jnp.sum(weight)
    constant = loss.null_predictor(y, weight, z.shape[1:])

    def mean(values: Array) -> Scalar:
        return jnp.sum(jnp.where(weight > 0, weight * values, 0.0))

    null = mean(loss.value(jnp.broadcast_to(constant, z.shape), y))
    saturated = mean(loss.saturated(y))
    return 1 - (mean(loss.value(z, y)) - saturated) / (null - saturated)


def auc(z: Float[Array, " n"], y: Float[Array, " n"], weight: Float[Array, " n"] | None = None) -> Scalar:
    """Return the area under the ROC curve: P(z of a success > z of a failure), ties counted as ½.

    Somers' Dxy is 2·auc − 1. NaN if a class has no weight.

    Args:
        z: Linear predictor or any increasing function of it.
        y: Classes 0 and 1, or proportions of successes in [0, 1].
        weight: Sample weights (n,); None counts every sample alike.

    >>> float(auc(jnp.array([0.1, 0.4, 0.4, 0.9]), jnp.array([0.0, 0.0, 1.0, 1.0])))
    0.875
    """
    weight = jnp.ones_like(z) if weight is None else weight
    order = jnp.argsort(z)
    ordered, failures = z[order], (weight * (1 - y))[order]
    below = jnp.concatenate([jnp.zeros_like(failures[:1]), jnp.cumsum(failures)])
    first, last = (jnp.searchsorted(ordered, z, side=side) for side in ("left", "right"))
    won = below[first] + (below[last] - below[first]) / 2
    return jnp.sum(weight * y * won) / (jnp.sum(weight * y) * below[-1])


def prediction_error(loss: Loss, z: Float[Array, "n *K"], y: Shaped[Array, "n *L"]) -> Scalar:
    """Return the misclassified fraction, the mean Poisson deviance or the mean squared error, by the loss.

    Args:
        loss: The loss.
        z: Linear predictor, (n,) or (n, K).
        y: Encoded target.

    >>> from jaxreg.losses import SquaredError
    >>> float(prediction_error(SquaredError(), jnp.array([1.0]), jnp.array([3.0])))
    4.0
    """
    return jnp.mean(loss.prediction_error(z, y))
