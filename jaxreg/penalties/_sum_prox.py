"""One penalty that is not separable beside separable ones on the same leaves: when their sum has a prox.

The sources of the rules are named in `combine`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg import thresholds
from jaxreg._pytree import weights_of
from jaxreg._typing import Params, Scalar
from jaxreg.penalties._rows import refused, uniform
from jaxreg.penalties.base import Penalty, Rows
from jaxreg.penalties.separable import Coefficients, Elementary, ElementaryPenalty

__all__ = ["Beside", "largest_scale"]


class Beside:
    """`penalty` + `rows` on the leaves `at` of the params. TypeError where there is no closed form."""

    def __init__(
        self, penalty: Penalty, rows: Any, params: Params, at: list[int], others: list[Penalty]
    ) -> None:
        self.penalty, self.rows, self.at, self.others = penalty, [rows[k] for k in at], at, others
        leaves, self.put_all = weights_of(params)
        # Several steps are taken, so half precision is left until the end.
        leaves = [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in leaves]
        self.leaves, rows = [leaves[k] for k in at], self.rows
        # What is not its own is 0: another part's dual must not count as outside of this one's domain.
        self.all = [jnp.zeros_like(leaf) for leaf in leaves]
        elementary = [row for row in rows if isinstance(row, ElementaryPenalty)]
        self.plain = len(elementary) == len(rows)
        self.parts = [row.coefficients() for row in elementary]

    def prox(self, steps: list[Any]) -> list[Array]:
        """Its own leaves after the prox, for one step per leaf."""
        if self.penalty.keeps_order and uniform(self.rows) and self.rows[0].convex:
            # The same convex function everywhere keeps the order that the first prox has made.
            first = self.own(self.penalty.prox(self.put(self.leaves), self._step(steps, steps)))
            pairs = zip(first, steps, strict=True)
            return [self.rows[0].prox_1d(w, jnp.asarray(t, w.dtype)).astype(w.dtype) for w, t in pairs]
        leaves, shrunk = self.leaves, steps
        if any(c.curved for c in self._elementary()):
            shrink = [1.0 + t * c.curvature for t, c in zip(steps, self.parts, strict=True)]
            leaves = [w / s for w, s in zip(leaves, shrink, strict=True)]
            shrunk = [t / s for t, s in zip(steps, shrink, strict=True)]
        flat = [c._replace(curvature=0.0) for c in self.parts]
        if any(c.sloped or c.bounded or c.excludes for c in flat):
            self._need_signs()
            leaves = [
                Elementary(c).prox_1d(w, t).astype(w.dtype)
                for c, w, t in zip(flat, leaves, shrunk, strict=True)
            ]
        return self.own(self.penalty.prox(self.put(leaves), self._step(shrunk, steps)))

    def conjugate(self) -> Scalar:
        """Without curvature the slopes are a soft threshold of the dual; with it the maximiser is a prox."""
        parts = self._elementary()
        if self._tubes():
            inside = self._in_tube(jnp.ones((), self.leaves[0].dtype))
            flat = jnp.where(inside, 0.0, jnp.inf)
        else:
            pulled = [_pull(c, u) for c, u in zip(self._pullable(), self.leaves, strict=True)]
            flat = self.penalty.conjugate(self.put(pulled))
        if not any(c.curved for c in parts):
            return flat
        curvature = [jnp.asarray(c.curvature) for c in self.parts]
        all_curved = jnp.all(jnp.stack([jnp.all(c > 0) for c in curvature]))
        none_curved = jnp.all(jnp.stack([jnp.all(c == 0) for c in curvature]))
        if not (self.penalty.metric or self._evenly_curved()):
            raise self._refused()
        bend = [jnp.where(all_curved, c, 1.0) for c in curvature]
        bend = [bend[0]] * len(bend) if self._evenly_curved() else bend
        inverse = [1.0 / bend[0]] * len(bend) if self._evenly_curved() else [1.0 / b for b in bend]
        rows = [Elementary(c._replace(curvature=0.0)) for c in self.parts]
        rows = [rows[0]] * len(rows) if uniform(self.rows) else rows
        scaled = self.put([u / b for u, b in zip(self.leaves, bend, strict=True)])
        full = dict(zip(self.at, rows, strict=True))
        w = Beside(self.penalty, full, scaled, self.at, self.others).prox(inverse)
        product = sum(jnp.sum(u * x) for u, x in zip(self.leaves, w, strict=True))
        curved = product - self.penalty.value(self.put(w)) - Rows(self.rows, w).value()
        return jnp.where(all_curved, curved, jnp.where(none_curved, flat, jnp.inf))

    def dual_scale(self) -> Scalar:
        """1 where curvature holds every weight back; else the edge of the domain, by bisection."""
        parts, dtype = self._elementary(), self.leaves[0].dtype

        def room(s: Scalar) -> Scalar:
            pulled = [_pull(c, s * u) for c, u in zip(self._pullable(), self.leaves, strict=True)]
            return self.penalty.dual_scale(self.put(pulled))

        if self._tubes():
            scale = largest_scale(self._in_tube, dtype)
        elif any(c.sloped for c in parts):
            scale = largest_scale(lambda s: room(s) >= 1, dtype)
        else:
            scale = room(jnp.ones((), dtype))
        if not any(c.curved for c in parts):
            return scale
        held = jnp.all(jnp.stack([jnp.all(jnp.asarray(c.curvature) > 0) for c in parts]))
        return jnp.where(held, 1.0, scale)

    def free(self) -> list[Array]:
        """What neither sees; for a penalty that is blind to constants, nothing unless all rows are blind."""
        own = self.own(self.penalty.free(self.put(self.leaves)))
        unseen = Rows(self.rows, [jnp.ones_like(leaf) for leaf in self.leaves]).free()
        if self.penalty.keeps_order:
            unseen = [jnp.all(mask > 0) * jnp.ones_like(mask) for mask in unseen]
        return [mask * d for mask, d in zip(unseen, own, strict=True)]

    def put(self, leaves: list[Array]) -> Params:
        """The params with other values on the leaves that are its own."""
        out = list(self.all)
        for k, leaf in zip(self.at, leaves, strict=True):
            out[k] = leaf
        return self.put_all(out)

    def own(self, params: Params) -> list[Array]:
        """The leaves that are its own."""
        leaves = weights_of(params)[0]
        return [leaves[k] for k in self.at]

    def _step(self, steps: list[Any], given: list[Any]) -> Any:
        """One number where all leaves share it, else a tree of steps, which needs a prox in a metric."""
        one = all(t is given[0] for t in given) and jnp.ndim(given[0]) == 0
        if one and (steps is given or self._evenly_curved()):
            return steps[0]
        if not self.penalty.metric:
            raise self._refused()
        pairs = zip(steps, self.leaves, strict=True)
        return self.put([jnp.broadcast_to(jnp.asarray(t, w.dtype), w.shape) for t, w in pairs])

    def _evenly_curved(self) -> bool:
        """Whether all coordinates are known to have one curvature."""
        level = self.parts[0].curvature
        return all(c.curvature is level for c in self.parts) and jnp.ndim(level) == 0

    def _tubes(self) -> bool:
        """Whether this is total variation + a common slope, whose dual domain is a tube."""
        return self.penalty.keeps_order and uniform(self.rows) and self.parts[0].sloped

    def _in_tube(self, s: Scalar) -> Array:
        slope = jnp.asarray(self.parts[0].positive)
        return jnp.all(jnp.stack([self.penalty.beside_slope(slope, s * u) for u in self.leaves]))

    def _elementary(self) -> list[Coefficients]:
        if not self.plain:
            raise self._refused()
        return self.parts

    def _pullable(self) -> list[Coefficients]:
        parts = self._elementary()
        if any(c.sloped or c.bounded or c.excludes for c in parts):
            self._need_signs()
        return parts

    def _need_signs(self) -> None:
        if not (self.penalty.convex and self.penalty.keeps_signs and all(c.cone for c in self.parts)):
            raise self._refused()

    def _refused(self) -> TypeError:
        instead = "put one of them into the loss, or give them different leaves with Masked or Partition"
        return refused([self.penalty, *self.others], instead)


def _pull(c: Coefficients, u: Array) -> Array:
    """The dual beyond what the slopes, a half line or an exclusion can hold."""
    if c.sloped:
        u = thresholds.asymmetric_soft(u, c.negative, c.positive)
    if c.bounded:
        u = jnp.maximum(u, 0.0) if c.lower == 0 else u
        u = jnp.minimum(u, 0.0) if c.upper == 0 else u
    return jnp.where(c.excluded, 0.0, u) if c.excludes else u


def largest_scale(inside: Any, dtype: Any) -> Scalar:
    """The largest s in [0, 1] with inside(s), to the last bit but a few; 0 is taken to be inside."""

    def halve(_: int, pair: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        lower, upper = pair
        middle = 0.5 * (lower + upper)
        ok = inside(middle)
        return jnp.where(ok, middle, lower), jnp.where(ok, upper, middle)

    one = jnp.ones((), dtype)
    steps = jnp.finfo(dtype).nmant + 5
    lower, _ = jax.lax.fori_loop(0, steps, halve, (0 * one, one))
    return jax.lax.stop_gradient(jnp.where(inside(one), one, lower))
