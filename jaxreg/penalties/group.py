"""Penalties on groups of coordinates: whole groups become zero together.

Groups are given by an integer label 0 … G − 1 per coordinate: of the ravelled params, of the rows of a single
(p, K) leaf (each column then has its own groups), or of the shape of a single leaf. Groups do not overlap, so
that value and prox are sums and scalings by segment.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.ops import segment_max
from jaxtyping import Array, Float, Int

from jaxreg import prox
from jaxreg._compilation import is_traced, on_device
from jaxreg._numerics import at_least_float32, group_norms, magnitude, spread, sum_groups
from jaxreg._pytree import along, ravel, weights_of
from jaxreg._typing import AnyArray, ArrayLike, DTypeLike, Params, Scalar, StepSize
from jaxreg._validation import holds, number, require, require_scalar
from jaxreg.penalties._duals import indicator, smallest_ratio
from jaxreg.penalties.base import Blocks, Capabilities, Penalty
from jaxreg.penalties.combine import NamedCombination, Scaled
from jaxreg.penalties.separable import L1

__all__ = ["GroupL2", "GroupLInf", "GroupMCP", "GroupPenalty", "SparseGroup"]


class Grouped(NamedTuple):
    """Params as one vector with the group of each coordinate."""

    vector: Float[Array, " p"]
    #: Function from a vector back to the params.
    back: Callable[[Array], Params]
    labels: Int[Array, " p"]
    count: int
    #: Weight of each group.
    weights: Float[Array, " G"]

    def norms(self) -> Float[Array, " G"]:
        """Return ‖v_g‖₂ of each group, in float32 for half precision, with derivative 0 at 0."""
        return group_norms(*at_least_float32(self.vector), self.labels, self.count).value


class GroupPenalty(Penalty):
    """Base of penalties over labelled groups; the arguments are those of `GroupL2`."""

    lam: Array
    groups: Int[Array, "..."] = eqx.field(metadata={"per_coordinate": True})
    weights: Float[Array, " G"]
    num_groups: int = eqx.field(static=True)
    #: Size of the largest group; None where the labels were traced.
    largest: int | None = eqx.field(static=True)
    #: The default weight of a group is its size to this power.
    _size_exponent: ClassVar[float] = 0.5

    def __init__(
        self,
        lam: ArrayLike,
        groups: ArrayLike,
        weights: ArrayLike | None = None,
        num_groups: int | None = None,
    ) -> None:
        name = type(self).__name__
        self.lam = number(lam)
        require_scalar(f"{name}: λ", self.lam)
        self.groups, self.num_groups, self.largest = _check_labels(name, groups, num_groups)
        if weights is None:
            sizes = _sizes(self.groups, self.num_groups, self.lam.dtype)
            self.weights = on_device(sizes**self._size_exponent)
        else:
            self.weights = _check_weights(name, number(weights), self.num_groups)

    def grouped(self, params: Params) -> Grouped:
        """Return the params as a vector, with the labels of its coordinates."""
        vector, back = ravel(params)
        leaves, _ = weights_of(params)
        labels, weights = self.groups, self.weights.astype(vector.dtype)
        if labels.size == vector.size:
            labels = labels if labels.ndim == 1 else labels.ravel()
            return Grouped(vector, back, labels, self.num_groups, weights)
        if len(leaves) == 1 and leaves[0].ndim == 2 and labels.shape == leaves[0].shape[:1]:
            columns = leaves[0].shape[1]
            labels = (labels[:, None] * columns + jnp.arange(columns)).ravel()
            return Grouped(vector, back, labels, self.num_groups * columns, jnp.repeat(weights, columns))
        raise ValueError(
            f"{type(self).__name__}: groups of shape {labels.shape} do not fit params with {vector.size}"
            " coordinates: give one label per coordinate, or one per row of a single matrix"
        )

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self:
        return cls(1.0, _pairs(shape))

    def _blocks(self, params: Params) -> Blocks:
        g = self.grouped(params)
        return Blocks(g.labels, g.count, self.largest or g.vector.size)


class _GroupNorm(GroupPenalty):
    """λ Σ_g s_g‖w_g‖ for some norm: the conjugate is 0 where every dual norm is ≤ λs_g, else inf."""

    @abstractmethod
    def _dual_norms(self, g: Grouped) -> Float[Array, " G"]:
        """Return the dual norm of each group."""

    def conjugate(self, dual: Params) -> Scalar:
        g = self.grouped(dual)
        return indicator(self._dual_norms(g), self.lam * g.weights)

    def dual_scale(self, dual: Params) -> Scalar:
        g = self.grouped(dual)
        return smallest_ratio(self.lam * g.weights, self._dual_norms(g))

    def project_on_unpenalised(self, direction: Params, at: Params | None = None) -> Params:
        """Return the part of a direction in groups of weight 0."""
        g = self.grouped(direction)
        return g.back(jnp.where(spread(self.lam * g.weights == 0, g.labels), g.vector, 0.0))


class GroupL2(_GroupNorm):
    r"""$\lambda \sum_g s_g \lVert w_g \rVert_2$: the group lasso; whole groups become zero.

    The prox is a block soft threshold, exact also for one step per coordinate.

    Args:
        lam: λ ≥ 0.
        groups: An integer label 0 … G − 1 per coordinate.
        weights: Weights s (G,) of the groups; None is the square root of their sizes.
        num_groups: G; needed where the labels are traced.

    Raises:
        ValueError: Labels are not integers 0 … G − 1, leave a group out, list overlapping groups, or do not
            fit the params; or a number is negative.

    References:
        Yuan and Lin (2006), Model selection and estimation in regression with grouped variables.

    >>> GroupL2(1.0, [0, 0, 1], weights=[2.5, 1.0]).prox(jnp.array([3.0, 4.0, 0.5]), 1.0).tolist()
    [1.5, 2.0, 0.0]
    """

    capabilities = Capabilities(convex=True, metric=True, keeps_signs=True, has_conjugate=True)

    def blocks(self, params: Params) -> Blocks:
        return self._blocks(params)

    def value(self, params: Params) -> Scalar:
        g = self.grouped(params)
        return jnp.sum(self.lam * g.weights * g.norms()).astype(g.vector.dtype)

    def prox(self, params: Params, step: StepSize) -> Params:
        g, step = self.grouped(params), _ravel_step(step, params)
        lam = self.lam * g.weights
        if jnp.ndim(step):
            return g.back(prox.block_soft_metric(g.vector, lam, step, g.labels, g.count))
        return g.back(prox.block_soft(g.vector, step * self.lam * g.weights, g.labels, g.count))

    def _dual_norms(self, g: Grouped) -> Float[Array, " G"]:
        return g.norms()


class GroupLInf(_GroupNorm):
    r"""$\lambda \sum_g s_g \lVert w_g \rVert_\infty$: groups become zero, or have tied magnitudes.

    Arguments and errors are those of `GroupL2`, except that `weights=None` means 1 for all groups. The prox
    clips each group at its own level, which the projection onto the ℓ1 ball gives by Moreau's identity.

    References:
        Turlach, Venables and Wright (2005), Simultaneous variable selection.

    >>> GroupLInf(1.0, [0, 0, 1]).prox(jnp.array([3.0, 2.5, 0.5]), 1.0).tolist()
    [2.25, 2.25, 0.0]
    """

    capabilities = Capabilities(convex=True, keeps_signs=True, has_conjugate=True)

    _size_exponent: ClassVar[float] = 0.0

    def value(self, params: Params) -> Scalar:
        g = self.grouped(params)
        top = jnp.maximum(segment_max(magnitude(g.vector), g.labels, g.count), 0.0)
        return jnp.sum(self.lam * g.weights * top)

    def prox(self, params: Params, step: StepSize) -> Params:
        g = self.grouped(params)
        threshold = self._scalar_step(step) * self.lam * g.weights
        return g.back(prox.linf_groups(g.vector, threshold, g.labels, g.count))

    def _dual_norms(self, g: Grouped) -> Float[Array, " G"]:
        return sum_groups(jnp.abs(g.vector), g.labels, g.count)


class GroupMCP(GroupPenalty):
    r"""$\sum_g \mathrm{MCP}(\lVert w_g \rVert_2; \lambda s_g, \gamma)$: whole groups become zero.

    Large groups are not shrunk. Not convex. The prox scales each group so that its norm becomes the firm
    threshold of its norm.

    Args:
        lam: λ ≥ 0.
        groups: Labels as in `GroupL2`.
        gamma: γ > 0.
        weights: Weights s (G,) as in `GroupL2`.
        num_groups: G; needed where the labels are traced.

    Raises:
        ValueError: As in `GroupL2`, or γ is not positive.

    References:
        Huang, Breheny and Ma (2012), A selective review of group selection, section 2.2.

    >>> GroupMCP(1.0, [0, 0, 1], 2.0, weights=[1.0, 1.0]).prox(jnp.array([3.0, 4.0, 0.5]), 1.0).tolist()
    [3.0, 4.0, 0.0]
    """

    gamma: Array

    capabilities = Capabilities(keeps_signs=True)

    def __init__(
        self,
        lam: ArrayLike,
        groups: ArrayLike,
        gamma: ArrayLike = 3.0,
        weights: ArrayLike | None = None,
        num_groups: int | None = None,
    ) -> None:
        super().__init__(lam, groups, weights, num_groups)
        self.gamma = number(gamma)
        require(holds(lambda gamma: gamma > 0, self.gamma), f"GroupMCP: gamma must be > 0, got {gamma}")

    def blocks(self, params: Params) -> Blocks:
        return self._blocks(params)

    def value(self, params: Params) -> Scalar:
        g = self.grouped(params)
        lam = self.lam * g.weights
        size = jnp.minimum(g.norms(), self.gamma * lam)
        return jnp.sum(size * (lam - 0.5 * size / self.gamma)).astype(g.vector.dtype)

    def prox(self, params: Params, step: StepSize) -> Params:
        g, step = self.grouped(params), self._scalar_step(step)
        lam = self.lam * g.weights
        return g.back(prox.block_mcp(g.vector, step, lam, self.gamma, g.labels, g.count))


class SparseGroup(NamedCombination):
    r"""$\lambda\,(r\lVert w\rVert_1 + (1-r)\sum_g s_g\lVert w_g\rVert_2)$: few groups, few weights in them.

    The prox is a soft threshold, then a block soft threshold.

    Args:
        lam: λ ≥ 0.
        groups: Labels as in `GroupL2`.
        l1_ratio: r in [0, 1].
        weights: Weights s (G,) as in `GroupL2`.
        num_groups: G; needed where the labels are traced.

    Raises:
        ValueError: As in `GroupL2`, or r is out of its range.

    References:
        Simon, Friedman, Hastie and Tibshirani (2013), A sparse-group lasso.

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

    def composed(self) -> Penalty:
        return Scaled(self.group, 1.0 - self.ratio) + L1(self.group.lam * self.ratio)

    def take(self, index: Int[Array, " k"]) -> Self:
        return eqx.tree_at(lambda p: p.group, self, self.group.take(index))

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self:
        return cls(1.0, _pairs(shape))


def _pairs(shape: tuple[int, ...]) -> Int[np.ndarray, "..."]:
    """Return labels that put every two coordinates into a group."""
    return np.arange(int(np.prod(shape))).reshape(shape) // 2


def _ravel_step(step: StepSize, params: Params) -> Array:
    """Return a scalar step as it is, a tree of steps as one vector."""
    steps = along(step, params, "step")
    leaves, _ = weights_of(params)
    if all(jnp.ndim(t) == 0 for t in steps) and all(t is steps[0] for t in steps):
        return jnp.asarray(steps[0])
    pairs = zip(steps, leaves, strict=True)
    return jnp.concatenate([jnp.broadcast_to(jnp.asarray(t, w.dtype), w.shape).ravel() for t, w in pairs])


class _Labels(NamedTuple):
    labels: Int[Array, "..."]
    count: int
    #: Size of the largest group; None where the labels are traced.
    largest: int | None


def _check_labels(name: str, groups: ArrayLike, num_groups: int | None) -> _Labels:
    """Return labels as integers, their number and the largest size; raise ValueError for bad labels."""
    labels = _as_labels(groups)
    if isinstance(groups, jax.core.Tracer):
        if num_groups is None:
            raise ValueError(f"{name} under a trace cannot count the groups: give num_groups")
        return _Labels(labels, num_groups, None)
    own = np.asarray(groups)
    if num_groups is None:
        found = np.unique(own)
        num_groups = len(found)
        require(
            np.array_equal(found, np.arange(num_groups)),
            f"group labels must be 0 … G − 1 with none left out, got {found[:8].tolist()}: renumber them with"
            " numpy.unique(groups, return_inverse=True)[1]",
        )
    else:
        low, top = int(np.min(own)), int(np.max(own))
        require(
            low >= 0 and top < num_groups,
            f"{name}: group labels must be 0 … {num_groups - 1} (num_groups), got {low} to {top}",
        )
    traced = isinstance(labels, jax.core.Tracer)
    return _Labels(labels, num_groups, None if traced else int(np.bincount(own.ravel()).max()))


def _sizes(labels: Array, num_groups: int, dtype: DTypeLike) -> Float[AnyArray, " G"]:
    """Return the number of coordinates of each group, on the host where the labels are concrete."""
    if is_traced(labels):
        return sum_groups(jnp.ones(labels.size, dtype), labels.ravel(), num_groups)
    return np.bincount(np.asarray(labels).ravel(), minlength=num_groups).astype(dtype)


def _check_weights(name: str, weights: Array, num_groups: int) -> Array:
    require(
        weights.shape == (num_groups,),
        f"{name}: weights have shape {weights.shape}, wanted one per group, ({num_groups},)",
    )
    fine = holds(lambda w: (w >= 0) & np.isfinite(w), weights)
    require(fine, f"{name}: weights must be finite numbers ≥ 0, got negative, infinite or NaN ones")
    return weights


def _as_labels(groups: ArrayLike) -> Array:
    if isinstance(groups, list | tuple) and any(isinstance(g, list | tuple | np.ndarray) for g in groups):
        raise ValueError(
            "groups hold lists of coordinates, wanted one integer label per coordinate, such as [0, 0, 1]:"
            " overlapping groups have no closed form here"
        )
    try:
        labels = on_device(groups)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"groups must be integer labels, one per coordinate, got {type(groups).__name__}"
        ) from error
    if not (jnp.issubdtype(labels.dtype, jnp.integer) and labels.size):
        raise ValueError(
            f"groups must be integer labels, one per coordinate, got {labels.dtype} of shape {labels.shape}"
        )
    return labels
