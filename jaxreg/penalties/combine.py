"""Penalties made of penalties: `a * p`, `p + q` and `Masked(p, mask)`.

The value of a combination always exists. Its prox exists where the maths has one: here, for every
combination of elementary penalties (see `separable`), whose coefficients add, scale and mask. Any other
sum is refused when its prox is asked for, with a TypeError that names the parts.
"""

from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._fields import hyperparameter, require
from jaxreg._tree import expand_step
from jaxreg._types import ArrayLike, Params, Scalar
from jaxreg.penalties.base import Penalty
from jaxreg.penalties.separable import Coefficients, Elementary

__all__ = ["Masked", "Scaled", "Sum"]


class _Combined(Penalty):
    """Shared by combinations: everything but the value and the parts follows from the coefficients."""

    @property
    def convex(self) -> bool:
        """Whether every part is convex."""
        return all(part.convex for part in self._parts())

    @property
    def separable(self) -> bool:
        """Whether every part is separable."""
        return all(part.separable for part in self._parts())

    def _parts(self) -> tuple[Penalty, ...]:
        return tuple(
            x
            for x in jax.tree.leaves(vars(self), is_leaf=lambda x: isinstance(x, Penalty))
            if isinstance(x, Penalty)
        )

    def _each(self, params: Params, function: Callable[..., Any], *rest: Params) -> Params:
        """Apply function(elementary penalty, leaf, …) on every leaf, or refuse."""
        coefficients = self.elementary(params)
        if coefficients is None:
            names = " and ".join(type(part).__name__ for part in self._parts())
            raise TypeError(
                f"the prox of {names} together has no closed form here: use proximal steps on one part and"
                " put the others into the loss, or combine L1, SquaredL2, ElasticNet, Box, NonNegative"
            )
        leaves, structure = jax.tree.flatten(params)
        columns = [structure.flatten_up_to(tree) for tree in rest]
        rows = zip(coefficients, leaves, *columns, strict=True)
        return jax.tree.unflatten(structure, [function(Elementary(c), *row) for c, *row in rows])

    def prox(self, params: Params, step: Any) -> Params:
        """Exact for combinations of elementary penalties; TypeError otherwise."""
        return self._each(params, lambda p, w, t: p.prox(w, t), expand_step(step, params))

    def conjugate(self, dual: Params) -> Scalar:
        """Coordinate by coordinate; TypeError where the parts are not elementary."""
        return sum(jax.tree.leaves(self._each(dual, lambda p, u: p.conjugate(u))), 0.0)

    def dual_bounds(self, params: Params) -> tuple[Params, Params]:
        """Per coordinate, the interval on which the conjugate is finite."""
        return (
            self._each(params, lambda p, w: p.dual_bounds(w)[0]),
            self._each(params, lambda p, w: p.dual_bounds(w)[1]),
        )


class Scaled(_Combined):
    """factor·penalty, written `factor * penalty`. An indicator stays itself, also at factor 0.

    A negative or NaN factor raises ValueError.

    >>> from jaxreg.penalties import L1
    >>> (2.0 * L1(1.0)).prox(jnp.array([-3.0]), 1.0).tolist()
    [-1.0]
    """

    penalty: Penalty
    factor: Array = hyperparameter()

    def __check_init__(self) -> None:
        require(self.factor >= 0, f"a penalty's factor must be ≥ 0, got {self.factor}")

    def value(self, params: Params) -> Scalar:
        """factor·value, inf where the value is inf."""
        inner = self.penalty.value(params)
        outside = jnp.isinf(inner)
        return jnp.where(outside, jnp.inf, self.factor * jnp.where(outside, 0.0, inner))

    def elementary(self, params: Params) -> list[Coefficients] | None:
        """Slopes and curvatures times the factor."""
        inner = self.penalty.elementary(params)
        return inner and [
            c._replace(slope=self.factor * c.slope, curvature=self.factor * c.curvature) for c in inner
        ]

    def take(self, index: Array) -> Self:
        """Of the inner penalty."""
        return type(self)(self.penalty.take(index), self.factor)

    def rescaled(self, scale: Array) -> Self:
        """Of the inner penalty."""
        return type(self)(self.penalty.rescaled(scale), self.factor)


class Sum(_Combined):
    """The sum of penalties, written `p + q`.

    >>> from jaxreg.penalties import L1, NonNegative
    >>> (L1(1.0) + NonNegative()).prox(jnp.array([-3.0, 3.0]), 1.0).tolist()
    [0.0, 2.0]
    """

    parts: tuple[Penalty, ...]

    def value(self, params: Params) -> Scalar:
        """The sum of the values."""
        return sum((part.value(params) for part in self.parts), 0.0)

    def elementary(self, params: Params) -> list[Coefficients] | None:
        """Slopes and curvatures added, intervals intersected."""
        columns = [part.elementary(params) for part in self.parts]
        if any(column is None for column in columns):
            return None
        return [_add(row) for row in zip(*columns, strict=True)]

    def take(self, index: Array) -> Self:
        """Of every part."""
        return type(self)(tuple(part.take(index) for part in self.parts))

    def rescaled(self, scale: Array) -> Self:
        """Of every part."""
        return type(self)(tuple(part.rescaled(scale) for part in self.parts))


def _add(row: tuple[Coefficients, ...]) -> Coefficients:
    total = row[0]
    for c in row[1:]:
        lower, upper = jnp.maximum(total.lower, c.lower), jnp.minimum(total.upper, c.upper)
        require(lower <= upper, "a sum of penalties has no feasible weight: its bounds are crossed")
        total = Coefficients(total.slope + c.slope, total.curvature + c.curvature, lower, upper)
    return total


class Masked(_Combined):
    """`penalty` where `mask` is true, nothing elsewhere.

    `mask` is a boolean, a tree of booleans or boolean arrays that is a prefix of the params, or a function
    of the params that returns one, as in optax. A mask of another structure raises ValueError.

    >>> from jaxreg.penalties import L1
    >>> Masked(L1(1.0), jnp.array([True, False])).prox(jnp.array([3.0, 3.0]), 1.0).tolist()
    [2.0, 3.0]
    """

    penalty: Penalty
    mask: Any
    rule: Callable[[Params], Any] | None = eqx.field(static=True)

    def __init__(self, penalty: Penalty, mask: Any) -> None:
        self.penalty = penalty
        self.rule = mask if callable(mask) else None
        self.mask = None if callable(mask) else jax.tree.map(lambda m: jnp.asarray(m, bool), mask)

    def value(self, params: Params) -> Scalar:
        """The value of the selected coordinates."""
        parts = jax.tree.leaves(self._each(params, lambda p, w: p.value(w)))
        return sum(parts, 0.0)

    def elementary(self, params: Params) -> list[Coefficients] | None:
        """Those of the inner penalty where the mask is true, neutral elsewhere."""
        inner = self.penalty.elementary(params)
        mask = self.mask if self.rule is None else self.rule(params)
        try:
            full = jax.tree.map(lambda m, sub: jax.tree.map(lambda _: m, sub), mask, params)
        except ValueError as error:
            raise ValueError(
                f"the mask's structure {jax.tree.structure(mask)} is not a prefix of the params'"
                f" {jax.tree.structure(params)}: give one boolean per leaf or subtree"
            ) from error
        rows = zip(inner or [], jax.tree.leaves(full), jax.tree.leaves(params), strict=True)
        return inner and [_where(m, c, w) for c, m, w in rows]

    def take(self, index: Array) -> Self:
        """Of the inner penalty and of a mask with one entry per coordinate."""
        mask = self.rule or jax.tree.map(lambda m: m[index] if m.ndim else m, self.mask)
        return type(self)(self.penalty.take(index), mask)

    def rescaled(self, scale: Array) -> Self:
        """Of the inner penalty."""
        return type(self)(self.penalty.rescaled(scale), self.rule or self.mask)


def _where(mask: ArrayLike, c: Coefficients, leaf: Array) -> Coefficients:
    mask = jnp.asarray(mask, bool)
    if mask.ndim == 1 and leaf.ndim == 2 and mask.shape == leaf.shape[:1]:
        mask = mask[:, None]
    neutral = Coefficients()
    return Coefficients(*(jnp.where(mask, x, y) for x, y in zip(c, neutral, strict=True)))
