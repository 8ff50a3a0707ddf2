"""Penalties made of penalties: `a * p` and `p + q`.

The value of a combination always exists. Its prox is exact where the maths has a closed form:

- separable parts: coordinate by coordinate, if at most one of them is not elementary. An *elementary* penalty
  is one quadratic on each side of 0, on an interval (`piecewise_quadratic`). A non-convex part combines with
  SquaredL2 and NonNegative only;
- any p + SquaredL2: point and step are divided by 1 + step·λ; penalty factors need a prox of p in a metric;
- p convex, a function of |w| and non-decreasing in it (`keeps_signs`), + L1, penalty factors allowed: soft
  threshold, then the prox of p (Yu 2013); AsymmetricL1 and NonNegative may take the place of L1;
- total variation + one convex function of every coordinate: total variation first (Friedman et al. 2007);
- parts on disjoint leaves: each on its own.

The `prox` of any other sum raises TypeError and names the parts.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Self, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxreg._pytree import along, weights_of
from jaxreg._typing import ArrayLike, Params, Scalar, StepSize
from jaxreg._validation import hyperparameter, require_scalar
from jaxreg.penalties._leafwise import Leafwise, SeparablePenalty, map_shared, prox_on_leaf
from jaxreg.penalties._sum_prox import KEEP_APART, CoupledSum
from jaxreg.penalties.base import Blocks, Capabilities, Penalty, no_closed_form
from jaxreg.penalties.piecewise_quadratic import Elementary, add_on_leaf

__all__ = ["Combination", "NamedCombination", "Scaled", "Sum"]

_Method = TypeVar("_Method", bound=Callable)


class Combination(Penalty):
    """Base of combinations: evaluated leaf by leaf where separable, else by the `_coupled…` methods."""

    #: Penalties from which the combination is made.
    parts: eqx.AbstractVar[tuple[Penalty, ...]]

    def blocks(self, params: Params) -> Blocks | None:
        blocks = [part.blocks(params) for part in self.parts if not part.separable]
        return blocks[0] if len(blocks) == 1 else None

    def prox(self, params: Params, step: StepSize) -> Params:
        per_leaf = self.per_leaf(params)
        return self._coupled_prox(params, step) if per_leaf is None else Leafwise(per_leaf, params).prox(step)

    def conjugate(self, dual: Params) -> Scalar:
        per_leaf = self.per_leaf(dual)
        return self._coupled_conjugate(dual) if per_leaf is None else Leafwise(per_leaf, dual).conjugate()

    def dual_scale(self, dual: Params) -> Scalar:
        per_leaf = self.per_leaf(dual)
        return self._coupled_dual_scale(dual) if per_leaf is None else Leafwise(per_leaf, dual).dual_scale()

    def project_on_unpenalised(self, direction: Params, at: Params | None = None) -> Params:
        per_leaf = self.per_leaf(direction)
        if per_leaf is None:
            return self._coupled_project_on_unpenalised(direction)
        return Leafwise(per_leaf, direction).project_on_unpenalised(at)

    @abstractmethod
    def _coupled_prox(self, params: Params, step: StepSize) -> Params: ...

    @abstractmethod
    def _coupled_conjugate(self, dual: Params) -> Scalar: ...

    @abstractmethod
    def _coupled_dual_scale(self, dual: Params) -> Scalar: ...

    @abstractmethod
    def _coupled_project_on_unpenalised(self, direction: Params) -> Params: ...


class Scaled(Combination):
    """factor·penalty, written `factor * penalty`. An indicator function does not change, even at factor 0.

    Args:
        penalty: Any penalty.
        factor: A number ≥ 0.

    Raises:
        ValueError: The factor is negative, NaN or not a single number.

    >>> from jaxreg.penalties import L1
    >>> (2.0 * L1(1.0)).prox(jnp.array([-3.0]), 1.0).tolist()
    [-1.0]
    """

    penalty: Penalty
    factor: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        require_scalar("a penalty's factor", self.factor)

    @property
    def parts(self) -> tuple[Penalty, ...]:
        return (self.penalty,)

    @property
    def capabilities(self) -> Capabilities:
        return self.penalty.capabilities

    def value(self, params: Params) -> Scalar:
        per_leaf = self.per_leaf(params)
        if per_leaf is not None:
            return Leafwise(per_leaf, params).value()  # a small factor may keep a sum of squares in range
        inner = self.penalty.value(params)
        outside = jnp.isinf(inner)
        return jnp.where(outside, jnp.inf, self.factor * jnp.where(outside, 0.0, inner))

    def per_leaf(self, params: Params) -> list[SeparablePenalty] | None:
        per_leaf = self.penalty.per_leaf(params)
        return per_leaf and map_shared(lambda g: g.scaled(self.factor), per_leaf)

    def acts_on_leaves(self, params: Params) -> list[bool]:
        return self.penalty.acts_on_leaves(params)

    def take(self, index: Int[Array, " k"]) -> Self:
        return type(self)(self.penalty.take(index), self.factor)

    def for_scaled_params(self, scale: Float[Array, " p"]) -> Self:
        return type(self)(self.penalty.for_scaled_params(scale), self.factor)

    def dual_plus_l1_contains(self, slope: Array, dual: Array) -> Array:
        safe, divided = self._divided(dual)
        return self.penalty.dual_plus_l1_contains(slope / safe, divided)

    def _display_name(self) -> str:
        return self.penalty._display_name()

    def _coupled_prox(self, params: Params, step: StepSize) -> Params:
        return self.penalty.prox(params, jax.tree.map(lambda t: t * self.factor, step))

    def _coupled_conjugate(self, dual: Params) -> Scalar:
        safe, divided = self._divided(dual)
        return safe * self.penalty.conjugate(divided)

    def _coupled_dual_scale(self, dual: Params) -> Scalar:
        return self.penalty.dual_scale(self._divided(dual)[1])

    def _coupled_project_on_unpenalised(self, direction: Params) -> Params:
        return self.penalty.project_on_unpenalised(direction)

    def _divided(self, dual: Params) -> tuple[Array, Params]:
        """Return a positive factor and dual/factor; a tiny factor replaces 0, so that the domain is kept."""
        leaves, put = weights_of(dual)
        tiny = jnp.finfo(leaves[0].dtype).tiny ** 0.5
        safe = jnp.where(self.factor > 0, self.factor, tiny).astype(leaves[0].dtype)
        return safe, put([leaf / safe for leaf in leaves])


class Sum(Combination):
    """Sum of penalties, written `p + q`.

    >>> from jaxreg.penalties import L1, NonNegative
    >>> (L1(1.0) + NonNegative()).prox(jnp.array([-3.0, 3.0]), 1.0).tolist()
    [0.0, 2.0]
    """

    parts: tuple[Penalty, ...] = eqx.field(
        converter=lambda parts: tuple(term for part in parts for term in part.terms())
    )

    @property
    def capabilities(self) -> Capabilities:
        of_parts = [part.capabilities for part in self.parts]
        all_have = Capabilities(*map(all, zip(*of_parts, strict=True)))
        return all_have._replace(
            keeps_order=False, has_conjugate=all_have.has_conjugate and self._has_closed_conjugate(of_parts)
        )

    def _has_closed_conjugate(self, of_parts: list[Capabilities]) -> bool:
        """Return whether the conjugate of a sum of parts with conjugates has a closed form."""
        if all(c.separable for c in of_parts):
            return True
        if any(c.keeps_order for c in of_parts) and not all(
            c.keeps_order or (c.elementary and c.keeps_signs) for c in of_parts
        ):
            return False
        # With one curvature per coordinate, some may be 0 and others not: no closed form is known then.
        curved = [part for part in self.parts if part.separable and not part.capabilities.piecewise_linear]
        return not any(jnp.ndim(leaf) > 0 for leaf in jax.tree.leaves(curved))

    def terms(self) -> tuple[Penalty, ...]:
        return self.parts

    def value(self, params: Params) -> Scalar:
        return sum((part.value(params) for part in self.parts), 0.0)

    def per_leaf(self, params: Params) -> list[SeparablePenalty] | None:
        return _add_per_leaf(self.parts, params) if self.separable else None

    def acts_on_leaves(self, params: Params) -> list[bool]:
        return [
            any(column) for column in zip(*(part.acts_on_leaves(params) for part in self.parts), strict=True)
        ]

    def take(self, index: Int[Array, " k"]) -> Self:
        return type(self)(tuple(part.take(index) for part in self.parts))

    def for_scaled_params(self, scale: Float[Array, " p"]) -> Self:
        return type(self)(tuple(part.for_scaled_params(scale) for part in self.parts))

    def _coupled_prox(self, params: Params, step: StepSize) -> Params:
        steps = along(step, params, "step")
        return self._by_leaf(
            params,
            lambda g, w, k: prox_on_leaf(g, w, steps[k]),
            lambda coupled: coupled.prox([steps[k] for k in coupled.at]),
        )

    def _coupled_conjugate(self, dual: Params) -> Scalar:
        leaves, separable_leaves, coupled = self._split(dual)
        terms = [Leafwise([g], leaves[k]).conjugate() for k, g in separable_leaves.items()]
        return sum(terms + [part.conjugate() for part in coupled], 0.0)

    def _coupled_dual_scale(self, dual: Params) -> Scalar:
        leaves, separable_leaves, coupled = self._split(dual)
        scales = [Leafwise([g], leaves[k]).dual_scale() for k, g in separable_leaves.items()]
        return jnp.min(jnp.stack(scales + [part.dual_scale() for part in coupled]))

    def _coupled_project_on_unpenalised(self, direction: Params) -> Params:
        return self._by_leaf(
            direction,
            lambda g, d, k: Leafwise([g], d).project_on_unpenalised(),
            lambda coupled: coupled.project_on_unpenalised(),
        )

    def _by_leaf(
        self,
        params: Params,
        on_separable: Callable[[SeparablePenalty, Array, int], Array],
        on_coupled: Callable[[CoupledSum], list[Array]],
    ) -> Params:
        """Map the leaves, by `on_separable` if only separable parts act on them, else by `on_coupled`."""
        leaves, separable_leaves, coupled = self._split(params)
        out = list(leaves)
        for k, g in separable_leaves.items():
            out[k] = on_separable(g, leaves[k], k)
        for part in coupled:
            for k, leaf in zip(part.at, on_coupled(part), strict=True):
                out[k] = leaf.astype(leaves[k].dtype)
        return weights_of(params)[1](out)

    def _split(self, params: Params) -> "_Split":
        """Split the sum by leaves; raise TypeError where two parts that are not separable share a leaf."""
        leaves, _ = weights_of(params)
        separable = [part for part in self.parts if part.separable]
        others = [part for part in self.parts if not part.separable]
        separable_leaves, coupled = dict(enumerate(_add_per_leaf(separable, params))), []
        for part in others:
            at = [k for k, acts in enumerate(part.acts_on_weights(params)) if acts]
            if any(k not in separable_leaves for k in at):
                raise no_closed_form(others, KEEP_APART)
            own = {k: separable_leaves.pop(k) for k in at}
            coupled += [CoupledSum(part, own, params, separable)] if at else []
        return _Split(leaves, separable_leaves, coupled)


class _Split(NamedTuple):
    """Terms of a sum, by the weight leaves on which they act."""

    leaves: list[Array]
    #: The sum of the separable parts on each leaf that no other part acts on, by position of the leaf.
    separable_leaves: dict[int, SeparablePenalty]
    #: Each part that is not separable, with the separable parts on its leaves.
    coupled: list[CoupledSum]


def _add_per_leaf(parts: "list[Penalty] | tuple[Penalty, ...]", params: Params) -> list[SeparablePenalty]:
    """Add separable penalties leaf by leaf."""
    columns = [part.per_leaf(params) for part in parts]
    if not columns:
        return [Elementary()] * len(weights_of(params)[0])
    return map_shared(lambda *leaf: add_on_leaf(leaf, parts), *columns)


def _delegate(method: _Method) -> _Method:
    """Make a method that calls the method of the same name on the composed penalty."""
    name = method.__name__

    def call(self: "NamedCombination", *args: PyTree, **kwargs: PyTree) -> PyTree:
        return getattr(self.composed(), name)(*args, **kwargs)

    call.__name__, call.__doc__ = name, method.__doc__
    return call


class NamedCombination(Penalty):
    """Base of a named penalty that is a combination of others: a subclass writes `composed`."""

    @abstractmethod
    def composed(self) -> Penalty:
        """Return the combination that this penalty stands for."""

    @property
    def capabilities(self) -> Capabilities:
        return self.composed().capabilities

    value, prox = _delegate(Penalty.value), _delegate(Penalty.prox)
    conjugate, dual_scale = _delegate(Penalty.conjugate), _delegate(Penalty.dual_scale)
    project_on_unpenalised = _delegate(Penalty.project_on_unpenalised)
    per_leaf, acts_on_leaves = _delegate(Penalty.per_leaf), _delegate(Penalty.acts_on_leaves)
    terms, blocks = _delegate(Penalty.terms), _delegate(Penalty.blocks)


# ---------------------------------------------------------------- operators of every penalty


def _plus(self: Penalty, other: Penalty) -> Penalty:
    return Sum((self, other)) if isinstance(other, Penalty) else NotImplemented


def _plus_from_right(self: Penalty, other: object) -> Penalty:
    """Return the penalty for 0 + penalty, the first addition of `sum([p, q])`."""
    return self if isinstance(other, int) and other == 0 else NotImplemented


def _times(self: Penalty, factor: ArrayLike) -> Penalty:
    return NotImplemented if isinstance(factor, Penalty) else Scaled(self, factor)


def _over(self: Penalty, divisor: ArrayLike) -> Penalty:
    return self * (1 / divisor)


Penalty.__add__, Penalty.__radd__ = _plus, _plus_from_right
Penalty.__mul__ = Penalty.__rmul__ = _times
Penalty.__truediv__ = _over
