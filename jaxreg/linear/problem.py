"""A problem: the empirical loss of a model that is linear in its weights.

The solvers see *working* coordinates: features centred (with an intercept) and divided by `scale`, and
targets that have a unit centred (with an intercept) and divided by `target_scale`. The user sees the original
ones; `to_original` goes from the first to the second.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array

from jaxreg._meshes import on_auto_axes, spec_of, spread_like_rows
from jaxreg._module import Module
from jaxreg._typing import ArrayLike, Scalar
from jaxreg._validation import holds, require
from jaxreg.linear import conversion
from jaxreg.linear.design import Design
from jaxreg.linear.standardization import require_squares, working_columns, working_targets
from jaxreg.losses import Loss
from jaxreg.penalties import Family, Penalty, PenaltyGrid, over
from jaxreg.penalties.family import checked
from jaxreg.penalties.piecewise_quadratic import Coefficients, Elementary, ElementaryPenalty

__all__ = ["Problem", "require_problem"]


class Problem(Module):
    """Loss, features X (n, p), targets y, sample weights and offset.

    Data are arrays, nested lists, pandas, polars or pyarrow tables; X may also be a `scipy.sparse` matrix or
    a `BCOO` of JAX, which are never made dense as a whole. Integers and booleans become floats, on the host.
    The working dtype is that of X. May be built inside jit, vmap and grad, where values cannot be checked.

    Args:
        loss: an instance such as `jaxreg.losses.SquaredError()`.
        X: features (n, p).
        y: targets (n,) or (n, K), as the loss wants them.
        sample_weight: (n,), normalised to sum to 1; None weighs all samples alike.
        offset: a part of the predictor that is given, in its shape (n,) or (n, K).
        intercept: whether to fit an intercept, which is never penalised.
        standardize: whether the penalty sees features divided by their 1/n standard deviation under the
            sample weights, as in glmnet; then the units of X do not matter. Results are on the original
            scale. With an intercept a constant column gets coefficient 0: one whose values are equal up to
            one rounding of the dtype in either direction, over the samples of positive weight.
        scale_target: whether the penalty and λ apply to the fit of y/sd(y), as in glmnet's gaussian family:
            the λ of any penalty, mixtures such as `ElasticNet` included, is then free of the units of y.
            Results and bounds are on the original scale, the objective too.

    Raises:
        TypeError: for data that are not real numbers, and a `loss` that is not an instance of a loss.
        ValueError: for entries that are missing, masked, NaN or infinite, or that the working dtype cannot
            represent, shapes that disagree, too little data, targets outside the loss's domain, weights that
            are negative or sum to 0, and `scale_target` where targets are classes or counts.

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
    target_mean: Array
    target_scale: Array
    intercept: bool = eqx.field(static=True)
    scales_target: bool = eqx.field(static=True)
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
        scale_target: bool = False,
    ) -> None:
        options = {"sample_weight": sample_weight, "offset": offset, "intercept": bool(intercept)}
        scaling = {"standardize": bool(standardize), "scale_target": bool(scale_target)}
        parts = _parts(loss, X, y, **options, **scaling)
        for name, value in parts._asdict().items():
            setattr(self, name, value)
        self.intercept, self.scales_target = bool(intercept), bool(scale_target)
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
        rows = moved.per_leaf(self.zeros()[0])
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
        return coef, self.target_scale * intercept + (self.target_mean - self.mean @ coef)

    def to_working(self, coef: Array, intercept: Array) -> tuple[Array, Array]:
        """The inverse of `to_original`."""
        columns = (slice(None),) + (None,) * len(self.outputs)
        shift = (intercept - self.target_mean) + self.mean @ coef
        return coef * self.scale[columns], shift / self.target_scale

    def original_objective(self, objective: Array) -> Array:
        """The objective of working coefficients on the scale of the data: in squares of the unit of y."""
        return self.target_scale**2 * objective if self.scales_target else objective

    @property
    def original_loss(self) -> Loss:
        """The loss for targets on the scale of the data."""
        return self.loss.in_units(1 / self.target_scale) if self.scales_target else self.loss

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
    target_mean: Array
    target_scale: Array
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
    loss: Loss, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None, offset: ArrayLike | None,
    intercept: bool, standardize: bool, scale_target: bool,
) -> _Parts:  # fmt: skip
    """Check the data and derive what a problem keeps of them."""
    conversion.require_loss(loss)
    X, y = conversion.features(X), conversion.targets(y)
    conversion.require_shapes(X, y)
    n, dtype = X.shape[0], jax.dtypes.canonicalize_dtype(X.dtype)
    weight = conversion.normalised(sample_weight, n, dtype)
    if not isinstance(y, jax.core.Tracer):
        loss.check(y, None if isinstance(weight, jax.core.Tracer) else weight)
    outputs = loss.outputs(y)
    given = conversion.offsets(offset, (n, *outputs))
    targets = working_targets(loss, y, given, weight, centre=intercept, scale=scale_target)
    require_squares(loss, targets, dtype)
    target_mean, target_scale = (jnp.asarray(x, dtype) for x in targets[2:])
    loss = loss.in_units(targets.scale) if scale_target else loss
    design, mean, scale, constant = working_columns(X, weight, intercept=intercept, standardize=standardize)
    return _Parts(
        loss=jax.tree.map(lambda x: jnp.asarray(x, dtype), loss),
        design=design,
        y=spread_like_rows(loss.encode(targets.y, dtype), X),
        weight=spread_like_rows(jnp.asarray(weight, dtype), X),
        offset=spread_like_rows(jnp.asarray(targets.offset, dtype), X),
        mean=mean,
        scale=scale / target_scale if scale_target else scale,
        constant=constant,
        target_mean=target_mean,
        target_scale=target_scale,
        outputs=outputs,
    )


def require_problem(problem: Any, call: str) -> None:
    """Raise TypeError where the first argument of a function is not a problem; `call` is what to write."""
    if not isinstance(problem, Problem):
        raise TypeError(f"the first argument must be a Problem, got {type(problem).__name__}: write {call}")


def _real(x: Any) -> bool:
    """Whether a leaf of a penalty is a real number or an array of them."""
    return isinstance(x, float) or (hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating))
