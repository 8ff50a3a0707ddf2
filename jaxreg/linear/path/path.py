"""A whole grid of λ: one solution after the other, or all in one batch."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg import metrics
from jaxreg._batching import lanes
from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._module import Module
from jaxreg._typing import ArrayLike
from jaxreg.linear.certificate import curvature_bound
from jaxreg.linear.conversion import features
from jaxreg.linear.design import design
from jaxreg.linear.null_fit import fit_null_model
from jaxreg.linear.path.grid import check_lambdas, lambda_grid, lambda_max
from jaxreg.linear.path.working_set import Found, follow, gram_matrix
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.solve import MAX_STEPS, MAX_UNKNOWNS, Solution, add_offset, solve_working, tolerance
from jaxreg.linear.solvers import Newton, ProximalGradient, Solver, Status
from jaxreg.linear.solvers.newton import accepts
from jaxreg.linear.solvers.status import status_codes, status_from_codes, status_names
from jaxreg.linear.unpenalised import capacity
from jaxreg.losses import Loss
from jaxreg.penalties import Family, PenaltyGrid

__all__ = ["Path", "path"]

_MODES = ("auto", "warm", "batched")


class Path(Module):
    """Solutions along a falling grid of λ, on the scale of the data.

    lambdas (L,); coef (L, p) or (L, p, K); intercept (L,) or (L, K); objective, gap, kkt, steps, status (L,).
    `rounds` (L,) are the steps that were run: where all λ are one batch also those in which a place waited
    for others, so that their sum is all the work, of which steps.sum() served. `mode` says how the solutions
    were computed, `reason` by what and why. `with_offset`: the problem had an offset.
    """

    lambdas: Array
    coef: Array
    intercept: Array
    objective: Array
    gap: Array
    kkt: Array
    steps: Array
    status: Status
    loss: Loss
    rounds: Array
    mode: str = eqx.field(static=True)
    reason: str = eqx.field(static=True)
    with_offset: bool = eqx.field(static=True, default=False)

    @property
    def converged(self) -> Array:
        """Booleans (L,): where the certificate met the tolerance."""
        return self.status == Status.converged

    def messages(self) -> list[str]:
        """The status of each λ in words."""
        return status_names(self.status).tolist()

    @on_auto_axes(replicated)
    @jax.default_matmul_precision("highest")
    def linear(self, X: ArrayLike, offset: ArrayLike | None = None) -> Array:
        """The predictor of new rows under every λ: (L, n) or (L, n, K), with the rows' offset.

        `offset` is one number or (n,) or (n, K). ValueError where the fit had one and none is given; 0.0
        predicts without one.
        """
        X = features(X)
        if X.ndim != 2 or X.shape[1] != self.coef.shape[1]:
            raise ValueError(f"X has shape {X.shape}, wanted (rows, {self.coef.shape[1]}) as in the fit")
        z = jax.vmap(design(X, self.coef.dtype).matmul)(self.coef) + self.intercept[:, None]
        return add_offset(z, offset, self.with_offset, batch=1)

    def predict(self, X: ArrayLike, offset: ArrayLike | None = None) -> Array:
        """The expected targets of new rows under every λ: (L, n), or (L, n, K) probabilities; `offset` as in
        `linear`.
        """
        return jax.vmap(self.loss.mean)(self.linear(X, offset))

    def at(self, lam: float) -> Solution:
        """The solution whose λ is nearest to `lam` in log λ; ValueError where `lam` is outside the grid."""
        grid = np.asarray(self.lambdas, float)
        if not grid[-1] * (1 - 1e-9) <= lam <= grid[0] * (1 + 1e-9):
            raise ValueError(
                f"λ = {lam} is outside the grid, which runs from {grid[0]:.6g} to {grid[-1]:.6g}"
            )
        tiny = np.finfo(float).tiny
        k = int(np.argmin(np.abs(np.log(np.maximum(grid, tiny)) - np.log(max(lam, tiny)))))
        found = {name: jax.tree.map(lambda x: x[k], getattr(self, name)) for name in _FIELDS}
        return Solution(**found, loss=self.loss, with_offset=self.with_offset)

    @on_auto_axes(replicated)
    @jax.default_matmul_precision("highest")
    def degrees_of_freedom(self, problem: Problem, family: Family) -> Array:
        """Effective degrees of freedom (L,), see `jaxreg.metrics.degrees_of_freedom`.

        TypeError where the penalty is not separable: the formula needs the prox's derivative by coordinate.
        """
        grid = problem.working_grid(family, self.lambdas)
        if not grid.at(0).separable:
            raise TypeError(
                "degrees of freedom need a separable penalty, such as L1, SquaredL2 or ElasticNet"
            )
        return _degrees(problem, grid, fit_null_model(problem, grid.at(0)), self.coef, self.intercept)

    def to_xarray(self, features: list[str] | None = None) -> Any:
        """An `xarray.Dataset` with dimensions lam and feature (and output), labelled by `features`."""
        import xarray

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
        done, total = int(jnp.sum(self.converged)), self.lambdas.size
        kept = np.asarray(jnp.sum(self.coef != 0, axis=tuple(range(1, self.coef.ndim))))
        return (
            f"Path: {total} λ from {float(self.lambdas[0]):.4g} to {float(self.lambdas[-1]):.4g},"
            f" {kept[0]} to {kept[-1]} of {self.coef[0].size} weights nonzero, {done} of {total} converged,"
            f" largest gap {float(jnp.max(self.gap)):.1e}, mode {self.mode}"
        )


@eqx.filter_jit
def _warm(
    problem: Any,
    grid: PenaltyGrid,
    part: Any,
    null_fit: Any,
    solver: Any,
    start: Any,
    tol: Any,
    max_steps: Any,
) -> Solution:
    """Scan down the grid, each solution the start of the next."""

    def body(point: tuple[Array, Array], part: list[Array]) -> tuple[Any, Solution]:
        return solve_working(problem, grid.row(part), null_fit, solver, point, tol, max_steps)[:2]

    return jax.lax.scan(body, start, part)[1]


@eqx.filter_jit
def _batched(
    problem: Any, grid: PenaltyGrid, null_fit: Any, solver: Any, tol: Any, max_steps: Any, mesh: Any
) -> tuple[Solution, Array]:
    """All λ in one batch, each from the null fit; and the steps that were run in its place."""
    shared, static = eqx.partition((problem, grid, null_fit, solver, tol, max_steps), eqx.is_array)

    def one(shared: Any, part: list[Array]) -> tuple[Solution, Array]:
        problem, grid, null_fit, solver, tol, max_steps = eqx.combine(shared, static)
        start = (null_fit.coef, null_fit.intercept)
        return solve_working(problem, grid.row(part), null_fit, solver, start, tol, max_steps)[1:]

    return lanes(one, shared, grid.carried, mesh)


@eqx.filter_jit
def _degrees(problem: Any, grid: PenaltyGrid, null_fit: Any, coef: Array, intercept: Array) -> Array:
    def one(row: tuple[list[Array], Array, Array]) -> Array:
        penalty = grid.row(row[0])
        w, b = problem.to_working(*row[1:])
        z = problem.predictor(w, b)
        t = 1 / curvature_bound(problem, z, null_fit.max_eigenvalue)
        v = w - t * problem.design.rmatmul(problem.residual(z))
        _, slope = jax.jvp(lambda v: penalty.prox(v, t), (v,), (jnp.ones_like(v),))
        slope = jnp.where(problem.constant if v.ndim == 1 else problem.constant[:, None], 0.0, slope)
        return metrics.degrees_of_freedom(problem.design.dense(), problem.curvatures(z), slope, t)

    return jax.lax.map(one, (grid.carried, coef, intercept))


@on_auto_axes(replicated)
@jax.default_matmul_precision("highest")
def path(
    problem: Problem,
    family: Family,
    lambdas: ArrayLike | None = None,
    *,
    num: int = 100,
    ratio: float | None = None,
    mode: str = "auto",
    solver: Solver | None = None,
    tol: float | None = None,
    max_steps: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Path:
    """Solve for every λ of a falling grid, each to a relative duality gap ≤ `tol`, None as in `solve`.

    Without `lambdas` the grid has `num` values from λ_max to ratio·λ_max; `ratio` None is glmnet's: 1e-4
    for n > p, else 1e-2. `mode`: "warm" starts each λ from the last solution, "batched" solves all in one
    vmapped computation, "auto" takes warm on one CPU device and batched elsewhere. A warm path takes
    `Newton` on working sets of columns where the penalty acts on coordinates, groups or rows, else
    `ProximalGradient`; `reason` tells. With a `mesh` the batch is spread over its devices. Never raises for
    a λ that did not converge: read `status`. Raises TypeError where the arguments are not a problem and a
    family, ValueError for a bad grid, an unknown mode, warm with a mesh, or λ_max = 0.

    >>> import jaxreg as jr
    >>> X = jnp.eye(4) * 2.0
    >>> fits = path(jr.Problem(jr.losses.SquaredError(), X, jnp.arange(4.0)), jr.L1, num=3, ratio=0.1)
    >>> fits.coef.shape
    (3, 4)
    """
    require_problem(problem, "jaxreg.path(jaxreg.Problem(loss, X, y), jaxreg.L1)")
    if mode not in _MODES:
        raise ValueError(f"mode must be one of {', '.join(_MODES)}, got {mode!r}")
    tol_array = tolerance(problem, tol)
    if lambdas is None:
        lambdas = _default_lambdas(problem, family, num, ratio)
    lambdas = check_lambdas(lambdas).astype(problem.dtype)
    if mode == "auto":
        mode = "warm" if jax.default_backend() == "cpu" and mesh is None else "batched"
    if mode == "warm" and mesh is not None:
        raise ValueError('mode "warm" goes from λ to λ on one device: take "batched" to use a mesh')
    grid = problem.working_grid(family, lambdas)
    limit = MAX_STEPS if max_steps is None else max_steps
    same = {"loss": problem.original_loss, "mode": mode, "with_offset": problem.with_offset}
    screened, reason = _screened((problem, grid), mode, solver)
    if screened:
        newton = solver if isinstance(solver, Newton) else Newton()
        fields, reason = _followed(problem, grid, lambdas, newton, tol_array, limit, reason)
        return Path(lambdas, **fields, **same, reason=reason)
    null_fit = fit_null_model(problem, grid.at(0), size=capacity(problem, grid))
    call = (solver or ProximalGradient(), (null_fit.coef, null_fit.intercept), tol_array, jnp.asarray(limit))
    if mode == "warm":
        found = _warm(problem, grid, grid.carried, null_fit, *call)
        rounds = found.steps
    else:
        found, rounds = _batched(problem, grid, null_fit, call[0], *call[2:], mesh)
    fields = {name: getattr(found, name) for name in _FIELDS}
    return Path(lambdas, **fields, rounds=rounds, **same, reason=reason)


def _default_lambdas(problem: Problem, family: Family, num: int, ratio: float | None) -> Array:
    """Return the grid from λ_max down to ratio·λ_max; ValueError under a trace."""
    if isinstance(problem.y, jax.core.Tracer):
        raise ValueError("path under a trace cannot look for λ_max: give lambdas")
    n, p = problem.shape
    ratio = (1e-4 if n > p else 1e-2) if ratio is None else ratio
    return lambda_grid(lambda_max(problem, family), num, ratio)


_FIELDS = ("coef", "intercept", "objective", "gap", "kkt", "steps", "status")


def _screened(here: tuple[Problem, PenaltyGrid], mode: str, solver: Solver | None) -> tuple[bool, str]:
    """Whether the path is one of Newton on working sets, and why (not)."""
    problem, grid = here
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(here))
    coef = problem.zeros()[0]
    if solver is not None and not isinstance(solver, Newton):
        return False, f"{type(solver).__name__}, as asked for"
    name = "ProximalGradient" if solver is None else "Newton"
    if mode == "batched":
        return False, f"{name} on all columns: all λ in one batch"
    if traced:
        return False, f"{name} on all columns: under a trace there is one compiled shape"
    if not accepts(grid.at(0), coef):
        return False, f"{name} on all columns: the penalty couples all coordinates"
    if coef.ndim == 2 and coef.size > MAX_UNKNOWNS and solver is None:
        return False, f"{name} on all columns: {coef.size} unknowns for {coef.shape[1]} outputs"
    return True, "Newton on working sets: a warm path of a penalty on coordinates, groups or rows"


def _followed(
    problem: Problem, grid: PenaltyGrid, lambdas: Array, solver: Newton, tol: Array, limit: int, reason: str
) -> tuple[dict[str, Any], str]:
    """The fields of a path on working sets, and by what it was solved and why."""
    gram = gram_matrix(problem, solver)
    null_fit = fit_null_model(problem, grid.at(0), gram, capacity(problem, grid))
    found = follow(problem, grid, lambdas, null_fit, solver, float(tol), int(limit), gram)
    return _completed(problem, grid, null_fit, found, tol, limit, reason)


def _completed(
    problem: Problem, grid: PenaltyGrid, null_fit: Any, found: Found, tol: Array, limit: int, reason: str
) -> tuple[dict[str, Any], str]:
    """The path's fields on the scale of the data; what Newton left undone is solved by proximal gradient."""
    count = found.steps.size
    found.objective[:] = problem.original_objective(found.objective)
    left = [k for k in range(count) if k >= found.done or not found.converged[k]]
    status = np.zeros(count, int)
    for k in left:
        # What was tried goes on from where it is, what was not from the λ before.
        from_ = k if k < found.done else k - 1
        start = (
            (found.coef[from_], found.intercept[from_]) if from_ >= 0 else (null_fit.coef, null_fit.intercept)
        )
        more = jnp.asarray(max(limit - int(found.steps[k]), 0))
        one = grid.part(slice(k, k + 1))
        again = _warm(
            problem, grid, one, null_fit, ProximalGradient(), jax.tree.map(jnp.asarray, start), tol, more
        )
        found.coef[k], found.intercept[k] = problem.to_working(again.coef[0], again.intercept[0])
        for name in ("objective", "gap", "kkt"):
            getattr(found, name)[k] = getattr(again, name)[0]
        found.steps[k] += int(again.steps[0])
        status[k] = int(status_codes(again.status)[0])
    coef, intercept = _original(problem, found.coef, found.intercept)
    if found.free:
        reason += f"; by products with the data, without matrices, for {found.free} of {count} λ"
    if left:
        reason += f"; ProximalGradient for {len(left)} of {count} λ that it left"
    fields = {name: jnp.asarray(getattr(found, name)) for name in ("objective", "gap", "kkt", "steps")}
    fields["rounds"] = fields["steps"]
    return fields | {
        "coef": coef,
        "intercept": intercept,
        "status": status_from_codes(jnp.asarray(status)),
    }, reason


@eqx.filter_jit
def _original(problem: Problem, coef: Array, intercept: Array) -> tuple[Array, Array]:
    """Points of a path on the scale of the data."""
    return jax.vmap(problem.to_original)(coef, intercept)
