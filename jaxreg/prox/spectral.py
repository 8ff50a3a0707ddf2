r"""Singular values: their sum's proximal map and their derivative, finite at ties and at 0."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreg._numerics import at_least_float32
from jaxreg._typing import ArrayLike
from jaxreg.prox.elementwise import soft

__all__ = ["singular_soft", "singular_values"]


_product = partial(jnp.matmul, precision="highest")  # the default on a GPU keeps 10 bits


@jax.custom_jvp
def _singular_soft(M: Float[Array, "m k"], t: Array) -> Array:
    U, s, Vt = jnp.linalg.svd(M, full_matrices=False)
    return jnp.where(t == 0, M, _product(U * soft(s, t), Vt))


@_singular_soft.defjvp
def _singular_soft_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """Use divided differences of the odd extension of the soft threshold, which are never 0/0."""
    (M, t), (dM, dt) = primals, tangents
    U, s, Vt = jnp.linalg.svd(M, full_matrices=False)
    f = soft(s, t)
    high, low = jnp.maximum(s[:, None], s), jnp.minimum(s[:, None], s)
    kept = (s > t) | (t == 0)
    gap, both = high - low, high + low
    mixed = jnp.where(kept[:, None] ^ kept, (high - t) / jnp.where(gap > 0, gap, 1.0), 0.0)
    even = jnp.where(kept[:, None] & kept, 1.0, mixed)
    odd = jnp.where(both > 0, (f[:, None] + f) / jnp.where(both > 0, both, 1.0), 1.0 * (t == 0))
    left, right = _product(dM, Vt.T), _product(U.T, dM)
    W = _product(U.T, left)
    core = even * 0.5 * (W + W.T) + odd * 0.5 * (W - W.T)
    single = jnp.where(t == 0, 1.0, f / jnp.where(s > 0, s, 1.0))
    across = _product(U, core) + (left - _product(U, W)) * single - dt * (U * kept)
    down = _product(U, single[:, None] * (right - _product(W, Vt)))
    return jnp.where(t == 0, M, _product(U * f, Vt)), _product(across, Vt) + down


def singular_soft(M: Float[Array, "m k"], threshold: ArrayLike) -> Float[Array, "m k"]:
    r"""Soft-threshold the singular values of a matrix: the prox of $t\lVert U\rVert_*$.

    `threshold` is a scalar ≥ 0. Values up to it contribute exactly nothing. The derivative is finite and
    right also where singular values are tied or 0 (first order; the second is that of the SVD).
    Source: Cai, Candès and Shen (2010), theorem 2.1; derivative: Lewis and Sendov (2005), section 7.

    >>> singular_soft(jnp.array([[3.0, 0.0], [0.0, 0.5]]), 1.0).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    return _singular_soft(*at_least_float32(M, threshold)).astype(M.dtype)


@jax.custom_jvp
def singular_values(M: Float[Array, "m k"]) -> Float[Array, " r"]:
    """Singular values of a matrix, in falling order; their derivative is finite also at ties and at 0.

    >>> singular_values(jnp.array([[3.0, 0.0], [0.0, 0.5]])).tolist()
    [3.0, 0.5]
    """
    return jnp.linalg.svd(M, compute_uv=False)


@singular_values.defjvp
def _singular_values_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """Return uᵢᵀ dM vᵢ, a subgradient at ties, and 0 for a singular value of 0."""
    u, s, vt = jnp.linalg.svd(primals[0], full_matrices=False)
    change = jnp.einsum("ik,ij,kj->k", u, tangents[0], vt)
    floor = jnp.finfo(s.dtype).eps * max(primals[0].shape) * jnp.max(s, initial=0.0)
    return s, jnp.where(s > floor, change, 0.0)
