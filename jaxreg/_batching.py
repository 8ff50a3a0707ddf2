"""Run a pure function for a batch of lanes on the devices of a mesh.

`lanes` runs any number of lanes in one computation; `compile_lanes` compiles a fixed number once, for a host
that feeds it chunk after chunk.
"""

import contextlib
import os
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec, SingleDeviceSharding
from jaxtyping import PyTree

from jaxreg._typing import Device

__all__ = [
    "compile_lanes",
    "free_bytes",
    "is_transparent",
    "lanes",
    "n_cores",
    "needed_bytes",
    "transparent_rule",
]

_Rule = TypeVar("_Rule", bound=Callable)

#: A pure function of what all lanes share and of one lane.
LaneFunction = Callable[[PyTree, PyTree], PyTree]


def lanes(function: LaneFunction, shared: PyTree, each: PyTree, mesh: Mesh | None) -> PyTree:
    """Compute function(shared, lane) for every lane, the leading axis of the arrays of `each`, at once.

    With a mesh each device runs its share of the lanes, so that none waits for another; the last lane is
    repeated to fill the shares, and the repeated results are cut off.
    """

    def batch(shared: PyTree, each: PyTree) -> PyTree:
        return jax.vmap(lambda lane: function(shared, lane))(each)

    if mesh is None:
        return batch(shared, each)
    count = jax.tree.leaves(each)[0].shape[0]
    rows = np.minimum(np.arange(count + -count % mesh.size), count - 1)
    # The names of the mesh are kept: it may be the one in context, on automatic axes.
    auto = Mesh(mesh.devices, mesh.axis_names)
    split, same = PartitionSpec(mesh.axis_names), PartitionSpec()
    run = jax.shard_map(batch, mesh=auto, in_specs=(same, split), out_specs=split, check_vma=False)
    out = run(shared, jax.tree.map(lambda x: jnp.asarray(x)[rows], each))
    return jax.tree.map(lambda x: x[:count], out)


def compile_lanes(
    function: LaneFunction, shared: PyTree, each: PyTree, device: Device
) -> jax.stages.Compiled:
    """Compile `lanes` for one device and for as many lanes as `each` (arrays, or their shapes) has.

    The compiled function takes `shared` and `each` on that device.
    """
    here = SingleDeviceSharding(device)
    place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here)  # noqa: E731
    run = jax.jit(lambda shared, each: lanes(function, shared, each, None))
    with _context_of_one(device):
        return run.lower(shared, jax.tree.map(place, each)).compile()


def _context_of_one(device: Device) -> contextlib.AbstractContextManager[object]:
    """Return a context in which a mesh of several devices that was set outside does not apply."""
    if jax.sharding.get_abstract_mesh().empty:
        return contextlib.nullcontext()
    return jax.set_mesh(jax.make_mesh((1,), ("one",), devices=[device]))


def needed_bytes(program: jax.stages.Compiled) -> int:
    """Return the bytes that a compiled program holds on one device, as XLA reports them; 0 if it does not."""
    stats = program.memory_analysis()
    if stats is None:
        return 0
    return stats.argument_size_in_bytes + stats.output_size_in_bytes + stats.temp_size_in_bytes


def free_bytes(device: Device) -> int | None:
    """Return the free bytes of a device, for a CPU device its share of the machine's; None if unknown."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    if device.platform != "cpu":
        return None
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            table = dict(line.split(":") for line in file)
        free = int(table["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        try:
            free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        except (AttributeError, OSError, ValueError):
            return None
    return free // len(jax.local_devices(backend="cpu"))


def transparent_rule(rule: _Rule) -> _Rule:
    """Mark a batching rule of `custom_vmap` as determined by the function that it batches.

    A jaxpr shows the function that is batched, but not what its rule does. `jaxreg.sweep` shares a compiled
    program between functions of equal jaxprs only where all rules in them are transparent.
    """
    rule.is_transparent = True
    return rule


def is_transparent(rule: object) -> bool:
    """Return whether a batching rule is marked by `transparent_rule`."""
    return getattr(rule, "is_transparent", False)


def n_cores() -> int:
    """Return the number of cores for XLA's threads: those of this process, or the variable NPROC."""
    available = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    wanted = os.environ.get("NPROC", "")
    return int(wanted) if wanted.isdecimal() else len(available)
