"""Separable penalties: a function g₁ of one number, summed over all coordinates of all leaves.

A separable penalty becomes a list of one `SeparablePenalty` per weight leaf, whose numbers broadcast against
that leaf (`per_leaf`). In this form multiples, masks and shifts are again separable penalties, and `Leafwise`
evaluates value, prox and conjugate.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._pytree import along, tree_sum, weights_of
from jaxreg._typing import ArrayLike, Params, Scalar, StepSize
from jaxreg.penalties.base import Capabilities, Penalty

__all__ = [
    "ConvexSeparablePenalty",
    "Leafwise",
    "SeparablePenalty",
    "Shifted",
    "broadcast_to_leaf",
    "map_shared",
    "scale_rows",
    "uniform",
]

_Out = TypeVar("_Out")


class SeparablePenalty(Penalty):
    """Sum over coordinates g(w) = Σ_j g₁(w_j). A subclass writes `value_1d` and `prox_1d`, elementwise.

    A `per_coordinate()` field has one of these shapes:

    - `()`: one number for all coordinates;
    - `(total,)`: one number for each coordinate of all weight leaves, ravelled in order;
    - the shape of the leaf, if the params have a single weight leaf;
    - `(p,)`, if that leaf has shape `(p, K)`: one number for each row.
    """

    capabilities = Capabilities(separable=True, metric=True)

    _for_authors = Penalty._for_authors | {
        *("value_1d", "prox_1d", "conjugate_1d", "dual_bounds_1d"),
        *("scaled", "masked", "shifted", "kinks"),
    }

    @abstractmethod
    def value_1d(self, w: Array) -> Array:
        """Return g₁ of each entry."""

    @abstractmethod
    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        """Return a global minimiser of ½(u − w)² + step·g₁(u) for each entry; `step` broadcasts."""

    def conjugate_1d(self, u: Array) -> Array:
        """Return the conjugate of g₁ at each entry, which lies inside the dual bounds.

        Raises:
            TypeError: The penalty is not convex.
        """
        raise TypeError(
            f"{type(self).__name__} is not convex and has no conjugate: certify a fit by its KKT residual"
        )

    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        """Return the ends of the interval on which the conjugate of g₁ is finite; they broadcast.

        Raises:
            TypeError: The penalty is not convex.
        """
        raise TypeError(
            f"{type(self).__name__} is not convex and has no conjugate: certify a fit by its KKT residual"
        )

    def value(self, params: Params) -> Scalar:
        return Leafwise(self.per_leaf(params), params).value()

    def prox(self, params: Params, step: StepSize) -> Params:
        return Leafwise(self.per_leaf(params), params).prox(step)

    def conjugate(self, dual: Params) -> Scalar:
        return Leafwise(self.per_leaf(dual), dual).conjugate()

    def dual_scale(self, dual: Params) -> Scalar:
        return Leafwise(self.per_leaf(dual), dual).dual_scale()

    def project_on_unpenalised(self, direction: Params, at: Params | None = None) -> Params:
        return Leafwise(self.per_leaf(direction), direction).project_on_unpenalised(at)

    def per_leaf(self, params: Params) -> "list[SeparablePenalty]":
        leaves, _ = weights_of(params)
        total, start, out = sum(leaf.size for leaf in leaves), 0, []
        for leaf in leaves:
            fit = lambda x, leaf=leaf, start=start: broadcast_to_leaf(x, leaf, start, total, len(leaves))  # noqa: E731
            out.append(self._map_per_coordinate(fit))
            start += leaf.size
        return out

    def scaled(self, factor: Array) -> "SeparablePenalty":
        """Return factor·g₁ on one leaf."""
        return _Scaled(self, factor)

    def masked(self, mask: Array) -> "SeparablePenalty":
        """Return the function that is g₁ where the mask is true and 0 elsewhere, on one leaf."""
        return _Masked(self, mask)

    def shifted(self, by: Array) -> "SeparablePenalty":
        """Return w ↦ g₁(w − by) on one leaf."""
        return Shifted(self, by)

    def kinks(self) -> list[ArrayLike]:
        """Return points that include every one where g₁ has no derivative, and the ends of its domain."""
        return [0.0]


class ConvexSeparablePenalty(SeparablePenalty):
    """Convex separable penalty. A subclass also writes `conjugate_1d` and `dual_bounds_1d`."""

    capabilities = Capabilities(convex=True, separable=True, metric=True, has_conjugate=True)

    @abstractmethod
    def conjugate_1d(self, u: Array) -> Array: ...

    @abstractmethod
    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]: ...


class Leafwise:
    """Separable penalties evaluated on params: one `SeparablePenalty` per weight leaf."""

    def __init__(self, penalties: Sequence[SeparablePenalty], params: Params) -> None:
        leaves, self._put = weights_of(params)
        self._pairs = list(zip(penalties, leaves, strict=True))
        self._params = params

    def value(self) -> Scalar:
        """Return Σ g₁(w)."""
        return tree_sum([g.value_1d(w) for g, w in self._pairs])

    def prox(self, step: StepSize) -> Params:
        """Return the prox of each coordinate, in the dtype of the params."""
        steps = along(step, self._params, "step")
        return self._put([prox_on_leaf(g, w, t) for (g, w), t in zip(self._pairs, steps, strict=True)])

    def conjugate(self) -> Scalar:
        """Return Σ g₁*(u), inf outside the domain; 64 roundings outside count as inside."""
        terms = []
        for g, u in self._pairs:
            lower, upper = (jnp.asarray(bound, u.dtype) for bound in g.dual_bounds_1d())
            slack = 64 * jnp.finfo(u.dtype).eps
            inside = (u >= lower - slack * jnp.abs(lower)) & (u <= upper + slack * jnp.abs(upper))
            terms.append(jnp.where(inside, g.conjugate_1d(jnp.clip(u, lower, upper)), jnp.inf))
        return tree_sum(terms)

    def dual_scale(self) -> Scalar:
        """Return the smallest ratio of dual bound to entry, at most 1."""
        smallest = []
        for g, u in self._pairs:
            lower, upper = g.dual_bounds_1d()
            ratio = jnp.where(u > 0, upper, -jnp.asarray(lower)) / jnp.where(u == 0, 1.0, jnp.abs(u))
            smallest.append(jnp.min(jnp.where(u == 0, 1.0, jnp.minimum(ratio, 1.0)), initial=1.0))
        return jnp.min(jnp.stack(smallest))

    def project_on_unpenalised(self, at: Params | None = None) -> Params:
        """Zero the entries whose coordinate is penalised, that is, has a nonzero dual bound.

        For a coordinate that is not 0 at the point `at`, only the bound of its own side counts.
        """
        out = []
        points = [None] * len(self._pairs) if at is None else weights_of(at)[0]
        for (g, d), w in zip(self._pairs, points, strict=True):
            left, right = (jnp.asarray(bound) == 0 for bound in g.dual_bounds_1d())
            costless = left & right if w is None else (left & right) | (right & (w > 0)) | (left & (w < 0))
            out.append(jnp.where(costless, d, jnp.zeros_like(d)))
        return self._put(out)


def prox_on_leaf(penalty: SeparablePenalty, w: Array, step: ArrayLike) -> Array:
    """Return the prox on one leaf, in its dtype."""
    return penalty.prox_1d(w, jnp.asarray(step, w.dtype)).astype(w.dtype)


def scale_rows(x: Array, scale: Array) -> Array:
    """Multiply a number, (p,) or (p, K) by one factor per row."""
    return x * (scale[:, None] if x.ndim == 2 else scale)


def broadcast_to_leaf(x: Array, leaf: Array, start: int, total: int, n_leaves: int) -> Array:
    """Return the part of a per-coordinate field that belongs to one leaf, in a shape that broadcasts.

    Args:
        x: Scalar, or one number per coordinate or row.
        leaf: Weight leaf of the params.
        start: Position of the leaf in the ravelled params.
        total: Number of coordinates of the params.
        n_leaves: Number of weight leaves of the params.
    """
    if x.ndim == 0 or (n_leaves == 1 and x.shape == leaf.shape):
        return x
    if n_leaves == 1 and leaf.ndim == 2 and x.shape == leaf.shape[:1]:
        return x[:, None]
    if x.shape == (total,):
        return x[start : start + leaf.size].reshape(leaf.shape)
    raise ValueError(
        f"a per-coordinate field of shape {x.shape} does not fit params of shape {leaf.shape}"
        f" ({total} coordinates in all): give one number, one per row, or one per coordinate"
    )


def map_shared(function: Callable[..., _Out], *columns: Sequence[object]) -> list[_Out]:
    """Map a function over leaves; leaves with identical arguments share one result object.

    `uniform` and the check for one common step recognise shared penalties and steps by identity.
    """
    made: dict[tuple[int, ...], _Out] = {}
    out = []
    for row in zip(*columns, strict=True):
        key = tuple(map(id, row))
        if key not in made:
            made[key] = function(*row)
        out.append(made[key])
    return out


def uniform(penalties: Sequence[SeparablePenalty]) -> bool:
    """Return whether all coordinates of all leaves are known to have the same penalty."""
    numbers = [x for x in jax.tree.leaves(penalties[0]) if hasattr(x, "ndim")]
    return all(g is penalties[0] for g in penalties) and all(x.ndim == 0 for x in numbers)


class _Wrapper(SeparablePenalty):
    """Base of functions made from another separable penalty on the same leaf."""

    inner: SeparablePenalty

    @property
    def capabilities(self) -> Capabilities:
        inner = self.inner.capabilities
        return inner._replace(elementary=False, piecewise_linear=False, keeps_order=False)

    def kinks(self) -> list[ArrayLike]:
        return self.inner.kinks()

    def _display_name(self) -> str:
        return self.inner._display_name()


class _Scaled(_Wrapper):
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


class _Masked(_Wrapper):
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


class Shifted(_Wrapper):
    """w ↦ inner(w − by) on one leaf."""

    by: Array

    @property
    def capabilities(self) -> Capabilities:
        return super().capabilities._replace(keeps_signs=False)

    def value_1d(self, w: Array) -> Array:
        return self.inner.value_1d(w - self.by)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        return self.by + self.inner.prox_1d(w - self.by, step)

    def conjugate_1d(self, u: Array) -> Array:
        return self.inner.conjugate_1d(u) + u * self.by

    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        return self.inner.dual_bounds_1d()

    def kinks(self) -> list[ArrayLike]:
        return [self.by + kink for kink in self.inner.kinks()]
