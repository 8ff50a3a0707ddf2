"""Penalties made of penalties: `a * p` and `p + q`.

The value of a combination always exists. Its prox is exact where the maths has one:

- separable parts: coordinate by coordinate (see `_rows`);
- any p + SquaredL2, which shrinks point and step; weighted, where p has a prox in a metric;
- p that sees absolute values alone (norms) + L1, weighted too: soft threshold first, then p (Yu 2013);
- total variation + the same convex function of every coordinate: total variation first (Friedman 2007);
- parts on disjoint leaves: each on its own.

Any other sum is refused when its prox is asked for, with a TypeError that names the parts.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._pytree import along, weights_of
from jaxreg._typing import Params, Scalar
from jaxreg._validation import hyperparameter, require_scalar
from jaxreg.penalties import _rows
from jaxreg.penalties._sum_prox import Beside
from jaxreg.penalties.base import Blocks, Penalty, Rows, SeparablePenalty
from jaxreg.penalties.separable import Elementary, ElementaryPenalty

__all__ = ["Combined", "Named", "Scaled", "Sum"]


class Combined(Penalty):
    """Shared by combinations: separable ones follow from their rows, others from the `_whole…` methods."""

    @property
    @abstractmethod
    def inner(self) -> tuple[Penalty, ...]:
        """The penalties it is made of."""

    @property
    def convex(self) -> bool:
        """Whether every part is convex."""
        return all(part.convex for part in self.inner)

    @property
    def separable(self) -> bool:
        """Whether every part is separable."""
        return all(part.separable for part in self.inner)

    @property
    def elementary(self) -> bool:
        """Whether every part is."""
        return all(part.elementary for part in self.inner)

    @property
    def metric(self) -> bool:
        """Whether every part takes one step per coordinate."""
        return all(part.metric for part in self.inner)

    @property
    def keeps_signs(self) -> bool:
        """Whether every part does."""
        return all(part.keeps_signs for part in self.inner)

    def blocks(self, params: Params) -> Blocks | None:
        """Those of the only part that is not separable."""
        found = [part.blocks(params) for part in self.inner if not part.separable]
        return found[0] if len(found) == 1 else None

    def prox(self, params: Params, step: Any) -> Params:
        """Exact where the maths has a closed form (see the top of this file); TypeError otherwise."""
        rows = self.rows(params)
        return self._whole_prox(params, step) if rows is None else Rows(rows, params).prox(step)

    def conjugate(self, dual: Params) -> Scalar:
        """Exact where the maths has a closed form; TypeError otherwise."""
        rows = self.rows(dual)
        return self._whole_conjugate(dual) if rows is None else Rows(rows, dual).conjugate()

    def dual_scale(self, dual: Params) -> Scalar:
        """The largest s ≤ 1 for which s·dual lies in the conjugate's domain."""
        rows = self.rows(dual)
        return self._whole_dual_scale(dual) if rows is None else Rows(rows, dual).dual_scale()

    def free(self, direction: Params, at: Params | None = None) -> Params:
        """The part of a direction that no part sees."""
        rows = self.rows(direction)
        return self._whole_free(direction) if rows is None else Rows(rows, direction).free(at)

    @abstractmethod
    def _whole_prox(self, params: Params, step: Any) -> Params: ...

    @abstractmethod
    def _whole_conjugate(self, dual: Params) -> Scalar: ...

    @abstractmethod
    def _whole_dual_scale(self, dual: Params) -> Scalar: ...

    @abstractmethod
    def _whole_free(self, direction: Params) -> Params: ...


class Scaled(Combined):
    """factor·penalty, written `factor * penalty`. An indicator stays itself, also at factor 0.

    A negative or NaN factor raises ValueError.

    >>> from jaxreg.penalties import L1
    >>> (2.0 * L1(1.0)).prox(jnp.array([-3.0]), 1.0).tolist()
    [-1.0]
    """

    penalty: Penalty
    factor: Array = hyperparameter()

    def __check_init__(self) -> None:
        require_scalar("a penalty's factor", self.factor)

    @property
    def keeps_order(self) -> bool:
        """Of the inner penalty."""
        return self.penalty.keeps_order

    def beside_slope(self, slope: Array, u: Array) -> Array:
        """As the inner penalty, for slope and dual divided by the factor."""
        safe, small = self._divided(u)
        return self.penalty.beside_slope(slope / safe, small)

    @property
    def inner(self) -> tuple[Penalty, ...]:
        """The penalty alone."""
        return (self.penalty,)

    @property
    def has_conjugate(self) -> bool:
        """Of the inner penalty."""
        return self.penalty.has_conjugate

    def value(self, params: Params) -> Scalar:
        """factor·value, inf where the value is inf."""
        rows = self.rows(params)
        if rows is not None:
            return Rows(rows, params).value()  # a small factor may keep a sum of squares in range
        inner = self.penalty.value(params)
        outside = jnp.isinf(inner)
        return jnp.where(outside, jnp.inf, self.factor * jnp.where(outside, 0.0, inner))

    def rows(self, params: Params) -> list[SeparablePenalty] | None:
        """The inner rows times the factor."""
        rows = self.penalty.rows(params)
        return rows and _same([rows], lambda column: _rows.scale(column[0], self.factor))

    def selects(self, params: Params) -> list[bool]:
        """As the inner penalty."""
        return self.penalty.selects(params)

    def take(self, index: Array) -> Self:
        """Of the inner penalty."""
        return type(self)(self.penalty.take(index), self.factor)

    def rescaled(self, scale: Array) -> Self:
        """Of the inner penalty."""
        return type(self)(self.penalty.rescaled(scale), self.factor)

    def _whole_prox(self, params: Params, step: Any) -> Params:
        return self.penalty.prox(params, jax.tree.map(lambda t: t * self.factor, step))

    def _whole_conjugate(self, dual: Params) -> Scalar:
        safe, small = self._divided(dual)
        return safe * self.penalty.conjugate(small)

    def _whole_dual_scale(self, dual: Params) -> Scalar:
        return self.penalty.dual_scale(self._divided(dual)[1])

    def _whole_free(self, direction: Params) -> Params:
        return self.penalty.free(direction)

    def _divided(self, dual: Params) -> tuple[Array, Params]:
        """The factor and dual/factor. At factor 0 only the domain is left; a tiny factor stands for that."""
        leaves, put = weights_of(dual)
        tiny = jnp.finfo(leaves[0].dtype).tiny ** 0.5
        safe = jnp.where(self.factor > 0, self.factor, tiny).astype(leaves[0].dtype)
        return safe, put([leaf / safe for leaf in leaves])


class Sum(Combined):
    """The sum of penalties, written `p + q`.

    >>> from jaxreg.penalties import L1, NonNegative
    >>> (L1(1.0) + NonNegative()).prox(jnp.array([-3.0, 3.0]), 1.0).tolist()
    [0.0, 2.0]
    """

    parts: tuple[Penalty, ...] = eqx.field(
        converter=lambda parts: tuple(term for part in parts for term in part.terms())
    )

    @property
    def inner(self) -> tuple[Penalty, ...]:
        """The parts."""
        return self.parts

    def terms(self) -> tuple[Penalty, ...]:
        """The parts."""
        return self.parts

    @property
    def has_conjugate(self) -> bool:
        """Whether every part has one, and theirs together has a closed form too."""
        ordered = any(part.keeps_order for part in self.parts)
        closed = [part.keeps_order or (part.elementary and part.keeps_signs) for part in self.parts]
        uneven = not self.separable and any(part.separable and _unevenly_curved(part) for part in self.parts)
        return all(part.has_conjugate for part in self.parts) and (not ordered or all(closed)) and not uneven

    def value(self, params: Params) -> Scalar:
        """The sum of the values."""
        return sum((part.value(params) for part in self.parts), 0.0)

    def rows(self, params: Params) -> list[SeparablePenalty] | None:
        """The rows of the parts, added leaf by leaf."""
        return _added(self.parts, params) if self.separable else None

    def selects(self, params: Params) -> list[bool]:
        """What any part selects."""
        return [any(column) for column in zip(*(part.selects(params) for part in self.parts), strict=True)]

    def take(self, index: Array) -> Self:
        """Of every part."""
        return type(self)(tuple(part.take(index) for part in self.parts))

    def rescaled(self, scale: Array) -> Self:
        """Of every part."""
        return type(self)(tuple(part.rescaled(scale) for part in self.parts))

    def _whole_prox(self, params: Params, step: Any) -> Params:
        steps = along(step, params, "step")
        return self._leafwise(
            params,
            lambda row, w, k: row.prox_1d(w, jnp.asarray(steps[k], w.dtype)).astype(w.dtype),
            lambda beside: beside.prox([steps[k] for k in beside.at]),
        )

    def _whole_conjugate(self, dual: Params) -> Scalar:
        leaves, alone, rest = self._plan(dual)
        own = [Rows([row], leaves[k]).conjugate() for k, row in alone.items()]
        return sum(own + [beside.conjugate() for beside in rest], 0.0)

    def _whole_dual_scale(self, dual: Params) -> Scalar:
        leaves, alone, rest = self._plan(dual)
        own = [Rows([row], leaves[k]).dual_scale() for k, row in alone.items()]
        return jnp.min(jnp.stack(own + [beside.dual_scale() for beside in rest]))

    def _whole_free(self, direction: Params) -> Params:
        return self._leafwise(
            direction, lambda row, d, k: Rows([row], d).free(), lambda beside: beside.free()
        )

    def _leafwise(self, params: Params, alone: Callable, together: Callable) -> Params:
        leaves, rows, rest = self._plan(params)
        out = [alone(rows[k], w, k) if k in rows else w for k, w in enumerate(leaves)]
        for beside in rest:
            for k, leaf in zip(beside.at, together(beside), strict=True):
                out[k] = leaf.astype(leaves[k].dtype)
        return weights_of(params)[1](out)

    def _plan(self, params: Params) -> tuple[list[Array], dict[int, SeparablePenalty], list[Beside]]:
        """The leaves; rows of those that only separable parts see; the other parts and what is beside."""
        leaves, _ = weights_of(params)
        rows = _added(tuple(part for part in self.parts if part.separable), params)
        rest, taken = [], set()
        for part in self.parts:
            if part.separable:
                continue
            at = [k for k, covered in enumerate(part.covers(params)) if covered]
            if taken & set(at):
                others = [q for q in self.parts if not q.separable]
                instead = (
                    "put one of them into the loss, or give them different leaves with Masked or Partition"
                )
                raise _rows.refused(others, instead)
            taken |= set(at)
            others = [q for q in self.parts if q.separable]
            rest += [Beside(part, rows, params, at, others)] if at else []
        return leaves, {k: row for k, row in enumerate(rows) if k not in taken}, rest


class Named(Penalty):
    """Base of penalties that have a name of their own and are made of others: a subclass writes `made_of`."""

    @abstractmethod
    def made_of(self) -> Penalty:
        """The same penalty, composed."""

    convex = property(lambda self: self.made_of().convex)
    has_conjugate = property(lambda self: self.made_of().has_conjugate)
    separable = property(lambda self: self.made_of().separable)
    metric = property(lambda self: self.made_of().metric)
    keeps_signs = property(lambda self: self.made_of().keeps_signs)
    keeps_order = property(lambda self: self.made_of().keeps_order)

    def value(self, params: Params) -> Scalar:
        """As composed."""
        return self.made_of().value(params)

    def prox(self, params: Params, step: Any) -> Params:
        """As composed."""
        return self.made_of().prox(params, step)

    def conjugate(self, dual: Params) -> Scalar:
        """As composed."""
        return self.made_of().conjugate(dual)

    def dual_scale(self, dual: Params) -> Scalar:
        """As composed."""
        return self.made_of().dual_scale(dual)

    def free(self, direction: Params, at: Params | None = None) -> Params:
        """As composed."""
        return self.made_of().free(direction, at)

    def terms(self) -> tuple[Penalty, ...]:
        """Of what it is made of."""
        return self.made_of().terms()

    def blocks(self, params: Params) -> Blocks | None:
        """As composed."""
        return self.made_of().blocks(params)

    def selects(self, params: Params) -> list[bool]:
        """As composed."""
        return self.made_of().selects(params)

    def rows(self, params: Params) -> list[SeparablePenalty] | None:
        """As composed."""
        return self.made_of().rows(params)


def _unevenly_curved(part: Penalty) -> bool:
    """Whether its curvature may differ by coordinate, some of it 0: beside a norm it has no conjugate."""
    flat = isinstance(part, ElementaryPenalty) and not part.coefficients().curved
    return not flat and any(jnp.ndim(leaf) > 0 for leaf in jax.tree.leaves(part))


def _added(parts: tuple[Penalty, ...], params: Params) -> list[SeparablePenalty]:
    """The rows of separable parts, added leaf by leaf."""
    columns = [part.rows(params) for part in parts]
    if not columns:
        return [Elementary()] * len(weights_of(params)[0])
    return _same(columns, lambda row: _rows.add(row, parts))


def _same(columns: list[list[SeparablePenalty]], make: Callable) -> list[SeparablePenalty]:
    """make(row of the columns) for each leaf; equal rows give one object, so that `uniform` sees it."""
    made: dict[tuple[int, ...], SeparablePenalty] = {}
    out = []
    for row in zip(*columns, strict=True):
        key = tuple(id(x) for x in row)
        if key not in made:
            made[key] = make(list(row))
        out.append(made[key])
    return out
