"""One solution, with a certificate of how near the optimum it is."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._typing import ArrayLike, Scalar
from jaxreg._validation import holds, require
from jaxreg.linear.null_fit import NullFit, fit_null_model, start_of_intercept
from jaxreg.linear.prediction import LinearPredictor
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.solvers import Newton, ProximalGradient, Solver, Status, iterate
from jaxreg.linear.solvers.newton import accepts
from jaxreg.linear.unpenalised import Capacity, orthonormal_basis, refit
from jaxreg.losses import Loss
from jaxreg.penalties import L1, Penalty

__all__ = ["Solution", "run", "solve", "unpenalized"]

#: The step limit where none is given.
MAX_STEPS = 50_000
#: Outputs times features up to which the matrices of Newton's method are made for several outputs.
MAX_UNKNOWNS = 1000
#: Proximal gradient steps before Newton's method takes over: easy problems need far fewer, and its program is
#: compiled for the others alone. Columns of dense data up to which it does: its matrices are of their size.
_FIRST_STEPS, _DENSE_COLUMNS = 1000, 2048
#: Newton steps before proximal gradient is resumed: a method that converges needs far fewer, as on a path.
_NEWTON_STEPS = 100


class Solution(LinearPredictor):
    """A fitted model. `coef` (p,) or (p, K) and `intercept` () or (K,) are on the scale of the data.

    `objective` is Cost at the solution; `gap` and `kkt` are the certificate (`jaxreg.linear.certificate`);
    `steps` counts solver steps; `status` says why they stopped; `with_offset` says whether the problem had an
    offset. `jax.jit(solution.predict)` compiles the coefficients into the program as constants;
    `equinox.filter_jit(solution.predict)` traces them.
    """

    coef: Array
    intercept: Array
    objective: Scalar
    gap: Scalar
    kkt: Scalar
    steps: Array
    status: Status
    loss: Loss
    with_offset: bool = eqx.field(static=True, default=False)

    one_per_lambda: ClassVar[bool] = False

    @property
    def converged(self) -> Array:
        """Whether the certificate met the tolerance."""
        return self.status == Status.converged

    def __str__(self) -> str:
        kept, total = int(jnp.sum(self.coef != 0)), self.coef.size
        return (
            f"Solution: {kept} of {total} weights nonzero, objective {float(self.objective):.6g},"
            f" gap {float(self.gap):.1e}, kkt {float(self.kkt):.1e} after {int(self.steps)} steps"
            f" ({Status[self.status]})"
        )


def run(
    problem: Problem,
    penalty: Penalty,
    null_fit: NullFit,
    solver: Solver,
    start: tuple[Array, Array],
    tol: Any,
    max_steps: Any,
) -> tuple[tuple[Array, Array], Solution, Array]:
    """Solve in working coordinates: the working point (to start the next from), the solution, and the steps
    that were run in its place of a batch.
    """
    found = iterate(solver, problem, penalty, null_fit, start, tol, max_steps)
    point = (found.coef, found.intercept)
    objective = problem.value(problem.predictor(*point)) + penalty.value(point[0])
    solution = Solution(
        *problem.to_original(*point),
        problem.original_objective(objective),
        *found.certificate,
        found.steps,
        found.status,
        problem.original_loss,
        problem.with_offset,
    )
    return point, solution, found.rounds


def tolerance(problem: Problem, tol: ArrayLike | None) -> Array:
    """The tolerance in the working dtype; None is 1e-6, or 1e-4 in float32. ValueError where not > 0."""
    if tol is None:
        tol = 1e-6 if problem.dtype == jnp.float64 else 1e-4
    require(holds(lambda tol: tol > 0, tol), f"tol must be > 0, got {tol}")
    return jnp.asarray(tol, problem.dtype)


def _start(problem: Problem, init: Any) -> tuple[Array, Array]:
    shapes = [x.shape for x in problem.zeros()]
    fits = isinstance(init, tuple | list) and [jnp.shape(x) for x in init] == shapes
    if not fits:
        got = [jnp.shape(x) for x in init] if isinstance(init, tuple | list) else type(init).__name__
        raise ValueError(f"init must be (coef, intercept) of shapes {shapes[0]} and {shapes[1]}, got {got}")
    return problem.point(*init)


@eqx.filter_jit
def _solve(
    problem: Any, penalty: Any, null_fit: Any, solver: Any, init: Any, tol: Any, max_steps: Any
) -> Solution:
    start = (null_fit.coef, null_fit.intercept) if init is None else problem.to_working(*init)
    return run(problem, penalty, null_fit, solver, start, tol, max_steps)[1]


def _newton_may_follow(problem: Problem, penalty: Penalty) -> bool:
    """Return whether Newton's method may go on where proximal gradient is slow: on concrete data alone."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((problem, penalty))):
        return False
    coef = problem.zeros()[0]
    room = coef.size <= MAX_UNKNOWNS if coef.ndim == 2 else coef.size <= _DENSE_COLUMNS
    return accepts(penalty, coef) and (room or not problem.design.dense_like)


def _solve_in_turns(
    problem: Problem, penalty: Penalty, null_fit: NullFit, init: Any, tol: Array, limit: Array
) -> Solution:
    """Solve by proximal gradient, and where its first steps do not suffice by Newton's method from there.

    Where that fails too, proximal gradient takes what is left of the steps.
    """
    call = (problem, penalty, null_fit)
    first = _solve(*call, ProximalGradient(), init, tol, np.minimum(_FIRST_STEPS, limit))
    if bool(first.converged) or int(first.steps) >= int(limit) or int(first.steps) < _FIRST_STEPS:
        return first
    left, start = np.asarray(limit) - int(first.steps), (first.coef, first.intercept)
    found = _solve(*call, Newton(), start, tol, np.minimum(left, _NEWTON_STEPS))
    if not bool(found.converged):
        start = (found.coef, found.intercept) if found.objective < first.objective else start
        left = np.maximum(left - int(found.steps), 0)
        first = eqx.tree_at(lambda x: x.steps, first, first.steps + found.steps)
        found = _solve(*call, ProximalGradient(), start, tol, left)
    return eqx.tree_at(lambda x: x.steps, found, first.steps + found.steps)


@on_auto_axes(replicated)
@jax.default_matmul_precision("highest")
def solve(
    problem: Problem,
    penalty: Penalty,
    *,
    solver: Solver | None = None,
    init: tuple[ArrayLike, ArrayLike] | None = None,
    tol: float | None = None,
    max_steps: int | None = None,
    throw: bool = True,
) -> Solution:
    """Minimise EmpLoss + penalty to a relative duality gap ≤ `tol` (kkt residual where there is no gap).

    `solver` None is `ProximalGradient`; on concrete data `Newton` goes on after 1,000 steps, where the
    penalty acts on coordinates, groups or rows and there are at most 2,048 dense columns (1,000 unknowns for
    several outputs).

    `tol` None is 1e-6 in float64 and 1e-4 in float32; with elementary penalties (L1, ridge, elastic net, with
    factors and boxes) float32 reaches 1e-5 on correlated features too. `init` is (coef, intercept) on the
    scale of the data. May be called inside jit and vmap. Raises TypeError where the arguments are not a
    problem and a penalty, ValueError for a tol that is not positive or an init of other shapes and, with
    `throw` outside of a trace, RuntimeError where the certificate did not meet `tol`; with throw=False read
    `status`.

    >>> from jaxreg.losses import SquaredError
    >>> from jaxreg.penalties import L1
    >>> X = jnp.eye(4) * 2.0
    >>> fit = solve(Problem(SquaredError(), X, jnp.arange(4.0), intercept=False), L1(1.0))
    >>> [round(x, 3) for x in fit.coef.tolist()]
    [0.0, 0.0, 0.0, 0.5]
    """
    require_problem(problem, "jaxreg.solve(jaxreg.Problem(loss, X, y), penalty)")
    tol_array = tolerance(problem, tol)
    working = problem.working_penalty(penalty)
    if init is not None:
        init = _start(problem, init)
    limit = jnp.asarray(MAX_STEPS if max_steps is None else max_steps)
    null_fit = fit_null_model(problem, working)
    if solver is None and _newton_may_follow(problem, working):
        solution = _solve_in_turns(problem, working, null_fit, init, tol_array, limit)
    else:
        solution = _solve(problem, working, null_fit, solver or ProximalGradient(), init, tol_array, limit)
    if throw and not isinstance(solution.gap, jax.core.Tracer) and not bool(solution.converged):
        raise RuntimeError(f"solve did not reach tol={float(tol_array):.1e}: {solution}")
    return solution


@eqx.filter_jit
def _unpenalised_fit(problem: Problem, nothing: Penalty) -> tuple[Array, Array, Array]:
    """Return coefficients and intercept without a penalty, and whether they are unique and finite."""
    coef, intercept = problem.zeros()[0], start_of_intercept(problem)
    basis = orthonormal_basis(problem, nothing, Capacity(problem.shape[1], 0), coef)
    found = refit(problem, basis, problem.predictor(coef, intercept), steps=60)
    change = basis.change(found.u, problem)
    full = jnp.sum(basis.error[0] > 0) == jnp.sum(~problem.constant) + int(problem.intercept)
    # Classes that the features separate drive the predictor on with every step.
    settled = found.step <= 1e-3 * problem.loss.target_scale(problem.y, problem.weight)
    return *problem.to_original(change[0], intercept + change[1]), full & settled


@on_auto_axes(replicated)
@jax.default_matmul_precision("highest")
def unpenalized(problem: Problem) -> tuple[Array, Array] | None:
    """Coefficients and intercept of the fit without a penalty, or None where it is not unique or not finite.

    Not unique: more features than rows or dependent columns, and always for `Multinomial`, whose classes can
    be shifted together. Not finite: classes that a plane separates. On concrete problems only.
    """
    if problem.shape[1] >= problem.shape[0] or (problem.outputs and problem.y.ndim == 1):
        return None
    coef, intercept, exists = _unpenalised_fit(problem, problem.working_penalty(L1(0.0)))
    return (coef, intercept) if bool(exists) else None
