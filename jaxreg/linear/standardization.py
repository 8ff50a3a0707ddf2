"""Columns and targets as the solvers see them: centred where there is an intercept, scaled if wanted.

A column may have any unit and any mean. What would lose digits as a difference of products (a large mean) or
overflow as a square (an extreme unit) is taken off the column itself: in a copy of dense features, and in the
entries of those columns of a sparse matrix.
"""

from functools import partial
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float

from jaxreg._typing import Scalar
from jaxreg.linear.conversion import require_finite
from jaxreg.linear.design import DenseDesign, Design, Standardized, design
from jaxreg.losses import Loss

__all__ = [
    "Standardization",
    "WorkingColumns",
    "WorkingTargets",
    "require_squares",
    "working_columns",
    "working_targets",
]

#: Means in units of the deviation: above, products with dense and sparse columns are not centred afterwards.
_DENSE_MEAN, _SPARSE_MEAN = 100, 3
#: The part of the weight on stored entries that a mean above `_SPARSE_MEAN` deviations takes: m²/(1 + m²).
_FILLED = 0.9
#: Entries of columns of a sparse matrix that are made dense at once, on the host.
_ENTRIES = 4_000_000


class WorkingColumns(NamedTuple):
    """The design that the solvers see, (X − mean)/scale, and on the scale of the data: `mean` (p,), 0 without
    an intercept; `scale` (p,), 1 where not standardised; which columns (p,) are `constant`, or all 0 where
    there is no intercept.
    """

    design: Design
    mean: Array
    scale: Array
    constant: Array


class Standardization(eqx.Module):
    """The affine maps between the scale of the data and working coordinates.

    With working features (X − mean)/s and targets (y − target_mean)/target_scale, `scale` is s/target_scale:
    the factor from a coefficient on the scale of the data to the working one. Columns where `constant` is true
    are 0 among the working features.
    """

    mean: Float[Array, " p"]
    scale: Float[Array, " p"]
    constant: Bool[Array, " p"]
    target_mean: Float[Array, "*K"]
    target_scale: Scalar

    def to_original(self, coef: Array, intercept: Array) -> tuple[Array, Array]:
        """Convert working coefficients (p,) or (p, K) and intercept () or (K,) to the scale of the data."""
        coef = coef / (self.scale if coef.ndim == 1 else self.scale[:, None])
        return coef, self.target_scale * intercept + (self.target_mean - self.mean @ coef)

    def to_working(self, coef: Array, intercept: Array) -> tuple[Array, Array]:
        """Invert `to_original`."""
        intercept = (intercept - self.target_mean) + self.mean @ coef
        return coef * (self.scale if coef.ndim == 1 else self.scale[:, None]), intercept / self.target_scale

    def take(self, index: Array) -> Self:
        """Restrict the maps to some of the columns."""
        columns = (self.mean[index], self.scale[index], self.constant[index])
        return eqx.tree_at(lambda s: (s.mean, s.scale, s.constant), self, columns)


class _Moments(NamedTuple):
    """Moments: `anchor`, `rest`, `inner_scale`, `deviation`, `top` of the columns of `raw`, and `mean`,
    `scale`, `constant`, `size` of the data, which are shift + unit·raw; `size` is half the range, or the
    largest magnitude where columns are not centred.
    """

    anchor: Array
    rest: Array
    inner_scale: Array
    mean: Array
    scale: Array
    constant: Array
    size: Array
    deviation: Array
    top: Array


def working_columns(X: Any, weight: Any, *, intercept: bool, standardize: bool) -> WorkingColumns:
    """Centre and scale columns under sample weights that sum to 1.

    Args:
        X: features (n, p): an array, traced or not, or a `scipy.sparse` matrix, of floats.
        weight: sample weights (n,), traced, or on the host in double precision.
        intercept: whether columns are centred.
        standardize: whether they are divided by their 1/n standard deviation. A constant column is divided by
            its absolute value where there is no intercept, and not at all where there is.

    Raises:
        ValueError: for concrete X with entries that are not finite or not representable in the working dtype.
    """
    dtype = jax.dtypes.canonicalize_dtype(X.dtype)
    shift, unit = np.zeros(X.shape[1]), np.ones(X.shape[1])
    given = X
    if scipy.sparse.issparse(X):
        require_finite(X, X.dtype)
        share = np.full(X.shape[0], 1 / X.shape[0]) if isinstance(weight, jax.core.Tracer) else weight
        if intercept or standardize:
            X, shift, unit = _shifted(X, share, dtype, intercept)
        raw = design(X, dtype)
    else:
        raw = design(X)
    weight_here = jnp.asarray(weight, dtype)
    if not intercept and not standardize:
        mean, size, empty = _extent(raw, weight_here)
        _require_representable(_Given(given, weight, dtype), mean, size, empty, standardize)
        zero, one = (jnp.asarray(x.astype(dtype)) for x in (shift, unit))
        return WorkingColumns(raw, zero, one, empty)
    found = _moments(raw, weight_here, shift.astype(dtype), unit.astype(dtype), intercept, standardize)
    size = found.scale if standardize else found.size
    _require_representable(
        _Given(given, weight, dtype), found.mean + found.rest, size, found.constant, standardize
    )
    if isinstance(raw, DenseDesign) and not _is_harmless(raw, found):
        made = DenseDesign(_copy(raw.X, found))
    else:
        made = Standardized(raw, found.anchor + found.rest, found.inner_scale, found.constant)
    return WorkingColumns(made, found.mean, found.scale, found.constant)


class WorkingTargets(NamedTuple):
    """Targets and offset as the solvers see them, (y − mean)/scale, `mean` () or (K,) and `scale` ()."""

    y: Any
    offset: Any
    mean: Any
    scale: Any


def working_targets(
    loss: Loss, y: Any, offset: Any, weight: Any, *, centre: bool, scale: bool
) -> WorkingTargets:
    """Centre and scale targets whose unit and zero do not matter; for other losses return them as they are.

    Solvers work on differences of predictor and target, which lose their digits where both are far from 0.

    Args:
        loss: the loss, whose `has_unit` tells.
        y: targets (n,) or (n, K): traced, or on the host in double precision.
        offset: of the shape of the predictor.
        weight: sample weights (n,) that sum to 1.
        centre: whether y and offset are centred, which an intercept makes good.
        scale: whether they are divided by the standard deviation of y.

    Raises:
        ValueError: for `scale` where targets have no unit.
    """
    if scale and not loss.has_unit:
        raise ValueError(
            f"scale_target=True needs targets with a unit, which those of {type(loss).__name__} have not:"
            " leave it out"
        )
    traced = any(isinstance(x, jax.core.Tracer) for x in (y, offset, weight))
    numpy = jnp if traced else np
    mean, unit = numpy.zeros(offset.shape[1:], offset.dtype), numpy.ones((), offset.dtype)
    if not loss.has_unit:
        return WorkingTargets(y, offset, mean, unit)

    def average(x: Any) -> Any:
        return x[0] + weight @ (x - x[0])

    if centre:
        middle, shift = average(y), average(offset)
        y, offset, mean = y - middle, offset - shift, middle - shift
    if scale:
        centred = y - average(y)
        top = numpy.max(numpy.abs(centred))
        unit = top * numpy.sqrt(numpy.mean(weight @ (centred / numpy.where(top > 0, top, 1.0)) ** 2))
        unit = numpy.where(unit > 0, unit, 1.0)
    return WorkingTargets(y / unit, offset / unit, mean, unit)


def require_squares(loss: Loss, targets: WorkingTargets, dtype: Any) -> None:
    """Raise ValueError where the squares of concrete targets leave the range of the working dtype."""
    y, offset = targets[:2]
    if not loss.has_unit or any(isinstance(x, jax.core.Tracer) for x in (y, offset)):
        return
    limits, top = jnp.finfo(dtype), float(np.max(np.abs(y - offset)))
    # A gap of a rounding is the smallest number that is asked for.
    low, high = np.sqrt(float(limits.tiny) / float(limits.eps)), np.sqrt(float(limits.max)) / 16
    if top > 0 and not low <= top <= high:
        raise ValueError(
            f"y has values of a size near {top:.1e}, whose squares {np.dtype(dtype)} cannot represent:"
            " give it another unit or take scale_target=True"
        )


@jax.jit
@jax.default_matmul_precision("highest")
def _extent(raw: Design, weight: Array) -> tuple[Array, Array, Array]:
    """Means, not finite where an entry is not, of x and of |x|, and the columns that are 0."""
    size = raw.magnitudes(jnp.ones_like(weight))
    return raw.rmatmul(weight), size / weight.size, size == 0


@partial(jax.jit, static_argnums=(4, 5))
@jax.default_matmul_precision("highest")
def _moments(
    raw: Design, weight: Array, shift: Array, unit: Array, intercept: bool, standardize: bool
) -> _Moments:
    """Moments of the columns of `raw` and of the data, shift + unit·raw."""
    found = raw.moments(weight)
    anchor, rest = found.anchor, found.rest
    top = jnp.abs(shift) + unit * found.top
    constant = unit * found.half_range <= jnp.finfo(raw.dtype).eps * top
    zero, one = jnp.zeros_like(top), jnp.ones_like(top)
    # Without an intercept a constant column is a feature like any other, of the unit of its value.
    still = one if intercept else jnp.where(found.top > 0, found.top, 1.0)
    inner_scale = jnp.where(constant, still, found.deviation) if standardize else 1 / unit
    scale = jnp.where(constant & intercept, one, unit * inner_scale) if standardize else one
    if intercept:
        mean, size = shift + unit * (anchor + rest), unit * found.half_range
    else:
        anchor, rest, mean, size, constant = zero, 0.0 * rest, zero, top, top == 0
    return _Moments(anchor, rest, inner_scale, mean, scale, constant, size, found.deviation, found.top)


@jax.jit
def _copy(X: Array, found: _Moments) -> Array:
    """Centred and scaled columns; what is taken off first is exact where the mean is large."""
    return jnp.where(found.constant, 0.0, ((X - found.anchor) - found.rest) / found.inner_scale)


def _is_harmless(raw: DenseDesign, found: _Moments) -> bool:
    """Whether products with X − mean may be taken as a difference: few digits cancel, in concrete data."""
    if raw.dtype != jnp.float64 or any(isinstance(x, jax.core.Tracer) for x in (raw.X, *found)):
        return False
    anchor, rest, deviation, top = map(np.asarray, (found.anchor, found.rest, found.deviation, found.top))
    near = np.abs(anchor + rest) <= _DENSE_MEAN * deviation
    return bool(np.all((near | np.asarray(found.constant)) & ~_is_extreme(top, raw.dtype)))


def _is_extreme(top: np.ndarray, dtype: Any) -> np.ndarray:
    """Return which numbers are so large or small that products of three of them leave the dtype's range."""
    exponent = np.frexp(np.where(top > 0, top, 1.0))[1]
    return np.abs(exponent) > jnp.finfo(dtype).maxexp // 3


def _shifted(X: Any, weight: np.ndarray, dtype: Any, centre: bool) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return (X − shift)/unit of a sparse matrix, shift (p,) and unit (p,), on the host.

    Only columns of a large mean have a shift, and these have few zeros to be filled; only extreme columns
    have a unit, a power of 2.
    """
    X = X.tocsc(copy=True)
    X.sum_duplicates()
    (n, p), length = X.shape, np.diff(X.indptr)
    shift, unit = np.zeros(p), np.ones(p)
    even = np.ptp(weight) == 0
    column = np.repeat(np.arange(p), length)
    filled = length / n if even else np.bincount(column, weight[X.indices], p)
    many = np.flatnonzero(filled >= _FILLED) if centre else np.empty(0, int)
    blocks = []
    for some in np.array_split(many, -(-many.size * n // _ENTRIES) or 1):
        dense = X[:, some].toarray().astype(float)
        far, at = _anchors(dense, weight, X.dtype)
        shift[some[far]] = at[far]
        blocks.append(scipy.sparse.coo_matrix(dense[:, far] - at[far]))
    moved = np.flatnonzero(shift)
    values = X.data.astype(float)
    if moved.size:
        others = shift[column] == 0
        entries = [scipy.sparse.coo_matrix((values[others], (X.indices[others], column[others])), (n, p))]
        spread = scipy.sparse.hstack(blocks).tocoo()
        entries.append(scipy.sparse.coo_matrix((spread.data, (spread.row, moved[spread.col])), (n, p)))
        X = (entries[0] + entries[1]).tocsc()
        values, column = X.data, np.repeat(np.arange(p), np.diff(X.indptr))
    magnitudes = np.abs(values[values != 0])
    if magnitudes.size and _is_extreme(np.array([magnitudes.min(), magnitudes.max()]), dtype).any():
        top = np.zeros(p)
        np.maximum.at(top, column, np.abs(values))
        unit = np.where(_is_extreme(top, dtype), 2.0 ** np.frexp(top)[1], 1.0)
        values = values / unit[column]
    return scipy.sparse.csc_matrix((values, X.indices, X.indptr), (n, p)), shift, unit


def _anchors(X: np.ndarray, weight: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return which columns (n, k) have a mean above `_SPARSE_MEAN` deviations, and their midranges."""
    counted = X[weight > 0]
    at = (0.5 * counted.min(axis=0) + 0.5 * counted.max(axis=0)).astype(dtype).astype(float)
    top = np.maximum(np.abs(counted).max(axis=0), np.finfo(float).tiny)
    unit = (X - at) / top
    rest = weight @ unit
    deviation = np.sqrt(weight @ (unit - rest) ** 2)
    return (np.abs(at / top + rest) > _SPARSE_MEAN * deviation) & (at != 0), at


class _Given(NamedTuple):
    """Data as they came, and the working dtype."""

    X: Any
    weight: Any
    dtype: Any


def _require_representable(
    given: _Given, mean: Array, size: Array, constant: Array, standardize: bool
) -> None:
    """Raise ValueError where concrete columns have no finite or no positive size in the working dtype."""
    X, _, dtype = given
    if any(isinstance(x, jax.core.Tracer) for x in (X, mean, size)):
        return
    mean, size, constant = map(np.asarray, (mean, size, constant))
    if not np.isfinite(mean).all():
        require_finite(X, dtype)
    _require_constant(given, np.flatnonzero(constant))
    limits = jnp.finfo(dtype)
    tiny, huge = 4 * float(limits.tiny), float(limits.max) / 4
    low, high = (tiny, huge) if standardize else (np.sqrt(tiny), np.sqrt(huge) / 4)
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~constant & ~((size >= low) & (size <= high)))
    if bad.size:
        what = "deviations" if standardize else "squares"
        advice = "give it another unit" if standardize else "take standardize=True or give it another unit"
        raise ValueError(
            f"column {bad[0]} of X has values of a size near {size[bad[0]]:.1e}, whose {what}"
            f" {np.dtype(dtype)} cannot represent: {advice}"
        )


def _require_constant(given: _Given, columns: np.ndarray) -> None:
    """Raise ValueError where columns that vary are constant in the working dtype alone."""
    X, weight, dtype = given
    if not isinstance(X, np.ndarray) or isinstance(weight, jax.core.Tracer) or not columns.size:
        return
    eps = float(jnp.finfo(X.dtype).eps)
    counted = np.flatnonzero(np.asarray(weight) > 0)
    for some in np.array_split(columns, -(-columns.size * len(counted) // _ENTRIES) or 1):
        part = X[np.ix_(counted, some)].astype(float)
        low, high = part.min(axis=0), part.max(axis=0)
        varies = 0.5 * high - 0.5 * low > eps * np.maximum(np.abs(low), np.abs(high))
        if varies.any():
            j = int(np.argmax(varies))
            raise ValueError(
                f"column {some[j]} of X varies from {low[j]:.9g} to {high[j]:.9g}, which {np.dtype(dtype)}"
                " does not tell apart: subtract a number near its mean, or give it another unit"
            )
