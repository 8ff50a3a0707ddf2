"""Pytrees: which leaves of parameters are weights, arithmetic over leaves, and choice between trees.

A leaf is a weight if it is an array of floats. All other leaves of a model (integers, static fields,
functions, None) pass through untouched; complex arrays do so only where a mask leaves them out.
"""

from collections.abc import Callable
from functools import reduce
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from jaxreg._compilation import on_device
from jaxreg._typing import ArrayLike, Params, Scalar

__all__ = ["along", "apply_if", "is_complex", "is_weight", "ravel", "tree_sum", "tree_where", "weights_of"]

_Tree = TypeVar("_Tree")


def is_weight(leaf: object) -> bool:
    """Return whether a leaf is a non-empty array of floats, concrete or traced."""
    array = hasattr(leaf, "dtype") and hasattr(leaf, "shape")
    return array and jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.size > 0


def is_complex(leaf: object) -> bool:
    """Return whether a leaf is a non-empty array of complex numbers, which penalties refuse."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.complexfloating) and leaf.size > 0


def weights_of(params: Params) -> tuple[list[Array], Callable[[list[ArrayLike]], Params]]:
    """Return the float arrays of a tree and the function that replaces them; TypeError for a tree without."""
    leaves, structure = jax.tree.flatten(params)
    positions = [k for k, leaf in enumerate(leaves) if is_weight(leaf)]
    if not positions:
        kinds = sorted({type(leaf).__name__ for leaf in leaves})
        raise TypeError(
            f"params hold no array of floats (found {', '.join(kinds) or 'no leaf at all'}): convert numbers"
            " with jnp.asarray(x, float)"
        )

    def replace(new: list[ArrayLike]) -> Params:
        out = list(leaves)
        for k, leaf in zip(positions, new, strict=True):
            out[k] = leaf
        return jax.tree.unflatten(structure, out)

    return [on_device(leaves[k]) for k in positions], replace


def ravel(params: Params) -> tuple[Array, Callable[[Array], Params]]:
    """Return all weights as one vector in the widest of their dtypes, and the function back to a tree."""
    leaves, replace = weights_of(params)
    flat = [leaf if leaf.ndim == 1 else leaf.ravel() for leaf in leaves]
    vector = jnp.concatenate(flat) if len(flat) > 1 else flat[0]

    def unravel(vector: Array) -> Params:
        out, start = [], 0
        for leaf in leaves:
            part = vector if leaf.size == vector.size else vector[start : start + leaf.size]
            out.append(part.reshape(leaf.shape).astype(leaf.dtype))
            start += leaf.size
        return replace(out)

    return vector, unravel


def along(tree: PyTree[ArrayLike], params: Params, what: str) -> list[ArrayLike]:
    """Return one value per weight of `params`, from one number or a tree of the same structure.

    `what` names the tree in the ValueError for another structure.
    """
    leaves, structure = jax.tree.flatten(params, is_leaf=lambda x: x is None)
    if not isinstance(params, jax.Array) and jax.tree.structure(tree) == jax.tree.structure(0):
        return (
            [tree] * sum(is_weight(leaf) for leaf in leaves) if jnp.ndim(tree) == 0 else _single(tree, leaves)
        )
    try:
        values = structure.flatten_up_to(tree)
    except ValueError as error:
        found = jax.tree.structure(tree)
        raise ValueError(
            f"{what} has structure {found}, wanted one number or the params' {structure}"
        ) from error
    # Values at leaves that are None or no weight are ignored.
    return [x for x, leaf in zip(values, leaves, strict=True) if is_weight(leaf)]


def _single(tree: ArrayLike, leaves: list[object]) -> list[ArrayLike]:
    """Return the array of values for params that are one array but not a `jax.Array`, such as NumPy's."""
    if len(leaves) != 1:
        raise ValueError(
            f"an array of shape {jnp.shape(tree)} does not fit {len(leaves)} leaves: give a tree of arrays"
        )
    return [tree]


def tree_sum(terms: list[Array]) -> Scalar:
    """Return the sum of all entries of all arrays."""
    return reduce(jnp.add, [jnp.sum(term) for term in terms])


def tree_where(condition: Bool[Array, ""], x: _Tree, y: _Tree) -> _Tree:
    """Return the leaves of x where a condition holds, else those of y."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), x, y)


def apply_if(condition: Bool[Array, ""], function: Callable[[_Tree], _Tree], x: _Tree) -> _Tree:
    """Return function(x) if a condition holds, else x.

    A loop of at most one round: under vmap `jax.lax.cond` would evaluate the function for every lane, while
    the loop is skipped if no lane needs it. Pass in x what the function depends on, or XLA may move the
    computation out of the loop.
    """

    def apply(carry: tuple[_Tree, Array]) -> tuple[_Tree, Array]:
        return function(carry[0]), jnp.array(False)

    return jax.lax.while_loop(lambda carry: carry[1], apply, (x, condition))[0]
