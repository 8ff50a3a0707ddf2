"""Losses of counts."""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy
from jaxtyping import Array, Float

from jaxreg._validation import require
from jaxreg.losses.base import Loss, log_of_mean, require_finite_targets, sum_outputs, with_weight

__all__ = ["Poisson"]


class Poisson(Loss):
    """eᶻ − y·z for counts y ≥ 0 with a log link: minus the log-likelihood up to a constant in y.

    >>> Poisson().value(jnp.array([0.0]), jnp.array([2.0])).tolist()
    [1.0]
    """

    def value(self, z: Float[Array, "n *K"], y: Float[Array, "n *K"]) -> Float[Array, " n"]:
        """Return eᶻ − y·z."""
        return sum_outputs(jnp.exp(z) - y * z)

    def gradient(self, z: Float[Array, "n *K"], y: Float[Array, "n *K"]) -> Float[Array, "n *K"]:
        """Return eᶻ − y."""
        return jnp.exp(z) - y

    def conjugate(self, v: Float[Array, "n *K"], y: Float[Array, "n *K"]) -> Float[Array, " n"]:
        """Return m·log m − m at m = v + y ≥ 0."""
        m = v + y
        q = jnp.maximum(m, 0.0)
        return sum_outputs(jnp.where(_in_domain(m, y), xlogy(q, q) - q, jnp.inf))

    def fenchel_gap(
        self, z: Float[Array, "n *K"], y: Float[Array, "n *K"], v: Float[Array, "n *K"]
    ) -> Float[Array, " n"]:
        """Return m·(t − log(1 + t)) at m = v + y and t = eᶻ/m − 1, in which large counts do not cancel."""
        m = v + y
        mu, positive = jnp.exp(z), m > 0
        t = (mu - m) / jnp.where(positive, m, 1.0)
        gap = jnp.where(positive, m * (t - jnp.log1p(jnp.where(positive, t, 0.0))), mu)
        return sum_outputs(jnp.where(_in_domain(m, y), gap, jnp.inf))

    def optimal_shift(
        self, z: Float[Array, "n *K"], y: Float[Array, "n *K"], weight: Float[Array, " n"]
    ) -> Float[Array, "*K"]:
        """Return log Σwy − log Σweᶻ, which makes the expected counts add up to those observed."""
        top = jnp.max(z, axis=0)
        return log_of_mean(weight @ y) - jnp.log(weight @ jnp.exp(z - top)) - top

    def smoothness(self) -> float:
        """Return inf: the curvature eᶻ has no bound."""
        return float("inf")

    def mean(self, z: Float[Array, "n *K"]) -> Float[Array, "n *K"]:
        """Return the expected count eᶻ."""
        return jnp.exp(z)

    def link(self, mean: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """Return log(mean)."""
        return log_of_mean(mean)

    def prediction_error(self, z: Float[Array, "n *K"], y: Float[Array, "n *K"]) -> Float[Array, "n *K"]:
        """Return the deviance of each sample."""
        return 2 * (self.value(z, y) - self.saturated(y))

    def check(self, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Raise ValueError for negative counts, and outputs without a positive count of positive weight."""
        require_finite_targets(y, "Poisson")
        require(y >= 0, f"Poisson needs counts ≥ 0, got {float(np.min(y))}")
        y, where = with_weight(y, weight)
        message = f"Poisson needs at least one positive count{where}: all of y is 0"
        require(np.any(y > 0, axis=0), message + (" there" if where else ""))


def _in_domain(m: Array, y: Array) -> Array:
    """Return where m = v + y is at least 0, up to a few roundings of y."""
    return m >= -8 * jnp.finfo(m.dtype).eps * (1 + jnp.abs(y))
