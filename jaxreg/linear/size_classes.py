"""Size classes of the numbers of samples and of λ, so that calls of similar sizes share compiled programs.

Every number of samples is a shape of its own, for which all programs compile anew: for each fold of a
cross-validation by hand, each bootstrap sample, each new file. Small problems are solved with rows of weight
0 added, up to the next of a few sizes. Paths that a host loop solves repeat the last λ of their grid in the
same way.
"""

from typing import TypeVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from jaxreg._compilation import is_traced
from jaxreg.linear.design import DenseDesign, Standardized

__all__ = ["grid_size_class", "in_size_class", "is_small", "pad_rows", "size_class"]

#: `jaxreg.Problem`, which is defined on top of this module.
_Problem = TypeVar("_Problem", bound=eqx.Module)

#: Entries of X up to which rows are added: 2 MB in float64, copied within a millisecond.
_MAX_ENTRIES = 250_000


#: Samples up to which size classes are powers of 2; beyond, each class is at most 25 % above the one before.
_FEW_SAMPLES = 128


def size_class(n: int) -> int:
    """Return the size class of n samples: n itself up to 8, the next power of 2 up to 128.

    Above, it is the smallest number ≥ n of the form 4·2ᵏ, 5·2ᵏ, 6·2ᵏ or 7·2ᵏ.

    >>> [size_class(n) for n in (7, 20, 100, 398, 442, 1000)]
    [7, 32, 128, 448, 448, 1024]
    """
    if n <= 8:
        return n
    classes_per_octave = 4 if n > _FEW_SAMPLES else 1
    step = 2 ** (int(n - 1).bit_length() - 1) // classes_per_octave
    return -(-n // step) * step


def grid_size_class(length: int) -> int:
    """Return the smallest number ≥ `length` of the form 10ᵏ, 2·10ᵏ, 3·10ᵏ or 5·10ᵏ, at least 10.

    >>> [grid_size_class(length) for length in (1, 12, 25, 100, 160)]
    [10, 20, 30, 100, 200]
    """
    unit = 10
    while True:
        for factor in (1, 2, 3, 5):
            if length <= factor * unit:
                return factor * unit
        unit *= 10


def in_size_class(problem: _Problem) -> _Problem:
    """Return a small concrete problem with rows of weight 0 added up to its size class.

    Its solutions and certificates are those of the problem up to rounding. Problems that are traced, sparse,
    large, or not on one CPU are returned as they are.
    """
    design = problem.design
    dense = design.inner if isinstance(design, Standardized) else design
    if not isinstance(dense, DenseDesign) or is_traced(problem) or not is_small(dense.X):
        return problem
    n = size_class(dense.X.shape[0])
    if n == dense.X.shape[0]:
        return problem
    padded = DenseDesign(pad_rows(dense.X, n))
    if isinstance(design, Standardized):
        padded = eqx.tree_at(lambda d: d.inner, design, padded)
    rows = (pad_rows(x, n) for x in (problem.y, problem.offset))
    weight = pad_rows(problem.weight, n, fill=0.0)
    return eqx.tree_at(lambda p: (p.design, p.y, p.offset, p.weight), problem, (padded, *rows, weight))


def is_small(X: Array) -> bool:
    """Return whether rows may be added: a small array on the CPU that is the default device."""
    default = jax.devices()[0]
    on_cpu = default.platform == "cpu" and X.devices() == {default}
    return on_cpu and 0 < X.size <= _MAX_ENTRIES


def pad_rows(x: Array, n: int, fill: float | None = None) -> Array:
    """Return an array with rows added up to n: copies of the first row, or rows of `fill`."""
    host = np.asarray(x)
    row = host[:1] if fill is None else np.full_like(host[:1], fill)
    return jax.device_put(np.concatenate([host, np.repeat(row, n - host.shape[0], axis=0)]))
