"""Losses of the residual z − y, for real targets."""

from typing import ClassVar, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxreg._typing import Scalar
from jaxreg._validation import holds, hyperparameter, require
from jaxreg.losses.base import Loss, require_finite_targets, sum_outputs

__all__ = ["Huber", "SquaredError"]


class _ResidualLoss(Loss):
    """A loss of z − y that is ½(z − y)² near 0, for finite targets (n,) or (n, K)."""

    has_unit: ClassVar[bool] = True

    def smoothness(self) -> float:
        """Return 1."""
        return 1.0

    def check(self, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Raise ValueError for targets that are not finite."""
        require_finite_targets(y, type(self).__name__)


class SquaredError(_ResidualLoss):
    """½(z − y)² summed over outputs; y is (n,) or (n, K).

    >>> SquaredError().value(jnp.array([3.0]), jnp.array([1.0])).tolist()
    [2.0]
    """

    def value(self, z: Float[Array, "n *K"], y: Float[Array, "n *K"]) -> Float[Array, " n"]:
        """Return ½(z − y)²."""
        return sum_outputs(0.5 * (z - y) ** 2)

    def gradient(self, z: Float[Array, "n *K"], y: Float[Array, "n *K"]) -> Float[Array, "n *K"]:
        """Return z − y."""
        return z - y

    def conjugate(self, v: Float[Array, "n *K"], y: Float[Array, "n *K"]) -> Float[Array, " n"]:
        """Return ½v² + v·y."""
        return sum_outputs(0.5 * v**2 + v * y)

    def fenchel_gap(
        self, z: Float[Array, "n *K"], y: Float[Array, "n *K"], v: Float[Array, "n *K"]
    ) -> Float[Array, " n"]:
        """Return ½(v − (z − y))², free of the cancellation between value and conjugate."""
        return sum_outputs(0.5 * (v - (z - y)) ** 2)

    def optimal_shift(
        self, z: Float[Array, "n *K"], y: Float[Array, "n *K"], weight: Float[Array, " n"]
    ) -> Float[Array, "*K"]:
        """Return the weighted mean of y − z."""
        return weight @ (y - z)


class Huber(_ResidualLoss):
    """(z − y)²/2 where |z − y| ≤ delta, else delta·|z − y| − delta²/2; y is (n,) or (n, K).

    Args:
        delta: the residual above which the loss is linear, in units of y.

    Raises:
        ValueError: for delta ≤ 0.

    References:
        Huber (1964), Robust estimation of a location parameter.

    >>> Huber(1.0).value(jnp.array([3.0]), jnp.array([0.0])).tolist()
    [2.5]
    """

    delta: Scalar = hyperparameter(1.0)

    def __check_init__(self) -> None:
        require(holds(lambda delta: delta > 0, self.delta), f"Huber: delta must be > 0, got {self.delta}")

    def value(self, z: Float[Array, "n *K"], y: Float[Array, "n *K"]) -> Float[Array, " n"]:
        """Return a parabola up to a residual of delta and its tangent beyond."""
        r, delta = jnp.abs(z - y), self.delta.astype(z.dtype)
        core = jnp.minimum(r, delta)
        return sum_outputs(0.5 * core**2 + delta * (r - core))

    def conjugate(self, v: Float[Array, "n *K"], y: Float[Array, "n *K"]) -> Float[Array, " n"]:
        """Return ½v² + v·y on |v| ≤ delta."""
        delta = self.delta.astype(v.dtype)
        slack = 8 * jnp.finfo(v.dtype).eps * delta
        return sum_outputs(jnp.where(jnp.abs(v) <= delta + slack, 0.5 * v**2 + v * y, jnp.inf))

    def in_units(self, unit: Scalar) -> Self:
        """Return the loss with `delta` divided by the unit."""
        return type(self)(self.delta / unit)
