"""Separable penalties that are not convex.

They set small weights to exactly zero and leave large weights nearly unshrunk. Each prox returns a global
minimiser at every step, at a tie the sparser one, and accepts one step per coordinate. A fit has no duality
gap: its certificate is the KKT residual, which shows a stationary point.
"""

import jax.numpy as jnp
from jaxtyping import Array

from jaxreg import prox
from jaxreg._numerics import magnitude
from jaxreg._typing import ArrayLike, Scalar
from jaxreg._validation import holds, hyperparameter, require, require_scalar
from jaxreg.penalties._leafwise import SeparablePenalty

__all__ = ["L0", "MCP", "SCAD", "CappedL1", "LHalf", "LogSum", "NonconvexPenalty"]


class NonconvexPenalty(SeparablePenalty):
    """Base of non-decreasing functions of |w|."""

    capabilities = SeparablePenalty.capabilities._replace(keeps_signs=True)


class MCP(NonconvexPenalty):
    r"""$\lambda\sum_j \int_0^{|w_j|} (1 - x/\gamma\lambda)_+ dx$: the slope falls from λ to 0 at |w| = γλ.

    The prox is a firm threshold, for steps ≥ γ a hard threshold.

    Args:
        lam: λ ≥ 0.
        gamma: γ > 0.

    Raises:
        ValueError: A number is out of its range.

    References:
        Zhang (2010), Nearly unbiased variable selection under minimax concave penalty.

    >>> MCP(1.0, 2.0).prox(jnp.array([-3.0, 1.5, 0.5]), 1.0).tolist()
    [-3.0, 1.0, 0.0]
    """

    lam: Scalar = hyperparameter(1.0)
    gamma: Scalar = hyperparameter(3.0)

    def __check_init__(self) -> None:
        require_scalar("MCP: λ", self.lam)
        require(holds(lambda gamma: gamma > 0, self.gamma), f"MCP: gamma must be > 0, got {self.gamma}")

    def value_1d(self, w: Array) -> Array:
        size = jnp.minimum(magnitude(w), self.gamma * self.lam)
        return size * (self.lam - 0.5 * size / self.gamma)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        return prox.mcp(w, step, self.lam, self.gamma)


class SCAD(NonconvexPenalty):
    r"""$\sum_j \int_0^{|w_j|} \min(\lambda, (a\lambda - x)_+/(a - 1)) dx$: L1 up to λ, constant from aλ on.

    Args:
        lam: λ ≥ 0.
        a: A number > 2.

    Raises:
        ValueError: A number is out of its range.

    References:
        Fan and Li (2001), Variable selection via nonconcave penalized likelihood, equation 2.7.

    >>> SCAD(1.0, 3.0).prox(jnp.array([-4.0, 1.5, 0.5]), 1.0).tolist()
    [-4.0, 0.5, 0.0]
    """

    lam: Scalar = hyperparameter(1.0)
    a: Scalar = hyperparameter(3.7)

    def __check_init__(self) -> None:
        require_scalar("SCAD: λ", self.lam)
        require(holds(lambda a: a > 2, self.a), f"SCAD: a must be > 2, got {self.a}")

    def value_1d(self, w: Array) -> Array:
        size, lam, a = jnp.minimum(magnitude(w), self.a * self.lam), self.lam, self.a
        beyond = jnp.maximum(size - lam, 0.0)
        return lam * size - 0.5 * beyond * (beyond / (a - 1))

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        return prox.scad(w, step, self.lam, self.a)


class L0(NonconvexPenalty):
    r"""$\lambda \cdot \#\{j : w_j \ne 0\}$: counts the weights that are not 0.

    The prox is a hard threshold at √(2λ·step).

    `lam` is λ ≥ 0, otherwise ValueError.
    Reference: Blumensath and Davies (2009), Iterative hard thresholding for compressed sensing.

    >>> L0(2.0).prox(jnp.array([-3.0, 1.9]), 1.0).tolist()
    [-3.0, 0.0]
    """

    lam: Scalar = hyperparameter(1.0)

    def __check_init__(self) -> None:
        require_scalar("L0: λ", self.lam)

    def value_1d(self, w: Array) -> Array:
        return jnp.where(w == 0, 0.0, self.lam)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        bound = 2 * jnp.asarray(step) * self.lam
        safe = jnp.where(bound > 0, bound, 1.0)
        return prox.hard(w, jnp.where(bound > 0, jnp.sqrt(safe), 0.0))


class LHalf(NonconvexPenalty):
    r"""$\lambda \sum_j |w_j|^{1/2}$: between L0 and L1. The derivative of its value at 0 is taken as 0.

    `lam` is λ ≥ 0, otherwise ValueError.
    Reference: Xu, Chang, Xu and Zhang (2012), L1/2 regularization: a thresholding representation theory.

    >>> LHalf(1.0).prox(jnp.array([-4.0, 1.0]), 1.0).round(4).tolist()
    [-3.741..., 0.0]
    """

    lam: Scalar = hyperparameter(1.0)

    def __check_init__(self) -> None:
        require_scalar("LHalf: λ", self.lam)

    def value_1d(self, w: Array) -> Array:
        zero = w == 0
        return jnp.where(zero, 0.0, self.lam * jnp.sqrt(jnp.where(zero, 1.0, jnp.abs(w))))

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        return prox.half(w, step, self.lam)


class LogSum(NonconvexPenalty):
    r"""$\lambda \sum_j \log(1 + |w_j|/\varepsilon)$: the limit of the reweighted L1 norm.

    Args:
        lam: λ ≥ 0.
        eps: ε > 0.

    Raises:
        ValueError: A number is out of its range.

    References:
        Candès, Wakin and Boyd (2008), Enhancing sparsity by reweighted ℓ1 minimization, section 2.3.

    >>> LogSum(1.0, 1.0).prox(jnp.array([-3.0, 0.9]), 1.0).round(4).tolist()
    [-2.7321, 0.0]
    """

    lam: Scalar = hyperparameter(1.0)
    eps: Scalar = hyperparameter(1.0)

    def __check_init__(self) -> None:
        require_scalar("LogSum: λ", self.lam)
        require(holds(lambda eps: eps > 0, self.eps), f"LogSum: eps must be > 0, got {self.eps}")

    def value_1d(self, w: Array) -> Array:
        size = magnitude(w)
        ratio = size / self.eps
        far = jnp.isinf(ratio)  # beyond the range of the dtype, where its logarithm is not
        beyond = jnp.log(jnp.where(far, size, 1.0)) - jnp.log(self.eps)
        return self.lam * jnp.where(far, beyond, jnp.log1p(jnp.where(far, 0.0, ratio)))

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        return prox.log_sum(w, step, self.lam, self.eps)


class CappedL1(NonconvexPenalty):
    r"""$\lambda \sum_j \min(|w_j|, c)$: L1 up to the cap c, constant beyond.

    Args:
        lam: λ ≥ 0.
        cap: c > 0.

    Raises:
        ValueError: A number is out of its range.

    References:
        Zhang (2010), Analysis of multi-stage convex relaxation for sparse regularization, JMLR.

    >>> CappedL1(1.0, 1.0).prox(jnp.array([-3.0, 1.2, 0.5]), 1.0).round(4).tolist()
    [-3.0, 0.2, 0.0]
    """

    lam: Scalar = hyperparameter(1.0)
    cap: Scalar = hyperparameter(1.0)

    def __check_init__(self) -> None:
        require_scalar("CappedL1: λ", self.lam)
        require(holds(lambda cap: cap > 0, self.cap), f"CappedL1: cap must be > 0, got {self.cap}")

    def value_1d(self, w: Array) -> Array:
        return self.lam * jnp.minimum(magnitude(w), self.cap)

    def prox_1d(self, w: Array, step: ArrayLike) -> Array:
        return prox.capped(w, step, self.lam, self.cap)
