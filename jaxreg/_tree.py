"""Arithmetic over pytrees of arrays, where `jax.tree` has no one-liner for it."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg._types import Params, Scalar

__all__ = ["expand_step", "tree_all", "tree_dot", "tree_max_abs", "tree_sum"]


def tree_sum(tree: Params) -> Scalar:
    """Sum of all entries of all leaves; 0 for a tree without leaves."""
    return reduce(jnp.add, [jnp.sum(leaf) for leaf in jax.tree.leaves(tree)], jnp.zeros(()))


def tree_dot(a: Params, b: Params) -> Scalar:
    """Inner product of two trees of the same structure."""
    return tree_sum(jax.tree.map(jnp.multiply, a, b))


def tree_max_abs(tree: Params) -> Scalar:
    """Largest absolute entry; 0 for a tree without entries."""
    tops = [jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree) if leaf.size]
    return reduce(jnp.maximum, tops, jnp.zeros(()))


def tree_all(tree: Params) -> Any:
    """True where every entry of every leaf is true."""
    return reduce(jnp.logical_and, [jnp.all(leaf) for leaf in jax.tree.leaves(tree)], jnp.array(True))


def expand_step(step: Any, params: Params) -> Params:
    """One step per leaf: a scalar is repeated, a tree of steps is passed through."""
    if jax.tree.structure(step) == jax.tree.structure(params):
        return step
    return jax.tree.map(lambda _: step, params)
