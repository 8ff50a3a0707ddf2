"""Hyperparameters: their scales, and checks of them and of the family that takes them."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxreg._typing import AnyArray, ArrayLike, DTypeLike
from jaxreg._validation import require
from jaxreg.penalties import Penalty
from jaxreg.penalties.family import checked

__all__ = ["Scale", "checked_scales", "checked_theta", "format_theta", "map_scales", "require_dependence"]

_Leaf = TypeVar("_Leaf")


class Scale(NamedTuple):
    """A map between a hyperparameter and the free variable that the optimiser moves."""

    free: Callable[[Array], Array]
    theta: Callable[[Array], Array]
    #: The open interval of θ.
    interval: tuple[float, float]


#: Scales by name.
SCALES = {
    "log": Scale(jnp.log, jnp.exp, (0.0, np.inf)),
    "logit": Scale(jax.scipy.special.logit, jax.nn.sigmoid, (0.0, 1.0)),
    "linear": Scale(lambda theta: theta, lambda free: free, (-np.inf, np.inf)),
}


def checked_scales(scale: PyTree[str], theta0: PyTree[ArrayLike]) -> PyTree[Scale]:
    """Return one scale per hyperparameter; ValueError for unknown names and other structures."""
    names = jax.tree.leaves(scale)
    wrong = [name for name in names if not isinstance(name, str) or name not in SCALES]
    require(not wrong, f'a scale is "log", "logit" or "linear", got {wrong[0] if wrong else None!r}')
    try:
        full = jax.tree.broadcast(scale, theta0)
    except ValueError as error:
        raise ValueError(f"scale must have the structure of theta0 or a prefix of it: {error}") from None
    return jax.tree.map(SCALES.get, full)


def checked_theta(theta0: PyTree[ArrayLike], scales: PyTree[Scale], dtype: DTypeLike) -> PyTree[Array]:
    """Return hyperparameters as arrays; TypeError where they are no floats, ValueError for their range."""
    if not jax.tree.leaves(theta0):
        raise TypeError("theta0 holds no hyperparameter")

    def checked_leaf(scale: Scale, x: ArrayLike) -> Array:
        x = np.asarray(x)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"hyperparameters are floats, got {x.dtype} in theta0: write 1.0 for 1")
        low, high = scale.interval
        name = next(name for name in SCALES if SCALES[name] is scale)
        inside = np.all((x > low) & (x < high))
        require(inside, f"theta0 must be between {low} and {high} for the {name} scale, got {x}")
        return jnp.asarray(x, dtype)

    return map_scales(checked_leaf, scales, theta0)


def require_dependence(family: Callable[[PyTree[Array]], Penalty], theta: PyTree[Array]) -> None:
    """Raise TypeError where a family does not return a penalty, or ignores a hyperparameter."""
    checked(family)
    leaves, structure = jax.tree.flatten(theta)
    for k, (path, leaf) in enumerate(jax.tree.leaves_with_path(theta)):

        def traced_leaves(x: Array, k: int = k) -> list[Array]:
            penalty = family(jax.tree.unflatten(structure, [*leaves[:k], x, *leaves[k + 1 :]]))
            if not isinstance(penalty, Penalty):
                raise TypeError(
                    f"a family maps θ to a penalty, but this one returned {type(penalty).__name__}"
                )
            # Outside jit, vmap traces only what depends on x.
            return [leaf for leaf in jax.tree.leaves(penalty) if isinstance(leaf, jax.core.Tracer)]

        if not jax.vmap(traced_leaves)(leaf[None]):
            name = f"theta{jax.tree_util.keystr(path)}"
            raise TypeError(f"the family ignores {name}: the penalty is the same whatever its value")


def map_scales(
    function: Callable[[Scale, _Leaf], Array], scales: PyTree[Scale], tree: PyTree[_Leaf]
) -> PyTree[Array]:
    """Map a function of scale and hyperparameter over their common structure."""
    return jax.tree.map(function, scales, tree, is_leaf=lambda x: isinstance(x, Scale))


def format_theta(theta: PyTree[AnyArray]) -> str:
    """Format hyperparameters in one line: long arrays by their range."""

    def format_leaf(x: AnyArray) -> str:
        x = np.asarray(x)
        if x.size > 4:
            return f"{x.size} numbers from {x.min():.4g} to {x.max():.4g}"
        return np.array2string(x, precision=4, separator=", ") if x.ndim else f"{x:.4g}"

    named = jax.tree.leaves_with_path(theta)
    return ", ".join(f"{jax.tree_util.keystr(path)} {format_leaf(x)}".strip() for path, x in named)
