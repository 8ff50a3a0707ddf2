"""Families: a penalty as a function of λ, evaluated on a whole grid at once.

A family is `jaxreg.L1`, or `lambda lam: jaxreg.ElasticNet(lam, 0.5)`. Compiled code sees the pytree that
comes out and never the callable, so a lambda written inline does not recompile.
"""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array

from jaxreg.penalties.base import Penalty

__all__ = ["Family", "over"]

#: A function from λ to a penalty.
Family = Callable[[Any], Penalty]


def over(family: Family, lambdas: Array) -> tuple[Penalty, Penalty]:
    """Evaluate the family on `lambdas` (L,): one penalty whose λ-dependent leaves have a leading axis L.

    Returns the penalty and its axes: the same tree with 0 on the leaves that carry the grid and None on
    the others, as `jax.vmap(in_axes=…)` takes it. TypeError where the family does not return a penalty.
    """
    seen: dict[str, Any] = {}

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

    carried = iter(jax.vmap(leaves_at)(lambdas))
    shared = seen["shared"]
    leaves = [next(carried) if leaf is None else leaf for leaf in shared]
    axes = [0 if leaf is None else None for leaf in shared]
    return jax.tree.unflatten(seen["structure"], leaves), jax.tree.unflatten(seen["structure"], axes)
