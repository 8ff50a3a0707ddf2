"""Norms of whole vectors and matrices, without group labels.

The conjugate of a norm is the indicator of the unit ball of its dual norm. `Norm` therefore defines
`conjugate`, `dual_scale` and `project_on_unpenalised`, and a member states its dual norm.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxreg import prox
from jaxreg._numerics import at_least_float32, magnitude, norm
from jaxreg._pytree import along, ravel, weights_of
from jaxreg._typing import ArrayLike, Params, Scalar, StepSize
from jaxreg._validation import hyperparameter, number, require, require_scalar
from jaxreg.penalties._duals import indicator, smallest_ratio
from jaxreg.penalties.base import Blocks, Capabilities, Penalty
from jaxreg.prox.spectral import singular_values

__all__ = ["LInf", "Norm", "NuclearNorm", "RowL2", "SortedL1"]


class Norm(Penalty):
    """Base of norms, and of sums of norms, that are all multiplied by λ."""

    capabilities = Capabilities(convex=True, has_conjugate=True)

    @abstractmethod
    def dual_norms(self, dual: Params) -> list[Array]:
        """Return the dual norms, ≤ `bound` in the domain of the conjugate: one array or one per leaf."""

    def bound(self) -> Array:
        """Return the bound of the dual norms: λ, or one number for each dual norm."""
        return self.lam

    def conjugate(self, dual: Params) -> Scalar:
        return sum(indicator(size, self.bound()) for size in self.dual_norms(dual))

    def dual_scale(self, dual: Params) -> Scalar:
        return jnp.min(jnp.stack([smallest_ratio(self.bound(), size) for size in self.dual_norms(dual)]))

    def project_on_unpenalised(self, direction: Params, at: Params | None = None) -> Params:
        """Return the whole direction where λ is 0."""
        leaves, put = weights_of(direction)
        zero = jnp.max(self.bound()) == 0
        return put([jnp.where(zero, leaf, jnp.zeros_like(leaf)) for leaf in leaves])


class LInf(Norm):
    r"""$\lambda \max_j |w_j|$ over all weights: ties the largest magnitudes.

    `lam` is λ ≥ 0, otherwise ValueError.
    Reference: Parikh and Boyd (2014), Proximal Algorithms, section 6.5.2.

    >>> LInf(1.0).prox(jnp.array([3.0, -2.5, 0.5]), 1.0).tolist()
    [2.25, -2.25, 0.5]
    """

    capabilities = Norm.capabilities._replace(keeps_signs=True)

    lam: Scalar = hyperparameter(1.0)

    def __check_init__(self) -> None:
        require_scalar("LInf: λ", self.lam)

    def value(self, params: Params) -> Scalar:
        return self.lam * jnp.max(magnitude(ravel(params)[0]))

    def prox(self, params: Params, step: StepSize) -> Params:
        vector, back = ravel(params)
        return back(prox.linf(vector, self._scalar_step(step) * self.lam))

    def dual_norms(self, dual: Params) -> list[Array]:
        return [jnp.sum(jnp.abs(ravel(dual)[0]))]


class RowL2(Norm):
    r"""$\lambda \sum_i \lVert W_{i\cdot} \rVert_2$ for matrices: whole rows become zero (ℓ2,1).

    With several targets or classes, a row of coefficients is a feature. Acts leaf by leaf.

    Args:
        lam: λ ≥ 0.
        axis: Axes that each norm runs over. 0 makes columns vanish: the inputs of a layer whose weight is
            (out, in).

    Raises:
        ValueError: λ is negative, or a leaf has fewer than two dimensions.

    References:
        Obozinski, Taskar and Jordan (2010), Joint covariate selection and joint subspace selection.

    >>> RowL2(2.5).prox(jnp.array([[3.0, 4.0], [0.5, 0.5]]), 1.0).tolist()
    [[1.5, 2.0], [0.0, 0.0]]
    """

    capabilities = Norm.capabilities._replace(metric=True, keeps_signs=True)

    lam: Scalar = hyperparameter(1.0)
    axis: int | tuple[int, ...] = eqx.field(default=-1, static=True)

    def __check_init__(self) -> None:
        require_scalar("RowL2: λ", self.lam)

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self | None:
        return cls() if len(shape) == 2 else None

    def blocks(self, params: Params) -> Blocks | None:
        leaves, _ = weights_of(params)
        return self._leaf_blocks(leaves[0]) if len(leaves) == 1 else None

    def value(self, params: Params) -> Scalar:
        dtype = jnp.result_type(*weights_of(params)[0])
        return sum(jnp.sum(self.lam * norms) for norms in self.dual_norms(params)).astype(dtype)

    def prox(self, params: Params, step: StepSize) -> Params:
        leaves, put = weights_of(params)
        self._check_leaves(leaves)
        steps = along(step, params, "step")
        return put([self._prox_of_leaf(w, t) for w, t in zip(leaves, steps, strict=True)])

    def dual_norms(self, dual: Params) -> list[Array]:
        leaves, _ = weights_of(dual)
        self._check_leaves(leaves)
        return [norm(leaf, self._axes()) for leaf in leaves]

    def _axes(self) -> tuple[int, ...]:
        return tuple(int(axis) for axis in np.atleast_1d(self.axis))

    def _leaf_blocks(self, leaf: Array) -> Blocks:
        """Return the rows of a leaf as blocks."""
        size = int(np.prod([leaf.shape[axis] for axis in self._axes()]))
        axes = {axis % leaf.ndim for axis in self._axes()}
        kept = [1 if k in axes else n for k, n in enumerate(leaf.shape)]
        labels = jnp.broadcast_to(jnp.arange(int(np.prod(kept))).reshape(kept), leaf.shape)
        return Blocks(labels.ravel(), leaf.size // max(1, size), size)

    def _prox_of_leaf(self, w: Array, step: ArrayLike) -> Array:
        rows, count, _ = self._leaf_blocks(w)
        if jnp.ndim(step):
            metric = jnp.broadcast_to(step, w.shape).ravel()
            out = prox.block_soft_metric(w.ravel(), self.lam, metric, rows, count)
        else:
            out = prox.block_soft(w.ravel(), jnp.full(count, step * self.lam), rows, count)
        return out.reshape(w.shape)

    def _check_leaves(self, leaves: list[Array]) -> None:
        for leaf in leaves:
            if leaf.ndim < 2:
                raise ValueError(
                    f"RowL2 sees matrices, got a leaf of shape {leaf.shape}: choose the matrices with Masked,"
                    " for example by masks.weights_only"
                )


class SortedL1(Norm):
    r"""$\sum_i \lambda_i |w|_{(i)}$, the largest magnitude first: SLOPE, which ties similar weights.

    Args:
        lams: λ (p,), non-increasing and ≥ 0, one per weight. A family scales them:
            ``lambda lam: SortedL1(lam * lams)``.

    Raises:
        ValueError: `lams` are negative, increase, or do not fit the params.

    References:
        Bogdan, van den Berg, Sabatti, Su and Candès (2015), SLOPE: adaptive variable selection via convex
        optimization.

    >>> SortedL1([3.0, 1.0, 1.0]).prox(jnp.array([4.0, -5.0, 1.0]), 1.0).tolist()
    [2.5, -2.5, 0.0]
    """

    capabilities = Norm.capabilities._replace(keeps_signs=True)

    lams: Float[Array, " p"] = eqx.field(converter=number)

    def __check_init__(self) -> None:
        if self.lams.ndim != 1:
            raise ValueError(f"SortedL1: lams must be one number per weight, got shape {self.lams.shape}")
        if not isinstance(self.lams, jax.core.Tracer):
            fine = np.all(np.diff(self.lams) <= 0) and np.all(np.asarray(self.lams) >= 0)
            require(fine, "SortedL1: lams must be ≥ 0 and fall or stay: sort them in reverse")

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self:
        return cls(jnp.linspace(2.0, 0.5, int(np.prod(shape))))

    def value(self, params: Params) -> Scalar:
        vector, _ = self._ravel(params)
        return jnp.sum(self.lams * jnp.sort(magnitude(vector), descending=True))

    def prox(self, params: Params, step: StepSize) -> Params:
        vector, back = self._ravel(params)
        return back(prox.sorted_l1(vector, self._scalar_step(step) * self.lams))

    def dual_norms(self, dual: Params) -> list[Array]:
        """Return the sum of the k largest |u| for every k."""
        return [jnp.cumsum(jnp.sort(jnp.abs(self._ravel(dual)[0]), descending=True))]

    def bound(self) -> Array:
        """Return the sum of the k largest λ for every k."""
        return jnp.cumsum(self.lams)

    def take(self, index: Int[Array, " k"]) -> Self:
        """Keep the largest λ: the other weights are 0 and come last."""
        return type(self)(self.lams[: index.shape[0]])

    def _ravel(self, params: Params) -> tuple[Array, Callable[[Array], Params]]:
        vector, back = ravel(params)
        if vector.shape != self.lams.shape:
            raise ValueError(
                f"SortedL1: {self.lams.size} lams do not fit {vector.size} weights: give one per weight"
            )
        return vector, back


class NuclearNorm(Norm):
    r"""$\lambda \sum_i \sigma_i(W)$, the sum of the singular values: matrices of low rank.

    Acts leaf by leaf; the prox soft-thresholds the singular values. `lam` is λ ≥ 0; a negative number, or a
    leaf that is not a matrix, raises ValueError.
    Reference: Cai, Candès and Shen (2010), A singular value thresholding algorithm, theorem 2.1.

    >>> NuclearNorm(1.0).prox(jnp.diag(jnp.array([3.0, 0.5])), 1.0).round(4).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """

    lam: Scalar = hyperparameter(1.0)

    def __check_init__(self) -> None:
        require_scalar("NuclearNorm: λ", self.lam)

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self | None:
        return cls() if len(shape) == 2 else None

    def value(self, params: Params) -> Scalar:
        return self.lam * sum(jnp.sum(s) for s in self.dual_norms(params))

    def prox(self, params: Params, step: StepSize) -> Params:
        _, put = weights_of(params)
        threshold = self._scalar_step(step) * self.lam
        return put([prox.singular_soft(leaf, threshold) for leaf in self._matrices(params)])

    def dual_norms(self, dual: Params) -> list[Array]:
        """Return the singular values of each leaf, the largest of which is the dual norm."""
        # There is no singular value decomposition in half precision.
        return [singular_values(*at_least_float32(leaf)) for leaf in self._matrices(dual)]

    def _matrices(self, params: Params) -> list[Array]:
        leaves, _ = weights_of(params)
        for leaf in leaves:
            if leaf.ndim != 2:
                raise ValueError(
                    f"NuclearNorm sees matrices, got a leaf of shape {leaf.shape}: choose them with Masked"
                )
        return leaves
