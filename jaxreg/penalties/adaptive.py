"""Penalty factors from an earlier fit."""

import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._typing import ArrayLike
from jaxreg._validation import holds, require

__all__ = ["adaptive_weights"]


def adaptive_weights(coef: ArrayLike, gamma: ArrayLike = 1.0, eps: ArrayLike = 0.0) -> Array:
    r"""Return penalty factors $1/(|\beta_j| + \varepsilon)^\gamma$ for the adaptive lasso.

    Args:
        coef: Coefficients β of an earlier fit.
        gamma: γ > 0.
        eps: ε ≥ 0. With 0, a coefficient of 0 gets the factor inf, which excludes it.

    Returns:
        Factors in the shape of `coef`.

    Raises:
        ValueError: A number is out of its range.

    References:
        Zou (2006), The adaptive lasso and its oracle properties; ε as in reweighted ℓ1.

    >>> adaptive_weights(jnp.array([2.0, 0.0])).tolist()
    [0.5, inf]
    """
    require(holds(lambda gamma: gamma > 0, gamma), f"gamma must be > 0, got {gamma}")
    require(holds(lambda eps: eps >= 0, eps), f"eps must be ≥ 0, got {eps}")
    coef = jnp.asarray(coef)
    size = jnp.abs(coef) + jnp.asarray(eps, coef.dtype)
    zero = size == 0
    return jnp.where(zero, jnp.inf, jnp.where(zero, 1.0, size) ** -jnp.asarray(gamma, coef.dtype))
