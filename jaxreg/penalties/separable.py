"""Convex penalties that act on each coordinate alone.

Most of them are elementary: one quadratic on each side of 0, on an interval (see `piecewise_quadratic`). Such
a class only states its coefficients.
"""

from typing import Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxreg import prox
from jaxreg._numerics import magnitude
from jaxreg._typing import ArrayLike, Scalar
from jaxreg._validation import holds, hyperparameter, per_coordinate, require, require_scalar
from jaxreg.penalties._leafwise import ConvexSeparablePenalty, scale_rows
from jaxreg.penalties.piecewise_quadratic import ELEMENTARY, Coefficients, ElementaryPenalty, known_to_be

__all__ = ["L1", "AsymmetricL1", "Box", "ElasticNet", "HuberNorm", "NonNegative", "SquaredL2"]


def _weighted(slope: ArrayLike, curvature: ArrayLike, weights: Array | None) -> Coefficients:
    """Return coefficients times penalty factors; a factor of inf sets `excluded`, which avoids inf·0."""
    if weights is None:
        return Coefficients(slope, slope, curvature)
    excluded = jnp.isinf(weights)
    finite = jnp.where(excluded, 0.0, weights)
    slope = 0.0 if known_to_be(slope, 0.0) else slope * finite
    curvature = 0.0 if known_to_be(curvature, 0.0) else curvature * finite
    return Coefficients(slope, slope, curvature, excluded=excluded)


def _check(name: str, lam: Array, weights: Array | None) -> None:
    require_scalar(f"{name}: λ", lam)
    if weights is not None:
        require(
            holds(lambda w: w >= 0, weights),
            f"{name}: weights (penalty factors) must be ≥ 0 or inf, got negative or NaN",
        )


class L1(ElementaryPenalty):
    r"""$\lambda \sum_j s_j |w_j|$: shrinks every weight by the same amount, small ones to exactly zero.

    Args:
        lam: λ ≥ 0.
        weights: Penalty factors s: None (all 1), a scalar or one per coordinate. 0 leaves a coordinate
            unpenalised, inf excludes it.

    Raises:
        ValueError: A number is negative or NaN.

    References:
        Tibshirani (1996), Regression shrinkage and selection via the lasso.

    >>> L1(1.0).prox(jnp.array([-3.0, 0.5]), 1.0).tolist()
    [-2.0, 0.0]
    """

    capabilities = ELEMENTARY._replace(piecewise_linear=True, keeps_signs=True)

    lam: Scalar = hyperparameter(1.0)
    weights: Array | None = per_coordinate(None)

    def __check_init__(self) -> None:
        _check("L1", self.lam, self.weights)

    def coefficients(self) -> Coefficients:
        return _weighted(self.lam, 0.0, self.weights)


class SquaredL2(ElementaryPenalty):
    r"""$\frac{\lambda}{2} \sum_j s_j w_j^2$: weight decay, which makes no exact zeros.

    Args:
        lam: λ ≥ 0.
        weights: Penalty factors s as in `L1`.

    Raises:
        ValueError: A number is negative or NaN.

    References:
        Hoerl and Kennard (1970), Ridge regression.

    >>> SquaredL2(1.0).prox(jnp.array([-3.0, 0.5]), 1.0).tolist()
    [-1.5, 0.25]
    """

    capabilities = ELEMENTARY._replace(keeps_signs=True)

    lam: Scalar = hyperparameter(1.0)
    weights: Array | None = per_coordinate(None)

    def __check_init__(self) -> None:
        _check("SquaredL2", self.lam, self.weights)

    def coefficients(self) -> Coefficients:
        return _weighted(0.0, self.lam, self.weights)


class ElasticNet(ElementaryPenalty):
    r"""$\lambda \sum_j s_j (r|w_j| + \frac{1-r}{2} w_j^2)$: shrinks correlated weights together.

    Args:
        lam: λ ≥ 0.
        l1_ratio: r in [0, 1].
        weights: Penalty factors s as in `L1`.

    Raises:
        ValueError: A number is out of its range.

    References:
        Zou and Hastie (2005), Regularization and variable selection via the elastic net. The normalisation is
        that of glmnet.

    >>> ElasticNet(1.0, 0.5).prox(jnp.array([-3.5, 0.5]), 1.0).tolist()
    [-2.0, 0.0]
    """

    capabilities = ELEMENTARY._replace(keeps_signs=True)

    lam: Scalar = hyperparameter(1.0)
    l1_ratio: Scalar = hyperparameter(0.5)
    weights: Array | None = per_coordinate(None)

    def __check_init__(self) -> None:
        _check("ElasticNet", self.lam, self.weights)
        ok = holds(lambda ratio: (ratio >= 0) & (ratio <= 1), self.l1_ratio)
        require(ok, f"ElasticNet: l1_ratio must lie in [0, 1], got {self.l1_ratio}")

    def coefficients(self) -> Coefficients:
        return _weighted(self.lam * self.l1_ratio, self.lam * (1.0 - self.l1_ratio), self.weights)


class AsymmetricL1(ElementaryPenalty):
    r"""$\lambda \sum_j (p \max(w_j, 0) + n \max(-w_j, 0))$: L1 with a different slope on each side of 0.

    Args:
        lam: λ ≥ 0.
        negative: n ≥ 0, a number or one per coordinate.
        positive: p ≥ 0, a number or one per coordinate.

    Raises:
        ValueError: A number is negative, infinite or NaN.

    >>> AsymmetricL1(1.0, 2.0, 0.5).prox(jnp.array([-3.0, -1.5, 1.5]), 1.0).tolist()
    [-1.0, 0.0, 1.0]
    """

    capabilities = ELEMENTARY._replace(piecewise_linear=True)

    lam: Scalar = hyperparameter(1.0)
    negative: Array = per_coordinate(1.0)
    positive: Array = per_coordinate(1.0)

    def __check_init__(self) -> None:
        _check("AsymmetricL1", self.lam, None)
        for side in (self.negative, self.positive):
            fine = holds(lambda side: (side >= 0) & np.isfinite(side), side)
            require(fine, "AsymmetricL1: negative and positive must be finite and ≥ 0")

    def coefficients(self) -> Coefficients:
        return Coefficients(self.lam * self.negative, self.lam * self.positive)


class HuberNorm(ConvexSeparablePenalty):
    r"""$\lambda \sum_j (\min(|w_j|, \delta)^2/(2\delta) + (|w_j| - \delta)_+)$: L1 without its kink.

    λ·w²/(2δ) up to |w| = δ and λ(|w| − δ/2) beyond: the Moreau envelope of L1 with parameter δ. The prox
    makes no exact zeros.

    Args:
        lam: λ ≥ 0.
        delta: δ > 0.

    Raises:
        ValueError: A number is out of its range.

    References:
        Huber (1964), Robust estimation of a location parameter.

    >>> HuberNorm(1.0, 1.0).prox(jnp.array([-3.0, 1.0]), 1.0).tolist()
    [-2.0, 0.5]
    """

    capabilities = ConvexSeparablePenalty.capabilities._replace(keeps_signs=True)

    lam: Scalar = hyperparameter(1.0)
    delta: Scalar = hyperparameter(1.0)

    def __check_init__(self) -> None:
        _check("HuberNorm", self.lam, None)
        require(holds(lambda delta: delta > 0, self.delta), f"HuberNorm: delta must be > 0, got {self.delta}")

    def value_1d(self, w: Array) -> Array:
        """Return λ·w²/(2δ) up to |w| = δ and λ(|w| − δ/2) beyond, without squaring a large w."""
        size = magnitude(w)
        core = jnp.minimum(size, self.delta)
        return self.lam * (0.5 * core * (core / self.delta) + size - core)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        return prox.huber_norm(w, step, self.lam, self.delta)

    def conjugate_1d(self, u: Array) -> Array:
        return 0.5 * self.delta * u**2 / jnp.where(self.lam > 0, self.lam, 1.0)

    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        return -self.lam, self.lam


class Box(ElementaryPenalty):
    """The constraint lower ≤ w ≤ upper: 0 inside, inf outside; its prox clips.

    Args:
        lower: A number or one per coordinate; in a problem, on the scale of the data.
        upper: A number or one per coordinate, on the same scale.

    Raises:
        ValueError: Bounds are crossed or NaN.

    >>> Box(0.0, 1.0).prox(jnp.array([-3.0, 0.5, 2.0]), 1.0).tolist()
    [0.0, 0.5, 1.0]
    """

    capabilities = ELEMENTARY._replace(piecewise_linear=True)

    lower: Array = per_coordinate(-jnp.inf)
    upper: Array = per_coordinate(jnp.inf)

    def __check_init__(self) -> None:
        require(
            holds(np.less_equal, self.lower, self.upper),
            "Box: every lower bound must be ≤ its upper bound; some are crossed or NaN",
        )

    def coefficients(self) -> Coefficients:
        return Coefficients(lower=self.lower, upper=self.upper)

    def for_scaled_params(self, scale: Float[Array, " p"]) -> Self:
        return type(self)(scale_rows(self.lower, scale), scale_rows(self.upper, scale))


class NonNegative(ElementaryPenalty):
    """The constraint w ≥ 0: 0 inside, inf outside; its prox clips at 0.

    >>> NonNegative().prox(jnp.array([-3.0, 0.5]), 1.0).tolist()
    [0.0, 0.5]
    """

    capabilities = ELEMENTARY._replace(piecewise_linear=True)

    def coefficients(self) -> Coefficients:
        return Coefficients(lower=0.0)
