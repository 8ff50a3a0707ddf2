"""Solve for a whole grid of λ: the public function."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxreg._compilation import is_traced, on_device
from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._typing import ArrayLike, Scalar
from jaxreg.linear._shapes import Count
from jaxreg.linear.implicit import constant, solver_inputs, with_derivatives_on_grid
from jaxreg.linear.null_fit import NullFit, fit_null_model
from jaxreg.linear.path.all_columns import complete, solve_batch, solve_in_turn
from jaxreg.linear.path.grid import check_lambdas, fit_at_lambda_one, lambda_grid, lambda_max_from
from jaxreg.linear.path.matrix_columns import gram_applies, whole_gram
from jaxreg.linear.path.outputs import outputs_are_separate, solve_each_output
from jaxreg.linear.path.path_problem import PathProblem
from jaxreg.linear.path.record import PathRecord
from jaxreg.linear.path.result import Path
from jaxreg.linear.path.ridge import is_ridge, solve_ridge
from jaxreg.linear.path.working_set import solve_on_working_sets
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.size_classes import in_size_class
from jaxreg.linear.solve import MAX_STEPS, MAX_UNKNOWNS, Solution, tolerance
from jaxreg.linear.solvers import Newton, ProximalGradient, Solver
from jaxreg.linear.solvers.newton import accepts
from jaxreg.linear.unpenalised import Capacity, count_unpenalised
from jaxreg.penalties import Family, PenaltyGrid

__all__ = ["GridOptions", "Precomputed", "path", "resolve_mode", "solve_grid"]

#: Host loop that solves a path for the first values of λ; their number is the second argument.
HostMethod = Callable[[PathProblem, int], PathRecord]

_MODES = ("auto", "warm", "batched")
#: glmnet's ratio of the smallest to the largest λ where n > p.
_TALL_RATIO = 1e-4
#: glmnet's ratio of the smallest to the largest λ where n ≤ p.
_WIDE_RATIO = 1e-2


@on_auto_axes(replicated)
@jax.default_matmul_precision("highest")
def path(  # noqa: PLR0913, public options by keyword
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
    """Solve for every λ of a falling grid, each to a relative duality gap ≤ `tol`.

    Never raises for a λ that did not converge: read `status`. Solutions have derivatives as those of
    `jaxreg.solve`: outside of jit the grid is solved as it would be without derivatives, under jit on all
    columns.

    Args:
        problem: loss and data.
        family: function of λ that returns a penalty, such as `jaxreg.L1`.
        lambdas: the grid (L,), from the largest to the smallest λ. None takes `num` values from λ_max to
            ratio·λ_max, evenly spaced in log λ.
        num: number of λ of the default grid.
        ratio: smallest over largest λ of the default grid. None is glmnet's: 1e-4 for n > p, else 1e-2.
        mode: "warm" starts each λ from the solutions before, "batched" solves all of them in one vmapped
            computation. "auto" is warm on one CPU device and batched elsewhere.
        solver: solver of each λ. None takes, for a warm path, one eigendecomposition for a ridge of squared
            error, and `Newton` on working sets of columns for a penalty that acts on coordinates, groups or
            rows; `ProximalGradient` otherwise. `Path.reason` records the choice.
        tol: tolerance of the gap, or of the KKT residual for a penalty without a conjugate. None is 1e-6 in
            float64 and 1e-4 in float32.
        max_steps: solver steps for each λ at most.
        mesh: devices to spread a batch over.

    Returns:
        A `Path`: `lambdas` (L,), and for each λ `coef` (L, p) or (L, p, K), `intercept`, `objective`, the
        certificate `gap` and `kkt`, `steps`, `status` and `converged`; `reason` names the method. Its method
        `predict(X)` returns the expected targets of new rows at every λ, `at(lam)` the `Solution` at one.

    Raises:
        TypeError: where the arguments are not a problem and a family.
        ValueError: for a bad grid, an unknown mode, a warm path with a mesh, a λ_max of 0, and a path under a
            trace without `lambdas`.

    >>> import jaxreg as jr
    >>> X = jnp.eye(4) * 2.0
    >>> fits = path(jr.Problem(jr.losses.SquaredError(), X, jnp.arange(4.0)), jr.L1, num=3, ratio=0.1)
    >>> fits.coef.shape
    (3, 4)
    """
    require_problem(problem, "jaxreg.path(jaxreg.Problem(loss, X, y), jaxreg.L1)")
    mode = resolve_mode(mode, mesh)
    ratio = _default_ratio(problem) if ratio is None else ratio
    # Problems and grids of a size class share compiled programs.
    problem = in_size_class(problem)
    tol = tolerance(problem, tol)
    null_fit = None
    if lambdas is None:
        null_fit = fit_at_lambda_one(problem, family)
        lambdas = lambda_grid(lambda_max_from(problem, family, null_fit), num, ratio)
    lambdas = check_lambdas(lambdas).astype(problem.dtype)
    step_limit = on_device(MAX_STEPS if max_steps is None else max_steps)
    options = GridOptions(mode, solver, tol, step_limit, mesh)
    return solve_grid(problem, family, lambdas, options, Precomputed(null_fit))


class GridOptions(NamedTuple):
    """Options of a path, resolved: mode, solver, tolerance, limit of steps, and mesh."""

    mode: str
    solver: Solver | None
    tol: Scalar
    max_steps: Count
    mesh: jax.sharding.Mesh | None = None


class Precomputed(NamedTuple):
    """Parts of a path that the caller has computed already; None for those that it has not.

    Attributes:
        null_fit: null fit of the problem.
        gram: XᵀWX (p, p); ignored where the path does not use it.
        grid: working penalties.
        capacity: upper limit of the number of unpenalised directions of these penalties.
    """

    null_fit: NullFit | None = None
    gram: Float[Array, "p p"] | None = None
    grid: PenaltyGrid | None = None
    capacity: Capacity | None = None


def solve_grid(
    problem: Problem,
    family: Family,
    lambdas: Float[Array, " L"],
    options: GridOptions,
    precomputed: Precomputed,
) -> Path:
    """Return the path on a grid that was checked; see `path`."""
    grid = precomputed.grid
    grid = problem.working_grid(family, lambdas) if grid is None else grid
    # Solvers are not differentiated: the derivatives come from the solutions. Under `jax.grad` alone, without
    # jit, the inputs of the solvers are concrete.
    inputs, penalties = solver_inputs(problem, grid)
    capacity = precomputed.capacity
    capacity = count_unpenalised(inputs, penalties) if capacity is None else capacity
    method = _choose_method(inputs, penalties, capacity, options)
    gram = None
    if method.uses_gram and gram_applies(inputs, method.solver):
        gram = whole_gram(inputs) if precomputed.gram is None else precomputed.gram
    null_fit = _null_fit_of_grid(inputs, penalties, precomputed.null_fit, capacity, gram)
    path_problem = PathProblem(
        inputs, penalties, constant(lambdas), null_fit, method.solver, options.tol, options.max_steps, gram
    )
    reason = method.reason
    if method.solve_on_host is not None:
        solutions, notes = _solve_on_host(path_problem, method.solve_on_host)
        rounds, reason = solutions.steps, reason + notes
    elif options.mode == "warm":
        start = null_fit.coef, null_fit.intercept
        _, solutions = solve_in_turn(path_problem, penalties.carried, start)
        rounds = solutions.steps
    else:
        solutions, rounds = solve_batch(path_problem, options.mesh)
    solutions = with_derivatives_on_grid(solutions, problem, grid, null_fit.max_eigenvalue)
    return Path.of(problem, lambdas, solutions, rounds, options.mode, reason)


def resolve_mode(mode: str, mesh: jax.sharding.Mesh | None) -> str:
    """Return "warm" or "batched"; ValueError for an unknown mode and for a warm path on a mesh."""
    if mode not in _MODES:
        raise ValueError(f"mode must be one of {', '.join(_MODES)}, got {mode!r}")
    if mode == "auto":
        return "warm" if jax.default_backend() == "cpu" and mesh is None else "batched"
    if mode == "warm" and mesh is not None:
        raise ValueError('mode "warm" goes from λ to λ on one device: take "batched" to use a mesh')
    return mode


def _default_ratio(problem: Problem) -> float:
    n, p = problem.shape
    return _TALL_RATIO if n > p else _WIDE_RATIO


def _null_fit_of_grid(
    problem: Problem,
    grid: PenaltyGrid,
    of_lambda_max: NullFit | None,
    capacity: Capacity,
    gram: Float[Array, "p p"] | None,
) -> NullFit:
    """Return the null fit of λ_max where the grid has no unpenalised directions, else fit another one.

    Unpenalised directions may depend on λ, and only through them does the null fit depend on λ.
    """
    if of_lambda_max is not None and of_lambda_max.capacity == capacity and not any(capacity):
        return of_lambda_max
    return fit_null_model(problem, grid.at(0), gram, capacity)


class _Method(NamedTuple):
    """Method of a path.

    Attributes:
        solver: solver of each λ.
        reason: the method and the reason for its choice, in words.
        solve_on_host: function that solves the path in a host loop; None for `solver` on all columns.
        uses_gram: whether `solve_on_host` takes the Gram matrix of all columns where `gram_applies`.
    """

    solver: Solver
    reason: str
    solve_on_host: HostMethod | None = None
    uses_gram: bool = False


def _choose_method(problem: Problem, grid: PenaltyGrid, capacity: Capacity, options: GridOptions) -> _Method:
    """Choose one eigendecomposition or Newton on working sets where they apply, else all columns."""
    mode, solver = options.mode, options.solver
    if solver is not None and not isinstance(solver, Newton):
        return _Method(solver, f"{type(solver).__name__} on all columns: this solver was asked for")
    on_host = mode != "batched" and not is_traced(problem, grid)
    if on_host and solver is None and is_ridge(problem, grid):
        reason = "one eigendecomposition for all λ: squared error with a multiple of ‖w‖²"
        return _Method(Newton(), reason, solve_ridge, uses_gram=True)
    if on_host and outputs_are_separate(problem, grid, capacity):
        reason = (
            "Newton on working sets, output by output: a separable penalty that is the same for all outputs"
        )
        return _Method(solver or Newton(), reason, solve_each_output, uses_gram=True)
    obstacle = _obstacle(problem, grid, mode, solver)
    if obstacle is None:
        reason = "Newton on working sets: a warm path of a penalty on coordinates, groups or rows"
        return _Method(solver or Newton(), reason, solve_on_working_sets, uses_gram=not problem.outputs)
    solver = solver or ProximalGradient()
    return _Method(solver, f"{type(solver).__name__} on all columns: {obstacle}")


def _obstacle(problem: Problem, grid: PenaltyGrid, mode: str, solver: Solver | None) -> str | None:
    """Return the obstacle to a path on working sets, in words, or None."""
    coef = problem.zeros()[0]
    if mode == "batched":
        return "all λ are solved in one batch"
    if is_traced(problem, grid):
        return "working sets change shape, which a trace does not allow"
    if not accepts(grid.at(0), coef):
        return "the penalty couples all coordinates"
    if coef.ndim == 2 and coef.size > MAX_UNKNOWNS and solver is None:
        return f"{coef.size} unknowns of {coef.shape[1]} outputs are more than {MAX_UNKNOWNS}"
    return None


def _solve_on_host(path: PathProblem, solve: HostMethod) -> tuple[Solution, str]:
    """Solve a path in a host loop; return its solutions, and notes on λ that another method solved."""
    n_lambdas, path = path.lambdas.size, path.in_size_class()
    record = solve(path, n_lambdas)
    total, n_left, notes = record.converged.size, int(np.sum(~record.converged)), ""
    if record.n_matrix_free:
        notes += f"; matrix-free for {record.n_matrix_free} of {total} λ"
    if n_left:
        notes += f"; ProximalGradient for the {n_left} of {total} λ that are left"
    return complete(path, record), notes
