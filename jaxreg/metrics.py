"""Plain functions of coefficients and predictions: sparsity, shrinkage, degrees of freedom, error."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._typing import Scalar
from jaxreg.losses import Logistic, Loss, Multinomial, Poisson

__all__ = [
    "degrees_of_freedom",
    "explained_deviance",
    "prediction_error",
    "shrinkage",
    "shrinkage_per_coefficient",
    "support",
    "zero_fraction",
    "zeros",
]


def support(coef: Array) -> Array:
    """Booleans shaped like `coef`: which weights are not exactly 0.

    >>> support(jnp.array([0.0, 2.0])).tolist()
    [False, True]
    """
    return coef != 0


def zeros(coef: Array) -> Array:
    """The number of weights that are exactly 0.

    >>> int(zeros(jnp.array([0.0, 2.0])))
    1
    """
    return jnp.sum(coef == 0)


def zero_fraction(coef: Array) -> Scalar:
    """The fraction of weights that are exactly 0.

    >>> float(zero_fraction(jnp.array([0.0, 2.0])))
    0.5
    """
    return jnp.mean(coef == 0)


def shrinkage(coef: Array, reference: Array) -> Scalar:
    """1 − ‖coef‖₂/‖reference‖₂: 0 is as large as the reference, 1 is all zeros; NaN where the reference is 0.

    >>> float(shrinkage(jnp.array([0.0, 1.0]), jnp.array([0.0, 4.0])))
    0.75
    """
    return 1 - jnp.linalg.norm(coef.ravel()) / jnp.linalg.norm(reference.ravel())


def shrinkage_per_coefficient(coef: Array, reference: Array) -> Array:
    """1 − coef/reference, shaped like them; NaN where the reference is 0.

    >>> shrinkage_per_coefficient(jnp.array([1.0]), jnp.array([4.0])).tolist()
    [0.75]
    """
    known = reference != 0
    return jnp.where(known, 1 - coef / jnp.where(known, reference, 1.0), jnp.nan)


def degrees_of_freedom(X: Array, curvature: Array, derivative: Array, step: Scalar) -> Scalar:
    r"""Effective degrees of freedom $\operatorname{tr}[H_{AA}(H_{AA} + \operatorname{diag}((1-d)/(dt)))^+]$.

    X (n, p) as the penalty sees it; `curvature` (n,) or (n, K, K), the loss's second derivative with sample
    weights, so that H = XᵀWX; `derivative` d (p,) or (p, K), the prox's derivative there; `step` t.
    A is where d > 0. It is rank(X_A) for the lasso (Tibshirani and Taylor 2012) and Σ σ²/(σ² + λ) for ridge.
    Penalised directions lighter than √eps of the heaviest count as part of the null space.

    >>> X = jnp.eye(3)
    >>> float(degrees_of_freedom(X, jnp.ones(3), jnp.array([1.0, 1.0, 0.0]), jnp.array(1.0)).round(4))
    2.0
    """
    n, p = X.shape
    d = derivative if derivative.ndim == 2 else derivative[:, None]
    bend = curvature if curvature.ndim == 3 else curvature[:, None, None]
    outputs = d.shape[1]
    top = jnp.max(jnp.einsum("ip,ikk->pk", X**2, bend))
    floor = jnp.finfo(X.dtype).eps ** 0.7 * jnp.where(top > 0, top, 1.0)
    weight = d / jnp.maximum((1 - d) / step, floor * jnp.where(d > 0, d, 1.0))
    with jax.default_matmul_precision("highest"):
        if p <= n:
            root = jnp.sqrt(weight)
            gram = jnp.einsum("ia,ib,ikl->akbl", X, X, bend, optimize="optimal")
            inner = root[:, :, None, None] * gram * root[None, None]
            size = p * outputs
        else:
            gram = jnp.einsum("ia,ja,ak->ijk", X, X, weight, optimize="optimal")
            inner = jnp.einsum("ikl,ijl->ikjl", bend, gram)
            size = n * outputs
        inverse = jnp.linalg.inv(jnp.eye(size, dtype=X.dtype) + inner.reshape(size, size))
    return size - jnp.trace(inverse)


def explained_deviance(loss: Loss, z: Array, y: Array) -> Scalar:
    """1 − (loss − saturated)/(null − saturated), the null model being the best constant predictor of y.

    z (n,) or (n, K), y (n,) or (n, K). 1 is perfect, 0 no better than the constant, negative worse.

    >>> from jaxreg.losses import SquaredError
    >>> y = jnp.array([0.0, 2.0])
    >>> float(explained_deviance(SquaredError(), y, y))
    1.0
    """
    target = jax.nn.one_hot(y, z.shape[1], dtype=z.dtype) if z.ndim > y.ndim else y
    tiny = jnp.finfo(z.dtype).tiny
    mean = jnp.mean(target, axis=0)
    positive = isinstance(loss, Logistic | Multinomial | Poisson)
    constant = loss.link(jnp.maximum(mean, tiny) if positive else mean)
    null = jnp.mean(loss.value(jnp.broadcast_to(constant, z.shape), y))
    saturated = jnp.mean(loss.saturated(y))
    return 1 - (jnp.mean(loss.value(z, y)) - saturated) / (null - saturated)


def prediction_error(loss: Loss, z: Array, y: Array) -> Scalar:
    """Error of the predictor z: misclassified fraction, mean Poisson deviance, or mean squared error.

    >>> from jaxreg.losses import SquaredError
    >>> float(prediction_error(SquaredError(), jnp.array([1.0]), jnp.array([3.0])))
    4.0
    """
    if isinstance(loss, Multinomial):
        return jnp.mean(jnp.argmax(z, axis=-1) != y)
    if isinstance(loss, Logistic):
        return jnp.mean((z > 0) != (y > 0.5))
    if isinstance(loss, Poisson):
        return 2 * jnp.mean(loss.value(z, y) - loss.saturated(y))
    return jnp.mean((z - y) ** 2)
