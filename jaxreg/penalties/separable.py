"""Penalties that act on each coordinate alone.

The elementary ones are all slope·|w| + curvature/2·w² on an interval [lower, upper]. That form is closed
under sums, scaling and masking, so its value, prox and conjugate are written once, and a member says only
what its coefficients are. To add an elementary penalty: write the class here and name it in `__all__`.
"""

from abc import abstractmethod
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg import thresholds
from jaxreg._fields import hyperparameter, per_coordinate, require
from jaxreg._types import ArrayLike, Params
from jaxreg.penalties.base import SeparablePenalty

__all__ = [
    "L1",
    "Box",
    "Coefficients",
    "ElasticNet",
    "Elementary",
    "ElementaryPenalty",
    "NonNegative",
    "SquaredL2",
]


class Coefficients(NamedTuple):
    """slope·|w| + curvature/2·w² on [lower, upper]; each broadcasts over the coordinates."""

    slope: ArrayLike = 0.0
    curvature: ArrayLike = 0.0
    lower: ArrayLike = -jnp.inf
    upper: ArrayLike = jnp.inf


class ElementaryPenalty(SeparablePenalty):
    """A separable penalty that is fully said by its `Coefficients`."""

    @abstractmethod
    def coefficients(self) -> Coefficients:
        """slope, curvature and interval, each a scalar or per coordinate."""

    def elementary(self, params: Params) -> list[Coefficients]:
        """The coefficients on each leaf."""
        parts = self._map(lambda p, w: p.coefficients(), params)
        return jax.tree.leaves(parts, is_leaf=lambda x: isinstance(x, Coefficients))

    @property
    def convex(self) -> bool:
        """True: slope and curvature are not negative and the domain is an interval."""
        return True

    def value_1d(self, w: Array) -> Array:
        """slope·|w| + curvature/2·w², inf outside the interval."""
        c = self.coefficients()
        inside = (w >= c.lower) & (w <= c.upper)
        return jnp.where(inside, c.slope * jnp.abs(w) + 0.5 * c.curvature * w**2, jnp.inf)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        """Soft threshold, then shrink, then clip (Parikh and Boyd 2014, sections 2.2 and 6.5)."""
        c = self.coefficients()
        shrunk = thresholds.soft(w, step * c.slope) / (1.0 + step * c.curvature)
        return jnp.clip(shrunk, c.lower, c.upper)

    def conjugate_1d(self, u: Array) -> Array:
        """u·w − g₁(w) at its maximiser w, which is the clipped soft threshold of u over the curvature."""
        c = self.coefficients()
        curved = jnp.asarray(c.curvature) > 0
        pull = thresholds.soft(u, c.slope)
        far = jnp.where(pull > 0, c.upper, jnp.where(pull < 0, c.lower, 0.0))
        far = jnp.where(jnp.isfinite(far), far, 0.0)
        w = jnp.where(curved, pull / jnp.where(curved, c.curvature, 1.0), far)
        w = jnp.clip(w, c.lower, c.upper)
        return u * w - c.slope * jnp.abs(w) - 0.5 * c.curvature * w**2

    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        """±slope on each side where neither curvature nor a bound holds the weight back."""
        c = self.coefficients()
        curved = jnp.asarray(c.curvature) > 0
        lower = jnp.where(curved | jnp.isfinite(c.lower), -jnp.inf, -jnp.asarray(c.slope))
        upper = jnp.where(curved | jnp.isfinite(c.upper), jnp.inf, jnp.asarray(c.slope))
        return lower, upper


class Elementary(ElementaryPenalty):
    """The elementary penalty with these coefficients: what sums and masks of elementary ones come to."""

    given: Coefficients

    def coefficients(self) -> Coefficients:
        """Those it was given."""
        return self.given


def _weighted(slope: ArrayLike, curvature: ArrayLike, weights: Array | None) -> Coefficients:
    """Coefficients times penalty factors. Factor inf excludes: the interval is the point 0, no inf·0."""
    if weights is None:
        return Coefficients(slope, curvature)
    excluded = jnp.isinf(weights)
    kept = jnp.where(excluded, 0.0, weights)
    bound = jnp.where(excluded, 0.0, jnp.inf)
    return Coefficients(slope * kept, curvature * kept, -bound, bound)


def _check(name: str, lam: Array, weights: Array | None) -> None:
    require(lam >= 0, f"{name}: λ must be a number ≥ 0, got {lam}")
    if weights is not None:
        require(weights >= 0, f"{name}: weights (penalty factors) must be ≥ 0 or inf, got negative or NaN")


class L1(ElementaryPenalty):
    r"""$\lambda \sum_j s_j |w_j|$: pulls every weight by the same amount, the small ones to exactly zero.

    `lam` is λ; `weights` are the penalty factors s: None (all 1), a scalar or one per coordinate, 0 leaves
    a coordinate unpenalised, inf excludes it. A negative or NaN number raises ValueError.
    Source: Tibshirani (1996).

    >>> L1(1.0).prox(jnp.array([-3.0, 0.5]), 1.0).tolist()
    [-2.0, 0.0]
    """

    lam: Array = hyperparameter(1.0)
    weights: Array | None = per_coordinate(None)

    def __check_init__(self) -> None:
        _check("L1", self.lam, self.weights)

    def coefficients(self) -> Coefficients:
        """slope λ·weights."""
        return _weighted(self.lam, 0.0, self.weights)


class SquaredL2(ElementaryPenalty):
    r"""$\frac{\lambda}{2} \sum_j s_j w_j^2$: weight decay. Its gradient λ·w shrinks all and zeroes none.

    Arguments and errors as in `L1`. Source: Hoerl and Kennard (1970).

    >>> SquaredL2(1.0).prox(jnp.array([-3.0, 0.5]), 1.0).tolist()
    [-1.5, 0.25]
    """

    lam: Array = hyperparameter(1.0)
    weights: Array | None = per_coordinate(None)

    def __check_init__(self) -> None:
        _check("SquaredL2", self.lam, self.weights)

    def coefficients(self) -> Coefficients:
        """curvature λ·weights."""
        return _weighted(0.0, self.lam, self.weights)


class ElasticNet(ElementaryPenalty):
    r"""$\lambda \sum_j s_j (r|w_j| + \frac{1-r}{2} w_j^2)$ with r = `l1_ratio` in [0, 1].

    Other arguments and errors as in `L1`. Source: Zou and Hastie (2005), in glmnet's normalisation.

    >>> ElasticNet(1.0, 0.5).prox(jnp.array([-3.5, 0.5]), 1.0).tolist()
    [-2.0, 0.0]
    """

    lam: Array = hyperparameter(1.0)
    l1_ratio: Array = hyperparameter(0.5)
    weights: Array | None = per_coordinate(None)

    def __check_init__(self) -> None:
        _check("ElasticNet", self.lam, self.weights)
        ok = (self.l1_ratio >= 0) & (self.l1_ratio <= 1)
        require(ok, f"ElasticNet: l1_ratio must lie in [0, 1], got {self.l1_ratio}")

    def coefficients(self) -> Coefficients:
        """slope λ·r·weights and curvature λ·(1 − r)·weights."""
        return _weighted(self.lam * self.l1_ratio, self.lam * (1.0 - self.l1_ratio), self.weights)


class Box(ElementaryPenalty):
    """The constraint lower ≤ w ≤ upper: 0 inside, inf outside; its prox clips.

    `lower` and `upper` are numbers or one per coordinate, in the units of the data; crossed or NaN bounds
    raise ValueError.

    >>> Box(0.0, 1.0).prox(jnp.array([-3.0, 0.5, 2.0]), 1.0).tolist()
    [0.0, 0.5, 1.0]
    """

    lower: Array = per_coordinate(-jnp.inf)
    upper: Array = per_coordinate(jnp.inf)

    def __check_init__(self) -> None:
        require(
            self.lower <= self.upper,
            "Box: every lower bound must be ≤ its upper bound; some are crossed or NaN",
        )

    def coefficients(self) -> Coefficients:
        """The interval alone."""
        return Coefficients(lower=self.lower, upper=self.upper)

    def rescaled(self, scale: Array) -> Self:
        """Bounds times scale."""
        return type(self)(self.lower * scale, self.upper * scale)


class NonNegative(ElementaryPenalty):
    """The constraint w ≥ 0: 0 inside, inf outside; its prox clips at 0.

    >>> NonNegative().prox(jnp.array([-3.0, 0.5]), 1.0).tolist()
    [0.0, 0.5]
    """

    def coefficients(self) -> Coefficients:
        """The interval [0, inf)."""
        return Coefficients(lower=0.0)
