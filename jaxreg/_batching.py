"""A batched pure function on the devices of a mesh: no labels, no files.

`lanes` runs any number of lanes in one computation; `compile_lanes` compiles a fixed number once, for a host
that feeds it chunk after chunk.
"""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec, SingleDeviceSharding

__all__ = ["compile_lanes", "free_bytes", "lanes", "needed_bytes"]


def lanes(function: Callable[[Any, Any], Any], shared: Any, each: Any, mesh: Mesh | None) -> Any:
    """function(shared, lane) for every lane, the leading axis of every leaf of `each`, in one computation.

    With a mesh each device runs its share of the lanes on its own, so that none waits for another; the last
    lane is repeated to fill up, and what it gives again is cut off.
    """

    def batch(shared: Any, each: Any) -> Any:
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
    function: Callable[[Any, Any], Any], shared: Any, each: Any, device: Any
) -> jax.stages.Compiled:
    """`lanes` compiled for one device and for as many lanes as `each` (arrays, or their shapes) has.

    Call it with `shared` and lanes that are on that device.
    """
    here = SingleDeviceSharding(device)
    place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here)  # noqa: E731
    run = jax.jit(lambda shared, each: lanes(function, shared, each, None))
    return run.lower(shared, jax.tree.map(place, each)).compile()


def needed_bytes(program: jax.stages.Compiled) -> int:
    """What a compiled program holds on one device while it runs, by XLA's own account; 0 where it gives
    none.
    """
    stats = program.memory_analysis()
    if stats is None:
        return 0
    return stats.argument_size_in_bytes + stats.output_size_in_bytes + stats.temp_size_in_bytes


def free_bytes(device: Any) -> int | None:
    """Memory that is free on a device, in bytes; for CPU devices each one's share of the machine's."""
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
