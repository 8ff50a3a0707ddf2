"""Array kernels of the proximal maps: no classes, no pytrees.

Each is elementwise or acts on one vector, keeps the dtype of its first argument, and makes its zeros
by a branch or a clamp, so that what is zero in exact arithmetic is `== 0` in every dtype.
"""

import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._types import ArrayLike

__all__ = ["soft"]


def soft(v: Array, threshold: ArrayLike) -> Array:
    r"""Soft threshold $\operatorname{sign}(v)\max(|v| - t, 0)$, the prox of $t|\cdot|$.

    Elementwise; `threshold` broadcasts against `v` and is not negative. Source: Parikh and Boyd (2014),
    Proximal Algorithms, section 6.5.2.

    >>> soft(jnp.array([-3.0, 0.5, 2.0]), 1.0).tolist()
    [-2.0, 0.0, 1.0]
    """
    t = jnp.asarray(threshold, v.dtype)
    return jnp.where(v > t, v - t, jnp.where(v < -t, v + t, jnp.zeros_like(v)))
