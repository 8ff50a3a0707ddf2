"""Sum of a penalty that is not separable and separable penalties on the same leaves.

The prox of the sum has a closed form in these cases (sources in `combine`):

- the separable part is one convex function of every coordinate, and the other penalty keeps the order of
  neighbours (total variation): the prox of the other penalty, then that of the function;
- the separable part has curvature: point and step are divided by 1 + step·curvature;
- the separable part has slopes, half lines or excluded coordinates, and the other penalty is convex and keeps
  signs (norms): the elementwise prox first, then that of the other penalty.

All other sums are refused with a TypeError that names the parts.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from jaxreg import prox
from jaxreg._pytree import weights_of
from jaxreg._typing import ArrayLike, Params, Scalar, StepSize
from jaxreg.penalties._duals import largest_scale
from jaxreg.penalties._leafwise import Leafwise, SeparablePenalty, map_shared, prox_on_leaf, uniform
from jaxreg.penalties.base import Penalty, no_closed_form
from jaxreg.penalties.piecewise_quadratic import Coefficients, Elementary

__all__ = ["KEEP_APART", "CoupledSum"]

#: Advice for two penalties that cannot be summed.
KEEP_APART = "put one of them into the loss, or give them different leaves with Masked or Partition"


class CoupledSum:
    """A penalty that is not separable + separable penalties, on some leaves of the params."""

    def __init__(
        self,
        penalty: Penalty,
        separable: dict[int, SeparablePenalty],
        params: Params,
        separable_parts: Sequence[Penalty],
    ) -> None:
        """Restrict the sum to the leaves that both parts act on.

        Args:
            penalty: The part that is not separable.
            separable: The separable part per leaf, by its position among the weight leaves.
            params: Pytree of weights, or of duals.
            separable_parts: The separable penalties as given, for error messages.
        """
        leaves, self._put_all = weights_of(params)
        # The prox is a chain of several operations: half precision is restored only after the last one.
        leaves = [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in leaves]
        self.penalty, self.parts = penalty, [penalty, *separable_parts]
        self.at, self.separable = list(separable), list(separable.values())
        self.leaves = [leaves[k] for k in self.at]
        # Other leaves are 0: they belong to other parts and must not put the dual outside this part's domain.
        self._zeros = [jnp.zeros_like(leaf) for leaf in leaves]
        self._all_elementary = all(g.elementary for g in self.separable)

    def prox(self, steps: list[ArrayLike]) -> list[Array]:
        """Return the leaves after the prox, for one step per leaf."""
        g = self.separable[0]
        if self.penalty.keeps_order and uniform(self.separable) and g.convex:
            first = self._own(self.penalty.prox(self._put(self.leaves), self._common_step(steps)))
            return [prox_on_leaf(g, w, t) for w, t in zip(first, steps, strict=True)]
        coefficients, leaves = self._coefficients(), self.leaves
        if any(c.curved for c in coefficients):
            shrink = map_shared(lambda t, curvature: 1.0 + t * curvature, steps, self._curvatures())
            leaves = [w / s for w, s in zip(leaves, shrink, strict=True)]
            steps = map_shared(lambda t, s: t / s, steps, shrink)
        if _beyond_curvature(coefficients):
            self._require_signs()
            leaves = [
                Elementary(c._replace(curvature=0.0)).prox_1d(w, t).astype(w.dtype)
                for c, w, t in zip(coefficients, leaves, steps, strict=True)
            ]
        return self._own(self.penalty.prox(self._put(leaves), self._common_step(steps)))

    def conjugate(self) -> Scalar:
        """Return the conjugate; inf where some but not all coordinates have curvature."""
        uncurved = self._conjugate_without_curvature()
        if not any(c.curved for c in self._coefficients()):
            return uncurved
        curvatures = map_shared(jnp.asarray, self._curvatures())
        all_curved = jnp.all(jnp.stack([jnp.all(x > 0) for x in curvatures]))
        none_curved = jnp.all(jnp.stack([jnp.all(x == 0) for x in curvatures]))
        safe = map_shared(lambda x: jnp.where(all_curved, x, 1.0), curvatures)
        curved = self._conjugate_with_curvature(safe)
        return jnp.where(all_curved, curved, jnp.where(none_curved, uncurved, jnp.inf))

    def _conjugate_without_curvature(self) -> Scalar:
        """Return the conjugate of the sum without curvature: the penalty's, at the soft-thresholded dual."""
        if self._has_tube():
            return jnp.where(self._in_tube(jnp.ones((), self.leaves[0].dtype)), 0.0, jnp.inf)
        return self.penalty.conjugate(self._put(self._soft_duals()))

    def _conjugate_with_curvature(self, curvatures: list[Array]) -> Scalar:
        """Return ⟨u, w⟩ − value(w) at the maximiser w: the other terms' prox with step 1/curvature."""
        terms = map_shared(lambda g: Elementary(g.coefficients()._replace(curvature=0.0)), self.separable)
        scaled = self._put([u / c for u, c in zip(self.leaves, curvatures, strict=True)])
        rest = CoupledSum(self.penalty, dict(zip(self.at, terms, strict=True)), scaled, self.parts[1:])
        w = rest.prox(map_shared(lambda c: 1.0 / c, curvatures))
        product = sum(jnp.sum(u * x) for u, x in zip(self.leaves, w, strict=True))
        return product - self.penalty.value(self._put(w)) - Leafwise(self.separable, w).value()

    def dual_scale(self) -> Scalar:
        """Return 1 if every coordinate has curvature, else the scale at the edge of the dual domain."""
        coefficients, dtype = self._coefficients(), self.leaves[0].dtype
        if self._has_tube():
            scale = largest_scale(self._in_tube, dtype)
        elif any(c.sloped for c in coefficients):
            own_scale = lambda s: self.penalty.dual_scale(self._put(self._soft_duals(s)))  # noqa: E731
            scale = largest_scale(lambda s: own_scale(s) >= 1, dtype)
        else:
            scale = self.penalty.dual_scale(self._put(self._soft_duals()))
        if not any(c.curved for c in coefficients):
            return scale
        all_curved = jnp.all(jnp.stack([jnp.all(jnp.asarray(x) > 0) for x in self._curvatures()]))
        return jnp.where(all_curved, 1.0, scale)

    def project_on_unpenalised(self) -> list[Array]:
        """Project the leaves onto the directions that cost nothing under both parts.

        Total variation leaves constants unpenalised; the sum does so only if the separable part leaves every
        coordinate unpenalised.
        """
        own = self._own(self.penalty.project_on_unpenalised(self._put(self.leaves)))
        costless = Leafwise(
            self.separable, [jnp.ones_like(leaf) for leaf in self.leaves]
        ).project_on_unpenalised()
        if self.penalty.keeps_order:
            costless = [jnp.all(mask > 0) * jnp.ones_like(mask) for mask in costless]
        return [mask * d for mask, d in zip(costless, own, strict=True)]

    def _put(self, leaves: list[Array]) -> Params:
        """Return the params with these values on the own leaves and 0 elsewhere."""
        out = list(self._zeros)
        for k, leaf in zip(self.at, leaves, strict=True):
            out[k] = leaf
        return self._put_all(out)

    def _own(self, params: Params) -> list[Array]:
        leaves = weights_of(params)[0]
        return [leaves[k] for k in self.at]

    def _common_step(self, steps: list[ArrayLike]) -> StepSize:
        """Return the step if all leaves share one number, else a tree of steps, for a prox in a metric."""
        if all(t is steps[0] for t in steps) and jnp.ndim(steps[0]) == 0:
            return steps[0]
        if not self.penalty.metric:
            raise self._refused()
        pairs = zip(steps, self.leaves, strict=True)
        return self._put([jnp.broadcast_to(jnp.asarray(t, w.dtype), w.shape) for t, w in pairs])

    def _soft_duals(self, scale: ArrayLike = 1.0) -> list[Array]:
        """Return the parts of scale·dual that slopes, half lines and exclusions cannot balance."""
        coefficients = self._coefficients()
        if _beyond_curvature(coefficients):
            self._require_signs()
        return [_soft_dual(c, scale * u) for c, u in zip(coefficients, self.leaves, strict=True)]

    def _has_tube(self) -> bool:
        """Return whether the sum is total variation + L1, whose dual domain bounds running sums: a tube."""
        return self.penalty.keeps_order and uniform(self.separable) and self._coefficients()[0].sloped

    def _in_tube(self, scale: Scalar) -> Array:
        slope = jnp.asarray(self._coefficients()[0].positive)
        inside = [self.penalty.dual_plus_l1_contains(slope, scale * u) for u in self.leaves]
        return jnp.all(jnp.stack(inside))

    def _coefficients(self) -> list[Coefficients]:
        if not self._all_elementary:
            raise self._refused()
        return [g.coefficients() for g in self.separable]

    def _curvatures(self) -> list[ArrayLike]:
        return [c.curvature for c in self._coefficients()]

    def _require_signs(self) -> None:
        cones = all(c.cone for c in self._coefficients())
        if not (self.penalty.convex and self.penalty.keeps_signs and cones):
            raise self._refused()

    def _refused(self) -> TypeError:
        return no_closed_form(self.parts, KEEP_APART)


def _beyond_curvature(coefficients: list[Coefficients]) -> bool:
    """Return whether any leaf has slopes, bounds or excluded coordinates."""
    return any(c.sloped or c.bounded or c.excludes for c in coefficients)


def _soft_dual(c: Coefficients, u: Array) -> Array:
    """Return the part of a dual that slopes, a half line or an exclusion cannot balance."""
    if c.sloped:
        u = prox.asymmetric_soft(u, c.negative, c.positive)
    if c.bounded:
        u = jnp.maximum(u, 0.0) if c.lower == 0 else u
        u = jnp.minimum(u, 0.0) if c.upper == 0 else u
    return jnp.where(c.excluded, 0.0, u) if c.excludes else u
