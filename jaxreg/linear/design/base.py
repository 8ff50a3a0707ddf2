"""What a solver may ask of a matrix of features: products, moments, and some of its columns.

A design is a pure pytree; every method may be traced, but for `narrowed`. To add one: subclass `Design` in a
module of its own, write its abstract methods, and choose it in `choose`, where the data come in.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

if TYPE_CHECKING:
    from jaxreg.linear.design.dense import Columns

__all__ = ["Design"]


class Design(eqx.Module):
    """Base of all designs: a matrix X (n, p)."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(n, p)."""

    @property
    @abstractmethod
    def dtype(self) -> Any:
        """That of the numbers."""

    @abstractmethod
    def matmul(self, w: Array) -> Array:
        """X @ w for w (p,) or (p, K)."""

    @abstractmethod
    def rmatmul(self, u: Array) -> Array:
        """Xᵀ @ u for u (n,) or (n, K)."""

    @abstractmethod
    def squares(self, u: Array) -> Array:
        """Σ_i u_i x_ij² for u (n,): (p,)."""

    @abstractmethod
    def moments(self, weight: Array) -> tuple[Array, Array, Array]:
        """Mean, 1/n standard deviation (weights sum to 1) and largest |x| of each column."""

    @abstractmethod
    def magnitudes(self, u: Array) -> Array:
        """Σ_i |u_i| |x_ij|, or a bound on it, for u (n,) or (n, K): the scale of rounding in `rmatmul`."""

    @abstractmethod
    def columns(self, index: Array) -> "Columns":
        """Some of the columns, made dense; an index of p stands for a column of zeros."""

    def narrowed(self, index: np.ndarray, room: int) -> "Design":
        """Columns `index`, in rising order, in the form that products like best, and zeros up to `room`; on
        the host.
        """
        return self.columns(jnp.asarray(np.pad(index, (0, room - index.size), constant_values=self.shape[1])))

    @property
    def dense_like(self) -> bool:
        """Whether all columns may be made dense without taking much more memory."""
        return True

    def dense(self) -> Array:
        """All of it, (n, p)."""
        return self.columns(jnp.arange(self.shape[1])).XT.T

    def weighted_gram(self, weight: Array) -> Array:
        """Xᵀ diag(weight) X, (p, p)."""
        return self.columns(jnp.arange(self.shape[1])).weighted_gram(weight)
