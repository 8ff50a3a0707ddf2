"""Predefined masks for `Masked` and for optax: functions of the params that return a tree of booleans."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import jax

from jaxreg._pytree import is_complex, is_weight
from jaxreg._typing import Params

__all__ = ["by_path", "weights_only"]


def weights_only(params: Params) -> Params:
    """Select the leaves with two dimensions or more: weights are penalised, biases and scales are not.

    Complex leaves are selected too, so that a penalty refuses them instead of leaving them out in silence.

    >>> weights_only({"w": jnp.ones((2, 2)), "b": jnp.ones(2)})
    {'b': False, 'w': True}
    """
    return jax.tree.map(lambda leaf: (is_weight(leaf) or is_complex(leaf)) and leaf.ndim >= 2, params)


def by_path(pattern: str) -> Callable[[Params], Params]:
    """Make a mask that selects the leaves whose key path contains a match of a regular expression.

    Args:
        pattern: Regular expression; the keys of a path are joined by `/`.

    Returns:
        A function of the params. It raises ValueError, with the paths of the params, where no leaf matches.

    >>> by_path("dense/w")({"dense": {"w": 1.0, "b": 0.0}, "out": {"w": 1.0}})
    {'dense': {'b': False, 'w': True}, 'out': {'w': False}}
    """
    re.compile(pattern)
    return _ByPath(pattern)


@dataclass(frozen=True)
class _ByPath:
    """Mask by a pattern; equal for equal patterns, so that a second mask does not recompile."""

    pattern: str

    def __call__(self, params: Params) -> Params:
        pairs, structure = jax.tree_util.tree_flatten_with_path(params)
        paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in pairs]
        selected = [bool(re.search(self.pattern, path)) for path in paths]
        if not any(selected):
            raise ValueError(f"no leaf matches {self.pattern!r}: the paths are {', '.join(paths[:12])}")
        return jax.tree.unflatten(structure, selected)
