"""What a solver may ask of a matrix of features: products, moments, and some of its columns.

A design is a pure pytree; every method may be traced, but for `narrowed`. To add one: subclass `Design` in a
module of its own, write its abstract methods, and choose it in `choose`, where the data come in.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

if TYPE_CHECKING:
    from jaxreg.linear.design.dense import Columns

__all__ = ["Design", "Moments"]


class Moments(NamedTuple):
    """Moments of columns (p,) under sample weights that sum to 1, over the samples of positive weight.

    The mean is `anchor` + `rest`, two numbers: `anchor`, half way between the smallest and the largest value,
    can be taken off a column with hardly any rounding, and `rest` is exact to the digits of the column's own
    range, where the sum of the two is not. `half_range` is half the distance from the smallest to the largest
    value, `deviation` the 1/n standard deviation, `top` the largest absolute value.
    """

    anchor: Array
    rest: Array
    half_range: Array
    deviation: Array
    top: Array

    @property
    def mean(self) -> Array:
        """The weighted mean."""
        return self.anchor + self.rest

    @property
    def constant(self) -> Array:
        """Columns whose values are equal up to one rounding of the dtype in either direction."""
        return self.half_range <= jnp.finfo(self.top.dtype).eps * self.top

    @classmethod
    def of(cls, low: Array, high: Array, centred_mean: Any, variance: Any) -> "Moments":
        """Return moments from the smallest and largest values, in units of which nothing over- or underflows.

        Args:
            low: smallest values (p,).
            high: largest values (p,).
            centred_mean: (anchor, unit) to the weighted mean of (x − anchor)/unit.
            variance: (anchor, unit, centred mean) to the weighted mean of ((x − anchor)/unit − mean)².
        """
        # The mean does not depend on the anchor, the deviation on neither: no derivative flows through them.
        low, high = jax.lax.stop_gradient((low, high))
        anchor, half = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
        unit = jnp.where(half > 0, half, 1.0)
        rest = centred_mean(anchor, unit)
        square = variance(anchor, unit, rest)
        root = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), jnp.abs(square))
        top = jnp.maximum(jnp.abs(low), jnp.abs(high))
        return cls(anchor, unit * rest, half, unit * root, top)


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
    def moments(self, weight: Array) -> Moments:
        """Moments of each column under sample weights (n,) that sum to 1."""

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
