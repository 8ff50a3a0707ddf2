"""Paths of all folds as one batch: a lane for each fold and λ, for devices that are fast at batches."""

from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxreg._batching import lanes
from jaxreg._compilation import jit_at_level
from jaxreg._typing import AnyArray, Scalar, TreeStructure
from jaxreg.linear._shapes import Count
from jaxreg.linear.null_fit import NullFit, fit_null_model
from jaxreg.linear.path.path import GridOptions, Precomputed
from jaxreg.linear.path.result import Path
from jaxreg.linear.problem import Problem
from jaxreg.linear.solve import Solution, solve_working
from jaxreg.linear.solvers import ProximalGradient, Solver, SolverTask
from jaxreg.linear.unpenalised import Capacity, count_unpenalised
from jaxreg.penalties import Family, Penalty, PenaltyGrid

__all__ = ["batched_paths"]


class _Stack(eqx.Module):
    """Pytrees of one structure, stacked but for the leaves that all of them share.

    Attributes:
        shared: leaves that are one object in all trees, None elsewhere.
        stacked: the other leaves with a leading axis, None elsewhere.
        structure: structure of each tree.
    """

    shared: list[AnyArray | None]
    stacked: list[AnyArray | None]
    structure: TreeStructure = eqx.field(static=True)

    @classmethod
    def of(cls, trees: list[PyTree[Array]]) -> "_Stack":
        """Return the stack of some trees."""
        leaves = [jax.tree.leaves(tree) for tree in trees]
        same = [all(x is column[0] for x in column) for column in zip(*leaves, strict=True)]
        shared = [x if s else None for x, s in zip(leaves[0], same, strict=True)]
        columns = zip(zip(*leaves, strict=True), same, strict=True)
        stacked = [None if s else np.stack([np.asarray(x) for x in column]) for column, s in columns]
        return cls(shared, stacked, jax.tree.structure(trees[0]))

    def at(self, k: Count) -> PyTree[Array]:
        """Return the k-th tree."""
        pairs = zip(self.shared, self.stacked, strict=True)
        return jax.tree.unflatten(self.structure, [x if y is None else y[k] for x, y in pairs])


class _Batch(eqx.Module):
    """Problems and penalty grids of the folds, with the options of their fits."""

    problems: _Stack
    grids: _Stack
    tol: Scalar
    max_steps: Count
    solver: Solver
    capacity: Capacity = eqx.field(static=True)

    def penalty(self, fold: Count, lam: Count | int) -> Penalty:
        """Return the working penalty of a fold at the λ of an index."""
        grid: PenaltyGrid = self.grids.at(fold)
        return grid.row(grid.part(lam))


class _Lanes(NamedTuple):
    """Fold and index of λ of each lane."""

    fold: Int[np.ndarray, " lanes"]
    lam: Int[np.ndarray, " lanes"]


def batched_paths(
    problems: list[Problem],
    family: Family,
    lambdas: Float[Array, " L"],
    options: GridOptions,
    precomputed: Precomputed,
) -> list[Path]:
    """Return the path of each fold, all of them solved in one batch from their null fits.

    Args:
        problems: problem of each fold.
        family: function of λ that returns a penalty.
        lambdas: the grid (L,).
        options: options of the paths.
        precomputed: the penalties, where all folds share them.
    """
    grids = [precomputed.grid or problem.working_grid(family, lambdas) for problem in problems]
    capacity = precomputed.capacity
    capacity = count_unpenalised(problems[0], grids[0]) if capacity is None else capacity
    solver = options.solver or ProximalGradient()
    batch = _Batch(_Stack.of(problems), _Stack.of(grids), options.tol, options.max_steps, solver, capacity)
    fold, lam = np.divmod(np.arange(len(problems) * lambdas.size), lambdas.size)
    solutions, rounds = _solve(batch, _Lanes(fold, lam), len(problems), options.mesh)
    reason = f"{type(solver).__name__} on all columns: all folds and λ are solved in one batch"
    paths = []
    for k, problem in enumerate(problems):
        fold_lanes = slice(k * lambdas.size, (k + 1) * lambdas.size)
        fold_solutions = jax.tree.map(lambda x: x[fold_lanes], solutions)  # noqa: B023
        paths.append(Path.of(problem, lambdas, fold_solutions, rounds[fold_lanes], "batched", reason))
    return paths


@jit_at_level(2)
def _solve(
    batch: _Batch, fold_and_lam: _Lanes, n_folds: int, mesh: jax.sharding.Mesh | None
) -> tuple[Solution, Int[Array, " lanes"]]:
    def fit_null(fold: Count) -> NullFit:
        problem = batch.problems.at(fold)
        return fit_null_model(problem, batch.penalty(fold, 0), None, batch.capacity)

    null_fits = jax.vmap(fit_null)(np.arange(n_folds))
    arrays, static = eqx.partition((batch, null_fits), eqx.is_array)

    def solve_one(arrays: PyTree[Array], lane: _Lanes) -> tuple[Solution, Count]:
        batch, null_fits = eqx.combine(arrays, static)
        null_fit = jax.tree.map(lambda x: x[lane.fold], null_fits)
        problem, penalty = batch.problems.at(lane.fold), batch.penalty(lane.fold, lane.lam)
        task = SolverTask(batch.solver, problem, penalty, null_fit, batch.tol, batch.max_steps)
        result = solve_working(task, (null_fit.coef, null_fit.intercept))
        return result.solution, result.rounds

    return lanes(solve_one, arrays, fold_and_lam, mesh)
