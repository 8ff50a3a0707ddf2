"""A batched pure function on the devices of a mesh: no labels, no files."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

__all__ = ["lanes"]


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
    flat = Mesh(mesh.devices.ravel(), ("lanes",))
    split, same = PartitionSpec("lanes"), PartitionSpec()
    run = jax.shard_map(batch, mesh=flat, in_specs=(same, split), out_specs=split, check_vma=False)
    out = run(shared, jax.tree.map(lambda x: jnp.asarray(x)[rows], each))
    return jax.tree.map(lambda x: x[:count], out)
