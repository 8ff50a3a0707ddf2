"""One solution, with a certificate of how near the optimum it is."""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._compilation import is_traced, jit_at_level, on_device
from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._typing import ArrayLike, Scalar
from jaxreg._validation import holds, require
from jaxreg.linear._shapes import Coef, Count, Flag, Intercept
from jaxreg.linear.implicit import constant, solver_inputs, with_derivatives
from jaxreg.linear.null_fit import (
    fit_null_model,
    fit_unpenalised,
    initial_intercept,
    is_unique_and_finite,
)
from jaxreg.linear.prediction import LinearPredictor
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.size_classes import in_size_class
from jaxreg.linear.solvers import Newton, ProximalGradient, Solver, SolverTask, Status, iterate
from jaxreg.linear.solvers.newton import accepts
from jaxreg.linear.unpenalised import Capacity
from jaxreg.losses import Loss
from jaxreg.penalties import L1, Penalty

__all__ = ["Solution", "solve", "solve_working", "unpenalized"]

#: Default limit of solver steps.
MAX_STEPS = 50_000

#: Unknowns (outputs × features) up to which Newton's method forms its matrices, for several outputs.
MAX_UNKNOWNS = 1000

#: Dense columns up to which Newton's method forms its matrices, for one output.
_MAX_DENSE_COLUMNS = 2048

#: Proximal gradient steps before Newton's method takes over. Easy problems need far fewer, and the program of
#: Newton's method is compiled for hard ones only.
_FIRST_STEPS = 1000

#: Newton steps before proximal gradient resumes: where Newton's method converges it needs far fewer.
_NEWTON_STEPS = 100

#: Limit of the Newton steps of a fit without a penalty; a fit of separated classes takes all of them.
MAX_UNPENALISED_STEPS = 60


class Solution(LinearPredictor):
    """A fitted model; in a batch of solutions every array has one more leading axis.

    `jax.jit(solution.predict)` compiles the coefficients into the program as constants;
    `equinox.filter_jit(solution.predict)` traces them.

    Attributes:
        coef: coefficients (p,) or (p, K) on the scale of the data.
        intercept: intercept () or (K,) on the scale of the data.
        objective: EmpLoss + penalty at the solution.
        gap: relative duality gap (`jaxreg.linear.certificate`), inf where the penalty has no conjugate.
        kkt: relative KKT residual.
        steps: number of solver steps.
        status: reason for which the solver stopped.
        loss: the loss for targets on the scale of the data.
        with_offset: whether the problem had an offset, so that predictions need one too.
    """

    coef: Coef
    intercept: Intercept
    objective: Scalar
    gap: Scalar
    kkt: Scalar
    steps: Count
    status: Status
    loss: Loss
    with_offset: bool = eqx.field(static=True, default=False)

    one_per_lambda: ClassVar[bool] = False

    @property
    def converged(self) -> Flag:
        """True where the certificate met the tolerance."""
        return self.status == Status.converged

    def __str__(self) -> str:
        kept, total = int(jnp.sum(self.coef != 0)), self.coef.size
        return (
            f"Solution: {kept} of {total} weights nonzero, objective {float(self.objective):.6g},"
            f" gap {float(self.gap):.1e}, kkt {float(self.kkt):.1e} after {int(self.steps)} steps"
            f" ({Status[self.status]})"
        )


class WorkingSolution(NamedTuple):
    """A solution, with the iterate from which another solve can start.

    Attributes:
        start: working coefficients and intercept.
        solution: the solution on the scale of the data.
        rounds: steps that the lane of a batch ran, see `Outcome`.
    """

    start: tuple[Coef, Intercept]
    solution: Solution
    rounds: Count


def solve_working(task: SolverTask, start: tuple[Coef, Intercept] | None) -> WorkingSolution:
    """Solve in working coordinates, from `start` or from the null fit. May be traced."""
    problem, penalty = task.problem, task.penalty
    outcome = iterate(task, start)
    loss = problem.value(problem.predictor(outcome.coef, outcome.intercept))
    solution = Solution(
        *problem.to_original(outcome.coef, outcome.intercept),
        problem.original_objective(loss + penalty.value(outcome.coef)),
        *outcome.certificate,
        outcome.steps,
        outcome.status,
        problem.original_loss,
        problem.with_offset,
    )
    return WorkingSolution((outcome.coef, outcome.intercept), solution, outcome.rounds)


@on_auto_axes(replicated)
@jax.default_matmul_precision("highest")
def solve(  # noqa: PLR0913, public options by keyword
    problem: Problem,
    penalty: Penalty,
    *,
    solver: Solver | None = None,
    init: tuple[ArrayLike, ArrayLike] | None = None,
    tol: float | None = None,
    max_steps: int | None = None,
    throw: bool = True,
) -> Solution:
    """Minimise EmpLoss + penalty to a relative duality gap ≤ `tol` (KKT residual where there is no gap).

    May be called inside jit and vmap. `coef`, `intercept` and `objective` of the solution can be
    differentiated, forward and reverse and to any order, with respect to every float of problem and penalty:
    λ, factors, bounds, sample weights, X, y, offset. The derivatives are those of the exact solution on its
    present support (implicit function theorem). The error of a derivative is of the order of the error of the
    coefficients, about the square root of `tol`; beyond 512 active coefficients the linear system behind it
    is solved by conjugate gradients, in 1,000 iterations at most. If the solution is not unique, the
    derivative has least norm.

    Args:
        problem: the problem.
        penalty: the penalty.
        solver: None is `ProximalGradient`; on concrete data `Newton` takes over after 1,000 steps, where the
            penalty acts on coordinates, groups or rows and there are at most 2,048 dense columns (1,000
            unknowns for several outputs).
        init: coefficients and intercept on the scale of the data to start from; None is the null fit.
        tol: tolerance > 0; None is 1e-6 in float64 and 1e-4 in float32. With elementary penalties (L1, ridge,
            elastic net, with factors and boxes) float32 reaches 1e-5 on correlated features too.
        max_steps: the limit of solver steps; None is 50,000.
        throw: whether to raise where the certificate does not meet `tol`; with False read `status`.

    Returns:
        A `Solution`: `coef` (p,) or (p, K) and `intercept` on the scale of the data, `objective`, the
        certificate `gap` and `kkt`, `steps`, `status` and `converged`. Its method `predict(X)` returns the
        expected targets of new rows, `linear(X)` the linear predictor.

    Raises:
        TypeError: if `problem` is not a problem or `penalty` not a penalty.
        ValueError: for a `tol` that is not positive, and an `init` of other shapes.
        RuntimeError: with `throw` and outside of a trace, if the certificate does not meet `tol`.

    >>> from jaxreg.losses import SquaredError
    >>> from jaxreg.penalties import L1
    >>> X = jnp.eye(4) * 2.0
    >>> fit = solve(Problem(SquaredError(), X, jnp.arange(4.0), intercept=False), L1(1.0))
    >>> [round(x, 3) for x in fit.coef.tolist()]
    [0.0, 0.0, 0.0, 0.5]
    """
    require_problem(problem, "jaxreg.solve(jaxreg.Problem(loss, X, y), penalty)")
    problem = in_size_class(problem)
    tol_array = tolerance(problem, tol)
    working = problem.working_penalty(penalty)
    init = None if init is None else _checked_init(problem, init)
    limit = on_device(MAX_STEPS if max_steps is None else max_steps)
    # Solvers are not differentiated: the derivatives come from the solution.
    inputs, penalty_inputs = solver_inputs(problem, working)
    init = constant(init)
    null_fit = fit_null_model(inputs, penalty_inputs)
    task = SolverTask(solver or ProximalGradient(), inputs, penalty_inputs, null_fit, tol_array, limit)
    if solver is None and _newton_applies(inputs, penalty_inputs):
        solution = _solve_by_both(task, init)
    else:
        solution = _solve(task, init)
    solution = with_derivatives(solution, problem, working, null_fit.max_eigenvalue)
    if throw and not isinstance(solution.gap, jax.core.Tracer) and not bool(solution.converged):
        raise RuntimeError(f"solve did not reach tol={float(tol_array):.1e}: {solution}")
    return solution


def tolerance(problem: Problem, tol: ArrayLike | None) -> Scalar:
    """Return the tolerance in the working dtype; None is 1e-6, or 1e-4 in float32. ValueError if not > 0."""
    if tol is None:
        tol = 1e-6 if problem.dtype == jnp.float64 else 1e-4
    require(holds(lambda tol: tol > 0, tol), f"tol must be > 0, got {tol}")
    return on_device(tol, problem.dtype)


def _checked_init(problem: Problem, init: tuple[ArrayLike, ArrayLike]) -> tuple[Coef, Intercept]:
    """Return coefficients and intercept as arrays; ValueError for other shapes than those of the problem."""
    shapes = [x.shape for x in problem.zeros()]
    is_pair = isinstance(init, tuple | list)
    if not is_pair or [jnp.shape(x) for x in init] != shapes:
        got = [jnp.shape(x) for x in init] if is_pair else type(init).__name__
        raise ValueError(f"init must be (coef, intercept) of shapes {shapes[0]} and {shapes[1]}, got {got}")
    return problem.as_working_arrays(*init)


def _newton_applies(problem: Problem, penalty: Penalty) -> bool:
    """Return whether Newton's method may take over: on concrete data, where its matrices are small enough."""
    if is_traced(problem, penalty):
        return False
    coef = problem.zeros()[0]
    small = coef.size <= (MAX_UNKNOWNS if coef.ndim == 2 else _MAX_DENSE_COLUMNS)
    return accepts(penalty, coef) and (small or not problem.design.dense_like)


@jit_at_level(2)
def _solve(task: SolverTask, init: tuple[Coef, Intercept] | None) -> Solution:
    start = None if init is None else task.problem.to_working(*init)
    return solve_working(task, start).solution


def _solve_by_both(task: SolverTask, init: tuple[Coef, Intercept] | None) -> Solution:
    """Solve by proximal gradient, then by Newton's method, then by proximal gradient again, until converged.

    The first two take at most 1,000 and 100 steps, the last one the rest of `max_steps`. It starts from the
    result with the lowest objective.
    """

    def run(solver: Solver, init: tuple[Coef, Intercept] | None, max_steps: int) -> Solution:
        return _solve(task._replace(solver=solver, max_steps=np.asarray(max_steps)), init)

    limit = int(task.max_steps)
    first = run(ProximalGradient(), init, min(_FIRST_STEPS, limit))
    taken = int(first.steps)
    if bool(first.converged) or taken >= limit or taken < _FIRST_STEPS:
        return first
    start = first.coef, first.intercept
    newton = run(Newton(), start, min(limit - taken, _NEWTON_STEPS))
    taken += int(newton.steps)
    if bool(newton.converged):
        return _with_steps(newton, taken)
    if newton.objective < first.objective:
        start = newton.coef, newton.intercept
    last = run(ProximalGradient(), start, max(limit - taken, 0))
    return _with_steps(last, taken + int(last.steps))


def _with_steps(solution: Solution, steps: int) -> Solution:
    """Return the solution with the number of steps of all solvers together."""
    return eqx.tree_at(lambda x: x.steps, solution, on_device(steps, solution.steps.dtype))


@on_auto_axes(replicated)
@jax.default_matmul_precision("highest")
def unpenalized(problem: Problem) -> tuple[Coef, Intercept] | None:
    """Fit without a penalty.

    Args:
        problem: a concrete problem.

    Returns:
        Coefficients and intercept on the scale of the data, or None where the fit is not unique or not
        finite. Not unique: more features than rows or dependent columns, and always for `Multinomial`, whose
        classes can be shifted together. Not finite: classes that a plane separates.
    """
    if problem.shape[1] >= problem.shape[0] or (problem.outputs and problem.y.ndim == 1):
        return None
    coef, intercept, exists = _unpenalised_fit(problem, problem.working_penalty(L1(0.0)))
    return (coef, intercept) if bool(exists) else None


@jit_at_level(2)
def _unpenalised_fit(problem: Problem, zero: Penalty) -> tuple[Coef, Intercept, Flag]:
    """Fit under a penalty that is 0; the last result is whether the fit is unique and finite."""
    start = problem.zeros()[0], initial_intercept(problem)
    capacity = Capacity(problem.shape[1], 0)
    fit = fit_unpenalised(problem, zero, capacity, start, steps=MAX_UNPENALISED_STEPS)
    n_directions = (jnp.sum(~problem.constant) + int(problem.intercept)) * start[1].size
    exists = is_unique_and_finite(problem, fit, n_directions)
    return *problem.to_original(fit.coef, fit.intercept), exists
