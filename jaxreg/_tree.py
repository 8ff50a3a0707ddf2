"""Arithmetic over pytrees of arrays, where `jax.tree` has no one-liner for it."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg._types import Params, Scalar

__all__ = ["expand_step", "tree_all", "tree_sum"]


def tree_sum(tree: Params) -> Scalar:
    """Sum of all entries of all leaves; 0 for a tree without leaves."""
    sums = [jnp.sum(leaf) for leaf in jax.tree.leaves(tree)]
    return reduce(jnp.add, sums) if sums else jnp.zeros(())


def tree_all(tree: Params) -> Any:
    """True where every entry of every leaf is true."""
    return reduce(jnp.logical_and, [jnp.all(leaf) for leaf in jax.tree.leaves(tree)], jnp.array(True))


def expand_step(step: Any, params: Params) -> Params:
    """One step per leaf: a scalar is repeated, a tree of steps is passed through."""
    if jax.tree.structure(step) == jax.tree.structure(params):
        return step
    return jax.tree.map(lambda _: step, params)
