"""The base class of designs: a matrix of features, and the products that solvers take of it.

A design is a pure pytree. Every method may be traced except `narrowed`. To add a design, subclass `Design` in
a module of its own, write its abstract methods, and let `choose.design` return it for the data it is meant
for.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

if TYPE_CHECKING:
    from jaxreg.linear.design.dense import Columns

__all__ = ["Design", "Moments"]


class Moments(NamedTuple):
    """Moments of columns under sample weights that sum to 1, over the samples of positive weight.

    The mean is the sum of two numbers, `anchor` + `rest`, each of them more accurate than their sum.

    Attributes:
        anchor: half way between the smallest and the largest value; subtracting it hardly rounds.
        rest: mean − anchor, exact to the digits of the column's own range.
        half_range: half the distance from the smallest to the largest value.
        deviation: the 1/n standard deviation.
        max_abs: the largest absolute value.
    """

    anchor: Float[Array, " p"]
    rest: Float[Array, " p"]
    half_range: Float[Array, " p"]
    deviation: Float[Array, " p"]
    max_abs: Float[Array, " p"]

    @property
    def mean(self) -> Float[Array, " p"]:
        """The weighted mean."""
        return self.anchor + self.rest

    @classmethod
    def from_range(
        cls,
        low: Float[Array, " p"],
        high: Float[Array, " p"],
        centred_mean: Callable[[Array, Array], Array],
        variance: Callable[[Array, Array, Array], Array],
    ) -> "Moments":
        """Compute moments in units of half the range, in which no square overflows or underflows.

        Args:
            low: smallest values.
            high: largest values.
            centred_mean: maps (anchor, unit) to the weighted mean of (x − anchor)/unit.
            variance: maps (anchor, unit, centred mean) to the weighted mean of ((x − anchor)/unit − mean)².
        """
        # Neither mean nor deviation depends on anchor and unit: no derivative flows through them.
        low, high = jax.lax.stop_gradient((low, high))
        anchor, half_range = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
        unit = jnp.where(half_range > 0, half_range, 1.0)
        rest = centred_mean(anchor, unit)
        square = variance(anchor, unit, rest)
        root = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), jnp.abs(square))
        max_abs = jnp.maximum(jnp.abs(low), jnp.abs(high))
        return cls(anchor, unit * rest, half_range, unit * root, max_abs)


class Design(eqx.Module):
    """Base of all designs: a matrix X (n, p)."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Numbers of samples and features, (n, p)."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype:
        """The dtype of X."""

    @abstractmethod
    def matmul(self, w: Float[Array, "p *K"]) -> Float[Array, "n *K"]:
        """Return X @ w."""

    @abstractmethod
    def rmatmul(self, u: Float[Array, "n *K"]) -> Float[Array, "p *K"]:
        """Return Xᵀ @ u."""

    @abstractmethod
    def squares(self, u: Float[Array, " n"]) -> Float[Array, " p"]:
        """Return Σᵢ uᵢ xᵢⱼ² for each column j."""

    @abstractmethod
    def moments(self, weight: Float[Array, " n"]) -> Moments:
        """Return the moments of each column under sample weights that sum to 1."""

    @abstractmethod
    def magnitudes(self, u: Float[Array, "n *K"]) -> Float[Array, "p *K"]:
        """Return Σᵢ |uᵢ| |xᵢⱼ| or a bound on it, the scale of rounding in `rmatmul`."""

    @abstractmethod
    def columns(self, index: Int[Array, " m"]) -> "Columns":
        """Return some of the columns as a dense matrix; an index of p stands for a column of zeros."""

    def rows(self, index: Int[Array, " m"]) -> "Design | None":
        """Return some of the rows; None where the design stores no dense rows.

        An index of n stands for no row: the row returned for it has no meaning.
        """
        return None

    def narrowed(self, index: np.ndarray, room: int) -> "Design":
        """Return some of the columns in the form in which products are fastest; on the host.

        Args:
            index: indices of the columns, in rising order.
            room: the number of columns of the result, the last ones 0: a size class, so that other columns
                take the same shapes.
        """
        return self.columns(jnp.asarray(np.pad(index, (0, room - index.size), constant_values=self.shape[1])))

    @property
    def dense_like(self) -> bool:
        """True if a dense copy of all columns takes hardly more memory than the design itself."""
        return True

    def dense(self) -> Float[Array, "n p"]:
        """Return X as an array."""
        return self.columns(jnp.arange(self.shape[1])).XT.T

    def weighted_gram(self, weight: Float[Array, " n"]) -> Float[Array, "p p"]:
        """Return Xᵀ diag(weight) X."""
        return self.columns(jnp.arange(self.shape[1])).weighted_gram(weight)
