"""Paths on all columns: one λ after the other in one program, all λ in one batch, or unsolved λ alone."""

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from jaxreg._batching import lanes
from jaxreg._compilation import jit_at_level, on_device
from jaxreg.linear._shapes import Coef, Count, Intercept
from jaxreg.linear.path.path_problem import PathProblem
from jaxreg.linear.path.record import PathRecord
from jaxreg.linear.problem import Problem
from jaxreg.linear.solve import Solution, solve_working
from jaxreg.linear.solvers import ProximalGradient, SolverTask
from jaxreg.linear.solvers.status import status_codes, status_from_codes

__all__ = ["complete", "solve_batch", "solve_in_turn"]

#: Working coefficients and intercept.
Point = tuple[Coef, Intercept]


@jit_at_level(2)
def solve_in_turn(path: PathProblem, carried: list[Array], start: Point) -> tuple[Point, Solution]:
    """Solve for the λ whose leaves of the penalty are `carried`, each from the solution before.

    Returns:
        The last working iterate, and the solutions on a leading axis.
    """

    def body(point: Point, carried: list[Array]) -> tuple[Point, Solution]:
        return _solve_one(path, carried, point)[:2]

    return jax.lax.scan(body, start, carried)


@jit_at_level(2)
def solve_batch(path: PathProblem, mesh: Mesh | None) -> tuple[Solution, Int[Array, " L"]]:
    """Solve for all λ in one batch, each from the null fit; return the solutions and the steps run (L,)."""
    shared, static = eqx.partition(path, eqx.is_array)

    def body(shared: PathProblem, carried: list[Array]) -> tuple[Solution, Count]:
        path = eqx.combine(shared, static)
        return _solve_one(path, carried, (path.null_fit.coef, path.null_fit.intercept))[1:]

    return lanes(body, shared, path.grid.carried, mesh)


def _solve_one(path: PathProblem, carried: list[Array], start: Point) -> tuple[Point, Solution, Count]:
    penalty = path.grid.row(carried)
    task = SolverTask(path.solver, path.problem, penalty, path.null_fit, path.tol, path.max_steps)
    return solve_working(task, start)


def complete(path: PathProblem, record: PathRecord) -> Solution:
    """Solve by proximal gradient for the λ that did not converge or are missing in a record.

    Each of these λ may take the steps that Newton's method left of `path.max_steps`. The arrays of the record
    are updated in place, in working units except for the objective.

    Returns:
        The solutions for all λ, on the scale of the data.
    """
    problem = path.problem
    record.objective[:] = problem.original_objective(record.objective)
    status = np.zeros(record.converged.size, int)
    for k in np.flatnonzero(~record.converged):
        remaining = max(int(path.max_steps) - int(record.steps[k]), 0)
        rest = path._replace(solver=ProximalGradient(), max_steps=on_device(remaining))
        carried = path.grid.part(slice(k, k + 1))
        (record.coef[k], record.intercept[k]), solution = solve_in_turn(
            rest, carried, _start(path, record, k)
        )
        for name in ("objective", "gap", "kkt"):
            getattr(record, name)[k] = getattr(solution, name)[0]
        record.steps[k] += int(solution.steps[0])
        status[k] = int(status_codes(solution.status)[0])
    coef, intercept = _in_original_units(path, record)
    objective, gap, kkt, steps = map(on_device, (record.objective, record.gap, record.kkt, record.steps))
    status = status_from_codes(status)
    loss, with_offset = problem.original_loss, problem.with_offset
    return Solution(coef, intercept, objective, gap, kkt, steps, status, loss, with_offset)


def _start(path: PathProblem, record: PathRecord, k: int) -> tuple[Coef, Intercept]:
    """Return the iterate of a λ that was tried, else that of the λ before, else the null fit."""
    origin = k if k < record.n_done else k - 1
    if origin < 0:
        return path.null_fit.coef, path.null_fit.intercept
    return on_device(record.coef[origin]), on_device(record.intercept[origin])


def _in_original_units(path: PathProblem, record: PathRecord) -> tuple[Array, Array]:
    """Return coefficients and intercepts on the scale of the data, converted at the length of the path."""
    n_lambdas, size = record.gap.size, path.lambdas.size
    coef, intercept = (
        np.concatenate([x, np.zeros((size - n_lambdas, *x.shape[1:]), x.dtype)])
        for x in (record.coef, record.intercept)
    )
    converted = _to_original(path.problem, coef, intercept)
    return tuple(on_device(np.asarray(x)[:n_lambdas]) for x in converted)


@jit_at_level(0)
def _to_original(
    problem: Problem, coef: Float[Array, "L p *K"], intercept: Float[Array, "L *K"]
) -> tuple[Float[Array, "L p *K"], Float[Array, "L *K"]]:
    return jax.vmap(problem.to_original)(coef, intercept)
