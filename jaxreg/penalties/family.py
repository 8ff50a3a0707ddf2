"""Families: a penalty as a function of λ, evaluated on a whole grid at once.

A family is `jaxreg.L1`, or `lambda lam: jaxreg.ElasticNet(lam, 0.5)`. Compiled code sees the pytree that
comes out and never the callable, so a lambda written inline does not recompile.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array

from jaxreg.penalties.base import Penalty

__all__ = ["Family", "PenaltyGrid", "checked", "over"]

#: A function from λ to a penalty.
Family = Callable[[Any], Penalty]


class PenaltyGrid(eqx.Module):
    """A family on a grid of L values of λ: the leaves that depend on λ are stacked, the others shared.

    `carried` is what to scan or vmap over; `row(part)` is the penalty of one of its rows.
    """

    carried: list[Array]
    shared: list[Array | None]
    structure: Any = eqx.field(static=True)

    def row(self, part: list[Array]) -> Penalty:
        """The penalty whose λ-dependent leaves are `part`."""
        own = iter(part)
        leaves = [next(own) if leaf is None else leaf for leaf in self.shared]
        return jax.tree.unflatten(self.structure, leaves)

    def part(self, k: Any) -> list[Array]:
        """What depends on λ, of the k-th one, or of several."""
        return [leaf[k] for leaf in self.carried]

    def at(self, k: int) -> Penalty:
        """The penalty of the k-th λ."""
        return self.row(self.part(k))


def checked(family: Any) -> Family:
    """The family itself; TypeError where it is a penalty, or nothing that can be called."""
    if isinstance(family, Penalty) or not callable(family):
        name = type(family).__name__
        raise TypeError(
            "wanted a family, a function of λ such as jaxreg.L1 or lambda lam: jaxreg.ElasticNet(lam, 0.5),"
            f" got {'the penalty ' if isinstance(family, Penalty) else ''}{name}"
        )
    return family


def over(family: Family, lambdas: Array) -> PenaltyGrid:
    """Evaluate the family on `lambdas` (L,). TypeError where it does not return a penalty."""
    seen: dict[str, Any] = {}
    checked(family)

    def leaves_at(lam: Array) -> list[Array]:
        penalty = family(lam)
        if not isinstance(penalty, Penalty):
            raise TypeError(
                f"a family maps λ to a penalty, but this one returned {type(penalty).__name__}:"
                " pass for example jaxreg.L1 or lambda lam: jaxreg.ElasticNet(lam, 0.5)"
            )
        leaves, seen["structure"] = jax.tree.flatten(penalty)
        # Outside jit, vmap traces only what depends on λ: the rest stays a plain array, shared by all.
        seen["shared"] = [None if isinstance(leaf, jax.core.Tracer) else leaf for leaf in leaves]
        return [leaf for leaf in leaves if isinstance(leaf, jax.core.Tracer)]

    carried = jax.vmap(leaves_at)(lambdas)
    return PenaltyGrid(carried, seen["shared"], seen["structure"])
