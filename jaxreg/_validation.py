"""Check numbers, and declare the numeric fields of modules.

Every number is an array: a Python float would be static under `eqx.filter_jit`, retrace for each λ and have
no gradient.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg._compilation import is_traced, on_device
from jaxreg._typing import ArrayLike, Scalar

__all__ = ["holds", "hyperparameter", "number", "per_coordinate", "prng_key", "require", "require_scalar"]


def require(condition: ArrayLike, message: str) -> None:
    """Raise `ValueError(message)` where a concrete condition is false; a traced condition is not checked."""
    if not isinstance(condition, jax.core.Tracer) and not bool(np.all(condition)):
        raise ValueError(message)


def holds(test: Callable[..., ArrayLike], *values: ArrayLike) -> bool:
    """Return whether values pass a test of NumPy arrays; true where one of the values is traced.

    The test runs on the host, so that it compiles nothing.
    """
    if is_traced(*values):
        return True
    return bool(np.all(test(*map(np.asarray, values))))


def number(x: ArrayLike) -> Array:
    """Return a number as a float array, so that it is traced, batched and differentiated, never static."""
    if isinstance(x, int | float) and not isinstance(x, bool):
        # A Python number stays weakly typed: 1 and 0.2 share a compiled program. `jnp.asarray` compiles one.
        return jax.device_put(float(x))
    # A tracer of `jax.grad` may hold a Python number, which `jnp.asarray` makes an array.
    x = jnp.asarray(x) if isinstance(x, jax.Array) else on_device(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))


def require_scalar(name: str, x: ArrayLike) -> None:
    """Raise `ValueError` where a hyperparameter is not one finite number ≥ 0."""
    if jnp.ndim(x):
        raise ValueError(
            f"{name} must be one number, got shape {jnp.shape(x)}: factors per coordinate are `weights`, a"
            " grid of λ is for jaxreg.path or jax.vmap"
        )
    require(holds(lambda x: (x >= 0) & np.isfinite(x), x), f"{name} must be a finite number ≥ 0, got {x}")


def prng_key(key: Array | int | None) -> Array:
    """Return a key of JAX; an integer is the seed of one, None the seed 0. TypeError for other objects."""
    if key is None or (isinstance(key, int | np.integer) and not isinstance(key, bool)):
        return jax.random.key(int(key or 0))
    if isinstance(key, jax.Array):
        return key
    raise TypeError(f"key must be an integer or a key such as jax.random.key(0), got {key!r}")


def hyperparameter(default: ArrayLike = dataclasses.MISSING) -> Scalar:
    """Declare a field for one number such as λ, converted to an array; typed as the value of the field."""
    return eqx.field(default=default, converter=number)


def per_coordinate(default: ArrayLike | None = dataclasses.MISSING) -> Array:
    """Declare a field for a number, one number per coordinate, or None."""
    return eqx.field(
        default=default,
        converter=lambda x: None if x is None else number(x),
        metadata={"per_coordinate": True},
    )
