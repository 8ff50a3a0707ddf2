"""The design for an array or a sparse matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array

from jaxreg._typing import ArrayLike, DTypeLike, Features
from jaxreg.linear.design.base import Design
from jaxreg.linear.design.dense import DenseDesign
from jaxreg.linear.design.sparse import sparse

__all__ = ["as_array", "design"]


def as_array(X: ArrayLike) -> Array:
    """Return X on the device by one copy, where `jnp.asarray` makes two of a NumPy array."""
    if not isinstance(X, np.ndarray):
        return jnp.asarray(X)
    placed = jax.device_put(X)
    if isinstance(placed, jax.core.Tracer):
        return jnp.asarray(X)
    # The caller may change X afterwards: wait for the copy, and copy where JAX took the memory of X itself.
    placed.block_until_ready()
    shared = jax.default_backend() == "cpu" and np.may_share_memory(np.asarray(placed), X)
    return jax.device_put(X.copy()) if shared else placed


def design(X: Features, dtype: DTypeLike | None = None) -> Design:
    """Return the design of an array or a `scipy.sparse` matrix; integers become the default float."""
    if not scipy.sparse.issparse(X):
        X = as_array(X) if dtype is None else jnp.asarray(X, dtype)
        return DenseDesign(X if jnp.issubdtype(X.dtype, jnp.floating) else X.astype(jnp.result_type(float)))
    if not np.issubdtype(X.dtype, np.floating):
        X = X.astype(float)
    return sparse(X, dtype)
