"""Draw mini-batches without replacement, as a function of the step count."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from jaxreg._typing import ArrayLike

__all__ = ["Batch", "Batches", "check_counts"]


class Batch(NamedTuple):
    """A mini-batch, the order of its epoch, and a key for random numbers inside the loss."""

    data: PyTree[Array]
    order: Int[Array, " n"]
    key: Array


class Batches:
    """Mini-batches of a pytree of arrays with one common length n.

    Each epoch is a fresh permutation of the samples, cut into n // size batches.

    Args:
        data: The pytree.
        size: Samples of a batch; None takes all data at every step.
        key: PRNG key of the permutations.

    Raises:
        ValueError: The arrays have different lengths or none, `size` exceeds their length, or a key is
            missing.
    """

    def __init__(self, data: PyTree[ArrayLike], size: int | None, key: Array | None) -> None:
        arrays = jax.tree.map(jnp.asarray, data)
        lengths = sorted({leaf.shape[0] if leaf.ndim else -1 for leaf in jax.tree.leaves(arrays)})
        if len(lengths) != 1 or lengths[0] < 1:
            raise ValueError(
                f"data must hold arrays of one common length ≥ 1, got lengths {lengths or 'none'}"
            )
        if size is not None and size > lengths[0]:
            raise ValueError(f"batch_size must be at most the {lengths[0]} samples of the data, got {size}")
        if size is not None and key is None:
            raise ValueError("mini-batches are drawn at random: give key=jax.random.key(0), say")
        self.data, self.n, self.size = arrays, lengths[0], size
        self.key = jax.random.key(0) if key is None else key

    def init(self) -> Int[Array, " n"]:
        """Return an array for the order of an epoch, which the first batch sets."""
        return jnp.arange(self.n if self.size is not None else 0, dtype=jnp.int32)

    def draw(self, order: Int[Array, " n"], count: Array) -> Batch:
        """Draw the batch of a step; `order` is that of the epoch of the step before."""
        key = jax.random.fold_in(jax.random.fold_in(self.key, 1), count)
        if self.size is None:
            return Batch(self.data, order, key)
        epoch, position = jnp.divmod(count, self.n // self.size)
        shuffle = jax.random.fold_in(jax.random.fold_in(self.key, 0), epoch)
        permute = lambda: jax.random.permutation(shuffle, order.size).astype(order.dtype)  # noqa: E731
        order = jax.lax.cond(position == 0, permute, lambda: order)
        rows = jax.lax.dynamic_slice_in_dim(order, position * self.size, self.size)
        return Batch(jax.tree.map(lambda x: x[rows], self.data), order, key)


def check_counts(steps: int, every: int, batch_size: int | None) -> None:
    """Raise `ValueError` where a count is no whole number ≥ 1, or `every` does not divide `steps`."""
    counts = {"steps": steps, "every": every, "batch_size": 1 if batch_size is None else batch_size}
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f"{name} must be a whole number ≥ 1, got {count!r}")
    if steps % every:
        raise ValueError(f"every must divide steps, got every={every} and steps={steps}")
