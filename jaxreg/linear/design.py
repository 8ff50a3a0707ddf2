"""What a solver may ask of a matrix of features: products, some columns, some rows, weighted moments."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

__all__ = ["DenseDesign"]


class DenseDesign(eqx.Module):
    """A dense matrix (n, p)."""

    X: Array

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""
        return self.X.shape

    def matmul(self, w: Array) -> Array:
        """X @ w for w (p,) or (p, K)."""
        return self.X @ w

    def rmatmul(self, u: Array) -> Array:
        """Xᵀ @ u for u (n,) or (n, K), written as u @ X, which runs along memory."""
        return u @ self.X if u.ndim == 1 else (u.T @ self.X).T

    def columns(self, index: Array) -> "DenseDesign":
        """Some of the columns."""
        return DenseDesign(self.X[:, index])

    def rows(self, index: Array) -> "DenseDesign":
        """Some of the rows."""
        return DenseDesign(self.X[index])

    def weighted_gram(self, weight: Array) -> Array:
        """Xᵀ diag(weight) X, (p, p)."""
        return (self.X * weight[:, None]).T @ self.X

    def moments(self, weight: Array) -> tuple[Array, Array]:
        """Mean and 1/n standard deviation of each column under weights that sum to 1."""
        mean = weight @ self.X
        return mean, jnp.sqrt(weight @ (self.X - mean) ** 2)
