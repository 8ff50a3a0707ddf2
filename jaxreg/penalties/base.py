"""What a penalty is.

A penalty is the Complexity of Cost = EmpLoss + λ·Complexity: an immutable pytree with a `value` and a `prox`.
To add one that acts on each coordinate alone, subclass `SeparablePenalty` and write `value_1d` and `prox_1d`;
`ConvexSeparablePenalty` also asks for `conjugate_1d` and `dual_bounds_1d`. Any other one subclasses `Penalty`
and writes `value` and `prox`, a convex one also `conjugate` and `dual_scale`. Its numbers are fields declared
with `hyperparameter()` or `per_coordinate()`, so that they are arrays: traced, batched and differentiated. In
this package, name it in `__all__`, and the laws in tests/penalties find it.

What a combination such as `2.0 * p` or `p + q` can do depends on its parts, so capabilities are properties:
`convex`, `separable`, `metric`, `keeps_signs`, `keeps_order`, `has_conjugate`.
"""

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._meshes import like_first, on_auto_axes
from jaxreg._module import Module
from jaxreg._pytree import along, is_complex, is_weight, tree_sum, weights_of
from jaxreg._typing import ArrayLike, Params, Scalar

__all__ = ["ConvexSeparablePenalty", "Penalty", "SeparablePenalty"]


class Blocks(NamedTuple):
    """A label 0 … count − 1 per coordinate of a single array of params; no block is larger than `size`."""

    labels: Array
    count: int
    size: int


def refuse_complex(penalty: "Penalty", params: Params) -> None:
    """Raise TypeError for a complex leaf that the penalty does not leave out: no penalty is defined on it."""
    leaves = jax.tree.leaves(params)
    if not any(map(is_complex, leaves)):
        return
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    for path, leaf, selected in zip(paths, leaves, penalty.selects(params), strict=True):
        if selected and is_complex(leaf):
            name = jax.tree_util.keystr(path, simple=True, separator="/") or "params"
            raise TypeError(
                f"{type(penalty).__name__} got complex weights at {name} ({leaf.dtype}): penalise real and"
                f" imaginary parts as a real array of shape {(*leaf.shape, 2)}, or leave them out with Masked"
                " or Partition"
            )


def _of_params(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a method whose first argument is a tree of weights: refuse complex ones, take any mesh."""
    on_meshes = on_auto_axes(like_first)(method)

    @wraps(method)
    def call(self: "Penalty", *args: Any, **kwargs: Any) -> Any:
        refuse_complex(self, args[0] if args else next(iter(kwargs.values()), None))
        return on_meshes(self, *args, **kwargs)

    return call


class Penalty(Module):
    """Base of all penalties. Methods take and return pytrees shaped like the params.

    Every leaf that is an array of floats is a weight. Complex arrays raise TypeError unless a mask leaves
    them out; other leaves pass through. A field that may hold one number per coordinate is declared with
    `per_coordinate()`.

    Compile a method with `equinox.filter_jit(penalty.prox)`, or pass the penalty as an argument of a jitted
    function: either way another λ compiles nothing. `jax.jit(penalty.prox)` makes constants of its numbers.

    >>> import equinox as eqx, jax
    >>> from jaxreg.penalties import L1
    >>> eqx.filter_jit(L1(0.5).prox)(jnp.array([2.0, 0.1]), 1.0).tolist()
    [1.5, 0.0]
    >>> jax.jit(lambda penalty, w: penalty.prox(w, 1.0))(L1(0.5), jnp.array([2.0, 0.1])).tolist()
    [1.5, 0.0]
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the methods of every penalty, also of a user's own, refuse complex weights and take arrays on
        meshes with explicit axes.
        """
        super().__init_subclass__(**kwargs)
        for name in ("value", "prox", "conjugate", "dual_scale", "free"):
            method = cls.__dict__.get(name)
            if method is not None and not getattr(method, "__isabstractmethod__", False):
                setattr(cls, name, _of_params(method))

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self | None:
        """One for params of this shape, for the laws; None where there is none for it."""
        return cls()

    @property
    def convex(self) -> bool:
        """Whether it is convex."""
        return False

    @property
    def has_conjugate(self) -> bool:
        """Whether `conjugate` and `dual_scale` can be had, and with them a duality gap."""
        return self.convex

    @property
    def conjugate_is_indicator(self) -> bool:
        """Whether the conjugate is known while tracing to be 0 on its domain, as that of a norm; False if not
        known. The best scale of a dual point then has a closed form for squared error.
        """
        return False

    @property
    def separable(self) -> bool:
        """Whether it acts on each coordinate alone; then `rows` is not None."""
        return False

    @property
    def elementary(self) -> bool:
        """Whether it is slope·|w| + curvature/2·w² on an interval, by coordinate (see `separable`)."""
        return False

    @property
    def metric(self) -> bool:
        """Whether `prox` takes one step per coordinate."""
        return self.separable

    @property
    def keeps_signs(self) -> bool:
        """Whether it sees absolute values alone, grows with them, and its prox moves no zero."""
        return False

    @property
    def keeps_order(self) -> bool:
        """Whether the prox of a common scalar function may follow its own (total variation)."""
        return False

    @abstractmethod
    def value(self, params: Params) -> Scalar:
        """The complexity of the params: one number, inf outside the domain.

        Its derivative at a kink is a subgradient: 0 where a weight or a group rests on 0.
        """

    @abstractmethod
    def prox(self, params: Params, step: Any) -> Params:
        """The minimiser u of ½‖u − params‖² + step·value(u).

        `step` is a number ≥ 0; where `metric` is true also a tree of one step per coordinate.
        """

    def conjugate(self, dual: Params) -> Scalar:
        """The convex conjugate sup_w ⟨dual, w⟩ − value(w), inf outside its domain; TypeError without one."""
        raise TypeError(f"{type(self).__name__} has no conjugate: judge a fit by its kkt residual")

    def dual_scale(self, dual: Params) -> Scalar:
        """The largest s ≤ 1 for which s·dual lies in the conjugate's domain; TypeError without one."""
        raise TypeError(f"{type(self).__name__} has no conjugate: judge a fit by its kkt residual")

    @_of_params
    def free(self, direction: Params, at: Params | None = None) -> Params:
        """The part of a direction that the penalty does not see (its orthogonal projection): none.

        With `at` it may also be what is not seen near that point, such as w > 0 under w ≥ 0.
        """
        leaves, put = weights_of(direction)
        return put([jnp.zeros_like(leaf) for leaf in leaves])

    def blocks(self, params: Params) -> "Blocks | None":
        """Which coordinates its prox couples, where they are blocks on whose support the prox can be
        inverted.

        None where it couples all of them, or is separable.
        """
        return None

    def covers(self, params: Params) -> list[bool]:
        """Per weight leaf, whether the penalty may depend on it."""
        pairs = zip(self.selects(params), jax.tree.leaves(params), strict=True)
        return [selected for selected, leaf in pairs if is_weight(leaf)]

    def selects(self, params: Params) -> list[bool]:
        """Per leaf of the params, weight or not, whether no mask of the penalty leaves it out."""
        return [True] * len(jax.tree.leaves(params))

    def rows(self, params: Params) -> "list[SeparablePenalty] | None":
        """Per weight leaf, the separable penalty whose numbers line up with it; None where not separable."""
        return None

    def take(self, index: Array) -> Self:
        """The same penalty on some of the coordinates of a single array of params."""
        return self._with(lambda x: x[index] if x.ndim else x)

    def rescaled(self, scale: Array) -> Self:
        """The same penalty for params times `scale`: what has a location, such as bounds, moves along."""
        return self

    def __add__(self, other: "Penalty") -> "Penalty":
        from jaxreg.penalties.combine import Sum

        return Sum((self, other)) if isinstance(other, Penalty) else NotImplemented

    def __radd__(self, other: Any) -> "Penalty":
        """So that `sum([p, q])`, which starts at 0, works."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __truediv__(self, divisor: ArrayLike) -> "Penalty":
        return self * (1 / divisor)

    #: NumPy leaves `array * penalty` to the penalty, which refuses arrays.
    __array_ufunc__ = None

    def terms(self) -> "tuple[Penalty, ...]":
        """The penalties it is a plain sum of: itself."""
        return (self,)

    def __rmul__(self, factor: ArrayLike) -> "Penalty":
        from jaxreg.penalties.combine import Scaled

        return NotImplemented if isinstance(factor, Penalty) else Scaled(self, factor)

    __mul__ = __rmul__

    def _with(self, change: Callable[[Array], Array]) -> Self:
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
        """A global minimiser of ½(u − w)² + step·g₁(u) for each entry; `step` broadcasts against `w`."""

    @property
    def separable(self) -> bool:
        """True: it acts on each coordinate alone."""
        return True

    def value(self, params: Params) -> Scalar:
        """Σ_j g₁(w_j)."""
        return Rows(self.rows(params), params).value()

    def prox(self, params: Params, step: Any) -> Params:
        """The prox of each coordinate, in the dtype of the params."""
        return Rows(self.rows(params), params).prox(step)

    def conjugate(self, dual: Params) -> Scalar:
        """Σ_j g₁*(u_j), inf outside the domain."""
        return Rows(self.rows(dual), dual).conjugate()

    def dual_scale(self, dual: Params) -> Scalar:
        """The smallest of the coordinates' ratios of bound to entry, at most 1."""
        return Rows(self.rows(dual), dual).dual_scale()

    def free(self, direction: Params, at: Params | None = None) -> Params:
        """The coordinates with slope 0: both dual bounds are 0, or near a point the one on its side."""
        return Rows(self.rows(direction), direction).free(at)

    def conjugate_1d(self, u: Array) -> Array:
        """The conjugate of g₁ at each entry inside the dual bounds; TypeError where it is not convex."""
        raise TypeError(
            f"{type(self).__name__} is not convex: it has no conjugate, judge by the kkt residual"
        )

    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        """The interval on which the conjugate is finite, per coordinate; TypeError where it is not convex."""
        raise TypeError(
            f"{type(self).__name__} is not convex: it has no conjugate, judge by the kkt residual"
        )

    def rows(self, params: Params) -> "list[SeparablePenalty]":
        """Itself for every leaf, the per-coordinate fields lined up."""
        leaves, _ = weights_of(params)
        total, start, out = sum(leaf.size for leaf in leaves), 0, []
        for leaf in leaves:
            out.append(self._with(lambda x, leaf=leaf, at=start: line_up(x, leaf, at, total, len(leaves))))
            start += leaf.size
        return out


class ConvexSeparablePenalty(SeparablePenalty):
    """A separable penalty that is convex: it also writes `conjugate_1d` and `dual_bounds_1d`."""

    @property
    def convex(self) -> bool:
        """True."""
        return True

    @abstractmethod
    def conjugate_1d(self, u: Array) -> Array:
        """The conjugate of g₁ at each entry inside the dual bounds."""

    @abstractmethod
    def dual_bounds_1d(self) -> tuple[ArrayLike, ArrayLike]:
        """The interval on which the conjugate of g₁ is finite, broadcast per coordinate."""


class Rows:
    """A separable penalty and the params it meets: one lined-up `SeparablePenalty` per weight leaf."""

    def __init__(self, rows: list[SeparablePenalty], params: Params) -> None:
        leaves, self.put = weights_of(params)
        self.pairs = list(zip(rows, leaves, strict=True))
        self.params = params

    def value(self) -> Scalar:
        """Σ g₁."""
        return tree_sum([row.value_1d(w) for row, w in self.pairs])

    def prox(self, step: Any) -> Params:
        """The prox of each coordinate."""
        steps = along(step, self.params, "step")
        return self.put(
            [
                row.prox_1d(w, jnp.asarray(t, w.dtype)).astype(w.dtype)
                for (row, w), t in zip(self.pairs, steps, strict=True)
            ]
        )

    def conjugate(self) -> Scalar:
        """Σ g₁*, inf outside the domain."""
        terms = []
        for row, u in self.pairs:
            lower, upper = (jnp.asarray(bound, u.dtype) for bound in row.dual_bounds_1d())
            slack = 64 * jnp.finfo(u.dtype).eps  # a few roundings outside are inside
            inside = (u >= lower - slack * jnp.abs(lower)) & (u <= upper + slack * jnp.abs(upper))
            terms.append(jnp.where(inside, row.conjugate_1d(jnp.clip(u, lower, upper)), jnp.inf))
        return tree_sum(terms)

    def dual_scale(self) -> Scalar:
        """The smallest ratio of bound to entry, at most 1."""
        tops = []
        for row, u in self.pairs:
            lower, upper = row.dual_bounds_1d()
            ratio = jnp.where(u > 0, upper, -jnp.asarray(lower)) / jnp.where(u == 0, 1.0, jnp.abs(u))
            tops.append(jnp.min(jnp.where(u == 0, 1.0, jnp.minimum(ratio, 1.0)), initial=1.0))
        return jnp.min(jnp.stack(tops))

    def free(self, at: Params | None = None) -> Params:
        """The entries whose dual bounds are both 0, or the one on the side of `at`; the others set to 0."""
        out = []
        points = [None] * len(self.pairs) if at is None else weights_of(at)[0]
        for (row, d), w in zip(self.pairs, points, strict=True):
            left, right = (jnp.asarray(bound) == 0 for bound in row.dual_bounds_1d())
            unseen = left & right if w is None else (left & right) | (right & (w > 0)) | (left & (w < 0))
            out.append(jnp.where(unseen, d, jnp.zeros_like(d)))
        return self.put(out)


def times(x: Array, scale: Array) -> Array:
    """A number, (p,) or (p, K) times one factor per row."""
    return x * (scale[:, None] if x.ndim == 2 else scale)


def line_up(x: Array, leaf: Array, start: int, total: int, leaves: int) -> Array:
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
