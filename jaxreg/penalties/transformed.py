"""A penalty of transformed weights: shifted by a reference point, or in another orthonormal basis.

For w ↦ p(Qw − r) with orthonormal Q, prox and conjugate follow from those of p in closed form, since
rotations and shifts preserve distances.
"""

from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxreg._numerics import at_least_float32
from jaxreg._pytree import along, is_weight, weights_of
from jaxreg._typing import ArrayLike, Params, Scalar, StepSize
from jaxreg._validation import number, require
from jaxreg.penalties._leafwise import SeparablePenalty, broadcast_to_leaf, scale_rows
from jaxreg.penalties.base import Capabilities, Penalty
from jaxreg.penalties.separable import L1

__all__ = ["Orthogonal", "Toward"]


def _point(x: ArrayLike) -> Array | None:
    """Return a number or array of floats as an array, None for other leaves of a model."""
    return number(x) if isinstance(x, int | float) or is_weight(x) else None


class Toward(Penalty):
    """`penalty` of w − reference: pulls weights toward a point, such as an earlier model.

    Args:
        penalty: Any penalty.
        reference: A tree like the params or one number; in a problem on the scale of the data.

    Raises:
        ValueError: The reference and the params differ in structure; raised when the penalty is evaluated.

    >>> Toward(L1(1.0), jnp.array([5.0, 0.0])).prox(jnp.array([5.5, 3.0]), 1.0).tolist()
    [5.0, 2.0]
    """

    penalty: Penalty
    reference: Params = eqx.field(converter=lambda tree: jax.tree.map(_point, tree))

    @property
    def capabilities(self) -> Capabilities:
        inner = self.penalty.capabilities
        inner = inner._replace(elementary=False, piecewise_linear=False)
        return inner._replace(keeps_signs=False, keeps_order=False)

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self:
        return cls(L1(1.0), 0.5 * (np.arange(float(np.prod(shape))) - 2.0).reshape(shape))

    def value(self, params: Params) -> Scalar:
        return self.penalty.value(self._shift(params, -1))

    def prox(self, params: Params, step: StepSize) -> Params:
        """Return the reference plus the inner prox of the difference."""
        return self._shift(self.penalty.prox(self._shift(params, -1), step), 1)

    def conjugate(self, dual: Params) -> Scalar:
        """Return the inner conjugate + ⟨u, reference⟩."""
        pairs = zip(weights_of(dual)[0], self._points(dual), strict=True)
        return self.penalty.conjugate(dual) + sum(jnp.sum(u * r) for u, r in pairs)

    def dual_scale(self, dual: Params) -> Scalar:
        return self.penalty.dual_scale(dual)

    def project_on_unpenalised(self, direction: Params, at: Params | None = None) -> Params:
        return self.penalty.project_on_unpenalised(direction, None if at is None else self._shift(at, -1))

    def acts_on_leaves(self, params: Params) -> list[bool]:
        return self.penalty.acts_on_leaves(params)

    def per_leaf(self, params: Params) -> list[SeparablePenalty] | None:
        per_leaf = self.penalty.per_leaf(params)
        points = self._points(params)
        return per_leaf and [g.shifted(point) for g, point in zip(per_leaf, points, strict=True)]

    def take(self, index: Int[Array, " k"]) -> Self:
        part = jax.tree.map(lambda r: r[index] if r.ndim else r, self.reference)
        return type(self)(self.penalty.take(index), part)

    def for_scaled_params(self, scale: Float[Array, " p"]) -> Self:
        scaled = jax.tree.map(lambda r: scale_rows(r, scale), self.reference)
        return type(self)(self.penalty.for_scaled_params(scale), scaled)

    def _shift(self, params: Params, sign: int) -> Params:
        """Return params + sign·reference."""
        leaves, put = weights_of(params)
        pairs = zip(leaves, self._points(params), strict=True)
        return put([w + sign * r.astype(w.dtype) for w, r in pairs])

    def _points(self, params: Params) -> list[Array]:
        """Return the reference on each leaf, in a shape that broadcasts against it."""
        leaves, _ = weights_of(params)
        references = along(self.reference, params, "reference")
        if any(r is None for r in references):
            raise ValueError("reference has no value for a leaf of the params: give one for each weight")
        return [
            broadcast_to_leaf(jnp.asarray(r), w, 0, w.size, 1)
            for r, w in zip(references, leaves, strict=True)
        ]


class Orthogonal(Penalty):
    """`penalty` of Q·w for an orthonormal Q, such as a wavelet basis; its prox is Qᵀ·prox(Q·w).

    Args:
        penalty: Any penalty.
        Q: Matrix (p, p); the params are one array (p,) or (p, K).

    Raises:
        ValueError: Q is not square or not orthonormal to √eps, or does not fit the params.

    >>> Q = jnp.array([[0.6, 0.8], [-0.8, 0.6]])
    >>> Orthogonal(L1(1.0), Q).prox(jnp.array([3.0, 4.0]), 1.0).round(4).tolist()
    [2.4, 3.2]
    """

    penalty: Penalty
    Q: Float[Array, "p p"] = eqx.field(converter=number)

    def __check_init__(self) -> None:
        shape = self.Q.shape
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(f"Orthogonal: Q must be a square matrix, got shape {shape}")
        if not isinstance(self.Q, jax.core.Tracer):
            Q = np.asarray(self.Q, float)
            error = float(np.max(np.abs(Q.T @ Q - np.eye(shape[0]))))
            require(
                error <= float(jnp.finfo(self.Q.dtype).eps) ** 0.5,
                f"Orthogonal: Q is not orthonormal, QᵀQ is {error:.1e} away from I: take the Q of"
                " numpy.linalg.qr",
            )

    @property
    def capabilities(self) -> Capabilities:
        inner = self.penalty.capabilities
        return Capabilities(convex=inner.convex, has_conjugate=inner.has_conjugate)

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self:
        Q = np.linalg.qr(np.random.default_rng(0).normal(size=(shape[0], shape[0])))[0]
        return cls(L1(1.0), Q)

    def value(self, params: Params) -> Scalar:
        return self.penalty.value(self._rotate(params)).astype(weights_of(params)[0][0].dtype)

    def prox(self, params: Params, step: StepSize) -> Params:
        return self._rotate_back(self.penalty.prox(self._rotate(params), self._scalar_step(step)), params)

    def conjugate(self, dual: Params) -> Scalar:
        return self.penalty.conjugate(self._rotate(dual))

    def dual_scale(self, dual: Params) -> Scalar:
        return self.penalty.dual_scale(self._rotate(dual))

    def project_on_unpenalised(self, direction: Params, at: Params | None = None) -> Params:
        return self._rotate_back(self.penalty.project_on_unpenalised(self._rotate(direction)), direction)

    def take(self, index: Int[Array, " k"]) -> Self:
        raise TypeError("Orthogonal cannot be restricted to some coordinates: its basis mixes them all")

    def _rotate(self, params: Params) -> Params:
        """Return Qw, in float32 for half precision: its entries may be larger than those of w."""
        return self._multiply(params, self.Q)

    def _rotate_back(self, rotated: Params, params: Params) -> Params:
        """Return Qᵀ·rotated in the dtype of the params."""
        leaves, put = weights_of(self._multiply(rotated, self.Q.T))
        return put([leaves[0].astype(weights_of(params)[0][0].dtype)])

    def _multiply(self, params: Params, Q: Array) -> Params:
        leaves, put = weights_of(params)
        if len(leaves) != 1 or leaves[0].shape[:1] != Q.shape[:1]:
            shapes = ", ".join(str(leaf.shape) for leaf in leaves)
            raise ValueError(
                f"Orthogonal: Q of shape {Q.shape} needs one array of {Q.shape[0]} rows, got {shapes}"
            )
        (wide,) = at_least_float32(leaves[0])
        return put([jnp.matmul(Q.astype(wide.dtype), wide, precision="highest")])
