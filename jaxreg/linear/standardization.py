"""Standardisation of features: centred if there is an intercept, scaled if asked for.

A column may have any unit and any mean. Centring products afterwards loses digits where the mean is large,
and squares overflow where the unit is extreme. Such columns are shifted and scaled themselves: in a copy of
dense features, and in the entries of those columns of a sparse matrix.
"""

from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float, Int

from jaxreg._compilation import is_traced, jit_at_level, on_device
from jaxreg._typing import AnyArray, CompressedMatrix, DTypeLike, Features, Scalar, ScipyMatrix
from jaxreg.linear._shapes import Coef, Intercept
from jaxreg.linear.conversion import require_finite
from jaxreg.linear.design import DenseDesign, Design, Standardized, design
from jaxreg.linear.size_classes import is_small, pad_rows, size_class

__all__ = ["ColumnScaling", "Standardization", "WorkingColumns", "column_scaling", "working_columns"]

#: Largest mean of a dense column, in deviations, for which products are centred afterwards.
_DENSE_MEAN = 100

#: Largest mean of a sparse column, in deviations, for which products are centred afterwards.
_SPARSE_MEAN = 3

#: Least share of the weight on the entries of a column whose mean m is above `_SPARSE_MEAN`: m²/(1 + m²).
_FILLED = 0.9

#: Entries of sparse columns that are made dense at once, on the host.
_ENTRIES = 4_000_000


class ColumnScaling(NamedTuple):
    """Centring and scaling (x − mean)/scale of columns, of which the constant ones become 0."""

    mean: Float[AnyArray, " p"]
    scale: Float[AnyArray, " p"]
    constant: Bool[AnyArray, " p"]


class Standardization(eqx.Module):
    """The affine maps between the scale of the data and working coordinates.

    With working features (X − mean)/s and targets (y − target_mean)/target_scale, `scale` is s/target_scale:
    the factor from a coefficient on the scale of the data to the working one. Columns where `constant` is
    true are 0 among the working features.
    """

    mean: Float[Array, " p"]
    scale: Float[Array, " p"]
    constant: Bool[Array, " p"]
    target_mean: Float[Array, "*K"]
    target_scale: Scalar

    def to_original(self, coef: Coef, intercept: Intercept) -> tuple[Coef, Intercept]:
        """Convert working coefficients (p,) or (p, K) and intercept () or (K,) to the scale of the data."""
        coef = coef / (self.scale if coef.ndim == 1 else self.scale[:, None])
        return coef, self.target_scale * intercept + (self.target_mean - self.mean @ coef)

    def to_working(self, coef: Coef, intercept: Intercept) -> tuple[Coef, Intercept]:
        """Invert `to_original`."""
        intercept = (intercept - self.target_mean) + self.mean @ coef
        return coef * (self.scale if coef.ndim == 1 else self.scale[:, None]), intercept / self.target_scale

    def followed_by(
        self, columns: ColumnScaling, target_mean: Float[AnyArray, "*K"], target_scale: Scalar
    ) -> "Standardization":
        """Return the maps for working columns and targets that are centred and scaled once more."""
        return Standardization(
            mean=self.mean + self.scale * self.target_scale * columns.mean,
            scale=self.scale * columns.scale / target_scale,
            constant=self.constant | columns.constant,
            target_mean=self.target_mean + self.target_scale * target_mean,
            target_scale=self.target_scale * target_scale,
        )

    def take(self, index: Int[Array, " m"]) -> Self:
        """Restrict the maps to some of the columns."""
        columns = (self.mean[index], self.scale[index], self.constant[index])
        return eqx.tree_at(lambda s: (s.mean, s.scale, s.constant), self, columns)


class WorkingColumns(NamedTuple):
    """The working design (X − mean)/scale.

    Attributes:
        design: the working design.
        mean: means on the scale of the data, 0 without an intercept.
        scale: divisors on the scale of the data, 1 where not standardised.
        constant: the columns that are constant or, without an intercept, all 0.
    """

    design: Design
    mean: Float[Array, " p"]
    scale: Float[Array, " p"]
    constant: Bool[Array, " p"]


class _ColumnMoments(NamedTuple):
    """Moments of the stored columns and of the data, which are shift + unit·stored.

    Attributes:
        anchor: first part of the stored columns' means (see `Moments`), 0 without an intercept.
        rest: second part of the means.
        stored_mean: anchor + rest.
        inner_scale: divisors of the stored columns.
        deviation: deviations of the stored columns.
        max_abs: largest absolute values of the stored columns.
        mean: means of the data.
        scale: divisors of the data.
        constant: constant columns.
        size: half the range of the data or, without an intercept, the largest magnitude.
    """

    anchor: Float[Array, " p"]
    rest: Float[Array, " p"]
    stored_mean: Float[Array, " p"]
    inner_scale: Float[Array, " p"]
    deviation: Float[Array, " p"]
    max_abs: Float[Array, " p"]
    mean: Float[Array, " p"]
    scale: Float[Array, " p"]
    constant: Bool[Array, " p"]
    size: Float[Array, " p"]


def working_columns(
    X: Features,
    weight: Float[AnyArray, " n"],
    *,
    intercept: bool,
    standardize: bool,
) -> WorkingColumns:
    """Centre and scale columns under sample weights that sum to 1.

    Args:
        X: features (n, p): an array, traced or not, or a `scipy.sparse` matrix, of floats.
        weight: sample weights (n,), traced, or on the host in double precision.
        intercept: whether columns are centred.
        standardize: whether columns are divided by their 1/n standard deviation. A constant column is divided
            by its absolute value without an intercept, and not at all with one.

    Raises:
        ValueError: for concrete X with entries that are not finite or not representable in the working dtype.
    """
    dtype = jax.dtypes.canonicalize_dtype(X.dtype)
    given = _Given(X, weight, dtype)
    shift, unit = np.zeros(X.shape[1]), np.ones(X.shape[1])
    if scipy.sparse.issparse(X):
        require_finite(X, X.dtype)
        if intercept or standardize:
            known = np.full(X.shape[0], 1 / X.shape[0]) if isinstance(weight, jax.core.Tracer) else weight
            X, shift, unit = _shifted(X, known, dtype, intercept)
    stored = design(X, dtype if scipy.sparse.issparse(X) else None)
    shift, unit, weight = shift.astype(dtype), unit.astype(dtype), on_device(weight, dtype)
    if not intercept and not standardize:
        mean, size, empty = _extent(stored, weight)
        _require_representable(given, (mean,), size, empty, standardize)
        return WorkingColumns(stored, on_device(shift), on_device(unit), empty)
    counted = _in_size_class(stored, weight)
    moments = _moments(*counted, shift, unit, intercept, standardize)
    size = moments.scale if standardize else moments.size
    _require_representable(given, (moments.mean, moments.rest), size, moments.constant, standardize)
    if isinstance(stored, DenseDesign) and not _centres_products(stored, moments):
        working = _standardized_copy(counted[0].X, moments)
        n = stored.shape[0]
        working = DenseDesign(working if working.shape[0] == n else on_device(np.asarray(working)[:n]))
    else:
        working = Standardized(stored, moments.stored_mean, moments.inner_scale, moments.constant)
    return WorkingColumns(working, moments.mean, moments.scale, moments.constant)


def column_scaling(
    design: Design, weight: Float[Array, " n"], *, intercept: bool, standardize: Bool[Array, ""]
) -> ColumnScaling:
    """Return the centring and scaling of columns under other sample weights, by the rules of `Problem`.

    Args:
        design: the working design.
        weight: sample weights (n,) that sum to 1.
        intercept: whether columns are centred.
        standardize: whether columns are divided by their 1/n standard deviation; see `working_columns`.
    """
    moments = design.moments(weight)
    same = moments.half_range <= jnp.finfo(design.dtype).eps * moments.max_abs
    if intercept:
        mean, constant, scale_of_same = moments.mean, same, jnp.ones_like(moments.mean)
    else:
        mean, constant = jnp.zeros_like(moments.mean), moments.max_abs == 0
        scale_of_same = jnp.where(constant, 1.0, moments.max_abs)
    scale = jnp.where(standardize, jnp.where(same, scale_of_same, moments.deviation), 1.0)
    return ColumnScaling(mean, scale, constant)


def _in_size_class(stored: Design, weight: Float[Array, " n"]) -> tuple[Design, Float[Array, " m"]]:
    """Return columns and weights with rows of weight 0 added, where these are few and concrete."""
    if not isinstance(stored, DenseDesign) or is_traced(stored, weight) or not is_small(stored.X):
        return stored, weight
    n = size_class(stored.shape[0])
    if n == stored.shape[0]:
        return stored, weight
    return DenseDesign(pad_rows(stored.X, n)), pad_rows(weight, n, fill=0.0)


@jit_at_level(2)
@jax.default_matmul_precision("highest")
def _extent(
    stored: Design, weight: Float[Array, " n"]
) -> tuple[Float[Array, " p"], Float[Array, " p"], Bool[Array, " p"]]:
    """Return the means of x and of |x|, not finite where an entry is not, and which columns are 0."""
    size = stored.magnitudes(jnp.ones_like(weight))
    return stored.rmatmul(weight), size / weight.size, size == 0


@jit_at_level(2)
@jax.default_matmul_precision("highest")
def _moments(
    stored: Design,
    weight: Float[Array, " n"],
    shift: Float[Array, " p"],
    unit: Float[Array, " p"],
    intercept: bool,
    standardize: bool,
) -> _ColumnMoments:
    """Return the moments of the stored columns and of the data, shift + unit·stored."""
    moments = stored.moments(weight)
    anchor, rest = moments.anchor, moments.rest
    max_abs = jnp.abs(shift) + unit * moments.max_abs
    constant = unit * moments.half_range <= jnp.finfo(stored.dtype).eps * max_abs
    zero, one = jnp.zeros_like(max_abs), jnp.ones_like(max_abs)
    # Without an intercept a constant column is a feature like any other, of the unit of its value.
    constant_scale = one if intercept else jnp.where(moments.max_abs > 0, moments.max_abs, 1.0)
    inner_scale = jnp.where(constant, constant_scale, moments.deviation) if standardize else 1 / unit
    scale = jnp.where(constant & intercept, one, unit * inner_scale) if standardize else one
    if intercept:
        mean, size = shift + unit * (anchor + rest), unit * moments.half_range
    else:
        anchor, rest, mean, size, constant = zero, 0.0 * rest, zero, max_abs, max_abs == 0
    stored_moments = (anchor, rest, anchor + rest, inner_scale, moments.deviation, moments.max_abs)
    return _ColumnMoments(*stored_moments, mean, scale, constant, size)


@jit_at_level(2)
def _standardized_copy(X: Float[Array, "n p"], moments: _ColumnMoments) -> Float[Array, "n p"]:
    """Centre and scale columns; the first subtraction is exact where the mean is large."""
    return jnp.where(moments.constant, 0.0, ((X - moments.anchor) - moments.rest) / moments.inner_scale)


def _centres_products(stored: DenseDesign, moments: _ColumnMoments) -> bool:
    """Return whether products may be centred afterwards: few digits of these concrete data cancel."""
    if stored.dtype != jnp.float64 or is_traced(stored.X, moments):
        return False
    means = np.asarray(moments.anchor) + np.asarray(moments.rest)
    small = np.abs(means) <= _DENSE_MEAN * np.asarray(moments.deviation)
    extreme = _is_extreme(np.asarray(moments.max_abs), stored.dtype)
    return bool(np.all((small | np.asarray(moments.constant)) & ~extreme))


def _is_extreme(x: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Return which numbers are so large or small that products of three of them leave the dtype's range."""
    exponent = np.frexp(np.where(x > 0, x, 1.0))[1]
    return np.abs(exponent) > jnp.finfo(dtype).maxexp // 3


def _shifted(
    X: ScipyMatrix, weight: Float[np.ndarray, " n"], dtype: DTypeLike, centre: bool
) -> tuple[ScipyMatrix, Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Return (X − shift)/unit of a sparse matrix, shift (p,) and unit (p,), on the host.

    Only columns with a large mean are shifted, which have few zeros to fill. Only extreme columns get a unit
    other than 1, a power of 2.
    """
    X = X.tocsc(copy=True)
    X.sum_duplicates()
    X, shift = _with_columns_shifted(X, weight) if centre else (X, np.zeros(X.shape[1]))
    values, column = X.data.astype(float), np.repeat(np.arange(X.shape[1]), np.diff(X.indptr))
    unit = np.ones(X.shape[1])
    magnitudes = np.abs(values[values != 0])
    if magnitudes.size and _is_extreme(np.array([magnitudes.min(), magnitudes.max()]), dtype).any():
        largest = np.zeros(X.shape[1])
        np.maximum.at(largest, column, np.abs(values))
        unit = np.where(_is_extreme(largest, dtype), 2.0 ** np.frexp(largest)[1], 1.0)
        values = values / unit[column]
    return scipy.sparse.csc_matrix((values, X.indices, X.indptr), X.shape), shift, unit


def _with_columns_shifted(
    X: CompressedMatrix, weight: Float[np.ndarray, " n"]
) -> tuple[CompressedMatrix, Float[np.ndarray, " p"]]:
    """Return a CSC matrix with its columns of large mean shifted by their midrange, and the shift (p,)."""
    (n, p), length = X.shape, np.diff(X.indptr)
    shift, column = np.zeros(p), np.repeat(np.arange(p), length)
    even = np.ptp(weight) == 0
    filled = length / n if even else np.bincount(column, weight[X.indices], p)
    candidates = np.flatnonzero(filled >= _FILLED)
    blocks = []
    for some in np.array_split(candidates, -(-candidates.size * n // _ENTRIES) or 1):
        dense = X[:, some].toarray().astype(float)
        far, midrange = _far_columns(dense, weight, X.dtype)
        shift[some[far]] = midrange[far]
        blocks.append(scipy.sparse.coo_matrix(dense[:, far] - midrange[far]))
    shifted = np.flatnonzero(shift)
    if not shifted.size:
        return X, shift
    others = shift[column] == 0
    rest = (X.data.astype(float)[others], (X.indices[others], column[others]))
    dense = scipy.sparse.hstack(blocks).tocoo()
    centred = (dense.data, (dense.row, shifted[dense.col]))
    first, second = (scipy.sparse.coo_matrix(entries, (n, p)) for entries in (rest, centred))
    return (first + second).tocsc(), shift


def _far_columns(
    X: Float[np.ndarray, "n k"], weight: Float[np.ndarray, " n"], dtype: DTypeLike
) -> tuple[Bool[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Return which columns (n, k) have a mean above `_SPARSE_MEAN` deviations, and all midranges."""
    counted = X[weight > 0]
    midrange = (0.5 * counted.min(axis=0) + 0.5 * counted.max(axis=0)).astype(dtype).astype(float)
    largest = np.maximum(np.abs(counted).max(axis=0), np.finfo(float).tiny)
    unit = (X - midrange) / largest
    mean = weight @ unit
    deviation = np.sqrt(weight @ (unit - mean) ** 2)
    return (np.abs(midrange / largest + mean) > _SPARSE_MEAN * deviation) & (midrange != 0), midrange


class _Given(NamedTuple):
    """Features and weights as given, and the working dtype."""

    X: Features
    weight: Float[AnyArray, " n"]
    dtype: DTypeLike


def _require_representable(
    given: _Given, means: tuple[Array, ...], size: Array, constant: Array, standardize: bool
) -> None:
    """Raise ValueError where concrete columns have no finite or no positive size in the working dtype."""
    dtype = given.dtype
    if is_traced(given.X, means, size):
        return
    size, constant = np.asarray(size), np.asarray(constant)
    if not all(np.isfinite(np.asarray(mean)).all() for mean in means):
        require_finite(given.X, dtype)
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
    """Raise ValueError where columns vary but are constant in the working dtype."""
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
