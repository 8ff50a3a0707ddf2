"""Arrays on meshes with explicit axes, the default of `jax.make_mesh`.

On such a mesh the sharding is part of an array's type, and most operations along a sharded dimension (sort,
scatter, cumulative sum, contraction) need a sharding for their result. A function decorated with
`on_auto_axes` runs on the same mesh with automatic axes instead, where the compiler chooses the shardings;
its results return to the explicit axes.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from jaxreg._typing import AnyArray, Features, TreeStructure

__all__ = [
    "Layout",
    "Specs",
    "explicit_mesh",
    "like_first",
    "on_auto_axes",
    "replicated",
    "spec_of",
    "spread_like_rows",
]

_Args = ParamSpec("_Args")
_Out = TypeVar("_Out")

#: Maps a result to one partition spec per array of it.
Specs = Callable[[PyTree], PyTree[PartitionSpec]]
#: Maps (args, kwargs) of a call to the partition specs of its result.
Layout = Callable[[tuple, dict], Specs]


def explicit_mesh(tree: PyTree) -> AbstractMesh | None:
    """Return the mesh with explicit axes in context, or that of an array of the tree, or None."""
    context = jax.sharding.get_abstract_mesh()
    if context.explicit_axes:
        return context
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array):
            mesh = jax.typeof(leaf).sharding.mesh
            if mesh.explicit_axes:
                return mesh
    return None


def spec_of(x: Array) -> PartitionSpec:
    """Return the explicit part of an array's sharding."""
    sharding = jax.typeof(x).sharding
    explicit = set(sharding.mesh.explicit_axes)
    axes = [entry if isinstance(entry, tuple) else (entry,) for entry in sharding.spec]
    kept = [tuple(axis for axis in entry if axis in explicit) for entry in axes]
    return PartitionSpec(*(entry or None for entry in kept))


def replicated(args: tuple, kwargs: dict) -> Specs:
    """Replicate all results on every device."""
    return lambda out: jax.tree.map(lambda _: PartitionSpec(), out)


def like_first(args: tuple, kwargs: dict) -> Specs:
    """Lay out a result like the first argument after `self` if it has its shapes; replicate it otherwise."""
    first = args[1] if len(args) > 1 else next(iter(kwargs.values()))
    arrays = eqx.filter(first, _is_array)
    specs, copies = jax.tree.map(spec_of, arrays), replicated(args, kwargs)
    shapes = _shapes(arrays)
    return lambda out: specs if _shapes(out) == shapes else copies(out)


def on_auto_axes(layout: Layout) -> Callable[[Callable[_Args, _Out]], Callable[_Args, _Out]]:
    """Decorate a function to run on automatic axes where its arguments or the context have explicit ones.

    Args:
        layout: `replicated`, `like_first`, or another rule for the shardings of the result.

    Returns:
        A decorator. Without a mesh with explicit axes the decorated function is called as it is.
    """

    def decorate(function: Callable[_Args, _Out]) -> Callable[_Args, _Out]:
        @wraps(function)
        def call(*args: _Args.args, **kwargs: _Args.kwargs) -> _Out:
            mesh = explicit_mesh((args, kwargs))
            if mesh is None:
                return function(*args, **kwargs)
            return _call_on_auto_axes(function, mesh, layout, args, kwargs)

        return call

    return decorate


def _call_on_auto_axes(
    function: Callable[..., _Out], mesh: AbstractMesh, layout: Layout, args: tuple, kwargs: dict
) -> _Out:
    """Call a function with all arrays on automatic axes, and lay out its result on the explicit ones."""
    specs = layout(args, kwargs)
    auto = mesh.update_axis_types(dict.fromkeys(mesh.explicit_axes, AxisType.Auto))
    arrays, rest = eqx.partition((args, kwargs), _is_array)
    with jax.sharding.use_abstract_mesh(auto):
        args, kwargs = eqx.combine(jax.tree.map(_on_auto, arrays), rest)
        out, rest = eqx.partition(function(*args, **kwargs), _is_array)
    # Outside of a trace and of a context, resharding an array on one device takes a concrete mesh.
    meshes = (_concrete_mesh(leaf) for leaf in jax.tree.leaves(arrays))
    devices = next((m for m in meshes if m is not None and m.abstract_mesh == mesh), mesh)
    shardings = jax.tree.map(
        lambda spec: NamedSharding(devices, spec), specs(out), is_leaf=lambda x: isinstance(x, PartitionSpec)
    )
    return eqx.combine(jax.sharding.reshard(out, shardings), rest)


def _on_auto(x: Array) -> Array:
    """Return an array on automatic axes: a concrete array keeps its layout, a traced one is replicated."""
    mesh = _concrete_mesh(x)
    if mesh is None:
        return jax.sharding.reshard(x, PartitionSpec())
    auto = Mesh(mesh.devices, mesh.axis_names)
    return jax.device_put(x, NamedSharding(auto, x.sharding.spec))


def spread_like_rows(x: AnyArray, X: Features) -> AnyArray:
    """Spread the first dimension of a concrete array over devices as the rows of X are."""
    mesh = _concrete_mesh(X)
    if mesh is None or isinstance(x, jax.core.Tracer) or not len(X.sharding.spec):
        return x
    return jax.device_put(x, NamedSharding(mesh, PartitionSpec(X.sharding.spec[0])))


def _concrete_mesh(x: object) -> Mesh | None:
    """Return the device mesh of a concrete array, or None."""
    concrete = isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer)
    return x.sharding.mesh if concrete and isinstance(x.sharding, NamedSharding) else None


def _shapes(tree: PyTree) -> tuple[TreeStructure, list[tuple[int, ...]]]:
    """Return the structure of a tree and the shapes of its arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [np.shape(leaf) for leaf in leaves]


def _is_array(x: object) -> bool:
    return isinstance(x, jax.Array | np.ndarray)
