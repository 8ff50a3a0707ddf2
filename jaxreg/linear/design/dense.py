"""Dense matrices of features, by rows or by columns in memory."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxreg.linear.design._gram import gram_of_rows
from jaxreg.linear.design.base import Design, Moments

__all__ = ["Columns", "DenseDesign"]

#: Entries of X from which on no function of the entries is stored: memory is slower than arithmetic.
_STORED_SIZE = 4_000_000


class DenseDesign(Design):
    """A dense matrix (n, p); its rows may be spread over devices."""

    X: Float[Array, "n p"]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""
        return self.X.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of X."""
        return self.X.dtype

    def matmul(self, w: Float[Array, "p *K"]) -> Float[Array, "n *K"]:
        """Return X @ w."""
        return self.X @ w

    def rmatmul(self, u: Float[Array, "n *K"]) -> Float[Array, "p *K"]:
        """Return Xᵀ @ u, computed as u @ X, which runs along memory."""
        return u @ self.X if u.ndim == 1 else (u.T @ self.X).T

    def squares(self, u: Float[Array, " n"]) -> Float[Array, " p"]:
        """Return uᵀ X²."""
        return _sum_over_rows(u, self.X, jnp.square)

    def moments(self, weight: Float[Array, " n"]) -> Moments:
        """Return moments by three passes: range, mean, deviation."""
        X, counts = self.X, (weight > 0)[:, None]
        low = jnp.min(jnp.where(counts, X, jnp.inf), axis=0)
        high = jnp.max(jnp.where(counts, X, -jnp.inf), axis=0)

        def centred_mean(anchor: Array, unit: Array) -> Array:
            return _sum_over_rows(weight, X, lambda X: (X - anchor) * (1 / unit))

        def variance(anchor: Array, unit: Array, mean: Array) -> Array:
            # A sample of weight 0 may be so far off that its square is infinite.
            def square(X: Array) -> Array:
                return jnp.where(counts, (X - anchor) * (1 / unit) - mean, 0.0) ** 2

            return _sum_over_rows(weight, X, square)

        return Moments.from_range(low, high, centred_mean, variance)

    def magnitudes(self, u: Float[Array, "n *K"]) -> Float[Array, "p *K"]:
        """Return |X|ᵀ |u|."""
        if u.ndim == 1:
            return _sum_over_rows(jnp.abs(u), self.X, jnp.abs)
        return (jnp.abs(u).T @ jnp.abs(self.X)).T

    def columns(self, index: Int[Array, " m"]) -> "Columns":
        """Return some of the columns."""
        return Columns(jnp.take(self.X, index, axis=1, mode="fill", fill_value=0).T)

    def rows(self, index: Int[Array, " m"]) -> Design:
        """Return some of the rows."""
        return DenseDesign(self.X.at[index].get(mode="fill", fill_value=0))

    def dense(self) -> Float[Array, "n p"]:
        """Return X."""
        return self.X

    def weighted_gram(self, weight: Float[Array, " n"]) -> Float[Array, "p p"]:
        """Return Xᵀ diag(weight) X."""
        return gram_of_rows(self.X, weight)


class Columns(Design):
    """A dense matrix with contiguous columns, which makes a selection and the Gram matrix of them cheap."""

    XT: Float[Array, "p n"]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""
        return self.XT.shape[::-1]

    @property
    def dtype(self) -> np.dtype:
        """The dtype of X."""
        return self.XT.dtype

    def matmul(self, w: Float[Array, "p *K"]) -> Float[Array, "n *K"]:
        """Return X @ w."""
        return w @ self.XT if w.ndim == 1 else (w.T @ self.XT).T

    def rmatmul(self, u: Float[Array, "n *K"]) -> Float[Array, "p *K"]:
        """Return Xᵀ @ u."""
        return self.XT @ u

    def squares(self, u: Float[Array, " n"]) -> Float[Array, " p"]:
        """Return (X²)ᵀ u."""
        return self.XT**2 @ u

    def moments(self, weight: Float[Array, " n"]) -> Moments:
        """Return moments as those of rows."""
        return DenseDesign(self.XT.T).moments(weight)

    def magnitudes(self, u: Float[Array, "n *K"]) -> Float[Array, "p *K"]:
        """Return |X|ᵀ |u|."""
        return jnp.abs(self.XT) @ jnp.abs(u)

    def columns(self, index: Int[Array, " m"]) -> "Columns":
        """Return some of the columns."""
        return Columns(jnp.take(self.XT, index, axis=0, mode="fill", fill_value=0))

    def weighted_gram(self, weight: Float[Array, " n"]) -> Float[Array, "p p"]:
        """Return Xᵀ diag(weight) X."""
        return (self.XT * weight) @ self.XT.T


def _sum_over_rows(
    u: Float[Array, " n"], X: Float[Array, "n p"], f: Callable[[Array], Array]
) -> Float[Array, " p"]:
    """Return Σᵢ uᵢ f(xᵢⱼ); f of a large X is not stored."""
    return u @ f(X) if X.size < _STORED_SIZE else jnp.sum(u[:, None] * f(X), axis=0)
