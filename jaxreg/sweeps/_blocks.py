"""Cut the grid of a sweep into equal boxes of neighbouring lanes, each one chunk of work and of the store.

Integer axes (seeds, folds) fill a box first and float axes (λ, rates) last, so that the lanes of a box have
nearly the same λ and take nearly as long.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

__all__ = ["Blocks", "cut"]


class Blocks:
    """Numbered boxes of equal shape that cover a grid; boxes at the edge reach past it.

    Args:
        sizes: Shape of the grid.
        block: Shape of a box.
        slow_first: Axes in the order of the numbering, the slowest first.
    """

    def __init__(self, sizes: Sequence[int], block: Sequence[int], slow_first: Sequence[int]) -> None:
        self.sizes, self.block = tuple(sizes), tuple(block)
        counts = [range(math.ceil(self.sizes[axis] / self.block[axis])) for axis in slow_first]
        order = np.argsort(slow_first)
        self.corners = [
            tuple(position[k] * self.block[axis] for axis, k in enumerate(order))
            for position in itertools.product(*counts)
        ]

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def lanes(self) -> int:
        """Lanes of a box, with those past the edge."""
        return math.prod(self.block)

    def region(self, k: int) -> tuple[slice, ...]:
        """Return the part of the grid that box k covers."""
        return tuple(
            slice(start, min(start + width, size))
            for start, width, size in zip(self.corners[k], self.block, self.sizes, strict=True)
        )

    def lanes_inside(self, k: int) -> int:
        """Return the number of lanes of box k that are inside the grid."""
        return math.prod(part.stop - part.start for part in self.region(k))

    def index(self, k: int) -> list[np.ndarray]:
        """Return the positions of the lanes of box k along each axis; lanes past the edge repeat the last."""
        ranges = [
            np.minimum(start + np.arange(width), size - 1)
            for start, width, size in zip(self.corners[k], self.block, self.sizes, strict=True)
        ]
        return [grid.ravel() for grid in np.meshgrid(*ranges, indexing="ij")]

    def inside(self, k: int, values: np.ndarray) -> np.ndarray:
        """Return the results of box k, one row per lane, as a box cut off at the edge of the grid."""
        box = values.reshape(self.block + values.shape[1:])
        return box[tuple(slice(part.stop - part.start) for part in self.region(k))]


def cut(sizes: Sequence[int], slow_first: Sequence[int], limit: int) -> Blocks:
    """Cut a grid into boxes of at most `limit` lanes with nearly even sides, the fast axes filled first.

    >>> cut((24, 8), (0, 1), 100).block
    (12, 8)
    """
    block, room = [1] * len(sizes), max(limit, 1)
    for axis in reversed(slow_first):
        pieces = math.ceil(sizes[axis] / min(sizes[axis], room))
        block[axis] = math.ceil(sizes[axis] / pieces)
        room = max(room // block[axis], 1)
    return Blocks(sizes, block, slow_first)
