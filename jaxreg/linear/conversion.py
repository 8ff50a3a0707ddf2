"""Conversion of features, targets, sample weights and offsets to the arrays of a problem.

Concrete data are converted on the host, in double precision, and then rounded to the working dtype: JAX
without double precision would wrap large integers and drop imaginary parts. Missing entries and entries that
are not real numbers raise a one-line error. Traced arrays pass unchecked.
"""

import numbers as number_types
import sys
import warnings
from collections.abc import Hashable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Float

from jaxreg._compilation import is_traced
from jaxreg._typing import AnyArray, ArrayLike, DTypeLike, Features, FeaturesLike, ScipyMatrix
from jaxreg._validation import require
from jaxreg.linear._tables import columns_of, is_table
from jaxreg.losses import Loss

if TYPE_CHECKING:
    import pandas as pd
    from jax.experimental.sparse import JAXSparse

__all__ = [
    "array",
    "features",
    "normalised",
    "offsets",
    "require_finite",
    "require_loss",
    "require_shapes",
    "targets",
]

#: Columns that one message lists.
_NAMED = 5
#: Rows of a block in the search for numbers that single precision rounds: most data have one in the first.
_ROWS = 4096


def features(X: FeaturesLike) -> Features:
    """Return X as a float array of NumPy or JAX, or as a `scipy.sparse` matrix of floats.

    Args:
        X: an array, a nested list, a pandas, polars or pyarrow table, a `scipy.sparse` matrix or an unbatched
            `BCOO` or `BCSR` of JAX. Integers and booleans become float64 on the host, and long doubles too.

    Raises:
        TypeError: where X holds complex numbers, text, dates or other objects.
        ValueError: where entries are missing or masked, or rows have different lengths.
    """
    if type(X).__module__.startswith("jax.experimental.sparse"):
        X = _scipy_from_jax(X)
    if is_table(X) and hasattr(X, "columns") and hasattr(X, "sparse") and _fills_with_zeros(X):
        X = X.sparse.to_coo()
    if scipy.sparse.issparse(X):
        return _sparse_features(X)
    X = array("X", X)
    if isinstance(X, np.ndarray):
        _warn_rounded("X", X)
        return X if jnp.issubdtype(X.dtype, jnp.floating) else X.astype(float)
    return X if jnp.issubdtype(X.dtype, jnp.floating) else X.astype(jnp.result_type(float))


def targets(y: ArrayLike) -> Float[AnyArray, "n *K"]:
    """Return y as a float array of NumPy; a traced array is returned as it is.

    Raises:
        TypeError: where y holds complex numbers, text or other objects.
        ValueError: where entries are missing or masked.
    """
    y = array("y", y, ": encode labels as np.unique(y, return_inverse=True)[1]")
    return y if isinstance(y, jax.core.Tracer) else np.asarray(y).astype(float)


def normalised(sample_weight: ArrayLike | None, n: int, dtype: DTypeLike) -> Float[AnyArray, " n"]:
    """Return weights (n,) that sum to 1: on the host in double precision, or traced in the working dtype.

    Raises:
        TypeError: for weights that are not real numbers.
        ValueError: for a negative, NaN or infinite weight, if all are 0, and for another shape.
    """
    if sample_weight is None:
        return np.full(n, 1 / n)
    weight = array("sample_weight", sample_weight)
    require(weight.shape == (n,), f"sample_weight has shape {weight.shape}, wanted ({n},)")
    if isinstance(weight, jax.core.Tracer):
        weight = weight.astype(jnp.promote_types(weight.dtype, dtype))
        weight = weight / jnp.max(weight)
        return (weight / jnp.sum(weight)).astype(dtype)
    weight = np.asarray(weight).astype(float)
    require(weight >= 0, "sample_weight must be ≥ 0 and finite: it holds negative or NaN entries")
    require(np.isfinite(weight), "sample_weight holds infinite entries")
    top = np.max(weight)
    require(top > 0, "sample_weight sums to zero: at least one sample must count")
    # Divided by the largest first: a sum of numbers near the end of the range would overflow.
    weight = weight / top
    return weight / np.sum(weight)


def offsets(offset: ArrayLike | None, shape: tuple[int, ...]) -> Float[AnyArray, "n *K"]:
    """Return the offset, zeros for None: on the host in double precision; a traced array as it is.

    Raises:
        TypeError: for an offset that is not real numbers.
        ValueError: for another shape than `shape`, and for NaN and infinite entries.
    """
    if offset is None:
        return np.zeros(shape)
    offset = array("offset", offset)
    require(offset.shape == shape, f"offset has shape {offset.shape}, wanted {shape}")
    if isinstance(offset, jax.core.Tracer):
        return offset
    offset = np.asarray(offset).astype(float)
    require(np.isfinite(offset), "offset holds NaN or infinite entries")
    return offset


def array(name: str, x: ArrayLike, advice: str = "") -> AnyArray:
    """Return real numbers as a NumPy array in the machine's byte order; an array of JAX is returned as it is.

    Args:
        name: the name of the array in messages.
        x: an array, a nested list, or a table or column of pandas, polars or pyarrow.
        advice: the end of a message about text or objects.

    Raises:
        TypeError: where `x` holds complex numbers, text, dates or other objects.
        ValueError: where entries are missing or masked, or rows have different lengths.

    >>> array("y", [True, False]).dtype
    dtype('bool')
    """
    if x is None:
        raise TypeError(f"{name} is None, wanted an array of numbers")
    if scipy.sparse.issparse(x):
        raise TypeError(f"{name} is a sparse matrix, wanted a dense array: give {name}.toarray()")
    if is_table(x):
        return _from_table(name, x, advice)
    if not isinstance(x, jax.Array | np.ndarray):
        x = jnp.asarray(x) if is_traced(x) else _as_numpy(name, x)
    if isinstance(x, jax.Array):
        if not (jnp.issubdtype(x.dtype, jnp.number) or x.dtype == bool) or _is_complex(x.dtype):
            raise TypeError(
                f"{name} has dtype {x.dtype}, wanted real numbers: take {name}.real or {name}.imag"
            )
        return x
    if isinstance(x, np.ma.MaskedArray):
        masked = int(np.sum(np.ma.getmaskarray(x)))
        require(masked == 0, f"{name} has {masked} masked entries: fill them or drop those rows")
        x = x.data
    return _native(name, x, advice)


def require_loss(loss: Loss) -> None:
    """Raise TypeError if the first argument of `Problem` is not an instance of a loss."""
    if isinstance(loss, Loss):
        return
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise TypeError(f"loss is the class {loss.__name__}, wanted an instance: write {loss.__name__}()")
    got = repr(loss) if isinstance(loss, str) else type(loss).__name__
    raise TypeError(
        f"the first argument of Problem must be a loss, got {got}: write, for example,"
        " jaxreg.Problem(jaxreg.losses.SquaredError(), X, y)"
    )


def require_shapes(X: AnyArray | ScipyMatrix, y: AnyArray) -> None:
    """Raise ValueError unless X is a matrix of at least 2 rows and y has one target per row."""
    if X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}, wanted two dimensions: samples by features")
    n, p = X.shape
    if n == 0 or p == 0:
        raise ValueError(f"X is empty: it has shape {X.shape}, wanted at least 2 rows and 1 column")
    if n == 1:
        raise ValueError("X has one row: a fit needs at least 2 samples")
    rows = np.shape(y)[0] if np.ndim(y) else None
    if rows != n or np.ndim(y) > 2:
        raise ValueError(f"X has {n} rows but y has shape {np.shape(y)}: wanted one target per row")


def require_finite(X: AnyArray | ScipyMatrix, dtype: DTypeLike) -> None:
    """Raise ValueError if concrete X has entries that are not finite in the working dtype."""
    entries = X.tocoo() if scipy.sparse.issparse(X) else None
    values = np.asarray(X) if entries is None else entries.data
    with np.errstate(over="ignore"):
        wrong = ~np.isfinite(values.astype(dtype, copy=False))
    if not wrong.any():
        return
    bad = np.unique(entries.col[wrong]) if entries is not None else np.flatnonzero(wrong.any(axis=0))
    what, advice = "NaN or infinite entries", "fill them or drop those rows"
    if np.isfinite(values).all():
        what, advice = f"entries beyond the range of {np.dtype(dtype)}", "divide those columns by a unit"
    raise ValueError(
        f"X has {int(np.sum(wrong))} {what} in {bad.size} columns (the first: {bad[:_NAMED].tolist()}):"
        f" {advice}"
    )


def _is_complex(dtype: DTypeLike) -> bool:
    return jnp.issubdtype(dtype, jnp.complexfloating)


def _as_numpy(name: str, x: ArrayLike) -> np.ndarray:
    """Convert a list, a number or an object with `__array__` to a NumPy array."""
    try:
        return np.asarray(x)
    except (ValueError, TypeError) as fault:
        raise ValueError(f"{name} is not an array of numbers: its rows have different lengths") from fault


def _native(name: str, x: np.ndarray, advice: str = "") -> np.ndarray:
    """Return real numbers in a dtype that JAX has too; TypeError for anything else."""
    if x.dtype == object:
        x = _from_objects(name, x, advice)
    if _is_complex(x.dtype):
        raise TypeError(f"{name} holds complex numbers, wanted real ones: take {name}.real or {name}.imag")
    if not (x.dtype.kind in "biuf" or jnp.issubdtype(x.dtype, jnp.floating)):
        kinds = {"U": "text", "S": "bytes", "T": "text", "M": "dates", "m": "durations", "V": "records"}
        kind = kinds.get(x.dtype.kind, f"entries of dtype {x.dtype}")
        raise TypeError(f"{name} holds {kind}, wanted numbers{advice}")
    if x.dtype.kind == "f" and x.dtype.itemsize > 8:
        _warn_rounded(name, x)
        return x.astype(float)
    return np.asarray(x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("=")))


def _from_objects(name: str, x: np.ndarray, advice: str) -> np.ndarray:
    """Convert objects that are all real numbers to float64."""
    flat = x.ravel()
    missing = sum(_is_missing(item) for item in flat)
    require(missing == 0, f"{name} has {missing} missing entries: fill them or drop those rows")
    for item in flat:
        if isinstance(item, complex | np.complexfloating):
            raise TypeError(f"{name} holds complex numbers, wanted real ones")
        if not (isinstance(item, number_types.Number | np.bool_) or (np.ndim(item) == 0 and _is_array(item))):
            raise TypeError(f"{name} holds objects of type {type(item).__name__}, wanted numbers{advice}")
    return x.astype(float)


def _is_array(item: object) -> bool:
    return hasattr(item, "dtype") and np.dtype(item.dtype).kind in "biuf"


def _is_missing(item: object) -> bool:
    return item is None or type(item).__name__ in ("NAType", "NaTType")


def _from_table(name: str, x: ArrayLike, advice: str) -> np.ndarray:
    """Convert a table (n, p) or a column (n,) to one array; a message names the columns at fault."""
    columns, single = columns_of(x)
    missing = [column.label for column in columns if column.missing]
    if missing:
        where = "" if single else f" in the columns {_listed(missing)}"
        raise ValueError(f"{name} has missing values{where}: fill them or drop those rows")
    converted, wrong = [], []
    for label, values, _ in columns:
        try:
            converted.append(_native(f"column {label!r} of {name}", values, advice))
            _warn_rounded(name, converted[-1])
        except TypeError:
            wrong.append(f"{label!r} ({values.dtype})")
    if wrong and single:
        raise TypeError(
            f"{name} holds entries of dtype {columns[0].values.dtype}, wanted real numbers{advice}"
        )
    if wrong:
        more = advice or ": encode them, for example by pandas.get_dummies, or drop them"
        raise TypeError(f"{name} has columns that are not real numbers, {', '.join(wrong[:_NAMED])}{more}")
    if single:
        return converted[0]
    require(len(converted) > 0, f"{name} is a table without columns, wanted at least 1")
    dtype = np.result_type(*(c.dtype if c.dtype.kind == "f" else np.float64 for c in converted))
    out = np.empty((len(converted[0]), len(converted)), dtype)
    for j, column in enumerate(converted):
        out[:, j] = column
    return out


def _listed(labels: list[Hashable]) -> str:
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return ", ".join(repr(label) for label in labels[:_NAMED]) + more


def _scipy_from_jax(X: "JAXSparse") -> ScipyMatrix:
    """Convert an unbatched sparse matrix of JAX to SciPy; TypeError if it is traced or batched."""
    if is_traced(X):
        raise TypeError("X is a traced sparse matrix of JAX: build the problem outside of the trace")
    if getattr(X, "n_batch", 0) or getattr(X, "n_dense", 0) or len(X.shape) != 2:
        raise TypeError("X is a batched sparse array of JAX, wanted a matrix: give X.todense()")
    data, name = np.asarray(X.data), type(X).__name__
    if name == "BCOO":
        # Indices beyond the shape are padding.
        index = np.asarray(X.indices)
        inside = np.all(index < np.asarray(X.shape), axis=1)
        return scipy.sparse.coo_matrix((data[inside], tuple(index[inside].T)), X.shape)
    if name == "BCSR":
        return scipy.sparse.csr_matrix((data, np.asarray(X.indices), np.asarray(X.indptr)), X.shape)
    raise TypeError(f"X is a {name} of JAX, wanted BCOO, BCSR or a scipy.sparse matrix")


def _sparse_features(X: ScipyMatrix) -> ScipyMatrix:
    """Return a SciPy matrix of float32 or float64 in the machine's byte order."""
    require(X.ndim == 2, f"X has shape {X.shape}, wanted two dimensions: samples by features")
    if X.format in ("csr", "csc", "coo") and X.dtype in (np.float32, np.float64) and X.dtype.isnative:
        _warn_rounded("X", X.data)
        return X
    X = X.tocoo()
    data = _native("X", X.data)
    _warn_rounded("X", data)
    data = data if data.dtype in (np.float32, np.float64) else data.astype(float)
    return scipy.sparse.coo_matrix((data, (X.row, X.col)), X.shape)


def _fills_with_zeros(X: "pd.DataFrame") -> bool:
    """Return whether 0 is the fill value of all columns of a sparse pandas table."""
    return all(dtype.fill_value == 0 for dtype in X.dtypes)


_warned = False


def _warn_rounded(name: str, x: np.ndarray) -> None:
    """Warn, once per process, if X has digits that the working precision rounds away."""
    global _warned
    double = jax.config.read("jax_enable_x64")
    narrow = np.dtype(np.float64 if double else np.float32)
    if _warned or name != "X" or _digits(x.dtype) <= _digits(narrow):
        return
    if all(_is_exact(x[k : k + _ROWS], narrow) for k in range(0, len(x), _ROWS)):
        return
    _warned = True
    advice = ': for double precision put jax.config.update("jax_enable_x64", True) before the first array is'
    advice = "" if double else advice + " made"
    warnings.warn(f"X is {x.dtype}, but JAX rounds it to {narrow}{advice}", stacklevel=_caller())


def _caller() -> int:
    """Return the stack level of the first caller outside of this package, for a warning."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] in ("jaxreg", "equinox"):
        frame, level = frame.f_back, level + 1
    return level


def _digits(dtype: np.dtype) -> int:
    """Return the binary digits of a dtype; 0 for booleans and short floats, which no float dtype rounds."""
    if dtype.kind == "f" and dtype.itemsize >= 4:
        return np.finfo(dtype).nmant
    return 8 * dtype.itemsize if dtype.kind in "iu" else 0


def _is_exact(x: np.ndarray, dtype: np.dtype) -> bool:
    """Return whether rounding to `dtype` changes no finite number of x."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.all((x == x.astype(dtype).astype(x.dtype)) | ~np.isfinite(x)))
