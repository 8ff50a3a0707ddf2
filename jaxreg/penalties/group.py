"""Penalties that see groups of coordinates: whole groups become zero together.

Groups are said by an integer label 0 … G − 1 per coordinate: of the ravelled params, of the rows of a single
(p, K) leaf (every column then has its own groups), or of a single leaf's shape. To add one: a class with
`value` and `prox` (and `conjugate`, `dual_scale` where it is convex), named in `__all__`.
"""

from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.ops import segment_max, segment_sum
from jaxtyping import Array

from jaxreg import projections, thresholds
from jaxreg._pytree import ravel, weights_of
from jaxreg._typing import ArrayLike, Params, Scalar
from jaxreg._validation import holds, number, require, require_scalar
from jaxreg.penalties._vectors import flat_step, indicator, magnitude, scalar_step, smallest_ratio
from jaxreg.penalties.base import Blocks, Penalty
from jaxreg.penalties.combine import Named, Scaled
from jaxreg.penalties.separable import L1

__all__ = ["GroupL2", "GroupLInf", "GroupMCP", "GroupPenalty", "SparseGroup"]


class Grouped(NamedTuple):
    """Params as one vector, with the label of each coordinate, the number of groups and their weights."""

    vector: Array
    back: Any
    labels: Array
    count: int
    weights: Array

    def norms(self) -> Array:
        """‖v_g‖₂ of each group, of halves in float32, with derivative 0 where it is 0."""
        wide = self.vector.astype(jnp.promote_types(self.vector.dtype, jnp.float32))
        top, norms = thresholds._norms(wide, self.labels, self.count)
        return top * norms


class GroupPenalty(Penalty):
    """Base of penalties over labelled groups; the arguments are those of `GroupL2`."""

    lam: Array
    groups: Array = eqx.field(metadata={"per_coordinate": True})
    weights: Array
    num_groups: int = eqx.field(static=True)
    #: The size of the largest group; None where the labels were traced.
    largest: int | None = eqx.field(static=True)

    def grouped(self, params: Params) -> Grouped:
        """The params as a vector, lined up with the labels."""
        vector, back = ravel(params)
        leaves, _ = weights_of(params)
        labels, weights = self.groups, self.weights.astype(vector.dtype)
        if labels.size == vector.size:
            return Grouped(vector, back, labels.ravel(), self.num_groups, weights)
        if len(leaves) == 1 and leaves[0].ndim == 2 and labels.shape == leaves[0].shape[:1]:
            columns = leaves[0].shape[1]
            spread = labels[:, None] * columns + jnp.arange(columns)
            return Grouped(
                vector, back, spread.ravel(), self.num_groups * columns, jnp.repeat(weights, columns)
            )
        raise ValueError(
            f"{type(self).__name__}: groups of shape {labels.shape} do not fit params with {vector.size}"
            " coordinates: give one label per coordinate, or one per row of a single matrix"
        )

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self:
        """One for params of this shape, for the laws."""
        return cls(1.0, jnp.arange(int(np.prod(shape))).reshape(shape) // 2)


class GroupL2(GroupPenalty):
    r"""$\lambda \sum_g s_g \lVert w_g \rVert_2$: the group lasso, whole groups become zero.

    `lam` is λ ≥ 0. `groups` holds an integer label 0 … G − 1 per coordinate; `weights` s (G,) are the groups'
    factors, √size where None. Under a trace give `num_groups`. Labels that are no such integers, that leave a
    group out or list overlapping groups raise ValueError, and so do labels that do not fit the params.
    A step per coordinate is exact too. Source: Yuan and Lin (2006).

    >>> GroupL2(1.0, [0, 0, 1], weights=[2.5, 1.0]).prox(jnp.array([3.0, 4.0, 0.5]), 1.0).tolist()
    [1.5, 2.0, 0.0]
    """

    def __init__(
        self,
        lam: ArrayLike,
        groups: ArrayLike,
        weights: ArrayLike | None = None,
        num_groups: int | None = None,
    ) -> None:
        self.lam, self.groups, self.weights, self.num_groups, self.largest = _fields(
            "GroupL2", lam, groups, weights, num_groups, jnp.sqrt
        )

    convex = conjugate_is_indicator = metric = keeps_signs = property(lambda self: True)

    def blocks(self, params: Params) -> Blocks:
        """The groups."""
        g = self.grouped(params)
        return Blocks(g.labels, g.count, self.largest or g.vector.size)

    def value(self, params: Params) -> Scalar:
        """λ Σ_g s_g ‖w_g‖."""
        g = self.grouped(params)
        return jnp.sum(self.lam * g.weights * g.norms()).astype(g.vector.dtype)

    def prox(self, params: Params, step: Any) -> Params:
        """Block soft threshold; one scalar equation per group where the step differs by coordinate."""
        g, step = self.grouped(params), flat_step(step, params)
        if jnp.ndim(step):
            return g.back(
                thresholds.block_soft_metric(g.vector, self.lam * g.weights, step, g.labels, g.count)
            )
        return g.back(thresholds.block_soft(g.vector, step * self.lam * g.weights, g.labels, g.count))

    def conjugate(self, dual: Params) -> Scalar:
        """0 where every ‖u_g‖ ≤ λ s_g, else inf."""
        g = self.grouped(dual)
        return indicator(g.norms(), self.lam * g.weights)

    def dual_scale(self, dual: Params) -> Scalar:
        """The smallest λ s_g/‖u_g‖, at most 1."""
        g = self.grouped(dual)
        return smallest_ratio(self.lam * g.weights, g.norms())

    def free(self, direction: Params, at: Params | None = None) -> Params:
        """The groups of factor 0."""
        g = self.grouped(direction)
        return g.back(jnp.where((self.lam * g.weights == 0)[g.labels], g.vector, 0.0))


class GroupLInf(GroupPenalty):
    r"""$\lambda \sum_g s_g \lVert w_g \rVert_\infty$: groups vanish together, kept ones have tied magnitudes.

    Arguments and errors as in `GroupL2`, but `weights` None are 1.
    Source: Turlach, Venables and Wright (2005); prox by Moreau's identity from the ℓ1 ball.

    >>> GroupLInf(1.0, [0, 0, 1]).prox(jnp.array([3.0, 2.5, 0.5]), 1.0).tolist()
    [2.25, 2.25, 0.0]
    """

    def __init__(
        self,
        lam: ArrayLike,
        groups: ArrayLike,
        weights: ArrayLike | None = None,
        num_groups: int | None = None,
    ) -> None:
        self.lam, self.groups, self.weights, self.num_groups, self.largest = _fields(
            "GroupLInf", lam, groups, weights, num_groups, jnp.ones_like
        )

    convex = conjugate_is_indicator = keeps_signs = property(lambda self: True)

    def value(self, params: Params) -> Scalar:
        """λ Σ_g s_g max|w_g|."""
        g = self.grouped(params)
        top = jnp.maximum(segment_max(magnitude(g.vector), g.labels, g.count), 0.0)
        return jnp.sum(self.lam * g.weights * top)

    def prox(self, params: Params, step: Any) -> Params:
        """Each group clipped at its level."""
        g = self.grouped(params)
        level = scalar_step(step, self) * self.lam * g.weights
        return g.back(projections.linf_groups(g.vector, level, g.labels, g.count))

    def conjugate(self, dual: Params) -> Scalar:
        """0 where every ‖u_g‖₁ ≤ λ s_g, else inf."""
        g = self.grouped(dual)
        sums = segment_sum(jnp.abs(g.vector), g.labels, g.count)
        return indicator(sums, self.lam * g.weights)

    def dual_scale(self, dual: Params) -> Scalar:
        """The smallest λ s_g/‖u_g‖₁, at most 1."""
        g = self.grouped(dual)
        return smallest_ratio(self.lam * g.weights, segment_sum(jnp.abs(g.vector), g.labels, g.count))

    def free(self, direction: Params, at: Params | None = None) -> Params:
        """The groups of factor 0."""
        g = self.grouped(direction)
        return g.back(jnp.where((self.lam * g.weights == 0)[g.labels], g.vector, 0.0))


class GroupMCP(GroupPenalty):
    r"""$\sum_g \mathrm{MCP}(\lVert w_g \rVert_2; \lambda s_g, \gamma)$: groups vanish together.

    Large groups are let be.

    `gamma` γ > 0; the other arguments and errors as in `GroupL2`. Not convex.
    Source: Huang, Breheny and Ma (2012), section 2.2.

    >>> GroupMCP(1.0, [0, 0, 1], 2.0, weights=[1.0, 1.0]).prox(jnp.array([3.0, 4.0, 0.5]), 1.0).tolist()
    [3.0, 4.0, 0.0]
    """

    gamma: Array

    def __init__(
        self,
        lam: ArrayLike,
        groups: ArrayLike,
        gamma: ArrayLike = 3.0,
        weights: ArrayLike | None = None,
        num_groups: int | None = None,
    ) -> None:
        self.lam, self.groups, self.weights, self.num_groups, self.largest = _fields(
            "GroupMCP", lam, groups, weights, num_groups, jnp.sqrt
        )
        self.gamma = number(gamma)
        require(holds(lambda gamma: gamma > 0, self.gamma), f"GroupMCP: gamma must be > 0, got {gamma}")

    keeps_signs = property(lambda self: True)

    def blocks(self, params: Params) -> Blocks:
        """The groups."""
        g = self.grouped(params)
        return Blocks(g.labels, g.count, self.largest or g.vector.size)

    def value(self, params: Params) -> Scalar:
        """The MCP of each group's norm."""
        g = self.grouped(params)
        lam = self.lam * g.weights
        size = jnp.minimum(g.norms(), self.gamma * lam)
        return jnp.sum(size * (lam - 0.5 * size / self.gamma)).astype(g.vector.dtype)

    def prox(self, params: Params, step: Any) -> Params:
        """Each group scaled so that its norm is the firm threshold of it."""
        g, step = self.grouped(params), scalar_step(step, self)
        lam = self.lam * g.weights
        return g.back(thresholds.block_mcp(g.vector, step, lam, self.gamma, g.labels, g.count))


class SparseGroup(Named):
    r"""$\lambda\,(r\lVert w\rVert_1 + (1-r)\sum_g s_g\lVert w_g\rVert_2)$: few groups.

    r = `l1_ratio` in [0, 1], otherwise ValueError; other arguments and errors as in `GroupL2`. The prox is a
    soft threshold, then a block soft threshold. Source: Simon, Friedman, Hastie and Tibshirani (2013).

    >>> p = SparseGroup(2.0, [0, 0, 1], 0.5, weights=[2.5, 1.0])
    >>> p.prox(jnp.array([4.0, 5.0, 1.5]), 1.0).round(4).tolist()
    [1.5, 2.0, 0.0]
    """

    ratio: Array
    group: GroupL2

    def __init__(
        self,
        lam: ArrayLike,
        groups: ArrayLike,
        l1_ratio: ArrayLike = 0.5,
        weights: ArrayLike | None = None,
        num_groups: int | None = None,
    ) -> None:
        self.ratio = number(l1_ratio)
        ok = holds(lambda ratio: (ratio >= 0) & (ratio <= 1), self.ratio)
        require(ok, f"SparseGroup: l1_ratio must lie in [0, 1], got {l1_ratio}")
        self.group = GroupL2(lam, groups, weights, num_groups)

    def made_of(self) -> Penalty:
        """(1 − r) of the group norm + r of L1."""
        return Scaled(self.group, 1.0 - self.ratio) + L1(self.group.lam * self.ratio)

    def take(self, index: Array) -> Self:
        """Of the labels."""
        return eqx.tree_at(lambda p: p.group, self, self.group.take(index))

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self:
        """One for params of this shape, for the laws."""
        return cls(1.0, jnp.arange(int(np.prod(shape))).reshape(shape) // 2)


def _fields(
    name: str, lam: ArrayLike, groups: ArrayLike, weights: ArrayLike | None, num_groups: int | None, rule: Any
) -> tuple[Array, Array, Array, int, int | None]:
    """Checked λ, labels, weights (by `rule` of the sizes where None), number of groups and largest size."""
    lam, labels = number(lam), _labels(groups)
    require_scalar(f"{name}: λ", lam)
    if num_groups is None:
        if isinstance(groups, jax.core.Tracer):
            raise ValueError(f"{name} under a trace cannot count the groups: give num_groups")
        num_groups = _count(np.asarray(groups))
    elif not isinstance(groups, jax.core.Tracer):
        top, low = int(np.max(np.asarray(groups))), int(np.min(np.asarray(groups)))
        require(
            low >= 0 and top < num_groups,
            f"{name}: group labels must be 0 … {num_groups - 1} (num_groups), got {low} to {top}",
        )
    traced = isinstance(labels, jax.core.Tracer)
    largest = None if traced else int(np.bincount(np.asarray(labels).ravel()).max())
    if weights is None:
        sizes = segment_sum(jnp.ones(labels.size, lam.dtype), labels.ravel(), num_groups)
        return lam, labels, rule(sizes), num_groups, largest
    weights = number(weights)
    require(
        weights.shape == (num_groups,),
        f"{name}: weights have shape {weights.shape}, wanted one per group, ({num_groups},)",
    )
    fine = holds(lambda w: (w >= 0) & np.isfinite(w), weights)
    require(fine, f"{name}: weights must be finite numbers ≥ 0, got negative, infinite or NaN ones")
    return lam, labels, weights, num_groups, largest


def _labels(groups: ArrayLike) -> Array:
    """Labels as integers; concrete ones are checked."""
    if isinstance(groups, list | tuple) and any(isinstance(g, list | tuple | np.ndarray) for g in groups):
        raise ValueError(
            "groups hold lists of coordinates, wanted one integer label per coordinate, such as [0, 0, 1]:"
            " overlapping groups have no closed form here"
        )
    try:
        labels = jnp.asarray(groups)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"groups must be integer labels, one per coordinate, got {type(groups).__name__}"
        ) from error
    if not (jnp.issubdtype(labels.dtype, jnp.integer) and labels.size):
        raise ValueError(
            f"groups must be integer labels, one per coordinate, got {labels.dtype} of shape {labels.shape}"
        )
    return labels


def _count(labels: np.ndarray) -> int:
    found = np.unique(labels)
    require(
        np.array_equal(found, np.arange(len(found))),
        f"group labels must be 0 … G − 1 with none left out, got {found[:8].tolist()}: renumber them with"
        " numpy.unique(groups, return_inverse=True)[1]",
    )
    return len(found)
