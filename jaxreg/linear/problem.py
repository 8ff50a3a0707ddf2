"""A problem: the empirical loss of a model that is linear in its weights.

Solvers see *working* coordinates: features centred (with an intercept) and divided by `scale`, and targets
with a unit centred (with an intercept) and divided by `target_scale`. Users see the scale of the data;
`Standardization` converts between the two.
"""

from dataclasses import fields
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxreg._compilation import is_traced, on_device
from jaxreg._meshes import Specs, on_auto_axes, spec_of, spread_like_rows
from jaxreg._module import Module
from jaxreg._typing import AnyArray, ArrayLike, FeaturesLike, Scalar
from jaxreg._validation import holds, require
from jaxreg.linear import conversion
from jaxreg.linear._shapes import Coef, Intercept, Predictor
from jaxreg.linear._targets import require_squares, working_targets
from jaxreg.linear.design import Design
from jaxreg.linear.standardization import (
    Standardization,
    working_columns,
)
from jaxreg.losses import Loss
from jaxreg.penalties import Family, Penalty, PenaltyGrid, over
from jaxreg.penalties.family import checked
from jaxreg.penalties.piecewise_quadratic import Elementary, ElementaryPenalty

__all__ = ["Problem", "require_problem"]


class Problem(Module):
    """Loss, features X (n, p), targets y, sample weights and offset.

    Data are arrays, nested lists, pandas, polars or pyarrow tables; X may also be a `scipy.sparse` matrix or
    a `BCOO` of JAX, which are never made dense as a whole. Integers and booleans become floats, on the host.
    The working dtype is that of X. A problem may be built inside jit, vmap and grad, where values cannot be
    checked.

    Args:
        loss: an instance such as `jaxreg.losses.SquaredError()`.
        X: features (n, p).
        y: targets (n,) or (n, K), as the loss wants them.
        sample_weight: weights (n,), normalised to sum to 1; None weighs all samples alike.
        offset: a known part of the predictor, (n,) or (n, K).
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

    _unlisted = frozenset(
        {
            *("as_working_arrays", "counted", "curvatures", "original_objective", "predictor", "residual"),
            *("take", "value", "weighted", "with_one_output", "working_grid", "working_penalty"),
        }
    )

    loss: Loss
    design: Design
    y: Array
    weight: Float[Array, " n"]
    offset: Float[Array, "n *K"]
    standardization: Standardization
    #: An array, so that problems with and without standardisation share their compiled programs.
    standardizes: Bool[Array, ""]
    outputs: tuple[int, ...] = eqx.field(static=True)
    intercept: bool = eqx.field(static=True)
    scales_target: bool = eqx.field(static=True)
    with_offset: bool = eqx.field(static=True)

    def __init__(  # noqa: PLR0913, public options by keyword
        self,
        loss: Loss,
        X: FeaturesLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        offset: ArrayLike | None = None,
        intercept: bool = True,
        standardize: bool = False,
        scale_target: bool = False,
    ) -> None:
        self.intercept, self.scales_target = bool(intercept), bool(scale_target)
        self.standardizes = np.asarray(bool(standardize))
        self.with_offset = offset is not None
        options = {"intercept": self.intercept, "standardize": bool(standardize)}
        options |= {"scale_target": self.scales_target, "sample_weight": sample_weight, "offset": offset}
        for name, value in _working_data(loss, X, y, **options).items():
            setattr(self, name, value)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of samples and of features, (n, p)."""
        return self.design.shape

    @property
    def dtype(self) -> np.dtype:
        """The working dtype."""
        return self.design.dtype

    @property
    def mean(self) -> Float[Array, " p"]:
        """Means of the features on the scale of the data, 0 without an intercept."""
        return self.standardization.mean

    @property
    def scale(self) -> Float[Array, " p"]:
        """Factors from coefficients on the scale of the data to working coefficients."""
        return self.standardization.scale

    @property
    def constant(self) -> Bool[Array, " p"]:
        """Mask of the constant columns, whose coefficient is 0: with an intercept they are redundant."""
        return self.standardization.constant

    @property
    def target_mean(self) -> Float[Array, "*K"]:
        """Mean of targets − offset; 0 without an intercept or for targets without a unit."""
        return self.standardization.target_mean

    @property
    def target_scale(self) -> Scalar:
        """Standard deviation of the targets, 1 unless they are scaled."""
        return self.standardization.target_scale

    def zeros(self) -> tuple[Coef, Intercept]:
        """Return coefficients (p,) or (p, K) and intercept () or (K,) that are all 0."""
        shapes = (self.shape[1], *self.outputs), self.outputs
        if is_traced(self):
            return tuple(jnp.zeros(shape, self.dtype) for shape in shapes)
        return tuple(on_device(np.zeros(shape, self.dtype)) for shape in shapes)

    def as_working_arrays(self, coef: ArrayLike, intercept: ArrayLike) -> tuple[Coef, Intercept]:
        """Return coefficients and intercept in the shapes and the dtype of `zeros`.

        Raises:
            ValueError: for an intercept other than 0 where the problem has none.
        """
        require(
            self.intercept or holds(lambda b: b == 0, intercept),
            "the problem was made with intercept=False, so the intercept must be 0",
        )
        pairs = zip((coef, intercept), self.zeros(), strict=True)
        return tuple(jnp.broadcast_to(on_device(x, self.dtype), zero.shape) for x, zero in pairs)

    def predictor(self, coef: Float[Array, "p *K"], intercept: Float[Array, "*K"]) -> Float[Array, "n *K"]:
        """Return z = Xw + b + offset, (n,) or (n, K), of working coefficients w and intercept b.

        z is set to 0 at samples of weight 0, where the loss of a fit to the other samples could overflow.
        """
        return self.counted(self.design.matmul(coef) + intercept + self.offset)

    def counted(self, z: Float[Array, "n *K"]) -> Float[Array, "n *K"]:
        """Return z with 0 at samples of weight 0."""
        positive = self.weight > 0
        return jnp.where(positive if z.ndim == 1 else positive[:, None], z, 0.0)

    def value(self, z: Float[Array, "n *K"]) -> Scalar:
        """Return the empirical loss at the predictor z, the weighted mean over samples."""
        return self.loss.total(z, self.y, self.weight)

    def residual(self, z: Float[Array, "n *K"]) -> Float[Array, "n *K"]:
        """Return the gradient of the empirical loss in z, sample weights included."""
        return self.weighted(self.loss.gradient(z, self.y))

    def weighted(self, u: Float[Array, "n *K"]) -> Float[Array, "n *K"]:
        """Multiply each row of u by its sample weight."""
        return (self.weight if u.ndim == 1 else self.weight[:, None]) * u

    def curvatures(self, z: Float[Array, "n *K"]) -> Float[Array, "n *K_K"]:
        """Return each sample's Hessian in its predictor, sample weights included: (n,) or (n, K, K)."""

        def gradient(z: Predictor, y: Array) -> Predictor:
            return self.loss.gradient(z[None], y[None])[0]

        if z.ndim == 1:
            return jax.jvp(self.residual, (z,), (jnp.ones_like(z),))[1]
        hessians = jax.vmap(jax.jacfwd(gradient))(z, self.y)
        return hessians * self.weight.reshape((-1,) + (1,) * (hessians.ndim - 1))

    def working_penalty(self, penalty: Penalty) -> Penalty:
        """Return the penalty for working coefficients: bounds converted, numbers in the working dtype.

        Elementary penalties come out in one form, so that L1, SquaredL2 and elastic net share one compiled
        program.

        Raises:
            TypeError: for anything but a penalty.
        """
        if not isinstance(penalty, Penalty):
            raise TypeError(
                f"wanted a penalty such as jaxreg.L1(0.1), or a family such as jaxreg.L1 or"
                f" lambda lam: jaxreg.ElasticNet(lam, 0.5), got {type(penalty).__name__}"
            )
        working = penalty.for_scaled_params(self.scale)
        rows = working.per_leaf(self.zeros()[0])
        if rows is not None and isinstance(rows[0], ElementaryPenalty):
            working = Elementary(rows[0].coefficients().in_common_form(self.dtype))
        return jax.tree.map(lambda x: on_device(x, self.dtype) if _is_real(x) else x, working)

    def working_grid(self, family: Family, lambdas: Float[Array, " L"]) -> PenaltyGrid:
        """Return the family's working penalties on a grid of λ, with every scalar stacked along the grid."""
        checked(family)
        return over(lambda lam: self.working_penalty(family(lam)), lambdas).with_scalars_carried(lambdas.size)

    def to_original(self, coef: Coef, intercept: Intercept) -> tuple[Coef, Intercept]:
        """Convert working coefficients and intercept to the scale of the data."""
        return self.standardization.to_original(coef, intercept)

    def to_working(self, coef: Coef, intercept: Intercept) -> tuple[Coef, Intercept]:
        """Convert coefficients and intercept on the scale of the data to working coordinates."""
        return self.standardization.to_working(coef, intercept)

    def original_objective(self, objective: Float[AnyArray, "*L"]) -> Float[AnyArray, "*L"]:
        """Convert the objective of working coefficients to the scale of the data, in squares of y's unit."""
        return self._target_unit**2 * objective if self.scales_target else objective

    @property
    def original_loss(self) -> Loss:
        """The loss for targets on the scale of the data."""
        return self.loss.in_units(1 / self._target_unit) if self.scales_target else self.loss

    @property
    def _target_unit(self) -> Scalar:
        """`target_scale`, on the host where it is concrete: arithmetic with it then compiles nothing."""
        return self.target_scale if is_traced(self.target_scale) else np.asarray(self.target_scale)

    def take(self, index: Int[Array, " m"]) -> Self:
        """Return the problem restricted to some of its columns."""
        restricted = self.design.columns(index), self.standardization.take(index)
        return eqx.tree_at(lambda p: (p.design, p.standardization), self, restricted)

    def with_one_output(self, y: Float[Array, " n"], offset: Float[Array, " n"], target_mean: Scalar) -> Self:
        """Return the problem of one output, given its working targets and offset, on the same features."""
        standardization = eqx.tree_at(lambda s: s.target_mean, self.standardization, target_mean)
        changed = {"y": y, "offset": offset, "standardization": standardization, "outputs": ()}
        # Not by __init__, which would convert the data again, nor by `eqx.tree_at`: `outputs` is static.
        problem = object.__new__(type(self))
        for field in fields(self):
            object.__setattr__(problem, field.name, changed.get(field.name, getattr(self, field.name)))
        return problem


def _spread_like_data(args: tuple, kwargs: dict) -> Specs:
    """Lay out arrays on a mesh as the data: those with an entry per row are spread over devices by rows."""
    _, X, y = args
    X_spec, y_spec = (spec_of(x) if isinstance(x, jax.Array) else PartitionSpec() for x in (X, y))
    row_spec = X_spec or y_spec
    rows = row_spec[0] if len(row_spec) else None

    def spec(x: Array) -> PartitionSpec:
        if x.shape == np.shape(X):
            return X_spec
        return PartitionSpec(rows if x.shape[:1] == np.shape(y)[:1] else None) if x.ndim else PartitionSpec()

    return lambda out: jax.tree.map(spec, out)


@on_auto_axes(_spread_like_data)
def _working_data(  # noqa: PLR0913, the options of `Problem`
    loss: Loss, X: FeaturesLike, y: ArrayLike, *, sample_weight: ArrayLike | None, offset: ArrayLike | None,
    intercept: bool, standardize: bool, scale_target: bool,
) -> dict[str, PyTree]:  # fmt: skip
    """Check the data and convert them to the fields of a problem."""
    conversion.require_loss(loss)
    X, y = conversion.features(X), conversion.targets(y)
    conversion.require_shapes(X, y)
    n, dtype = X.shape[0], jax.dtypes.canonicalize_dtype(X.dtype)
    weight = conversion.normalised(sample_weight, n, dtype)
    if not isinstance(y, jax.core.Tracer):
        loss.check(y, None if isinstance(weight, jax.core.Tracer) else weight)
    outputs = loss.outputs(y)
    offset = conversion.offsets(offset, (n, *outputs))
    targets = working_targets(loss, y, offset, weight, centre=intercept, scale=scale_target)
    require_squares(loss, targets, dtype)
    target_mean, target_scale = (on_device(x, dtype) for x in (targets.mean, targets.scale))
    loss = loss.in_units(targets.scale) if scale_target else loss
    columns = working_columns(X, weight, intercept=intercept, standardize=standardize)
    scale = columns.scale / target_scale if scale_target else columns.scale
    return {
        "loss": jax.tree.map(lambda x: on_device(x, dtype), loss),
        "design": columns.design,
        "y": spread_like_rows(loss.encode(targets.y, dtype), X),
        "weight": spread_like_rows(on_device(weight, dtype), X),
        "offset": spread_like_rows(on_device(targets.offset, dtype), X),
        "standardization": Standardization(columns.mean, scale, columns.constant, target_mean, target_scale),
        "outputs": outputs,
    }


def require_problem(problem: Problem, call: str) -> None:
    """Raise TypeError where the first argument of a function is no problem; `call` is a correct call."""
    if not isinstance(problem, Problem):
        raise TypeError(f"the first argument must be a Problem, got {type(problem).__name__}: write {call}")


def _is_real(x: object) -> bool:
    """Return whether a leaf of a penalty is a real number or an array of real numbers."""
    return isinstance(x, float) or (hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating))
