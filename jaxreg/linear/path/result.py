"""Result of a path: solutions along a grid of λ."""

import numbers
from typing import TYPE_CHECKING, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxreg import metrics
from jaxreg._compilation import jit_at_level
from jaxreg._extras import import_extra
from jaxreg._meshes import on_auto_axes, replicated
from jaxreg.linear.certificate import curvature_bound
from jaxreg.linear.null_fit import NullFit, fit_null_model
from jaxreg.linear.prediction import LinearPredictor
from jaxreg.linear.problem import Problem
from jaxreg.linear.size_classes import in_size_class
from jaxreg.linear.solve import Solution
from jaxreg.linear.solvers import Status
from jaxreg.linear.solvers.status import status_names
from jaxreg.losses import Loss, SquaredError
from jaxreg.penalties import Family, PenaltyGrid

if TYPE_CHECKING:
    import xarray

__all__ = ["Path"]

#: Fields of a `Solution` that a path holds for each λ.
_PER_LAMBDA = ("coef", "intercept", "objective", "gap", "kkt", "steps", "status")

#: Distance to a kink of the prox that counts as rounding, in units of eps.
_KINK = 64
#: λ whose gradients are one product of matrices, which takes a tenth of the time of as many with vectors.
_LAMBDAS_AT_ONCE = 10


class Path(LinearPredictor):
    """Solutions along a falling grid of λ, on the scale of the data.

    Attributes:
        lambdas: the grid.
        coef: coefficients.
        intercept: intercepts.
        objective: EmpLoss + penalty at each solution.
        gap: relative duality gaps, inf for penalties without a conjugate.
        kkt: relative KKT residuals.
        steps: solver steps that each solution took.
        status: reason for which the solver stopped at each λ, an Equinox enumeration item; see `messages` for
            its names and `converged` for a mask.
        loss: the loss, for predictions.
        rounds: solver steps run for each λ, including those in which a λ of a batch waits for others:
            `rounds.sum()` is all the work, `steps.sum()` the useful part.
        mode: "warm" or "batched".
        reason: the method that solved the path, and the reason for its choice.
        with_offset: whether the problem had an offset.
    """

    _unlisted = frozenset({"of", "one_per_lambda"})

    lambdas: Float[Array, " L"]
    coef: Shaped[Array, "L p ..."]
    intercept: Shaped[Array, "L ..."]
    objective: Float[Array, " L"]
    gap: Float[Array, " L"]
    kkt: Float[Array, " L"]
    steps: Int[Array, " L"]
    status: Status
    loss: Loss
    rounds: Int[Array, " L"]
    mode: str = eqx.field(static=True)
    reason: str = eqx.field(static=True)
    with_offset: bool = eqx.field(static=True, default=False)

    one_per_lambda: ClassVar[bool] = True

    @classmethod
    def of(
        cls,
        problem: Problem,
        lambdas: Float[Array, " L"],
        solutions: Solution,
        rounds: Int[Array, " L"],
        mode: str,
        reason: str,
    ) -> "Path":
        """Return the path of a `Solution` whose arrays have a leading axis of λ."""
        per_lambda = {name: getattr(solutions, name) for name in _PER_LAMBDA}
        shared = {"loss": problem.original_loss, "with_offset": problem.with_offset}
        return cls(lambdas, **per_lambda, **shared, rounds=rounds, mode=mode, reason=reason)

    @property
    def converged(self) -> Bool[Array, " L"]:
        """Return the mask (L,) of the λ whose certificate met the tolerance."""
        return self.status == Status.converged

    def messages(self) -> list[str]:
        """Return the name of the status at each λ."""
        return status_names(self.status).tolist()

    def at(self, lam: float) -> Solution:
        """Return the solution whose λ is nearest to `lam` in log λ; ValueError for `lam` outside the grid."""
        grid = np.asarray(self.lambdas, float)
        if not isinstance(lam, numbers.Real | np.ndarray | jax.Array) or np.ndim(lam):
            raise TypeError(f"lam must be one number on the grid of the path, got {lam!r}")
        if not grid[-1] * (1 - 1e-9) <= lam <= grid[0] * (1 + 1e-9):
            raise ValueError(
                f"λ = {lam} is outside the grid, which runs from {grid[0]:.6g} to {grid[-1]:.6g}"
            )
        tiny = np.finfo(float).tiny
        k = int(np.argmin(np.abs(np.log(np.maximum(grid, tiny)) - np.log(max(lam, tiny)))))
        fields = {name: jax.tree.map(lambda x: x[k], getattr(self, name)) for name in _PER_LAMBDA}
        return Solution(**fields, loss=self.loss, with_offset=self.with_offset)

    @on_auto_axes(replicated)
    @jax.default_matmul_precision("highest")
    def degrees_of_freedom(self, problem: Problem, family: Family) -> Float[Array, " L"]:
        """Return the effective degrees of freedom at each λ, see `jaxreg.metrics.degrees_of_freedom`.

        Args:
            problem: the problem of the path.
            family: the family of the path.

        Raises:
            TypeError: for a penalty that is not separable, whose prox has no derivative by coordinate.
        """
        # In its size class a small problem shares the programs of its path.
        problem = in_size_class(problem)
        grid = problem.working_grid(family, self.lambdas)
        if not grid.at(0).separable:
            raise TypeError(
                "degrees of freedom need a separable penalty, such as L1, SquaredL2 or ElasticNet"
            )
        null_fit = fit_null_model(problem, grid.at(0))
        return _degrees_of_freedom(problem, grid, null_fit, self.coef, self.intercept)

    def to_xarray(self, features: list[str] | None = None) -> "xarray.Dataset":
        """Return a dataset with dimensions lam and feature (and output); `features` name the columns."""
        xarray = import_extra("xarray", "sweeps", "Path.to_xarray")
        names = list(range(self.coef.shape[1])) if features is None else list(features)
        extra = ("output",) * (self.coef.ndim - 2)
        data = {
            "coef": (("lam", "feature", *extra), np.asarray(self.coef)),
            "intercept": (("lam", *extra), np.asarray(self.intercept)),
            "status": ("lam", np.asarray(self.messages(), dtype=str)),
        }
        for name in ("objective", "gap", "kkt", "steps"):
            data[name] = ("lam", np.asarray(getattr(self, name)))
        return xarray.Dataset(data, {"lam": np.asarray(self.lambdas), "feature": names})

    def __str__(self) -> str:
        n_converged, total = int(jnp.sum(self.converged)), self.lambdas.size
        nonzero = np.sum(np.asarray(self.coef) != 0, axis=tuple(range(1, self.coef.ndim)))
        return (
            f"Path: {total} λ from {float(self.lambdas[0]):.4g} to {float(self.lambdas[-1]):.4g},"
            f" {nonzero[0]} to {nonzero[-1]} of {self.coef[0].size} weights nonzero,"
            f" {n_converged} of {total} converged,"
            f" largest gap {float(jnp.max(self.gap)):.1e}, mode {self.mode}"
        )


@jit_at_level(0)
def _degrees_of_freedom(
    problem: Problem, grid: PenaltyGrid, null_fit: NullFit, coef: Array, intercept: Array
) -> Float[Array, " L"]:
    triangle = _triangle(problem)

    def gradient_step(fit: tuple[Array, Array]) -> tuple[Array, Array]:
        w, b = problem.to_working(*fit)
        z = problem.predictor(w, b)
        t = 1 / curvature_bound(problem, z, null_fit.max_eigenvalue)
        # At a kink, as for the first column at λ_max, rounding would choose the side: take the inner one.
        return t, (1 - _KINK * jnp.finfo(w.dtype).eps) * (w - t * problem.design.rmatmul(problem.residual(z)))

    def at_one_lambda(lane: tuple[list[Array], Array, Array, Array, Array]) -> Array:
        carried, t, v, coef, intercept = lane
        penalty = grid.row(carried)
        _, prox_slope = jax.jvp(lambda v: penalty.prox(v, t), (v,), (jnp.ones_like(v),))
        constant = problem.constant if v.ndim == 1 else problem.constant[:, None]
        prox_slope = jnp.where(constant, 0.0, prox_slope)
        if triangle is not None:
            ones = jnp.ones(triangle.shape[0], triangle.dtype)
            return metrics.degrees_of_freedom(triangle, ones, prox_slope, t)
        z = problem.predictor(*problem.to_working(coef, intercept))
        return metrics.degrees_of_freedom(problem.design.dense(), problem.curvatures(z), prox_slope, t)

    t, v = jax.lax.map(gradient_step, (coef, intercept), batch_size=_LAMBDAS_AT_ONCE)
    return jax.lax.map(at_one_lambda, (grid.carried, t, v, coef, intercept))


def _triangle(problem: Problem) -> Float[Array, "p p"] | None:
    """Return R with RᵀR = XᵀWX, the same Hessian at each λ, for squared error with more rows than columns."""
    n, p = problem.shape
    if not isinstance(problem.loss, SquaredError) or problem.outputs or n <= p:
        return None
    return jnp.linalg.qr(jnp.sqrt(problem.weight)[:, None] * problem.design.dense(), mode="r")
