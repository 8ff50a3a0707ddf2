"""A penalty seen from another place: toward a reference point, or in another orthonormal basis."""

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg._pytree import along, is_weight, weights_of
from jaxreg._typing import ArrayLike, Params, Scalar
from jaxreg._validation import number, require
from jaxreg.penalties import _rows
from jaxreg.penalties._vectors import scalar_step
from jaxreg.penalties.base import Penalty, SeparablePenalty, line_up, times
from jaxreg.penalties.separable import L1

__all__ = ["Orthogonal", "Toward"]


def _point(x: ArrayLike) -> Array | None:
    """A number or array of floats; None for what a model holds beside its weights."""
    return number(x) if isinstance(x, int | float) or is_weight(x) else None


class Toward(Penalty):
    """`penalty` of w − reference: pulls weights toward a point, such as an earlier model.

    `reference` is a tree like the params or one number; in a problem it is on the scale of the data. A tree
    of another structure raises ValueError where the penalty meets the params.

    >>> Toward(L1(1.0), jnp.array([5.0, 0.0])).prox(jnp.array([5.5, 3.0]), 1.0).tolist()
    [5.0, 2.0]
    """

    penalty: Penalty
    reference: Params = eqx.field(converter=lambda tree: jax.tree.map(_point, tree))

    convex = property(lambda self: self.penalty.convex)
    has_conjugate = property(lambda self: self.penalty.has_conjugate)
    separable = property(lambda self: self.penalty.separable)
    metric = property(lambda self: self.penalty.metric)

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self:
        """L1 around a point."""
        return cls(L1(1.0), 0.5 * (jnp.arange(float(np.prod(shape))) - 2.0).reshape(shape))

    def value(self, params: Params) -> Scalar:
        """The inner value of the difference."""
        return self.penalty.value(self._shifted(params, -1))

    def prox(self, params: Params, step: Any) -> Params:
        """The reference plus the inner prox of the difference."""
        return self._shifted(self.penalty.prox(self._shifted(params, -1), step), 1)

    def conjugate(self, dual: Params) -> Scalar:
        """The inner conjugate + ⟨u, reference⟩."""
        pairs = zip(weights_of(dual)[0], self._points(dual), strict=True)
        return self.penalty.conjugate(dual) + sum(jnp.sum(u * r) for u, r in pairs)

    def dual_scale(self, dual: Params) -> Scalar:
        """Of the inner penalty."""
        return self.penalty.dual_scale(dual)

    def free(self, direction: Params, at: Params | None = None) -> Params:
        """Of the inner penalty."""
        return self.penalty.free(direction, None if at is None else self._shifted(at, -1))

    def selects(self, params: Params) -> list[bool]:
        """As the inner penalty."""
        return self.penalty.selects(params)

    def rows(self, params: Params) -> list[SeparablePenalty] | None:
        """The inner rows, shifted."""
        rows = self.penalty.rows(params)
        points = self._points(params)
        return rows and [_rows.shift(row, point) for row, point in zip(rows, points, strict=True)]

    def take(self, index: Array) -> Self:
        """Of the inner penalty and the reference."""
        part = jax.tree.map(lambda r: r[index] if r.ndim else r, self.reference)
        return type(self)(self.penalty.take(index), part)

    def rescaled(self, scale: Array) -> Self:
        """The reference times scale."""
        moved = jax.tree.map(lambda r: times(r, scale), self.reference)
        return type(self)(self.penalty.rescaled(scale), moved)

    def _shifted(self, params: Params, sign: int) -> Params:
        leaves, put = weights_of(params)
        pairs = zip(leaves, self._points(params), strict=True)
        return put([w + sign * r.astype(w.dtype) for w, r in pairs])

    def _points(self, params: Params) -> list[Array]:
        """The reference on each leaf, in a shape that fits it."""
        leaves, _ = weights_of(params)
        found = along(self.reference, params, "reference")
        if any(r is None for r in found):
            raise ValueError("reference has no value for a leaf of the params: give one for each weight")
        return [line_up(jnp.asarray(r), w, 0, w.size, 1) for r, w in zip(found, leaves, strict=True)]


class Orthogonal(Penalty):
    """`penalty` of Q·w for an orthonormal Q (p, p), such as a wavelet basis; w is (p,) or (p, K).

    Its prox is Qᵀ·prox(Q·w) because lengths are the same in both bases. A Q that is not square and
    orthonormal to √eps raises ValueError.

    >>> Q = jnp.array([[0.6, 0.8], [-0.8, 0.6]])
    >>> Orthogonal(L1(1.0), Q).prox(jnp.array([3.0, 4.0]), 1.0).round(4).tolist()
    [2.4, 3.2]
    """

    penalty: Penalty
    Q: Array = eqx.field(converter=number)

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

    convex = property(lambda self: self.penalty.convex)
    has_conjugate = property(lambda self: self.penalty.has_conjugate)

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self:
        """L1 in a rotated basis."""
        Q = np.linalg.qr(np.random.default_rng(0).normal(size=(shape[0], shape[0])))[0]
        return cls(L1(1.0), Q)

    def value(self, params: Params) -> Scalar:
        """The inner value of Qw."""
        return self.penalty.value(self._there(params)).astype(weights_of(params)[0][0].dtype)

    def prox(self, params: Params, step: Any) -> Params:
        """Qᵀ of the inner prox of Qw."""
        return self._back(self.penalty.prox(self._there(params), scalar_step(step, self)), params)

    def conjugate(self, dual: Params) -> Scalar:
        """The inner conjugate of Qu."""
        return self.penalty.conjugate(self._there(dual))

    def dual_scale(self, dual: Params) -> Scalar:
        """That of Qu."""
        return self.penalty.dual_scale(self._there(dual))

    def free(self, direction: Params, at: Params | None = None) -> Params:
        """Qᵀ of what the inner penalty does not see of Qd."""
        return self._back(self.penalty.free(self._there(direction)), direction)

    def take(self, index: Array) -> Self:
        """TypeError: the basis mixes all coordinates."""
        raise TypeError("Orthogonal cannot be restricted to some coordinates: its basis mixes them all")

    def _there(self, params: Params) -> Params:
        """Qw, of halves in float32: its entries may be larger than those of w."""
        return self._turned(params, self.Q)

    def _back(self, turned: Params, params: Params) -> Params:
        """Qᵀ of the first, in the dtype of the second."""
        leaves, put = weights_of(self._turned(turned, self.Q.T))
        return put([leaves[0].astype(weights_of(params)[0][0].dtype)])

    def _turned(self, params: Params, Q: Array) -> Params:
        leaves, put = weights_of(params)
        if len(leaves) != 1 or leaves[0].shape[:1] != Q.shape[:1]:
            shapes = ", ".join(str(leaf.shape) for leaf in leaves)
            raise ValueError(
                f"Orthogonal: Q of shape {Q.shape} needs one array of {Q.shape[0]} rows, got {shapes}"
            )
        wide = leaves[0].astype(jnp.promote_types(leaves[0].dtype, jnp.float32))
        return put([jnp.matmul(Q.astype(wide.dtype), wide, precision="highest")])
