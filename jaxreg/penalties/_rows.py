"""Arithmetic of separable penalties that are lined up with one leaf: scale, add, select, shift.

Elementary ones stay elementary. Others are wrapped, and what has no closed form is refused with a TypeError.
"""

from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg._typing import ArrayLike
from jaxreg._validation import holds, require
from jaxreg.penalties.base import SeparablePenalty
from jaxreg.penalties.separable import Coefficients, Elementary, ElementaryPenalty

__all__ = ["add", "scale", "select", "shift", "uniform"]


def scale(row: SeparablePenalty, factor: Array) -> SeparablePenalty:
    """factor·row; an interval stays itself, also at factor 0."""
    if isinstance(row, ElementaryPenalty):
        c = row.coefficients()
        positive = factor * c.positive if c.sloped else 0.0
        negative = positive if c.negative is c.positive else factor * c.negative
        curvature = factor * c.curvature if c.curved else 0.0
        return Elementary(c._replace(negative=negative, positive=positive, curvature=curvature))
    return _Scaled(row, factor)


def add(rows: list[SeparablePenalty], parts: Sequence[object] = ()) -> SeparablePenalty:
    """The sum; TypeError for two that are not elementary. It names the `parts` they are rows of."""
    elementary = [row.coefficients() for row in rows if isinstance(row, ElementaryPenalty)]
    rest = [row for row in rows if not isinstance(row, ElementaryPenalty)]
    total = reduce(_plus, elementary, Coefficients())
    if not rest:
        return Elementary(total)
    if len(rest) > 1:
        raise refused(
            parts or rest, "put all but one of them into the loss, or replace them by elementary ones"
        )
    if not (total.sloped or total.curved or total.bounded or total.excludes):
        return rest[0]
    easy = not total.sloped and (not total.bounded or (total.cone and rest[0].keeps_signs))
    if not rest[0].convex and not easy:
        raise refused(parts or rows, "add only SquaredL2 or NonNegative to one that is not convex")
    return _Added(total, rest[0])


def select(row: SeparablePenalty, mask: Array) -> SeparablePenalty:
    """The row where the mask is true, nothing elsewhere."""
    if isinstance(row, ElementaryPenalty):
        c = row.coefficients()
        pairs = [x if x is y else jnp.where(mask, x, y) for x, y in zip(c, Coefficients(), strict=True)]
        if c.negative is c.positive:
            pairs[0] = pairs[1]
        return Elementary(Coefficients(*pairs))
    return _Selected(row, mask)


def shift(row: SeparablePenalty, by: Array) -> SeparablePenalty:
    """w ↦ row(w − by). An interval moves its ends, so that a point on one is inside."""
    if isinstance(row, ElementaryPenalty):
        c = row.coefficients()
        if c.bounded or c.excludes:
            lower, upper = (jnp.where(c.excluded, 0.0, end) + by for end in (c.lower, c.upper))
            rest = Elementary(c._replace(lower=-jnp.inf, upper=jnp.inf, excluded=False))
            interval = Elementary(Coefficients(lower=lower, upper=upper))
            return add([interval, _Shifted(rest, by)]) if c.sloped or c.curved else interval
    return _Shifted(row, by)


def uniform(rows: list[SeparablePenalty]) -> bool:
    """Whether all coordinates of all leaves are known to have the same penalty."""
    numbers = [x for x in jax.tree.leaves(rows[0]) if hasattr(x, "ndim")]
    return all(row is rows[0] for row in rows) and all(x.ndim == 0 for x in numbers)


def refused(parts: Sequence[object], instead: str) -> TypeError:
    """The error for a prox that has no closed form."""
    names = " + ".join(sorted({_name(part) for part in parts}))
    return TypeError(f"the prox of {names} has no closed form: {instead}")


def _name(part: object) -> str:
    """The user's word for a part: that of the penalty inside of wrappers and masks."""
    while isinstance(part, _Wrapper) or type(part).__name__ in ("Scaled", "Masked"):
        part = part.inner if isinstance(part, _Wrapper) else part.penalty
    return type(part).__name__


def _plus(a: Coefficients, b: Coefficients) -> Coefficients:
    positive = b.positive if not a.sloped else a.positive + b.positive if b.sloped else a.positive
    negative = b.negative if not a.sloped else a.negative + b.negative if b.sloped else a.negative
    curvature = b.curvature if not a.curved else a.curvature + b.curvature if b.curved else a.curvature
    excluded = b.excluded if not a.excludes else a.excluded | b.excluded if b.excludes else a.excluded
    lower, upper = (b.lower, b.upper) if not a.bounded else (a.lower, a.upper)
    if a.bounded and b.bounded:
        lower, upper = jnp.maximum(a.lower, b.lower), jnp.minimum(a.upper, b.upper)
        require(
            holds(np.less_equal, lower, upper),
            "a sum of penalties has no feasible weight: its bounds are crossed",
        )
    even = a.negative is a.positive and b.negative is b.positive
    return Coefficients(positive if even else negative, positive, curvature, lower, upper, excluded)


class _Wrapper(SeparablePenalty):
    """Shared by what wraps one row that is not elementary."""

    @property
    def convex(self) -> bool:
        """Of the inner row."""
        return self.inner.convex

    @property
    def keeps_signs(self) -> bool:
        """Of the inner row."""
        return self.inner.keeps_signs


class _Scaled(_Wrapper):
    inner: SeparablePenalty
    factor: Array

    def value_1d(self, w: Array) -> Array:
        return self.factor * self.inner.value_1d(w)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        return self.inner.prox_1d(w, step * self.factor)

    def conjugate_1d(self, u: Array) -> Array:
        safe = jnp.where(self.factor > 0, self.factor, 1.0)
        return jnp.where(self.factor > 0, safe * self.inner.conjugate_1d(u / safe), 0.0)

    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        lower, upper = self.inner.dual_bounds_1d()
        return self.factor * lower, self.factor * upper


class _Selected(_Wrapper):
    inner: SeparablePenalty
    mask: Array

    def value_1d(self, w: Array) -> Array:
        return jnp.where(self.mask, self.inner.value_1d(w), 0.0)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        return jnp.where(self.mask, self.inner.prox_1d(w, step), w)

    def conjugate_1d(self, u: Array) -> Array:
        return jnp.where(self.mask, self.inner.conjugate_1d(u), 0.0)

    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        lower, upper = self.inner.dual_bounds_1d()
        return jnp.where(self.mask, lower, 0.0), jnp.where(self.mask, upper, 0.0)


class _Shifted(_Wrapper):
    inner: SeparablePenalty
    by: Array

    @property
    def keeps_signs(self) -> bool:
        return False

    def value_1d(self, w: Array) -> Array:
        return self.inner.value_1d(w - self.by)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        return self.by + self.inner.prox_1d(w - self.by, step)

    def conjugate_1d(self, u: Array) -> Array:
        return self.inner.conjugate_1d(u) + u * self.by

    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        return self.inner.dual_bounds_1d()


class _Added(_Wrapper):
    """An elementary penalty with the coefficients `extra` + one other row."""

    extra: Coefficients
    inner: SeparablePenalty

    def value_1d(self, w: Array) -> Array:
        return Elementary(self.extra).value_1d(w) + self.inner.value_1d(w)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        """The curvature shrinks point and step. The slopes split the line at 0: right of it they shift the
        point by −positive, left of it by +negative, and where neither stays on its side the minimiser is 0.
        An interval clips the minimiser of a convex function of one number.
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
        """The largest u·w − value(w). With curvature the maximiser is a prox. Without, it is a kink or an end
        of a piece, or where the slope of the inner one is u less a slope of the elementary one.
        """
        c = self.extra
        lower, upper = self.inner.dual_bounds_1d()
        slope = jax.grad(lambda z: jnp.sum(self.inner.conjugate_1d(z)))
        smooth = [slope(jnp.clip(z, lower, upper)) for z in (u - c.positive, u + c.negative)]
        ends = [c.lower, c.upper] if c.bounded else []
        curved = jnp.asarray(c.curvature) > 0
        bend = jnp.where(curved, c.curvature, 1.0)
        flat = _Added(c._replace(curvature=0.0), self.inner)
        points = [*_kinks(self.inner), 0.0, *ends, *smooth, flat.prox_1d(u / bend, 1.0 / bend)]

        def reached(w: ArrayLike) -> Array:
            w = jnp.broadcast_to(jnp.where(jnp.isfinite(w), w, 0.0), u.shape).astype(u.dtype)
            w = c.project(self.inner.prox_1d(c.project(w), 0.0))
            return u * w - self.value_1d(w)

        return reduce(jnp.maximum, [reached(w) for w in points])

    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        """Those of the parts, added; no bound where curvature or an interval holds the weight back."""
        lower, upper = self.inner.dual_bounds_1d()
        other = Elementary(self.extra).dual_bounds_1d()
        return lower + other[0], upper + other[1]


def _kinks(row: SeparablePenalty) -> list[ArrayLike]:
    """Where a row has no derivative, and the ends of its domain."""
    if isinstance(row, _Shifted):
        return [row.by + kink for kink in _kinks(row.inner)]
    if isinstance(row, _Scaled | _Selected):
        return _kinks(row.inner)
    if isinstance(row, ElementaryPenalty):
        c = row.coefficients()
        return [0.0, c.lower, c.upper] if c.bounded else [0.0]
    return [0.0]
