"""What a penalty is.

A penalty is the Complexity of Cost = EmpLoss + λ·Complexity: an immutable pytree with a `value` and a
`prox`. To add one that acts on each coordinate alone, subclass `SeparablePenalty` and write `value_1d`
and `prox_1d`; a convex one also writes
`conjugate_1d` and the interval where that is finite, `dual_bounds_1d`.

A field that may hold one number per coordinate is declared with `per_coordinate()`: the base then slices
it in `take` and lines it up with the leaves of the params.

What a penalty can do is a declared property (`convex`, `separable`), not a type: `2.0 * p`, `Masked(p, m)`
and `p + q` can do what their parts can.
"""

import dataclasses
from abc import abstractmethod
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._tree import expand_step, tree_all, tree_sum
from jaxreg._types import ArrayLike, Params, Scalar

__all__ = ["Penalty", "SeparablePenalty"]


class Penalty(eqx.Module):
    """Base of all penalties. Methods take and return pytrees shaped like the params."""

    @property
    @abstractmethod
    def convex(self) -> bool:
        """Whether it is convex; then `conjugate`, `dual_scale` and `free` exist."""

    @property
    @abstractmethod
    def separable(self) -> bool:
        """Whether it acts on each coordinate alone; then `prox` takes one step per coordinate."""

    @abstractmethod
    def value(self, params: Params) -> Scalar:
        """The complexity of the params: one number, inf outside the domain."""

    @abstractmethod
    def prox(self, params: Params, step: Any) -> Params:
        """The minimiser u of ½‖u − params‖² + step·value(u)."""

    @abstractmethod
    def dual_bounds(self, params: Params) -> tuple[Params, Params]:
        """Per coordinate, the interval on which the conjugate is finite (separable convex members)."""

    @abstractmethod
    def conjugate(self, dual: Params) -> Scalar:
        """The convex conjugate sup_w ⟨dual, w⟩ − value(w), for dual points inside the bounds."""

    @abstractmethod
    def take(self, index: Array) -> Self:
        """The same penalty on some of the coordinates of a single array of params."""

    @abstractmethod
    def rescaled(self, scale: Array) -> Self:
        """The same penalty for params measured in units `scale` times finer (bounds are converted)."""

    def elementary(self, params: Params) -> list[Any] | None:
        """Its `Coefficients` on each leaf where it is elementary (see `separable`), else None."""
        return None

    def dual_scale(self, dual: Params) -> Scalar:
        """The largest s ≤ 1 for which s·dual lies in the conjugate's domain."""
        lower, upper = self.dual_bounds(dual)

        def leaf(u: Array, lo: Array, hi: Array) -> Array:
            edge = jnp.where(u > 0, hi, -lo)
            ratio = edge / jnp.where(u == 0, 1.0, jnp.abs(u))
            return jnp.min(jnp.where(u == 0, 1.0, jnp.minimum(ratio, 1.0)), initial=1.0)

        tops = jax.tree.leaves(jax.tree.map(leaf, dual, lower, upper))
        return jnp.min(jnp.stack(tops))

    def free(self, params: Params) -> Params:
        """Booleans shaped like the params: coordinates that the penalty does not see at all."""
        lower, upper = self.dual_bounds(params)
        return jax.tree.map(lambda lo, hi: (lo == 0) & (hi == 0), lower, upper)

    def __add__(self, other: "Penalty") -> "Penalty":
        from jaxreg.penalties.combine import Sum

        return Sum((self, other)) if isinstance(other, Penalty) else NotImplemented

    def __rmul__(self, factor: ArrayLike) -> "Penalty":
        from jaxreg.penalties.combine import Scaled

        return Scaled(self, factor)

    __mul__ = __rmul__


class SeparablePenalty(Penalty):
    """g(w) = Σ_j g₁(w_j). A subclass writes `value_1d` and `prox_1d`, elementwise over an array.

    All leaves are seen as one ravelled vector: a `per_coordinate` field is a scalar, has the shape of the
    single leaf, is (p,) for every column of a (p, K) leaf, or has one number per ravelled coordinate.
    """

    @abstractmethod
    def value_1d(self, w: Array) -> Array:
        """g₁ of each entry."""

    @abstractmethod
    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        """The prox of step·g₁ of each entry; `step` broadcasts against `w`."""

    @abstractmethod
    def conjugate_1d(self, u: Array) -> Array:
        """The conjugate of g₁ at each entry inside the dual bounds."""

    @abstractmethod
    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        """The interval on which the conjugate of g₁ is finite, broadcast per coordinate."""

    @property
    def separable(self) -> bool:
        """True: it acts on each coordinate alone."""
        return True

    def value(self, params: Params) -> Scalar:
        """Σ_j g₁(w_j)."""
        return tree_sum(self._map(lambda p, w: p.value_1d(w), params))

    def prox(self, params: Params, step: Any) -> Params:
        """The prox of each coordinate; `step` is a scalar or a pytree shaped like the params."""
        return self._map(
            lambda p, w, t: p.prox_1d(w, jnp.asarray(t, w.dtype)).astype(w.dtype),
            params,
            expand_step(step, params),
        )

    def conjugate(self, dual: Params) -> Scalar:
        """Σ_j g₁*(u_j), inf outside the domain."""
        lower, upper = self.dual_bounds(dual)
        inside = jax.tree.map(lambda u, lo, hi: (u >= lo) & (u <= hi), dual, lower, upper)
        total = tree_sum(self._map(lambda p, u: p.conjugate_1d(u), dual))
        return jnp.where(tree_all(inside), total, jnp.inf)

    def dual_bounds(self, params: Params) -> tuple[Params, Params]:
        """Per coordinate, the interval on which the conjugate is finite."""

        def side(k: int) -> Params:
            return self._map(
                lambda p, w: jnp.broadcast_to(jnp.asarray(p.dual_bounds_1d()[k], w.dtype), w.shape),
                params,
            )

        return side(0), side(1)

    def take(self, index: Array) -> Self:
        """Restrict the per-coordinate fields to `index`."""
        return self._with(lambda x: x[index] if x.ndim else x)

    def rescaled(self, scale: Array) -> Self:
        """Unchanged: only penalties with a location, such as bounds, depend on the unit."""
        return self

    def _with(self, change: Any) -> Self:
        """A copy with `change` applied to every per-coordinate field that is set."""
        names = [
            f.name
            for f in dataclasses.fields(self)
            if f.metadata.get("per_coordinate") and getattr(self, f.name) is not None
        ]
        if not names:
            return self
        where = lambda p: [getattr(p, name) for name in names]  # noqa: E731
        return eqx.tree_at(where, self, [change(x) for x in where(self)])

    def _map(self, function: Any, params: Params, *rest: Params) -> Params:
        """Apply function(penalty, leaf, …), the penalty's per-coordinate fields lined up with the leaf."""
        leaves, structure = jax.tree.flatten(params)
        columns = [structure.flatten_up_to(tree) for tree in rest]
        total, start, out = sum(leaf.size for leaf in leaves), 0, []
        for k, leaf in enumerate(leaves):
            part = self._with(lambda x, leaf=leaf, start=start: _line_up(x, leaf, start, total, len(leaves)))
            out.append(function(part, leaf, *(column[k] for column in columns)))
            start += leaf.size
        return jax.tree.unflatten(structure, out)


def _line_up(x: Array, leaf: Array, start: int, total: int, leaves: int) -> Array:
    """The part of a per-coordinate field that belongs to one leaf, in a shape that broadcasts with it."""
    if x.ndim == 0 or (leaves == 1 and x.shape == leaf.shape):
        return x
    if leaves == 1 and leaf.ndim == 2 and x.shape == leaf.shape[:1]:
        return x[:, None]
    if x.shape == (total,):
        return x[start : start + leaf.size].reshape(leaf.shape)
    raise ValueError(
        f"a per-coordinate field of shape {x.shape} does not fit params of shape {leaf.shape}"
        f" ({total} coordinates in all): give one number, one per row, or one per coordinate"
    )
