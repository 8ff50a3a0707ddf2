"""Families: a penalty as a function of λ, evaluated on a whole grid at once.

A family is `jaxreg.L1`, or `lambda lam: jaxreg.ElasticNet(lam, 0.5)`. Compiled code sees the resulting pytree
and never the function, so that a lambda written inline does not recompile.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxreg._compilation import is_traced, on_device
from jaxreg._typing import AnyArray, Scalar, TreeStructure
from jaxreg.penalties.base import Penalty

__all__ = ["Family", "PenaltyGrid", "checked", "over"]

#: A function from λ to a penalty.
Family = Callable[[Scalar], Penalty]


class PenaltyGrid(eqx.Module):
    """Penalties on a grid of L values of λ: leaves that depend on λ are stacked, the others are shared.

    Scan or vmap over `carried`; `row(part)` is the penalty of one slice of it.
    """

    #: Leaves that depend on λ, with a leading axis of length L.
    carried: list[AnyArray]
    #: Leaves of the penalty; None where a leaf depends on λ.
    shared: list[AnyArray | None]
    structure: TreeStructure = eqx.field(static=True)

    @property
    def is_scalar(self) -> bool:
        """True where every leaf is one number at each λ, so that the penalty treats all coordinates alike."""
        return all(leaf is None for leaf in self.shared) and all(leaf.ndim == 1 for leaf in self.carried)

    def row(self, part: list[AnyArray]) -> Penalty:
        """Return the penalty with these values of the leaves that depend on λ."""
        own = iter(part)
        leaves = [next(own) if leaf is None else leaf for leaf in self.shared]
        return jax.tree.unflatten(self.structure, leaves)

    def part(self, k: int | Int[Array, "*k"]) -> list[AnyArray]:
        """Return the leaves that depend on λ at the k-th λ, or at the λ of an array of indices."""
        return [leaf[k] for leaf in self.carried]

    def with_scalars_carried(self, length: int) -> "PenaltyGrid":
        """Return the grid of `length` values of λ with every scalar stacked, as if it depended on λ.

        Families that differ only in which scalars depend on λ then share compiled programs.
        """
        own, carried, shared = iter(self.carried), [], []
        for leaf in self.shared:
            is_scalar = leaf is not None and leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.inexact)
            if leaf is None:
                carried.append(next(own))
            elif is_scalar:
                traced = is_traced(leaf)
                carried.append(jnp.full(length, leaf) if traced else on_device(np.full(length, leaf)))
            shared.append(None if is_scalar else leaf)
        return PenaltyGrid(carried, shared, self.structure)

    def at(self, k: int) -> Penalty:
        """Return the penalty of the k-th λ."""
        if is_traced(self.carried):
            return self.row(self.part(k))
        return self.row([on_device(np.asarray(leaf)[k]) for leaf in self.carried])


def checked(family: Family) -> Family:
    """Return the family; raise TypeError for a penalty, or for an object that is not a function."""
    if isinstance(family, Penalty) or not callable(family):
        name = type(family).__name__
        raise TypeError(
            "wanted a family, a function of λ such as jaxreg.L1 or lambda lam: jaxreg.ElasticNet(lam, 0.5),"
            f" got {'the penalty ' if isinstance(family, Penalty) else ''}{name}"
        )
    return family


def over(family: Family, lambdas: Float[Array, " L"]) -> PenaltyGrid:
    """Evaluate a family on a grid of λ.

    Args:
        family: Function from λ to a penalty.
        lambdas: Grid (L,).

    Raises:
        TypeError: The family is not a function, or does not return a penalty.

    >>> from jaxreg.penalties import L1
    >>> over(L1, jnp.array([1.0, 0.1])).at(0).prox(jnp.array([3.0]), 1.0).tolist()
    [2.0]
    """
    checked(family)
    seen: list[Penalty] = []

    def leaves_at(lam: Array) -> list[Array]:
        penalty = family(lam)
        if not isinstance(penalty, Penalty):
            raise TypeError(
                f"a family maps λ to a penalty, but this one returned {type(penalty).__name__}:"
                " pass for example jaxreg.L1 or lambda lam: jaxreg.ElasticNet(lam, 0.5)"
            )
        seen.append(penalty)
        # Outside jit, vmap traces only leaves that depend on λ; the others stay plain arrays.
        return [leaf for leaf in jax.tree.leaves(penalty) if isinstance(leaf, jax.core.Tracer)]

    carried = jax.vmap(leaves_at)(lambdas)
    leaves, structure = jax.tree.flatten(seen[-1])
    shared = [None if isinstance(leaf, jax.core.Tracer) else leaf for leaf in leaves]
    return PenaltyGrid(carried, shared, structure)
