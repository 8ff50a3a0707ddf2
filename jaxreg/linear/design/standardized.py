"""Centred and scaled features, whatever they are of."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg.linear.design.base import Design, Moments
from jaxreg.linear.design.dense import Columns, DenseDesign, gram_of_rows

__all__ = ["Standardized"]


class Standardized(Design):
    """(X − mean)/scale, columns where `constant` set to 0, without a copy of X."""

    inner: Design
    mean: Array
    scale: Array
    constant: Array

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""
        return self.inner.shape

    @property
    def dtype(self) -> Any:
        """That of X."""
        return self.inner.dtype

    @property
    def factor(self) -> Array:
        """What a column is multiplied by after centring."""
        return jnp.where(self.constant, 0.0, 1 / self.scale)

    def matmul(self, w: Array) -> Array:
        """X(w·f) − meanᵀ(w·f), f the factor."""
        w = w * (self.factor if w.ndim == 1 else self.factor[:, None])
        return self.inner.matmul(w) - self.mean @ w

    def rmatmul(self, u: Array) -> Array:
        """f·(Xᵀu − mean·Σu)."""
        if u.ndim == 1:
            return self.factor * (self.inner.rmatmul(u) - self.mean * jnp.sum(u))
        return self.factor[:, None] * (self.inner.rmatmul(u) - self.mean[:, None] * jnp.sum(u, axis=0))

    def squares(self, u: Array) -> Array:
        """The square multiplied out."""
        total = self.inner.squares(u) - self.mean * (2 * self.inner.rmatmul(u) - self.mean * jnp.sum(u))
        return jnp.maximum(self.factor**2 * total, 0.0)

    def moments(self, weight: Array) -> Moments:
        """Moments of X, moved and scaled; `top` is a bound."""
        anchor, *rest, top = self.inner.moments(weight)
        return Moments(
            self.factor * (anchor - self.mean),
            *(self.factor * x for x in rest),
            self.factor * (top + jnp.abs(self.mean)),
        )

    def magnitudes(self, u: Array) -> Array:
        """A bound: |x| + |mean|."""
        mean, factor = (x if u.ndim == 1 else x[:, None] for x in (jnp.abs(self.mean), self.factor))
        return factor * (self.inner.magnitudes(u) + mean * jnp.sum(jnp.abs(u), axis=0))

    def columns(self, index: Array) -> Columns:
        """Some of the columns, centred and scaled."""
        some = lambda x: jnp.take(x, index, mode="fill", fill_value=0)[:, None]  # noqa: E731
        return Columns((self.inner.columns(index).XT - some(self.mean)) * some(self.factor))

    def weighted_gram(self, weight: Array) -> Array:
        """Xᵀ diag(weight) X of centred and scaled columns."""
        if isinstance(self.inner, DenseDesign):
            return gram_of_rows(self.inner.X, weight, lambda rows: (rows - self.mean) * self.factor)
        return super().weighted_gram(weight)

    def narrowed(self, index: np.ndarray, room: int) -> Design:
        """Of dense features centred and scaled columns, else as here."""
        if self.dense_like:
            return super().narrowed(index, room)
        fill = lambda x, with_: np.pad(np.asarray(x)[index], (0, room - index.size), constant_values=with_)  # noqa: E731
        rest = fill(self.mean, 0.0), fill(self.scale, 1.0), fill(self.constant, True)
        return Standardized(self.inner.narrowed(index, room), *map(jnp.asarray, rest))

    @property
    def dense_like(self) -> bool:
        """As X."""
        return self.inner.dense_like
