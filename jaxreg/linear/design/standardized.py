"""Centred and scaled features, without a copy of them."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxreg.linear.design._gram import gram_of_rows
from jaxreg.linear.design.base import Design, Moments
from jaxreg.linear.design.dense import Columns, DenseDesign

__all__ = ["Standardized"]


class Standardized(Design):
    """(X − mean)/scale, with columns set to 0 where `constant` is true."""

    inner: Design
    mean: Float[Array, " p"]
    scale: Float[Array, " p"]
    constant: Bool[Array, " p"]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""
        return self.inner.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of X."""
        return self.inner.dtype

    @property
    def factor(self) -> Float[Array, " p"]:
        """The factor f of each centred column: 1/scale, or 0 where the column is constant."""
        return jnp.where(self.constant, 0.0, 1 / self.scale)

    def matmul(self, w: Float[Array, "p *K"]) -> Float[Array, "n *K"]:
        """Return X(w·f) − meanᵀ(w·f)."""
        w = w * (self.factor if w.ndim == 1 else self.factor[:, None])
        return self.inner.matmul(w) - self.mean @ w

    def rmatmul(self, u: Float[Array, "n *K"]) -> Float[Array, "p *K"]:
        """Return f·(Xᵀu − mean·Σu)."""
        if u.ndim == 1:
            return self.factor * (self.inner.rmatmul(u) - self.mean * jnp.sum(u))
        return self.factor[:, None] * (self.inner.rmatmul(u) - self.mean[:, None] * jnp.sum(u, axis=0))

    def squares(self, u: Float[Array, " n"]) -> Float[Array, " p"]:
        """Return f²·(X²ᵀu − mean·(2·Xᵀu − mean·Σu))."""
        total = self.inner.squares(u) - self.mean * (2 * self.inner.rmatmul(u) - self.mean * jnp.sum(u))
        return jnp.maximum(self.factor**2 * total, 0.0)

    def moments(self, weight: Float[Array, " n"]) -> Moments:
        """Return the moments of X, shifted and scaled; `max_abs` is a bound."""
        anchor, *rest, max_abs = self.inner.moments(weight)
        return Moments(
            self.factor * (anchor - self.mean),
            *(self.factor * x for x in rest),
            self.factor * (max_abs + jnp.abs(self.mean)),
        )

    def magnitudes(self, u: Float[Array, "n *K"]) -> Float[Array, "p *K"]:
        """Return the bound f·(|X|ᵀ|u| + |mean|·Σ|u|)."""
        mean, factor = (x if u.ndim == 1 else x[:, None] for x in (jnp.abs(self.mean), self.factor))
        return factor * (self.inner.magnitudes(u) + mean * jnp.sum(jnp.abs(u), axis=0))

    def columns(self, index: Int[Array, " m"]) -> Columns:
        """Return some of the columns, centred and scaled."""
        mean, factor = (jnp.take(x, index, mode="fill", fill_value=0) for x in (self.mean, self.factor))
        return Columns((self.inner.columns(index).XT - mean[:, None]) * factor[:, None])

    def rows(self, index: Int[Array, " m"]) -> Design | None:
        """Return some of the rows of X, centred and scaled; None where X does not store them."""
        rows = self.inner.rows(index)
        return None if rows is None else Standardized(rows, self.mean, self.scale, self.constant)

    def weighted_gram(self, weight: Float[Array, " n"]) -> Float[Array, "p p"]:
        """Return the weighted Gram matrix of the centred and scaled columns."""
        if isinstance(self.inner, DenseDesign):
            return gram_of_rows(self.inner.X, weight, lambda rows: (rows - self.mean) * self.factor)
        return super().weighted_gram(weight)

    def narrowed(self, index: np.ndarray, room: int) -> Design:
        """Return dense columns centred and scaled; sparse columns stay sparse and are centred in products."""
        if self.dense_like:
            return super().narrowed(index, room)

        def take(x: Array, fill: float) -> Array:
            return jnp.asarray(np.pad(np.asarray(x)[index], (0, room - index.size), constant_values=fill))

        inner = self.inner.narrowed(index, room)
        return Standardized(inner, take(self.mean, 0.0), take(self.scale, 1.0), take(self.constant, True))

    @property
    def dense_like(self) -> bool:
        """True if X is."""
        return self.inner.dense_like
