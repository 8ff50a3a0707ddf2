"""Loops over one buffer, and means of runs: shared by the kernels that pool or fuse coordinates."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.ops import segment_sum
from jaxtyping import Array, Float, Int

from jaxreg._batching import transparent_rule

__all__ = [
    "cells",
    "level_with_derivative",
    "one_lane_at_a_time",
    "one_program",
    "put_row",
    "row_at",
    "run_means",
]

_Args = ParamSpec("_Args")
_Out = TypeVar("_Out")


def row_at(array: Array, index: Array) -> Array:
    """Return array[index]."""
    return lax.dynamic_index_in_dim(array, index, keepdims=False)


def put_row(array: Array, value: Array, index: Array) -> Array:
    """Return the array with array[index] = value."""
    return lax.dynamic_update_index_in_dim(array, value, index, 0)


def cells(rows: Array, j: Array, *columns: int) -> list[Array]:
    """Return the entries of row j in some columns."""
    return [lax.dynamic_slice(rows, (j, jnp.int32(c)), (1, 1))[0, 0] for c in columns]


def one_lane_at_a_time(function: Callable) -> Callable:
    """Decorate a function to run batches as a loop over lanes on CPU, as one batch on other devices.

    XLA on CPU compiles a loop over scalars to one function, but a loop over vectors op by op: 6 times slower.
    """
    function = custom_vmap(function)

    @function.def_vmap
    @transparent_rule
    def rule(size: int, batched: list, *args: Array) -> tuple:
        lanes = tuple(
            x if b else jnp.broadcast_to(x, (size, *x.shape)) for x, b in zip(args, batched, strict=True)
        )
        out = lax.platform_dependent(
            *lanes,
            cpu=lambda *lanes: lax.map(lambda lane: function(*lane), lanes),
            default=jax.vmap(function.fun),
        )
        return out, jax.tree.map(lambda _: True, out)

    return function


def one_program(function: Callable[_Args, _Out]) -> Callable[_Args, _Out]:
    """Decorate a kernel of many operations to compile as one program outside of `jax.jit`.

    JAX would compile each operation on its own: 47 programs for a first call of `total_variation`. Inside
    another program the operations are part of it, as without the decorator.
    """
    return functools.wraps(function)(jax.jit(function, inline=True))


def run_means(x: Float[Array, " n"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    """Return, at every entry, the mean of x over its run of equal labels."""
    total, count = (segment_sum(a, labels, x.size, indices_are_sorted=True) for a in (x, jnp.ones_like(x)))
    return (total / jnp.where(count > 0, count, 1.0))[labels]


def level_with_derivative(level: Array, means: Array) -> Array:
    """Return `means`, or in float32 the value of `level` with the derivative of `means`.

    In float32 a long sum is less accurate than a level computed in two parts.
    """
    return level + (means - lax.stop_gradient(means)) if level.dtype == jnp.float32 else means
