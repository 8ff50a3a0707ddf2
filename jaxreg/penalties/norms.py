"""Norms of a whole vector or matrix: what they tie together, or make vanish together, is not told by labels.

To add one: a class with `value`, `prox`, `conjugate` and `dual_scale`, named in `__all__`.
"""

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg import projections, thresholds
from jaxreg._pytree import along, ravel, weights_of
from jaxreg._typing import ArrayLike, Params, Scalar
from jaxreg._validation import hyperparameter, number, require, require_scalar
from jaxreg.penalties._vectors import indicator, magnitude, norm, scalar_step, smallest_ratio
from jaxreg.penalties.base import Blocks, Penalty

__all__ = ["LInf", "NuclearNorm", "RowL2", "SortedL1"]


class LInf(Penalty):
    r"""$\lambda \max_j |w_j|$ over all weights: ties the largest ones in magnitude.

    `lam` is λ ≥ 0, otherwise ValueError. Source: Parikh and Boyd (2014), section 6.5.2.

    >>> LInf(1.0).prox(jnp.array([3.0, -2.5, 0.5]), 1.0).tolist()
    [2.25, -2.25, 0.5]
    """

    lam: Array = hyperparameter(1.0)

    def __check_init__(self) -> None:
        require_scalar("LInf: λ", self.lam)

    convex = conjugate_is_indicator = keeps_signs = property(lambda self: True)

    def value(self, params: Params) -> Scalar:
        """λ max|w|."""
        return self.lam * jnp.max(magnitude(ravel(params)[0]))

    def prox(self, params: Params, step: Any) -> Params:
        """All weights clipped at one level."""
        vector, back = ravel(params)
        return back(projections.linf(vector, scalar_step(step, self) * self.lam))

    def conjugate(self, dual: Params) -> Scalar:
        """0 where ‖u‖₁ ≤ λ, else inf."""
        return indicator(jnp.sum(jnp.abs(ravel(dual)[0])), self.lam)

    def dual_scale(self, dual: Params) -> Scalar:
        """λ/‖u‖₁, at most 1."""
        return smallest_ratio(self.lam, jnp.sum(jnp.abs(ravel(dual)[0])))

    def free(self, direction: Params, at: Params | None = None) -> Params:
        """Everything at λ = 0."""
        return _all_at_zero(self.lam, direction)


class RowL2(Penalty):
    r"""$\lambda \sum_i \lVert W_{i\cdot} \rVert_2$ for matrices: whole rows become zero (ℓ2,1).

    For several targets or classes a row is a feature. Leaf by leaf; the norm runs over `axis`, so that
    axis=0 makes columns vanish: the inputs of a layer whose weight is (out, in). `lam` is λ ≥ 0; a leaf with
    fewer than two dimensions raises ValueError. Source: Obozinski, Taskar and Jordan (2010).

    >>> RowL2(2.5).prox(jnp.array([[3.0, 4.0], [0.5, 0.5]]), 1.0).tolist()
    [[1.5, 2.0], [0.0, 0.0]]
    """

    lam: Array = hyperparameter(1.0)
    axis: int | tuple[int, ...] = eqx.field(default=-1, static=True)

    def __check_init__(self) -> None:
        require_scalar("RowL2: λ", self.lam)

    convex = conjugate_is_indicator = metric = keeps_signs = property(lambda self: True)

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self | None:
        """One for matrices; None for other shapes."""
        return cls() if len(shape) == 2 else None

    def blocks(self, params: Params) -> Blocks | None:
        """The rows of a single leaf."""
        leaves, _ = weights_of(params)
        if len(leaves) != 1:
            return None
        size = int(np.prod([leaves[0].shape[a] for a in np.atleast_1d(self.axis)]))
        return Blocks(self._rows(leaves[0]).ravel(), leaves[0].size // max(1, size), size)

    def value(self, params: Params) -> Scalar:
        """λ Σ of the norms of the rows."""
        dtype = jnp.result_type(*weights_of(params)[0])
        return sum(jnp.sum(self.lam * norms) for norms in self._norms(params)).astype(dtype)

    def prox(self, params: Params, step: Any) -> Params:
        """Block soft threshold of each row."""
        leaves, put = weights_of(params)
        self._norms(params)
        steps = along(step, params, "step")
        return put([self._leaf(w, t) for w, t in zip(leaves, steps, strict=True)])

    def conjugate(self, dual: Params) -> Scalar:
        """0 where every row's norm is ≤ λ, else inf."""
        return sum(indicator(norms, self.lam) for norms in self._norms(dual))

    def dual_scale(self, dual: Params) -> Scalar:
        """The smallest λ/‖row‖, at most 1."""
        return jnp.min(jnp.stack([smallest_ratio(self.lam, norms) for norms in self._norms(dual)]))

    def free(self, direction: Params, at: Params | None = None) -> Params:
        """Everything at λ = 0."""
        return _all_at_zero(self.lam, direction)

    def _rows(self, leaf: Array) -> Array:
        """The row of each entry."""
        axes = {a % leaf.ndim for a in np.atleast_1d(self.axis)}
        kept = [1 if k in axes else size for k, size in enumerate(leaf.shape)]
        return jnp.broadcast_to(jnp.arange(int(np.prod(kept))).reshape(kept), leaf.shape)

    def _leaf(self, w: Array, step: ArrayLike) -> Array:
        rows = self._rows(w)
        count, flat = (
            w.size // max(1, int(np.prod([w.shape[a] for a in np.atleast_1d(self.axis)]))),
            w.ravel(),
        )
        if jnp.ndim(step):
            metric = jnp.broadcast_to(step, w.shape).ravel()
            out = thresholds.block_soft_metric(flat, self.lam, metric, rows.ravel(), count)
        else:
            out = thresholds.block_soft(flat, jnp.full(count, step * self.lam), rows.ravel(), count)
        return out.reshape(w.shape)

    def _norms(self, params: Params) -> list[Array]:
        out = []
        for leaf in weights_of(params)[0]:
            if leaf.ndim < 2:
                raise ValueError(
                    f"RowL2 sees matrices, got a leaf of shape {leaf.shape}: choose the matrices with Masked,"
                    " for example by masks.weights_only"
                )
            out.append(norm(leaf, tuple(int(a) for a in np.atleast_1d(self.axis))))
        return out


class SortedL1(Penalty):
    r"""$\sum_i \lambda_i |w|_{(i)}$, the largest magnitude first: SLOPE, which ties what is alike.

    `lams` (p,) is non-increasing and ≥ 0, one per weight, otherwise ValueError; a family scales it:
    ``lambda lam: SortedL1(lam * lams)``. Source: Bogdan, van den Berg, Sabatti, Su and Candès (2015).

    >>> SortedL1([3.0, 1.0, 1.0]).prox(jnp.array([4.0, -5.0, 1.0]), 1.0).tolist()
    [2.5, -2.5, 0.0]
    """

    lams: Array = eqx.field(converter=number)

    def __check_init__(self) -> None:
        if self.lams.ndim != 1:
            raise ValueError(f"SortedL1: lams must be one number per weight, got shape {self.lams.shape}")
        if not isinstance(self.lams, jax.core.Tracer):
            fine = np.all(np.diff(self.lams) <= 0) and np.all(np.asarray(self.lams) >= 0)
            require(fine, "SortedL1: lams must be ≥ 0 and fall or stay: sort them in reverse")

    convex = conjugate_is_indicator = keeps_signs = property(lambda self: True)

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self:
        """Evenly falling."""
        return cls(jnp.linspace(2.0, 0.5, int(np.prod(shape))))

    def value(self, params: Params) -> Scalar:
        """The sorted magnitudes against the sorted λ."""
        vector, _ = self._ravelled(params)
        return jnp.sum(self.lams * jnp.sort(magnitude(vector), descending=True))

    def prox(self, params: Params, step: Any) -> Params:
        """Sort, subtract, pool what is out of order, clip at 0."""
        vector, back = self._ravelled(params)
        return back(projections.sorted_l1(vector, scalar_step(step, self) * self.lams))

    def conjugate(self, dual: Params) -> Scalar:
        """0 where for every k the sum of the k largest |u| is at most that of the k largest λ, else inf."""
        return indicator(self._sums(dual), jnp.cumsum(self.lams))

    def dual_scale(self, dual: Params) -> Scalar:
        """The smallest ratio of those sums, at most 1."""
        return smallest_ratio(jnp.cumsum(self.lams), self._sums(dual))

    def free(self, direction: Params, at: Params | None = None) -> Params:
        """Everything where all λ are 0."""
        return _all_at_zero(jnp.max(self.lams), direction)

    def take(self, index: Array) -> Self:
        """The largest λ: the weights left out are 0 and come last."""
        return type(self)(self.lams[: index.shape[0]])

    def _sums(self, dual: Params) -> Array:
        return jnp.cumsum(jnp.sort(jnp.abs(self._ravelled(dual)[0]), descending=True))

    def _ravelled(self, params: Params) -> tuple[Array, Any]:
        vector, back = ravel(params)
        if vector.shape != self.lams.shape:
            raise ValueError(
                f"SortedL1: {self.lams.size} lams do not fit {vector.size} weights: give one per weight"
            )
        return vector, back


class NuclearNorm(Penalty):
    r"""$\lambda \sum_i \sigma_i(W)$, the sum of the singular values: matrices of low rank.

    Leaf by leaf over matrices; `lam` is λ ≥ 0; a leaf that is no matrix raises ValueError.
    Source: Cai, Candès and Shen (2010), theorem 2.1.

    >>> NuclearNorm(1.0).prox(jnp.diag(jnp.array([3.0, 0.5])), 1.0).round(4).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """

    lam: Array = hyperparameter(1.0)

    def __check_init__(self) -> None:
        require_scalar("NuclearNorm: λ", self.lam)

    convex = conjugate_is_indicator = property(lambda self: True)

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self | None:
        """One for matrices; None for other shapes."""
        return cls() if len(shape) == 2 else None

    def value(self, params: Params) -> Scalar:
        """λ Σ of the singular values."""
        return self.lam * sum(jnp.sum(s) for s in self._singular(params))

    def prox(self, params: Params, step: Any) -> Params:
        """Soft threshold of the singular values."""
        _, put = weights_of(params)
        threshold = scalar_step(step, self) * self.lam
        return put([thresholds.singular_soft(leaf, threshold) for leaf in self._matrices(params)])

    def conjugate(self, dual: Params) -> Scalar:
        """0 where the largest singular value is ≤ λ, else inf."""
        return sum(indicator(s, self.lam) for s in self._singular(dual))

    def dual_scale(self, dual: Params) -> Scalar:
        """λ over the largest singular value, at most 1."""
        return jnp.min(jnp.stack([smallest_ratio(self.lam, s) for s in self._singular(dual)]))

    def free(self, direction: Params, at: Params | None = None) -> Params:
        """Everything at λ = 0."""
        return _all_at_zero(self.lam, direction)

    def _matrices(self, params: Params) -> list[Array]:
        leaves, _ = weights_of(params)
        for leaf in leaves:
            if leaf.ndim != 2:
                raise ValueError(
                    f"NuclearNorm sees matrices, got a leaf of shape {leaf.shape}: choose them with Masked"
                )
        return leaves

    def _singular(self, params: Params) -> list[Array]:
        # There is no singular value decomposition in half precision.
        return [
            _singular_values(leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)))
            for leaf in self._matrices(params)
        ]


def _all_at_zero(lam: Array, direction: Params) -> Params:
    leaves, put = weights_of(direction)
    return put([jnp.where(lam == 0, leaf, jnp.zeros_like(leaf)) for leaf in leaves])


@jax.custom_jvp
def _singular_values(matrix: Array) -> Array:
    return jnp.linalg.svd(matrix, compute_uv=False)


@_singular_values.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """uᵢᵀ dW vᵢ, with 0 for a singular value of 0: finite also at ties, where it is a subgradient."""
    u, s, vt = jnp.linalg.svd(primals[0], full_matrices=False)
    change = jnp.einsum("ik,ij,kj->k", u, tangents[0], vt)
    floor = jnp.finfo(s.dtype).eps * max(primals[0].shape) * jnp.max(s, initial=0.0)
    return s, jnp.where(s > floor, change, 0.0)
