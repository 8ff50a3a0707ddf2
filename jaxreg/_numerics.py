"""Floating-point building blocks: working precision, overflow-safe norms, sums in twice the precision.

Norms are computed as scale·‖x/scale‖ with the largest magnitude as the scale, so that no square leaves the
range of the dtype. Sums of many float32 terms are kept as an unevaluated sum of two floats ("double-float",
Dekker 1971), represented as a list of one part (float64) or two (float32).
"""

import operator
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxreg._typing import ArrayLike

__all__ = [
    "ScaledNorm",
    "add_parts",
    "at_least_float32",
    "diagonal",
    "divide_parts",
    "first_true",
    "geometric_mean",
    "group_norms",
    "magnitude",
    "norm",
    "product_less",
    "put_inside",
    "safe_divisor",
    "scaled_norm",
    "split",
    "spread",
    "sum_groups",
    "take_filled",
    "two_sum",
]


def at_least_float32(v: Array, *parameters: ArrayLike) -> tuple[Array, ...]:
    """Cast all arguments to the dtype of `v`, or to float32 where `v` is in half precision.

    A threshold rounded to half precision would move every jump of a prox.
    """
    dtype = jnp.promote_types(v.dtype, jnp.float32)
    return tuple(jnp.asarray(x, dtype) for x in (v, *parameters))


def geometric_mean(a: Array, b: Array) -> Array:
    """Return √(ab), also where the product leaves the range of the dtype."""
    product = a * b
    fits = (product > jnp.finfo(product.dtype).tiny) & (product < jnp.inf)
    return jnp.where(fits, jnp.sqrt(product), jnp.sqrt(a) * jnp.sqrt(b))


def magnitude(w: Array) -> Array:
    """Return |w| with derivative 0 at 0, the subgradient of least norm."""
    return jnp.where(w == 0, jnp.zeros_like(w), jnp.abs(w))


# ---------------------------------------------------------------- norms


class ScaledNorm(NamedTuple):
    """A Euclidean norm as the product scale·ratio; `ratio` has derivative 0 where the norm is 0.

    Divide by `scale` and by `ratio` in turn, never by their product: the derivative of a quotient squares its
    denominator.
    """

    scale: Array
    ratio: Array

    @property
    def value(self) -> Array:
        """The norm."""
        return self.scale * self.ratio


def safe_divisor(magnitude: Array) -> Array:
    """Clip a magnitude so that its reciprocal is neither subnormal nor infinite; return 1 at 0.

    XLA divides by a broadcast number by multiplying with its reciprocal, and may flush that to 0.
    """
    limits = jnp.finfo(magnitude.dtype)
    return jnp.where(magnitude > 0, jnp.clip(magnitude, 4.0 / limits.max, 0.25 / limits.tiny), 1.0)


def scaled_norm(x: Array, axis: int | tuple[int, ...] | None = None) -> ScaledNorm:
    """Return ‖x‖₂ over `axis`, which stays as dimensions of size 1 of the scale but not of the ratio."""
    scale = safe_divisor(lax.stop_gradient(jnp.max(jnp.abs(x), axis=axis, keepdims=axis is not None)))
    return ScaledNorm(scale, _root(jnp.sum((x / scale) ** 2, axis=axis)))


def norm(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Return ‖x‖₂ over `axis`, in float32 for half precision, with derivative 0 where the norm is 0."""
    scale, ratio = scaled_norm(*at_least_float32(x), axis)
    return ratio * (scale if axis is None else jnp.squeeze(scale, axis))


def group_norms(v: Float[Array, " p"], groups: Int[Array, " p"], num_groups: int) -> ScaledNorm:
    """Return ‖v_g‖₂ of each group of coordinates with a common label."""
    largest = jnp.zeros(num_groups, v.dtype).at[groups]
    scale = safe_divisor(largest.max(jnp.abs(lax.stop_gradient(v)), wrap_negative_indices=False))
    return ScaledNorm(scale, _root(sum_groups(jnp.square(v / spread(scale, groups)), groups, num_groups)))


def sum_groups(x: Float[Array, " p"], groups: Int[Array, " p"], num_groups: int) -> Float[Array, " G"]:
    """Return the sum over each group of coordinates with a common label."""
    return jnp.zeros(num_groups, x.dtype).at[groups].add(x, mode="drop", wrap_negative_indices=False)


def spread(x: Shaped[Array, " G"], groups: Int[Array, " p"]) -> Shaped[Array, " p"]:
    """Return the entry of each coordinate's group, x[groups]."""
    return x.at[groups].get(mode="clip", wrap_negative_indices=False)


def _root(squares: Array) -> Array:
    """Return √squares with derivative 0 at 0."""
    return jnp.where(squares == 0, 0.0, jnp.sqrt(jnp.where(squares == 0, 1.0, squares)))


# ---------------------------------------------------------------- double-float arithmetic


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a + b and its rounding error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def split(a: Array) -> list[Array]:
    """Return a number that starts a long sum: in two parts for float32, else in one."""
    return [a, jnp.zeros_like(a)] if a.dtype == jnp.float32 else [a]


def add_parts(a: Sequence[Array], b: Sequence[Array]) -> list[Array]:
    """Return a + b, both in the same number of parts."""
    if len(a) == 1:
        return [a[0] + b[0]]
    total, lost = two_sum(a[0], b[0])
    return [*two_sum(total, lost + (a[1] + b[1]))]


def product_less(a: Sequence[Array], b: Array, c: Sequence[Array]) -> Array:
    """Return a·b − c for a and c in parts, exact near 0 even if the compiler fuses products and sums."""
    if len(c) == 1:
        return a[0] * b - c[0]
    first, top = _head(a[0]), _head(b)
    rest, low = a[0] - first, b - top
    return ((((first * top - c[0]) + first * low) + rest * top) + rest * low) + (a[1] * b - c[1])


def divide_parts(a: Sequence[Array], b: Array) -> list[Array]:
    """Return a / b in as many parts as a."""
    q = a[0] / b
    return [q] if len(a) == 1 else [q, -product_less((q, 0.0), b, a) / b]


def _head(a: Array) -> Array:
    """Return the leading 12 of the 24 bits of a float32: products of heads and of remainders are exact."""
    return lax.bitcast_convert_type(lax.bitcast_convert_type(a, jnp.uint32) & jnp.uint32(0xFFFFF000), a.dtype)


# Indices of the package are never negative. Without the code that wraps negative ones a gather compiles to a
# half or a third of the instructions.


def take_filled(x: Array, *index: Int[Array, "..."]) -> Array:
    """Return x[index], with zeros for indices ≥ the size; no index is negative."""
    inside = reduce(operator.and_, (i < size for i, size in zip(index, x.shape, strict=False)))
    taken = x.at[index].get(mode="clip", wrap_negative_indices=False)
    inside = inside.reshape(inside.shape + (1,) * (taken.ndim - inside.ndim))
    return jnp.where(inside, taken, np.zeros((), taken.dtype))


def put_inside(x: Array, index: Int[Array, "..."], values: ArrayLike) -> Array:
    """Return x with x[index] = values, where indices ≥ the size have no effect; no index is negative."""
    return x.at[index].set(values, mode="drop", wrap_negative_indices=False)


def diagonal(x: Float[Array, "m m"]) -> Float[Array, " m"]:
    """Return the diagonal of a matrix."""
    index = jnp.arange(x.shape[0])
    return x.at[index, index].get(mode="clip", wrap_negative_indices=False)


def first_true(mask: Bool[Array, " m"], size: int) -> Int[Array, " size"]:
    """Return the indices of the first `size` true entries, filled up with m."""
    order = jnp.cumsum(mask) - 1
    index = jnp.arange(mask.size)
    return put_inside(jnp.full(size, mask.size), jnp.where(mask, order, size), index)
