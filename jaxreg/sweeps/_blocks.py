"""The grid of a sweep cut into equal boxes of neighbouring lanes: one box is one chunk of work and of the
store.

Integer axes (seeds, folds) fill a box first, floats (λ, rates) last, so that lanes that share a box have
nearly the same λ and take nearly as long.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

__all__ = ["Blocks", "cut"]


class Blocks:
    """The boxes of shape `block` that cover a grid of shape `sizes`, numbered; those at the edge stick
    out.
    """

    def __init__(self, sizes: Sequence[int], block: Sequence[int], slow_first: Sequence[int]) -> None:
        self.sizes, self.block = tuple(sizes), tuple(block)
        pieces = [range(math.ceil(self.sizes[a] / self.block[a])) for a in slow_first]
        places = list(itertools.product(*pieces))
        back = np.argsort(slow_first)
        self.corners = [tuple(place[b] * self.block[a] for a, b in enumerate(back)) for place in places]

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def lanes(self) -> int:
        """Lanes in one box, those that stick out included."""
        return math.prod(self.block)

    def region(self, k: int) -> tuple[slice, ...]:
        """The part of the grid that box k covers."""
        return tuple(
            slice(start, min(start + width, size))
            for start, width, size in zip(self.corners[k], self.block, self.sizes, strict=True)
        )

    def index(self, k: int) -> list[np.ndarray]:
        """Per axis the position of each lane of box k; those that stick out repeat the last inside."""
        ranges = [
            np.minimum(start + np.arange(width), size - 1)
            for start, width, size in zip(self.corners[k], self.block, self.sizes, strict=True)
        ]
        return [grid.ravel() for grid in np.meshgrid(*ranges, indexing="ij")]

    def inside(self, k: int, values: np.ndarray) -> np.ndarray:
        """The results of box k, one row per lane, as a box without what sticks out."""
        box = values.reshape(self.block + values.shape[1:])
        return box[tuple(slice(part.stop - part.start) for part in self.region(k))]


def cut(sizes: Sequence[int], slow_first: Sequence[int], limit: int) -> Blocks:
    """Boxes of at most `limit` lanes, of nearly even sides, the fast axes filled first.

    >>> cut((24, 8), (0, 1), 100).block
    (12, 8)
    """
    block, room = [1] * len(sizes), max(limit, 1)
    for axis in reversed(slow_first):
        pieces = math.ceil(sizes[axis] / min(sizes[axis], room))
        block[axis] = math.ceil(sizes[axis] / pieces)
        room //= block[axis]
        room = max(room, 1)
    return Blocks(sizes, block, slow_first)
