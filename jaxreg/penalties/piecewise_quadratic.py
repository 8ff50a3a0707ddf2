"""Elementary penalties: on each coordinate one quadratic on each side of 0, on an interval.

On one coordinate an elementary penalty is

    g₁(w) = positive·max(w, 0) + negative·max(−w, 0) + curvature/2·w²   on lower ≤ w ≤ upper, inf elsewhere.

Its `Coefficients` are two slopes, a curvature and an interval. Sums, multiples and masks of
elementary penalties are elementary, so that value, prox and conjugate are written once, here. The prox is a
soft threshold (slopes), then a division by 1 + step·curvature, then a clip to the interval (Parikh and Boyd
2014, sections 2.2 and 6.5). L1, ridge, the elastic net and bounds are elementary, and so are their sums.

An elementary penalty may also be added to one other separable penalty (`add_on_leaf`).
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxreg import prox
from jaxreg._compilation import on_device
from jaxreg._numerics import magnitude
from jaxreg._typing import ArrayLike, DTypeLike
from jaxreg._validation import holds, require
from jaxreg.penalties._leafwise import ConvexSeparablePenalty, SeparablePenalty, Shifted
from jaxreg.penalties.base import Capabilities, Penalty, no_closed_form

__all__ = ["Coefficients", "Elementary", "ElementaryPenalty", "add_on_leaf", "known_to_be"]


def known_to_be(x: ArrayLike, number: float) -> bool:
    """Return whether x is this number and plain Python, so that it is known while tracing."""
    return isinstance(x, float | int) and x == number


class Coefficients(NamedTuple):
    """Slopes, curvature and interval of an elementary penalty; each broadcasts over the coordinates.

    A plain 0.0, inf or False is known while tracing, so that absent terms cost nothing.
    """

    #: Slope on the left of 0: the value is negative·|w| there.
    negative: ArrayLike = 0.0
    #: Slope on the right of 0.
    positive: ArrayLike = 0.0
    #: Second derivative.
    curvature: ArrayLike = 0.0
    #: Left end of the domain.
    lower: ArrayLike = -jnp.inf
    #: Right end of the domain.
    upper: ArrayLike = jnp.inf
    #: True where only w = 0 is in the domain, whatever the slopes: penalty factor inf.
    excluded: ArrayLike = False

    @property
    def sloped(self) -> bool:
        """False where the slopes are known to be 0."""
        return not (known_to_be(self.negative, 0.0) and known_to_be(self.positive, 0.0))

    @property
    def equal_slopes(self) -> bool:
        """True where both slopes are one object, and so are known to be equal while tracing."""
        return self.negative is self.positive

    @property
    def curved(self) -> bool:
        """False where the curvature is known to be 0."""
        return not known_to_be(self.curvature, 0.0)

    @property
    def bounded(self) -> bool:
        """False where the interval is known to be the whole line."""
        return not (known_to_be(self.lower, -jnp.inf) and known_to_be(self.upper, jnp.inf))

    @property
    def excludes(self) -> bool:
        """False where no coordinate is known to be excluded."""
        return self.excluded is not False

    @property
    def cone(self) -> bool:
        """True where the interval is known to be the line or one half of it."""
        left = known_to_be(self.lower, -jnp.inf) or known_to_be(self.lower, 0.0)
        return left and (known_to_be(self.upper, jnp.inf) or known_to_be(self.upper, 0.0))

    def in_common_form(self, dtype: DTypeLike) -> "Coefficients":
        """Return the coefficients with slopes and curvature as arrays, also where they are known to be 0.

        L1, ridge and elastic net then share compiled programs. Bounds and exclusion stay known to be absent.
        """
        positive, curvature = on_device(self.positive, dtype), on_device(self.curvature, dtype)
        negative = positive if self.equal_slopes else on_device(self.negative, dtype)
        return self._replace(positive=positive, negative=negative, curvature=curvature)

    def soft_threshold(self, w: Array, step: ArrayLike) -> Array:
        """Return the prox of step times the slopes."""
        if not self.sloped:
            return w
        if self.equal_slopes:
            return prox.soft(w, step * self.positive)
        return prox.asymmetric_soft(w, step * self.negative, step * self.positive)

    def project(self, w: Array) -> Array:
        """Return the nearest point of the domain."""
        w = jnp.clip(w, self.lower, self.upper) if self.bounded else w
        return jnp.where(self.excluded, 0.0, w) if self.excludes else w

    def scaled(self, factor: Array) -> "Coefficients":
        """Return the coefficients of factor times the penalty; the domain stays, also at factor 0."""
        positive = factor * self.positive if self.sloped else 0.0
        negative = positive if self.equal_slopes else factor * self.negative
        curvature = factor * self.curvature if self.curved else 0.0
        return self._replace(negative=negative, positive=positive, curvature=curvature)

    def masked(self, mask: Array) -> "Coefficients":
        """Return the coefficients where the mask is true, and zero-penalty coefficients elsewhere."""
        neutral = Coefficients()
        chosen = Coefficients(
            *(x if x is y else jnp.where(mask, x, y) for x, y in zip(self, neutral, strict=True))
        )
        return chosen._replace(negative=chosen.positive) if self.equal_slopes else chosen

    def plus(self, other: "Coefficients") -> "Coefficients":
        """Return the coefficients of the sum: slopes and curvatures add up, domains intersect.

        Raises:
            ValueError: The domains have no common point.
        """
        positive, negative = _add(self.positive, other.positive), _add(self.negative, other.negative)
        lower, upper = (self.lower, self.upper) if self.bounded else (other.lower, other.upper)
        if self.bounded and other.bounded:
            lower, upper = jnp.maximum(self.lower, other.lower), jnp.minimum(self.upper, other.upper)
            require(
                holds(np.less_equal, lower, upper),
                "a sum of penalties has no feasible weight: its bounds are crossed",
            )
        return Coefficients(
            negative=positive if self.equal_slopes and other.equal_slopes else negative,
            positive=positive,
            curvature=_add(self.curvature, other.curvature),
            lower=lower,
            upper=upper,
            excluded=_either(self.excluded, other.excluded),
        )


def _add(x: ArrayLike, y: ArrayLike) -> ArrayLike:
    """Return x + y, without an operation where one of them is known to be 0."""
    if known_to_be(x, 0.0):
        return y
    return x if known_to_be(y, 0.0) else x + y


def _either(x: ArrayLike, y: ArrayLike) -> ArrayLike:
    """Return x | y, without an operation where one of them is known to be False."""
    if x is False:
        return y
    return x if y is False else x | y


class ElementaryPenalty(ConvexSeparablePenalty):
    """Separable penalty with one quadratic on each side of 0, on an interval.

    A subclass writes `coefficients`.
    """

    @property
    def capabilities(self) -> Capabilities:
        c = self.coefficients()
        keeps_signs = c.equal_slopes and not c.bounded
        return ELEMENTARY._replace(piecewise_linear=not c.curved, keeps_signs=keeps_signs)

    @abstractmethod
    def coefficients(self) -> Coefficients:
        """Return slopes, curvature and interval, each a scalar or one number per coordinate."""

    def value_1d(self, w: Array) -> Array:
        c = self.coefficients()
        # The square of w may overflow where the curvature is 0 or small: it is never formed.
        out = 0.5 * c.curvature * w * w
        if c.equal_slopes:
            out = out + c.positive * magnitude(w)
        else:
            out = out + jnp.where(w > 0, c.positive * w, jnp.where(w < 0, -c.negative * w, 0.0))
        inside = (w >= c.lower) & (w <= c.upper) if c.bounded else True
        inside = inside & (~jnp.asarray(c.excluded) | (w == 0)) if c.excludes else inside
        return out if inside is True else jnp.where(inside, out, jnp.inf)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        c = self.coefficients()
        w = c.soft_threshold(w, step)
        return c.project(w / (1.0 + step * c.curvature) if c.curved else w)

    def conjugate_1d(self, u: Array) -> Array:
        """Return u·w − g₁(w) at its maximiser w: the soft threshold of u over the curvature, clipped."""
        c = self.coefficients()
        curved = jnp.asarray(c.curvature) > 0
        pull = c.soft_threshold(u, 1.0)
        if not c.bounded:
            return 0.5 * pull * c.project(jnp.where(curved, pull / jnp.where(curved, c.curvature, 1.0), 0.0))
        end = jnp.where(pull > 0, c.upper, jnp.where(pull < 0, c.lower, 0.0))
        end = jnp.where(jnp.isfinite(end), end, 0.0)
        w = c.project(jnp.where(curved, pull / jnp.where(curved, c.curvature, 1.0), end))
        slope = jnp.where(w > 0, c.positive, -jnp.asarray(c.negative))
        return u * w - slope * w - 0.5 * c.curvature * w * w

    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        """Return the slope of each side on which neither curvature nor a bound limits w, else inf."""
        c = self.coefficients()
        limited = _either(jnp.asarray(c.curvature) > 0 if c.curved else False, c.excluded)
        lower, upper = -jnp.asarray(c.negative), jnp.asarray(c.positive)
        if c.bounded:
            lower = jnp.where(jnp.isfinite(c.lower), -jnp.inf, lower)
            upper = jnp.where(jnp.isfinite(c.upper), jnp.inf, upper)
        if limited is False:
            return lower, upper
        return jnp.where(limited, -jnp.inf, lower), jnp.where(limited, jnp.inf, upper)

    def scaled(self, factor: Array) -> SeparablePenalty:
        return Elementary(self.coefficients().scaled(factor))

    def masked(self, mask: Array) -> SeparablePenalty:
        return Elementary(self.coefficients().masked(mask))

    def shifted(self, by: Array) -> SeparablePenalty:
        """Return w ↦ g₁(w − by). The ends of the interval are shifted, so that a point on an end stays in."""
        c = self.coefficients()
        if not (c.bounded or c.excludes):
            return Shifted(self, by)
        lower, upper = (jnp.where(c.excluded, 0.0, end) + by for end in (c.lower, c.upper))
        interval = Elementary(Coefficients(lower=lower, upper=upper))
        rest = Elementary(c._replace(lower=-jnp.inf, upper=jnp.inf, excluded=False))
        return add_on_leaf([interval, Shifted(rest, by)]) if c.sloped or c.curved else interval

    def kinks(self) -> list[ArrayLike]:
        c = self.coefficients()
        return [0.0, c.lower, c.upper] if c.bounded else [0.0]


#: Capabilities of every elementary penalty. A member declares `piecewise_linear` and `keeps_signs`, which
#: would otherwise be computed from its coefficients whenever a capability is read.
ELEMENTARY = ConvexSeparablePenalty.capabilities._replace(elementary=True)


def _compressed(c: Coefficients) -> Coefficients:
    """Replace by None what is known while tracing, so that it stays known in a pytree."""

    def compressed(x: ArrayLike | None, absent: ArrayLike) -> ArrayLike | None:
        return None if isinstance(x, bool | float | int) and x == absent else x

    out = Coefficients(*map(compressed, c, Coefficients()))
    return out._replace(negative=None) if c.equal_slopes else out


class Elementary(ElementaryPenalty):
    """The elementary penalty with given coefficients: the result of combining elementary penalties."""

    #: Coefficients; None for a term that is known to be absent, and for a left slope equal to the right one.
    given: Coefficients = eqx.field(converter=_compressed, default=Coefficients())

    def coefficients(self) -> Coefficients:
        pairs = zip(self.given, Coefficients(), strict=True)
        full = Coefficients(*(absent if x is None else x for x, absent in pairs))
        return full._replace(negative=full.positive) if self.given.negative is None else full

    def take(self, index: Int[Array, " k"]) -> Self:
        full = self.coefficients()
        part = Coefficients(*(x[index] if jnp.ndim(x) else x for x in full))
        return type(self)(part._replace(negative=part.positive) if full.equal_slopes else part)


def add_on_leaf(
    penalties: Sequence[SeparablePenalty], parts: Sequence[Penalty] | None = None
) -> SeparablePenalty:
    """Add separable penalties on one leaf, at most one of which is not elementary.

    Args:
        penalties: The terms, with numbers that broadcast against the leaf.
        parts: The penalties that an error names; None names the terms.

    Raises:
        TypeError: The prox of the sum has no closed form.
    """
    elementary = [g.coefficients() for g in penalties if g.elementary]
    others = [g for g in penalties if not g.elementary]
    total = reduce(Coefficients.plus, elementary, Coefficients())
    if not others:
        return Elementary(total)
    if len(others) > 1:
        instead = "put all but one of them into the loss, or replace them by elementary ones"
        raise no_closed_form(parts or others, instead)
    other = others[0]
    if not (total.sloped or total.curved or total.bounded or total.excludes):
        return other
    closed = not total.sloped and (not total.bounded or (total.cone and other.keeps_signs))
    if not other.convex and not closed:
        instead = "add only SquaredL2 or NonNegative to one that is not convex"
        raise no_closed_form(parts or penalties, instead)
    return _ElementaryPlus(total, other)


class _ElementaryPlus(SeparablePenalty):
    """An elementary penalty with the coefficients `extra` + one other separable penalty, on one leaf."""

    extra: Coefficients
    inner: SeparablePenalty

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def _display_name(self) -> str:
        return self.inner._display_name()

    def kinks(self) -> list[ArrayLike]:
        return [*self.inner.kinks(), *Elementary(self.extra).kinks()]

    def value_1d(self, w: Array) -> Array:
        return Elementary(self.extra).value_1d(w) + self.inner.value_1d(w)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        """Return the prox, by one rule for each term of the elementary penalty.

        Curvature divides point and step by 1 + step·curvature. The slopes split the line at 0: they shift the
        point by −step·positive right of 0 and by step·negative left of 0, and where neither minimiser lies on
        its own side, the minimiser is 0. An interval clips the minimiser of a convex function.
        """
        c = self.extra
        if c.curved:
            shrink = 1.0 + step * c.curvature
            w, step = w / shrink, step / shrink
        if not self.inner.convex:
            return c.project(self.inner.prox_1d(c.project(w), step))
        if c.sloped:
            right = self.inner.prox_1d(w - step * c.positive, step)
            left = self.inner.prox_1d(w + step * c.negative, step)
            w = jnp.where(right > 0, right, jnp.where(left < 0, left, 0.0))
        else:
            w = self.inner.prox_1d(w, step)
        return c.project(w)

    def conjugate_1d(self, u: Array) -> Array:
        """Return the largest u·w − value(w) over a list that holds the maximiser w.

        With curvature c the maximiser is the prox of the other terms, with step 1/c, at u/c. Without
        curvature the maximiser is a kink, an end of the interval, or the derivative of the inner conjugate at
        u − slope, where the derivative of the inner function is u − slope.
        """
        c = self.extra
        lower, upper = self.inner.dual_bounds_1d()
        inner_maximiser = jax.grad(lambda z: jnp.sum(self.inner.conjugate_1d(z)))
        smooth = [inner_maximiser(jnp.clip(z, lower, upper)) for z in (u - c.positive, u + c.negative)]
        curvature = jnp.where(jnp.asarray(c.curvature) > 0, c.curvature, 1.0)
        uncurved = _ElementaryPlus(c._replace(curvature=0.0), self.inner)
        candidates = [*self.kinks(), *smooth, uncurved.prox_1d(u / curvature, 1.0 / curvature)]

        def objective(w: ArrayLike) -> Array:
            w = jnp.broadcast_to(jnp.where(jnp.isfinite(w), w, 0.0), u.shape).astype(u.dtype)
            w = c.project(self.inner.prox_1d(c.project(w), 0.0))
            return u * w - self.value_1d(w)

        return reduce(jnp.maximum, [objective(w) for w in candidates])

    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        lower, upper = self.inner.dual_bounds_1d()
        other = Elementary(self.extra).dual_bounds_1d()
        return lower + other[0], upper + other[1]
