"""Type aliases for the values that pass between modules."""

from collections.abc import Callable, Hashable
from typing import Protocol, TypeAlias

import jax
import numpy as np
import numpy.typing as npt
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PyTree

__all__ = [
    "AnyArray",
    "ArrayLike",
    "CompressedMatrix",
    "DTypeLike",
    "Device",
    "Features",
    "FeaturesLike",
    "GroupLabels",
    "LabelsLike",
    "MaskLike",
    "Params",
    "Scalar",
    "ScipyMatrix",
    "SparseMatrix",
    "StepSize",
    "TreeStructure",
    "Vector",
]

#: Argument of `jnp.asarray`: an array, a number, a nested list, or an object that NumPy converts to an array.
ArrayLike: TypeAlias = jax.typing.ArrayLike | npt.ArrayLike
#: An array of JAX, or of NumPy on the host.
AnyArray: TypeAlias = Array | np.ndarray
#: A pytree whose arrays of floats are the weights of a model; its other leaves pass through.
Params: TypeAlias = PyTree
#: Step of a prox: one number, or a tree of one step per coordinate like the params.
StepSize: TypeAlias = ArrayLike | PyTree[Array]
#: A `jax.tree_util.PyTreeDef`, which jaxlib defines without stubs: no type to a checker.
TreeStructure: TypeAlias = Hashable
#: Booleans for a prefix of the params, or a function of the params that returns them.
MaskLike: TypeAlias = PyTree[bool | Array] | Callable[[Params], PyTree[bool | Array]]
#: Labels for a prefix of the params, None for no label, or a function of the params that returns them.
LabelsLike: TypeAlias = PyTree[str | None] | Callable[[Params], PyTree[str | None]]
#: One real number.
Scalar = Float[Array, ""]
#: One number per coordinate.
Vector = Float[Array, " p"]
#: The group 0, 1, … of each coordinate.
GroupLabels = Int[Array, " p"]


class Device(Protocol):
    """A `jax.Device`, which jaxlib defines without stubs."""

    @property
    def platform(self) -> str: ...

    def memory_stats(self) -> dict[str, int] | None: ...


class SparseMatrix(Protocol):
    """A sparse matrix of `scipy.sparse` or of `jax.experimental.sparse`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def todense(self) -> ArrayLike: ...


class ScipyMatrix(SparseMatrix, Protocol):
    """A sparse matrix of `scipy.sparse`, which has no stubs."""

    @property
    def format(self) -> str: ...

    def tocsr(self, copy: bool = False) -> "CompressedMatrix": ...

    def tocsc(self, copy: bool = False) -> "CompressedMatrix": ...


class CompressedMatrix(ScipyMatrix, Protocol):
    """A sparse matrix of `scipy.sparse` in the format CSR or CSC."""

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray


#: Features of samples as floats: an array, or a sparse matrix of SciPy.
Features: TypeAlias = Float[AnyArray, "n p"] | ScipyMatrix
#: Features of samples: an array, a table of pandas, polars or pyarrow (which have `__array__`), or sparse.
FeaturesLike: TypeAlias = ArrayLike | SparseMatrix
