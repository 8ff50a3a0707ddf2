"""Derivative J of a prox at a point, by `jax.jvp`: nothing is written per penalty.

J is symmetric. Coordinates with a positive diagonal entry of J are *active*; where J has a zero row, the
coordinate stays at what the prox returns, an exact zero for L1. On the active coordinates (J⁻¹ − I)/t is the
curvature that the penalty adds to the Hessian of the smooth part.

J is one number per coordinate for a separable penalty. A prox that couples blocks of coordinates has a
block-diagonal J, probed with one jvp per position in a block (Curtis, Powell and Reid 1974).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Int

from jaxreg._numerics import put_inside, take_filled
from jaxreg.linear._shapes import Flat, Mask, Square
from jaxreg.penalties.base import Blocks

__all__ = ["BlockLayout", "Prox", "ProxJacobian", "SeparableLayout"]

#: Prox of a vector, with a vector of step sizes.
Prox = Callable[[Flat, Flat], Flat]


class SeparableJacobian(NamedTuple):
    """Diagonal J.

    Attributes:
        active: coordinates where J > 0.
        inverse: J⁻¹, 1 elsewhere.
        curvature: (J⁻¹ − I)/t, the diagonal that the penalty adds to a Hessian.
    """

    active: Mask
    inverse: Flat
    curvature: Flat

    def inverse_times(self, x: Flat) -> Flat:
        """Return J⁻¹ x."""
        return self.inverse * x

    def add_curvature(self, matrix: Square) -> Square:
        """Return matrix + (J⁻¹ − I)/t."""
        index = jnp.arange(self.active.size)
        return matrix.at[index, index].add(self.curvature, wrap_negative_indices=False)


class SeparableLayout(NamedTuple):
    """Structure of J for a separable penalty."""

    def jacobian(self, prox: Prox, v: Flat, t: Flat) -> SeparableJacobian:
        """Return J at v, for step sizes t."""
        slope = jax.jvp(lambda v: prox(v, t), (v,), (jnp.ones_like(v),))[1]
        active = slope > 0
        inverse = 1 / jnp.where(active, slope, 1.0)
        return SeparableJacobian(active, inverse, (inverse - 1) / t)


class BlockLayout(NamedTuple):
    """Structure of J for a penalty whose prox couples the coordinates of a block.

    Attributes:
        inside: coordinates that belong to a block.
        position: position of each coordinate in its block.
        members: coordinates of each block, m where a block has fewer than `size`.
        eye: identity matrix of a block.
    """

    inside: Mask
    position: Int[Array, " m"]
    members: Int[Array, "blocks size"]
    eye: Float[Array, "size size"]

    @classmethod
    def of(cls, blocks: Blocks, dtype: DTypeLike) -> "BlockLayout":
        """Return the layout for coordinates with these labels; labels ≥ `blocks.count` are in no block."""
        labels, count, size = blocks
        m = labels.size
        order = jnp.argsort(labels, stable=True)
        first = jnp.searchsorted(labels[order], labels[order], side="left")
        index = jnp.arange(m)
        position = put_inside(jnp.zeros_like(labels), order, index - first)
        members = (
            jnp.full((count, size), m)
            .at[labels, position]
            .set(index, mode="drop", wrap_negative_indices=False)
        )
        return cls((labels < count) & (position < size), position, members, jnp.eye(size, dtype=dtype))

    def jacobian(self, prox: Prox, v: Flat, t: Flat) -> "BlockJacobian":
        """Return J at v, for step sizes t, which are equal."""
        (_, size), m = self.members.shape, v.size

        def probe(k: Array) -> Array:
            seed = (self.position == k).astype(v.dtype)
            return jax.jvp(lambda v: prox(v, t), (v,), (seed,))[1]

        columns = jax.vmap(probe)(jnp.arange(size))
        diagonal = columns[jnp.minimum(self.position, size - 1), jnp.arange(m)]
        active = (diagonal > 0) & self.inside
        used = take_filled(active, self.members)
        entries = take_filled(columns.T, self.members)
        inverse = jnp.linalg.inv(jnp.where(used[:, :, None] & used[:, None], entries, self.eye))
        return BlockJacobian(active, inverse, self, t[0])


class BlockJacobian(NamedTuple):
    """Block-diagonal J.

    Attributes:
        active: coordinates where J has a positive diagonal entry.
        inverse: J⁻¹ by blocks, with rows of the identity at coordinates that are not active.
        layout: structure of J.
        t: step size.
    """

    active: Mask
    inverse: Float[Array, "blocks size size"]
    layout: BlockLayout
    t: Float[Array, ""]

    @property
    def curvature(self) -> float:
        """Diagonal that a preconditioner takes for (J⁻¹ − I)/t: none."""
        return 0.0

    def inverse_times(self, x: Flat) -> Flat:
        """Return J⁻¹ x."""
        members = self.layout.members
        product = jnp.einsum("bij,bj->bi", self.inverse, take_filled(x, members))
        return put_inside(jnp.zeros_like(x), members, product)

    def add_curvature(self, matrix: Square) -> Square:
        """Return matrix + (J⁻¹ − I)/t."""
        members = self.layout.members
        added = (self.inverse - self.layout.eye) / self.t
        return matrix.at[members[:, :, None], members[:, None]].add(
            added, mode="drop", wrap_negative_indices=False
        )


ProxJacobian = SeparableJacobian | BlockJacobian
