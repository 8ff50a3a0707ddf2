"""Arrays on meshes with explicit axes, the default of `jax.make_mesh`.

There the sharding is part of an array's type and most operations along a sharded dimension (sort, scatter,
cumulative sum, contraction) need a sharding for their result. Code decorated with `on_auto_axes` runs on the
same mesh with automatic axes instead, where the compiler chooses; the results return to the explicit axes.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

__all__ = ["explicit_mesh", "like_first", "on_auto_axes", "replicated", "spec_of", "spread_like_rows"]

#: From the (args, kwargs) of a call, the rule for the specs of its result: one per array of the result.
Layout = Callable[[tuple, dict], Callable[[Any], Any]]


def explicit_mesh(tree: Any) -> Any:
    """Return the mesh with explicit axes that is in context or carries an array of the tree, else None."""
    context = jax.sharding.get_abstract_mesh()
    if context.explicit_axes:
        return context
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array):
            mesh = jax.typeof(leaf).sharding.mesh
            if mesh.explicit_axes:
                return mesh
    return None


def spec_of(x: Any) -> PartitionSpec:
    """Return the explicit part of an array's sharding."""
    sharding = jax.typeof(x).sharding
    explicit = set(sharding.mesh.explicit_axes)
    axes = [entry if isinstance(entry, tuple) else (entry,) for entry in sharding.spec]
    kept = [tuple(axis for axis in entry if axis in explicit) for entry in axes]
    return PartitionSpec(*(entry or None for entry in kept))


def replicated(args: tuple, kwargs: dict) -> Callable[[Any], Any]:
    """Lay out results as one copy per device."""
    return lambda out: jax.tree.map(lambda _: PartitionSpec(), out)


def like_first(args: tuple, kwargs: dict) -> Callable[[Any], Any]:
    """Lay out a result shaped like the first argument after `self` as that argument, others replicated."""
    first = args[1] if len(args) > 1 else next(iter(kwargs.values()))
    arrays = eqx.filter(first, _is_array)
    specs, copies = jax.tree.map(spec_of, arrays), replicated(args, kwargs)
    form = _form(arrays)
    return lambda out: specs if _form(out) == form else copies(out)


def on_auto_axes(layout: Layout) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a function that is to run on automatic axes where its arguments or the context are explicit.

    Args:
        layout: `replicated`, `like_first`, or another rule for the shardings of the result.

    Returns:
        A decorator. Without a mesh with explicit axes the decorated function is called as it is.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            mesh = explicit_mesh((args, kwargs))
            return function(*args, **kwargs) if mesh is None else _moved(function, mesh, layout, args, kwargs)

        return call

    return decorate


def _moved(function: Callable[..., Any], mesh: Any, layout: Layout, args: tuple, kwargs: dict) -> Any:
    """Call a function with all arrays on the automatic axes, and lay out its result on the explicit ones."""
    specs = layout(args, kwargs)
    auto = mesh.update_axis_types(dict.fromkeys(mesh.explicit_axes, AxisType.Auto))
    arrays, rest = eqx.partition((args, kwargs), _is_array)
    with jax.sharding.use_abstract_mesh(auto):
        args, kwargs = eqx.combine(jax.tree.map(_on_auto, arrays), rest)
        out, rest = eqx.partition(function(*args, **kwargs), _is_array)
    # Outside of a trace and of a context, an array on one device needs the devices themselves.
    found = (_concrete_mesh(leaf) for leaf in jax.tree.leaves(arrays))
    devices = next((own for own in found if own is not None and own.abstract_mesh == mesh), mesh)
    shardings = jax.tree.map(
        lambda spec: NamedSharding(devices, spec), specs(out), is_leaf=lambda x: isinstance(x, PartitionSpec)
    )
    return eqx.combine(jax.sharding.reshard(out, shardings), rest)


def _on_auto(x: Any) -> Any:
    """Return an array on automatic axes: a concrete one stays where it is, a traced one has no layout."""
    mesh = _concrete_mesh(x)
    if mesh is None:
        return jax.sharding.reshard(x, PartitionSpec())
    auto = jax.sharding.Mesh(mesh.devices, mesh.axis_names)
    return jax.device_put(x, NamedSharding(auto, x.sharding.spec))


def spread_like_rows(x: Any, of: Any) -> Any:
    """Return a concrete array with its first dimension spread over devices as the rows of another are."""
    mesh = _concrete_mesh(of)
    if mesh is None or isinstance(x, jax.core.Tracer) or not len(of.sharding.spec):
        return x
    return jax.device_put(x, NamedSharding(mesh, PartitionSpec(of.sharding.spec[0])))


def _concrete_mesh(x: Any) -> jax.sharding.Mesh | None:
    """Return the mesh of devices on which a concrete array lives, None where there is none."""
    concrete = isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer)
    return x.sharding.mesh if concrete and isinstance(x.sharding, NamedSharding) else None


def _form(tree: Any) -> tuple[Any, list[tuple[int, ...]]]:
    """Return the structure of a tree and the shapes of its arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [np.shape(leaf) for leaf in leaves]


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray)
