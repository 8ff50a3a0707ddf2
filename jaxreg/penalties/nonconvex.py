"""Penalties that are not convex and act on each coordinate alone.

They pull small weights to exactly zero and let large ones be. Each prox is a global minimiser at every step,
ties to the sparser one, so that it works in any metric. There is no duality gap: a fit is judged by its kkt
residual, and is a stationary point. To add one: a class with `value_1d` and `prox_1d`, named in `__all__`.
"""

import jax.numpy as jnp
from jaxtyping import Array

from jaxreg import thresholds
from jaxreg._typing import ArrayLike
from jaxreg._validation import holds, hyperparameter, require, require_scalar
from jaxreg.penalties._vectors import magnitude
from jaxreg.penalties.base import SeparablePenalty

__all__ = ["L0", "MCP", "SCAD", "CappedL1", "LHalf", "LogSum", "NonconvexPenalty"]


class NonconvexPenalty(SeparablePenalty):
    """Base of the members of this file: even functions that rise with |w|."""

    @property
    def keeps_signs(self) -> bool:
        """True: even, and rising with |w|."""
        return True


class MCP(NonconvexPenalty):
    r"""$\lambda\sum_j \int_0^{|w_j|} (1 - x/\gamma\lambda)_+ dx$: the pull falls from λ to 0 at |w| = γλ.

    `lam` is λ ≥ 0, `gamma` is γ > 0; otherwise ValueError. From steps of γ on its prox is a hard threshold.
    Source: Zhang (2010).

    >>> MCP(1.0, 2.0).prox(jnp.array([-3.0, 1.5, 0.5]), 1.0).tolist()
    [-3.0, 1.0, 0.0]
    """

    lam: Array = hyperparameter(1.0)
    gamma: Array = hyperparameter(3.0)

    def __check_init__(self) -> None:
        _not_negative("MCP", self.lam)
        require(holds(lambda gamma: gamma > 0, self.gamma), f"MCP: gamma must be > 0, got {self.gamma}")

    def value_1d(self, w: Array) -> Array:
        """λ|w| − w²/2γ up to γλ, γλ²/2 beyond."""
        size = jnp.minimum(magnitude(w), self.gamma * self.lam)
        return size * (self.lam - 0.5 * size / self.gamma)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        """Firm threshold, or hard threshold for long steps."""
        return thresholds.mcp(w, step, self.lam, self.gamma)


class SCAD(NonconvexPenalty):
    r"""$\sum_j \int_0^{|w_j|} \min(\lambda, (a\lambda - x)_+/(a - 1)) dx$: L1 up to λ, flat from aλ on.

    `lam` is λ ≥ 0 and `a` > 2; otherwise ValueError. Source: Fan and Li (2001), equation 2.7.

    >>> SCAD(1.0, 3.0).prox(jnp.array([-4.0, 1.5, 0.5]), 1.0).tolist()
    [-4.0, 0.5, 0.0]
    """

    lam: Array = hyperparameter(1.0)
    a: Array = hyperparameter(3.7)

    def __check_init__(self) -> None:
        _not_negative("SCAD", self.lam)
        require(holds(lambda a: a > 2, self.a), f"SCAD: a must be > 2, got {self.a}")

    def value_1d(self, w: Array) -> Array:
        """λ|w| up to λ, then a parabola up to aλ, then (a + 1)λ²/2."""
        size, lam, a = jnp.minimum(magnitude(w), self.a * self.lam), self.lam, self.a
        beyond = jnp.maximum(size - lam, 0.0)
        return lam * size - 0.5 * beyond * (beyond / (a - 1))

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        """The smallest of its pieces' minima."""
        return thresholds.scad(w, step, self.lam, self.a)


class L0(NonconvexPenalty):
    r"""$\lambda \cdot \#\{j : w_j \ne 0\}$: a price per weight that is kept, whatever its size.

    `lam` is λ ≥ 0, otherwise ValueError. Source: Blumensath and Davies (2009): hard threshold at √(2λ·step).

    >>> L0(2.0).prox(jnp.array([-3.0, 1.9]), 1.0).tolist()
    [-3.0, 0.0]
    """

    lam: Array = hyperparameter(1.0)

    def __check_init__(self) -> None:
        _not_negative("L0", self.lam)

    def value_1d(self, w: Array) -> Array:
        """λ where w ≠ 0."""
        return jnp.where(w == 0, 0.0, self.lam)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        """Hard threshold at √(2λ·step)."""
        bound = 2 * jnp.asarray(step) * self.lam
        safe = jnp.where(bound > 0, bound, 1.0)
        return thresholds.hard(w, jnp.where(bound > 0, jnp.sqrt(safe), 0.0))


class LHalf(NonconvexPenalty):
    r"""$\lambda \sum_j |w_j|^{1/2}$: between L0 and L1. The derivative of its value at 0 is taken as 0.

    `lam` is λ ≥ 0, otherwise ValueError. Source: Xu, Chang, Xu and Zhang (2012): half thresholding.

    >>> LHalf(1.0).prox(jnp.array([-4.0, 1.0]), 1.0).round(4).tolist()
    [-3.741..., 0.0]
    """

    lam: Array = hyperparameter(1.0)

    def __check_init__(self) -> None:
        _not_negative("LHalf", self.lam)

    def value_1d(self, w: Array) -> Array:
        """λ√|w|."""
        zero = w == 0
        return jnp.where(zero, 0.0, self.lam * jnp.sqrt(jnp.where(zero, 1.0, jnp.abs(w))))

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        """Half threshold, in closed form."""
        return thresholds.half(w, step, self.lam)


class LogSum(NonconvexPenalty):
    r"""$\lambda \sum_j \log(1 + |w_j|/\varepsilon)$: the limit of the reweighted L1 norm.

    `lam` is λ ≥ 0 and `eps` ε > 0, otherwise ValueError. Source: Candès, Wakin and Boyd (2008), section 2.3.

    >>> LogSum(1.0, 1.0).prox(jnp.array([-3.0, 0.9]), 1.0).round(4).tolist()
    [-2.7321, 0.0]
    """

    lam: Array = hyperparameter(1.0)
    eps: Array = hyperparameter(1.0)

    def __check_init__(self) -> None:
        _not_negative("LogSum", self.lam)
        require(holds(lambda eps: eps > 0, self.eps), f"LogSum: eps must be > 0, got {self.eps}")

    def value_1d(self, w: Array) -> Array:
        """λ·log(1 + |w|/ε)."""
        size = magnitude(w)
        ratio = size / self.eps
        far = jnp.isinf(ratio)  # beyond the range of the dtype, where its logarithm is not
        beyond = jnp.log(jnp.where(far, size, 1.0)) - jnp.log(self.eps)
        return self.lam * jnp.where(far, beyond, jnp.log1p(jnp.where(far, 0.0, ratio)))

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        """The larger root of a quadratic, or 0 where that costs no more."""
        return thresholds.log_sum(w, step, self.lam, self.eps)


class CappedL1(NonconvexPenalty):
    r"""$\lambda \sum_j \min(|w_j|, c)$: L1 up to the cap c, flat beyond.

    `lam` is λ ≥ 0 and `cap` c > 0, otherwise ValueError. Source: Zhang (2010, JMLR), multi-stage convex
    relaxation.

    >>> CappedL1(1.0, 1.0).prox(jnp.array([-3.0, 1.2, 0.5]), 1.0).round(4).tolist()
    [-3.0, 0.2, 0.0]
    """

    lam: Array = hyperparameter(1.0)
    cap: Array = hyperparameter(1.0)

    def __check_init__(self) -> None:
        _not_negative("CappedL1", self.lam)
        require(holds(lambda cap: cap > 0, self.cap), f"CappedL1: cap must be > 0, got {self.cap}")

    def value_1d(self, w: Array) -> Array:
        """λ·min(|w|, cap)."""
        return self.lam * jnp.minimum(magnitude(w), self.cap)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        """Soft threshold below the cap or the point itself beyond it, whichever costs less."""
        return thresholds.capped(w, step, self.lam, self.cap)


def _not_negative(name: str, lam: Array) -> None:
    require_scalar(f"{name}: λ", lam)
