"""Convex penalties that act on each coordinate alone.

The elementary ones are all slope·|w| + curvature/2·w² on an interval; the slope may differ on the two sides
of 0. That form is closed under sums, scaling and masking, so its value, prox and conjugate are written once,
and a member says only what its coefficients are. To add one: write the class here and name it in `__all__`.
"""

from abc import abstractmethod
from typing import NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg import thresholds
from jaxreg._typing import ArrayLike
from jaxreg._validation import holds, hyperparameter, per_coordinate, require, require_scalar
from jaxreg.penalties._vectors import magnitude
from jaxreg.penalties.base import ConvexSeparablePenalty, times

__all__ = [
    "L1",
    "AsymmetricL1",
    "Box",
    "Coefficients",
    "ElasticNet",
    "Elementary",
    "ElementaryPenalty",
    "HuberNorm",
    "NonNegative",
    "SquaredL2",
]


class Coefficients(NamedTuple):
    """positive·w right of 0, negative·|w| left of it, curvature/2·w², on [lower, upper]; 0 where excluded.

    Each broadcasts over the coordinates. A plain 0.0, inf or False is known while tracing, so that what is
    not there costs nothing.
    """

    negative: ArrayLike = 0.0
    positive: ArrayLike = 0.0
    curvature: ArrayLike = 0.0
    lower: ArrayLike = -jnp.inf
    upper: ArrayLike = jnp.inf
    excluded: ArrayLike = False

    @property
    def sloped(self) -> bool:
        """False where the slopes are known to be 0."""
        return not (_is(self.negative, 0.0) and _is(self.positive, 0.0))

    @property
    def curved(self) -> bool:
        """False where the curvature is known to be 0."""
        return not _is(self.curvature, 0.0)

    @property
    def bounded(self) -> bool:
        """False where the interval is known to be the whole line."""
        return not (_is(self.lower, -jnp.inf) and _is(self.upper, jnp.inf))

    @property
    def excludes(self) -> bool:
        """False where no coordinate is known to be excluded."""
        return self.excluded is not False

    @property
    def cone(self) -> bool:
        """Whether the interval is known to be the line or one half of it."""
        return (_is(self.lower, -jnp.inf) or _is(self.lower, 0.0)) and (
            _is(self.upper, jnp.inf) or _is(self.upper, 0.0)
        )

    def project(self, w: Array) -> Array:
        """The nearest point of the domain."""
        w = jnp.clip(w, self.lower, self.upper) if self.bounded else w
        return jnp.where(self.excluded, 0.0, w) if self.excludes else w


def _is(x: ArrayLike, number: float) -> bool:
    return isinstance(x, float | int) and x == number


class ElementaryPenalty(ConvexSeparablePenalty):
    """A separable penalty that is fully said by its `Coefficients`."""

    @property
    def elementary(self) -> bool:
        """True."""
        return True

    @abstractmethod
    def coefficients(self) -> Coefficients:
        """Slopes, curvature and interval, each a scalar or per coordinate."""

    @property
    def keeps_signs(self) -> bool:
        """Where both slopes are one and there are no bounds."""
        c = self.coefficients()
        return c.negative is c.positive and not c.bounded

    def value_1d(self, w: Array) -> Array:
        """The slope times |w| + curvature/2·w², inf outside the domain."""
        c = self.coefficients()
        # The square of w may overflow where the curvature is 0 or small: it is never formed.
        out = 0.5 * c.curvature * w * w
        if c.negative is c.positive:
            out = out + c.positive * magnitude(w)
        else:
            out = out + jnp.where(w > 0, c.positive * w, jnp.where(w < 0, -c.negative * w, 0.0))
        inside = (w >= c.lower) & (w <= c.upper) if c.bounded else True
        inside = inside & (~jnp.asarray(c.excluded) | (w == 0)) if c.excludes else inside
        return out if inside is True else jnp.where(inside, out, jnp.inf)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        """Soft threshold, then shrink, then clip (Parikh and Boyd 2014, sections 2.2 and 6.5)."""
        c = self.coefficients()
        if c.sloped:
            w = thresholds.asymmetric_soft(w, step * c.negative, step * c.positive)
        return c.project(w / (1.0 + step * c.curvature) if c.curved else w)

    def conjugate_1d(self, u: Array) -> Array:
        """u·w − g₁(w) at its maximiser w, which is the clipped soft threshold of u over the curvature."""
        c = self.coefficients()
        curved = jnp.asarray(c.curvature) > 0
        pull = thresholds.asymmetric_soft(u, c.negative, c.positive)
        far = jnp.where(pull > 0, c.upper, jnp.where(pull < 0, c.lower, 0.0))
        far = jnp.where(jnp.isfinite(far), far, 0.0)
        w = jnp.where(curved, pull / jnp.where(curved, c.curvature, 1.0), far)
        w = c.project(w)
        slope = jnp.where(w > 0, c.positive, -jnp.asarray(c.negative))
        return u * w - slope * w - 0.5 * c.curvature * w * w

    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        """The slope on each side where neither curvature nor a bound holds the weight back, else inf."""
        c = self.coefficients()
        held = (jnp.asarray(c.curvature) > 0) | c.excluded
        lower = jnp.where(held | jnp.isfinite(c.lower), -jnp.inf, -jnp.asarray(c.negative))
        upper = jnp.where(held | jnp.isfinite(c.upper), jnp.inf, jnp.asarray(c.positive))
        return lower, upper


class Elementary(ElementaryPenalty):
    """The elementary penalty with these coefficients: what combinations of elementary ones come to."""

    given: Coefficients = Coefficients()

    def coefficients(self) -> Coefficients:
        """Those it was given."""
        return self.given

    def take(self, index: Array) -> Self:
        """Of every coefficient that differs by coordinate."""
        return type(self)(Coefficients(*(x[index] if jnp.ndim(x) else x for x in self.given)))


def _weighted(slope: ArrayLike, curvature: ArrayLike, weights: Array | None) -> Coefficients:
    """Coefficients times penalty factors. Factor inf excludes by a mask made here: there is no inf·0."""
    if weights is None:
        return Coefficients(slope, slope, curvature)
    excluded = jnp.isinf(weights)
    kept = jnp.where(excluded, 0.0, weights)
    slope = 0.0 if _is(slope, 0.0) else slope * kept
    return Coefficients(slope, slope, 0.0 if _is(curvature, 0.0) else curvature * kept, excluded=excluded)


def _check(name: str, lam: Array, weights: Array | None) -> None:
    require_scalar(f"{name}: λ", lam)
    if weights is not None:
        require(
            holds(lambda w: w >= 0, weights),
            f"{name}: weights (penalty factors) must be ≥ 0 or inf, got negative or NaN",
        )


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
        ok = holds(lambda ratio: (ratio >= 0) & (ratio <= 1), self.l1_ratio)
        require(ok, f"ElasticNet: l1_ratio must lie in [0, 1], got {self.l1_ratio}")

    def coefficients(self) -> Coefficients:
        """slope λ·r·weights and curvature λ·(1 − r)·weights."""
        return _weighted(self.lam * self.l1_ratio, self.lam * (1.0 - self.l1_ratio), self.weights)


class AsymmetricL1(ElementaryPenalty):
    r"""$\lambda \sum_j (p \max(w_j, 0) + n \max(-w_j, 0))$: another price on each side of 0.

    `lam` is λ; `negative` n and `positive` p are numbers ≥ 0 or one per coordinate; others raise ValueError.

    >>> AsymmetricL1(1.0, 2.0, 0.5).prox(jnp.array([-3.0, -1.5, 1.5]), 1.0).tolist()
    [-1.0, 0.0, 1.0]
    """

    lam: Array = hyperparameter(1.0)
    negative: Array = per_coordinate(1.0)
    positive: Array = per_coordinate(1.0)

    def __check_init__(self) -> None:
        _check("AsymmetricL1", self.lam, None)
        for side in (self.negative, self.positive):
            fine = holds(lambda side: (side >= 0) & np.isfinite(side), side)
            require(fine, "AsymmetricL1: negative and positive must be finite and ≥ 0")

    def coefficients(self) -> Coefficients:
        """Slope λn on the left, λp on the right."""
        return Coefficients(self.lam * self.negative, self.lam * self.positive)


class HuberNorm(ConvexSeparablePenalty):
    r"""$\lambda \sum_j h(w_j)$, h a parabola up to δ and |w| − δ/2 beyond: L1 without its corner.

    It makes no exact zeros.
    `lam` is λ ≥ 0 and `delta` δ > 0, otherwise ValueError. It is the Moreau envelope of L1 at δ.
    Source: Huber (1964).

    >>> HuberNorm(1.0, 1.0).prox(jnp.array([-3.0, 1.0]), 1.0).tolist()
    [-2.0, 0.5]
    """

    lam: Array = hyperparameter(1.0)
    delta: Array = hyperparameter(1.0)

    def __check_init__(self) -> None:
        _check("HuberNorm", self.lam, None)
        require(holds(lambda delta: delta > 0, self.delta), f"HuberNorm: delta must be > 0, got {self.delta}")

    @property
    def keeps_signs(self) -> bool:
        """True: even, and rising with |w|."""
        return True

    def value_1d(self, w: Array) -> Array:
        """λ times a parabola up to δ, then λ|w| less a constant."""
        size = magnitude(w)
        core = jnp.minimum(size, self.delta)
        return self.lam * (0.5 * core * (core / self.delta) + size - core)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        """Shrinks what ends up below δ, shifts the rest."""
        return thresholds.huber_norm(w, step, self.lam, self.delta)

    def conjugate_1d(self, u: Array) -> Array:
        """δu²/2λ inside ±λ."""
        return 0.5 * self.delta * u**2 / jnp.where(self.lam > 0, self.lam, 1.0)

    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        """±λ."""
        return -self.lam, self.lam


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
            holds(np.less_equal, self.lower, self.upper),
            "Box: every lower bound must be ≤ its upper bound; some are crossed or NaN",
        )

    def coefficients(self) -> Coefficients:
        """The interval alone."""
        return Coefficients(lower=self.lower, upper=self.upper)

    def rescaled(self, scale: Array) -> Self:
        """Bounds times scale."""
        return type(self)(times(self.lower, scale), times(self.upper, scale))


class NonNegative(ElementaryPenalty):
    """The constraint w ≥ 0: 0 inside, inf outside; its prox clips at 0.

    >>> NonNegative().prox(jnp.array([-3.0, 0.5]), 1.0).tolist()
    [0.0, 0.5]
    """

    def coefficients(self) -> Coefficients:
        """The interval [0, inf)."""
        return Coefficients(lower=0.0)
