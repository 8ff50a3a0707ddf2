"""What penalties that see whole vectors share: steps, norms and the edge of the dual domain."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg import thresholds
from jaxreg._pytree import along, weights_of
from jaxreg._typing import Params, Scalar

__all__ = ["flat_step", "indicator", "magnitude", "norm", "scalar_step", "smallest_ratio"]


def flat_step(step: Any, params: Params) -> Array:
    """A scalar step as it is, a tree of steps as one vector."""
    steps = along(step, params, "step")
    leaves, _ = weights_of(params)
    if all(jnp.ndim(t) == 0 for t in steps) and all(t is steps[0] for t in steps):
        return jnp.asarray(steps[0])
    return jnp.concatenate(
        [
            jnp.broadcast_to(jnp.asarray(t, w.dtype), w.shape).ravel()
            for t, w in zip(steps, leaves, strict=True)
        ]
    )


def scalar_step(step: Any, penalty: Any) -> Array:
    """A step that has to be one number; TypeError for one per coordinate."""
    leaves = jax.tree.leaves(step)
    if len(leaves) != 1 or jnp.ndim(leaves[0]):
        raise TypeError(
            f"the prox of {type(penalty).__name__} takes one step for all coordinates, got one for each:"
            " take a solver or optimiser without a diagonal metric, or a separable or group penalty"
        )
    return jnp.asarray(leaves[0])


def smallest_ratio(bound: Any, size: Array) -> Scalar:
    """The smallest bound/size, at most 1; a size of 0 holds nothing back."""
    return jnp.min(jnp.where(size > bound, bound / jnp.where(size > 0, size, 1.0), 1.0), initial=1.0)


def indicator(size: Array, bound: Any) -> Scalar:
    """0 where every size is at most its bound, a few roundings aside, else inf."""
    slack = 1 + 64 * jnp.finfo(size.dtype).eps
    return jnp.where(jnp.all(size <= bound * slack), 0.0, jnp.inf).astype(size.dtype)


def magnitude(w: Array) -> Array:
    """|w| with derivative 0 at 0, the shortest subgradient: a weight at rest on 0 is not pushed off."""
    return jnp.where(w == 0, jnp.zeros_like(w), jnp.abs(w))


def norm(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """‖x‖₂ over the axes, of halves in float32; no square leaves the range; derivative 0 where it is 0."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    top = thresholds._unit(jax.lax.stop_gradient(jnp.max(jnp.abs(wide), axis=axis, keepdims=True)))
    squares = jnp.sum((wide / top) ** 2, axis=axis)
    root = jnp.where(squares == 0, 0.0, jnp.sqrt(jnp.where(squares == 0, 1.0, squares)))
    return root * jnp.squeeze(top, axis)
