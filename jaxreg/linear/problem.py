"""A problem: the empirical loss of a model that is linear in its weights.

The solvers see *working* coordinates: features centred (with an intercept) and divided by `scale`. The
user sees the original ones; `to_original` goes from the first to the second.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.sharding import PartitionSpec
from jaxtyping import Array

from jaxreg._fields import holds, require
from jaxreg._meshes import on_auto_axes, spec_of
from jaxreg._module import Module
from jaxreg._types import ArrayLike, Scalar
from jaxreg.linear.design import DenseDesign, Design, Standardized, as_array, design
from jaxreg.losses import Loss
from jaxreg.penalties import Family, Penalty, PenaltyGrid, over
from jaxreg.penalties.family import checked
from jaxreg.penalties.separable import Coefficients, Elementary, ElementaryPenalty

__all__ = ["Problem"]


class Problem(Module):
    """Loss, features X (n, p), targets y, sample weights and offset.

    X is an array or a `scipy.sparse` matrix, which is never made dense as a whole.
    `sample_weight` (n,) is normalised to sum to 1, None weighs all alike. `offset` has the shape of the
    predictor. With `standardize` the penalty sees features divided by their 1/n standard deviation under the
    sample weights, as in glmnet; results are on the original scale and a constant column gets coefficient 0.
    The working dtype is that of X. Concrete arrays are checked: ValueError for NaN or infinite entries,
    shapes that disagree, too little data, targets outside the loss's domain, weights that are negative or
    sum to 0. May be built inside jit, vmap and grad, where values cannot be checked.

    >>> from jaxreg.losses import SquaredError
    >>> Problem(SquaredError(), jnp.eye(3), jnp.arange(3.0)).shape
    (3, 3)
    """

    loss: Loss
    design: Design
    y: Array
    weight: Array
    offset: Array
    mean: Array
    scale: Array
    constant: Array
    intercept: bool = eqx.field(static=True)
    outputs: tuple[int, ...] = eqx.field(static=True)
    with_offset: bool = eqx.field(static=True)

    def __init__(
        self,
        loss: Loss,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        offset: ArrayLike | None = None,
        intercept: bool = True,
        standardize: bool = False,
    ) -> None:
        _warn_precision(X)
        options = {"sample_weight": sample_weight, "offset": offset}
        parts = _parts(loss, X, y, **options, intercept=bool(intercept), standardize=bool(standardize))
        self.loss, self.design, self.y, self.outputs = parts.loss, parts.design, parts.y, parts.outputs
        self.weight, self.offset, self.intercept = parts.weight, parts.offset, bool(intercept)
        self.mean, self.scale, self.constant = parts.mean, parts.scale, parts.constant
        self.with_offset = offset is not None

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""
        return self.design.shape

    @property
    def dtype(self) -> Any:
        """The working dtype."""
        return self.design.dtype

    def zeros(self) -> tuple[Array, Array]:
        """Coefficients (p, …) and intercept (…) that are all 0."""
        return jnp.zeros((self.shape[1], *self.outputs), self.dtype), jnp.zeros(self.outputs, self.dtype)

    def point(self, coef: ArrayLike, intercept: ArrayLike) -> tuple[Array, Array]:
        """Both in the shapes and the dtype of `zeros`; ValueError for an intercept that is not there."""
        require(
            self.intercept or holds(lambda b: b == 0, intercept),
            "the problem was made with intercept=False, so the intercept must be 0",
        )
        given = zip((coef, intercept), self.zeros(), strict=True)
        return tuple(jnp.broadcast_to(jnp.asarray(x, self.dtype), zero.shape) for x, zero in given)

    def predictor(self, coef: Array, intercept: Array) -> Array:
        """z (n, …) of working coefficients, offset included."""
        return self.design.matmul(coef) + intercept + self.offset

    def value(self, z: Array) -> Scalar:
        """The empirical loss at the predictor z."""
        return self.loss.total(z, self.y, self.weight)

    def residual(self, z: Array) -> Array:
        """The derivative of the empirical loss in z, shaped like z: sample weights included."""
        weight = self.weight if z.ndim == 1 else self.weight[:, None]
        return weight * self.loss.gradient(z, self.y)

    def curvatures(self, z: Array) -> Array:
        """The loss's second derivative per sample at z, weights included: (n,) or (n, K, K)."""

        def gradient(z: Array, y: Array) -> Array:
            return self.loss.gradient(z[None], y[None])[0]

        bend = jax.vmap(jax.jacfwd(gradient))(z, self.y)
        return bend * self.weight.reshape((-1,) + (1,) * (bend.ndim - 1))

    def working_penalty(self, penalty: Penalty) -> Penalty:
        """The penalty for working coefficients: bounds converted, numbers in the working dtype.

        Elementary penalties come out in one form, so that L1, SquaredL2 and elastic net share one compiled
        program. TypeError where it is not a penalty.
        """
        if not isinstance(penalty, Penalty):
            raise TypeError(
                f"wanted a penalty such as jaxreg.L1(0.1), or a family such as jaxreg.L1 or"
                f" lambda lam: jaxreg.ElasticNet(lam, 0.5), got {type(penalty).__name__}"
            )
        moved = penalty.rescaled(self.scale)
        rows = moved.rows(self.zeros()[0])
        if rows is not None and isinstance(rows[0], ElementaryPenalty):
            *numbers, excluded = rows[0].coefficients()
            numbers = [jnp.asarray(x, self.dtype) for x in numbers]
            moved = Elementary(Coefficients(*numbers, jnp.asarray(excluded)))
        return jax.tree.map(lambda x: jnp.asarray(x, self.dtype) if _real(x) else x, moved)

    def working_grid(self, family: Family, lambdas: Array) -> PenaltyGrid:
        """The family's working penalties on a grid of λ; every number among them carries the grid."""

        def at(lam: Array) -> Penalty:
            working = self.working_penalty(family(lam))
            carry = lambda x: x + (0 * lam).astype(x.dtype) if x.ndim == 0 and x.dtype == lam.dtype else x  # noqa: E731
            return jax.tree.map(carry, working)

        checked(family)
        return over(at, lambdas)

    def to_original(self, coef: Array, intercept: Array) -> tuple[Array, Array]:
        """Working coefficients and intercept on the scale of the data."""
        columns = (slice(None),) + (None,) * len(self.outputs)
        coef = coef / self.scale[columns]
        return coef, intercept - self.mean @ coef

    def to_working(self, coef: Array, intercept: Array) -> tuple[Array, Array]:
        """The inverse of `to_original`."""
        columns = (slice(None),) + (None,) * len(self.outputs)
        return coef * self.scale[columns], intercept + self.mean @ coef

    def take(self, index: Array) -> Self:
        """The same problem on some of the columns."""
        names = lambda p: (p.design, p.mean, p.scale, p.constant)  # noqa: E731
        rest = (self.mean[index], self.scale[index], self.constant[index])
        return eqx.tree_at(names, self, (self.design.columns(index), *rest))


class _Parts(NamedTuple):
    """The fields of a problem that follow from its data."""

    loss: Loss
    design: Design
    y: Array
    weight: Array
    offset: Array
    mean: Array
    scale: Array
    constant: Array
    outputs: tuple[int, ...]


def _by_rows(args: tuple, kwargs: dict) -> Callable[[Any], Any]:
    """Lay out the parts of a problem as its data: what has one entry per row is spread as the rows are."""
    _, X, y = args
    spec, of_y = (spec_of(x) if isinstance(x, jax.Array) else PartitionSpec() for x in (X, y))
    first = spec or of_y
    rows = first[0] if len(first) else None

    def one(x: Array) -> PartitionSpec:
        if x.shape == np.shape(X):
            return spec
        return PartitionSpec(rows if x.shape[:1] == np.shape(y)[:1] else None) if x.ndim else PartitionSpec()

    return lambda out: jax.tree.map(one, out)


@on_auto_axes(_by_rows)
def _parts(
    loss: Loss,
    X: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None,
    offset: ArrayLike | None,
    intercept: bool,
    standardize: bool,
) -> _Parts:
    """Check the data and derive what a problem keeps of them."""
    X = X if scipy.sparse.issparse(X) else as_array(X)
    _check_shapes(X, y)
    raw = design(X)
    dtype = raw.dtype
    if not isinstance(y, jax.core.Tracer):
        loss.check(np.asarray(y))
    outputs = loss.outputs(y if isinstance(y, jax.core.Tracer) else np.asarray(y))
    n = X.shape[0]
    weight = np.ones(n) if sample_weight is None else jnp.asarray(sample_weight)
    _check_weight(weight, n)
    shape = (n, *outputs)
    offset = jnp.asarray(np.zeros(shape, dtype) if offset is None else offset, dtype)
    require(offset.shape == shape, f"offset has shape {offset.shape}, wanted {shape}")
    require(holds(np.isfinite, offset), "offset holds NaN or infinite entries")
    weight, *moments, mean, scale, constant = _moments(raw, weight, intercept, standardize)
    _check_finite(X, moments[0])
    seen = raw
    if intercept or standardize:
        seen = Standardized(raw, mean, scale, constant)
        if isinstance(raw, DenseDesign) and not _harmless(seen, moments[1]):
            seen = DenseDesign(_standardized(seen))
    loss_here = jax.tree.map(lambda x: x.astype(dtype), loss)
    return _Parts(loss_here, seen, loss.encode(y, dtype), weight, offset, mean, scale, constant, outputs)


def _check_weight(weight: ArrayLike, n: int) -> None:
    require(weight.shape == (n,), f"sample_weight has shape {weight.shape}, wanted ({n},)")
    require(
        holds(lambda w: w >= 0, weight),
        "sample_weight must be ≥ 0 and finite: it holds negative or NaN entries",
    )
    require(
        holds(lambda w: np.sum(w) > 0, weight),
        "sample_weight sums to zero: at least one sample must count",
    )
    require(holds(np.isfinite, weight), "sample_weight holds infinite entries")


@partial(jax.jit, static_argnums=(2, 3))
@jax.default_matmul_precision("highest")
def _moments(raw: Design, weight: Array, intercept: bool, standardize: bool) -> tuple[Array, ...]:
    """Of sample weights that sum to 1: they, means and deviations of the columns, what is taken off them and
    by what they are divided, and which are constant.
    """
    weight = (weight / jnp.sum(weight)).astype(raw.dtype)
    one, zero = jnp.ones(raw.shape[1], raw.dtype), jnp.zeros(raw.shape[1], raw.dtype)
    if not intercept and not standardize:
        # Nobody asks for deviations then: of two passes over the data one is left.
        return weight, raw.rmatmul(weight), zero, zero, one, raw.magnitudes(jnp.ones_like(weight)) == 0
    mean, deviation, top = raw.moments(weight)
    constant = deviation <= 8 * jnp.finfo(raw.dtype).eps * top
    scale = jnp.where(constant, 1.0, deviation) if standardize else one
    # Without an intercept a constant column is a feature like any other.
    taken = (mean, constant) if intercept else (zero, top == 0)
    return weight, mean, deviation, taken[0], scale, taken[1]


_standardized = jax.jit(lambda seen: jnp.where(seen.constant, 0.0, (seen.inner.X - seen.mean) / seen.scale))


def _harmless(seen: Standardized, deviation: Array) -> bool:
    """Whether products with X − mean may be taken as a difference: few digits cancel, in concrete data."""
    if seen.dtype != jnp.float64 or any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(seen)):
        return False
    near = np.abs(np.asarray(seen.mean)) <= 100 * np.asarray(deviation)
    return bool(np.all(near | np.asarray(seen.constant)))


def _check_finite(X: Array, mean: Array) -> None:
    """ValueError where concrete X holds NaN or infinite entries, which its means show."""
    if (
        isinstance(X, jax.core.Tracer)
        or isinstance(mean, jax.core.Tracer)
        or np.isfinite(np.asarray(mean)).all()
    ):
        return
    wrong = ~np.isfinite(X.tocoo().data if scipy.sparse.issparse(X) else np.asarray(X))
    bad = np.unique(X.tocoo().col[wrong]) if scipy.sparse.issparse(X) else np.flatnonzero(wrong.any(axis=0))
    if bad.size:
        raise ValueError(
            f"X has {int(np.sum(wrong))} NaN or infinite entries in {bad.size} columns (the first:"
            f" {bad[:5].tolist()}): fill them or drop those rows"
        )


def _real(x: Any) -> bool:
    """Whether a leaf of a penalty is a real number or an array of them."""
    return isinstance(x, float) or (hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating))


_warned = False


def _warn_precision(X: ArrayLike) -> None:
    global _warned
    double = (isinstance(X, np.ndarray) or scipy.sparse.issparse(X)) and X.dtype == np.float64
    if double and not jax.config.read("jax_enable_x64") and not _warned:
        _warned = True
        warnings.warn(
            "X is float64, but JAX rounds it to float32: for double precision put"
            ' jax.config.update("jax_enable_x64", True) before the first array is made',
            stacklevel=3,
        )


def _check_shapes(X: Any, y: ArrayLike) -> None:
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
