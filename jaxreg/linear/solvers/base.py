"""The contract of a solver, and the one loop that runs every solver.

A solver is a pair of pure functions of immutable state: `init` makes the state at a start, `step` improves
it. The state exposes the current iterate and a cheap residual; the rest of it is the solver's own.

The loop (`iterate`) alternates two phases. It takes steps until the residual is at most a target, at most 500
of them; then it computes the certificate, and where that is above the tolerance lowers the target by a factor
of 5 to 50. A solver never decides that it is done. The loop ends when the certificate is at most the
tolerance, when the steps are used up, when four checks in a row brought no progress that the dtype can still
show, or when the objective is no longer finite.

Matrix products have the full precision of the working dtype: some devices multiply float32 with the digits of
TF32 or bfloat16 unless told otherwise. A solver that `starts_in_low_precision` takes its first steps that
way, as long as each check finds the certificate halved. The checks between these steps, and every step after
them, are exact.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxreg._compacting_loop import compacting_loop
from jaxreg._module import Module
from jaxreg._pytree import apply_if, tree_where
from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Coef, Count, Flag, Intercept
from jaxreg.linear.certificate import Certificate, certificate_at, evaluate
from jaxreg.linear.null_fit import NullFit, fit_unpenalised
from jaxreg.linear.problem import Problem
from jaxreg.linear.solvers.status import Status
from jaxreg.penalties import Penalty

__all__ = ["Outcome", "Solver", "SolverTask", "State", "iterate"]

# Limit of the steps between two checks: a solver whose residual does not fall is certified too.
_STEPS_PER_CHECK = 500
# Checks without progress after which the loop gives up.
_PATIENCE = 4
# Factor by which the certificate must fall for a check to count as progress.
_PROGRESS = 0.9
# The same factor for steps in low precision, which end at the first check without progress.
_LOW_PRECISION_PROGRESS = 0.5
# First target of the residual, in units of √tol: the gap is about the square of the residual.
_FIRST_TARGET = 0.1
# A check lowers the target to half the present residual, but at most to this multiple of the old target …
_MAX_TARGET_FACTOR = 0.2
# … and at least to this one.
_MIN_TARGET_FACTOR = 0.02
# Target, in units of eps, below which the residual cannot fall: a check there is final.
_TARGET_FLOOR = 4


class State(eqx.Module):
    """Part of a solver's state that the loop reads.

    Attributes:
        coef: coefficients of the iterate, in working coordinates.
        intercept: intercepts.
        objective: objective of the iterate.
        residual: estimate of the KKT residual relative to ‖∇f(null)‖∞, cheap to compute.
        inner: the solver's own part.
    """

    coef: Coef
    intercept: Intercept
    objective: Scalar
    residual: Scalar
    inner: PyTree[Array]


class Solver(Module):
    """Base of all solvers.

    To add a solver: subclass, write `init` and `step`, and name the class in `solvers/__init__`; the tests of
    all solvers then find it.
    """

    @property
    def starts_in_low_precision(self) -> bool:
        """True if float32 steps start with low-precision products, as long as they halve the certificate."""
        return False

    @abstractmethod
    def init(
        self, problem: Problem, penalty: Penalty, null_fit: NullFit, start: tuple[Coef, Intercept]
    ) -> State:
        """Return the state at working coefficients and intercept."""

    @abstractmethod
    def step(self, problem: Problem, penalty: Penalty, null_fit: NullFit, state: State) -> State:
        """Take one step, which raises the objective by rounding at most."""


class Outcome(eqx.Module):
    """Last iterate of the loop, with its certificate.

    Attributes:
        coef: working coefficients.
        intercept: working intercept.
        certificate: certificate of the iterate.
        steps: number of steps taken.
        rounds: number of steps that its lane of a batch ran, including those in which the lane waited for
            others; outside of a batch equal to `steps`.
        status: reason for which the loop ended.
    """

    coef: Coef
    intercept: Intercept
    certificate: Certificate
    steps: Count
    rounds: Count
    status: Status


class _Progress(NamedTuple):
    """State of the loop.

    Attributes:
        state: state of the solver.
        certificate: certificate of the last check.
        best: smallest gap (KKT residual where the penalty has no conjugate) so far.
        best_objective: lowest objective so far.
        target: residual at which the next check comes.
        steps: steps taken until the last check.
        idle_checks: checks in a row without progress.
        steps_since_check: steps taken since the last check.
    """

    state: State
    certificate: Certificate
    best: Scalar
    best_objective: Scalar
    target: Scalar
    steps: Count
    idle_checks: Count
    steps_since_check: Count

    @classmethod
    def start(cls, state: State) -> "_Progress":
        """Return the state before the first check, which precedes all steps: a start may meet `tol`."""
        never, zero = jnp.array(jnp.inf, state.coef.dtype), jnp.array(0)
        return cls(state, Certificate(never, never), never, state.objective, never, zero, zero, zero)

    def restarted(self, state: State) -> "_Progress":
        """Return the progress so far, for a loop that continues from another state of the solver."""
        fresh = self.start(state)
        return fresh._replace(certificate=self.certificate, best=self.best, steps=self.steps)


class SolverTask(NamedTuple):
    """A problem in working coordinates, and how to solve it.

    Attributes:
        solver: the solver.
        problem: the problem.
        penalty: its working penalty.
        null_fit: its null fit, with the units of gap and residual.
        tol: tolerance of the certificate.
        max_steps: limit of the steps.
    """

    solver: Solver
    problem: Problem
    penalty: Penalty
    null_fit: NullFit
    tol: Scalar
    max_steps: Scalar | np.ndarray


@jax.default_matmul_precision("highest")
def iterate(task: SolverTask, start: tuple[Coef, Intercept] | None) -> Outcome:
    """Run a solver from `start`, or the null fit, until the certificate is ≤ `tol` or progress ends. Pure.

    The certificate is the gap, or the KKT residual where the penalty has no conjugate. A small KKT residual
    does not replace a gap: weights that diverge have one too.
    """
    loop = _Loop(*task)
    solver, problem, penalty, null_fit, tol, _ = task
    if start is None:
        start = null_fit.coef, null_fit.intercept
    else:
        start = _prepare_start(problem, penalty, null_fit, start)
    state = solver.init(problem, penalty, null_fit, start)
    progress, rounds = _Progress.start(state), jnp.array(0)
    if solver.starts_in_low_precision and problem.dtype == jnp.float32:
        coarse, rounds = loop.run(progress, low_precision=True)
        state = solver.init(problem, penalty, null_fit, (coarse.state.coef, coarse.state.intercept))
        # If the low-precision steps diverged, the exact ones begin at the original start.
        finite = jnp.isfinite(state.objective)
        progress = tree_where(finite, coarse.restarted(state), progress)
    progress, more = loop.run(progress, low_precision=False)
    state = progress.state
    return Outcome(
        state.coef,
        state.intercept,
        progress.certificate,
        progress.steps,
        rounds + more,
        _status(progress, tol),
    )


def _status(progress: _Progress, tol: Scalar) -> Status:
    state = progress.state
    finite = jnp.all(jnp.isfinite(state.coef)) & jnp.isfinite(state.objective)
    status = Status.where(progress.idle_checks >= _PATIENCE, Status.stalled, Status.max_steps)
    status = Status.where(progress.best <= tol, Status.converged, status)
    return Status.where(finite, status, Status.nonfinite)


class _Loop(SolverTask):
    """Phases of the loop for one task."""

    def run(self, start: _Progress, low_precision: bool) -> tuple[_Progress, Count]:
        """Alternate steps and checks; return the progress, and the rounds of the batch."""
        precision = "tensorfloat32" if low_precision else "highest"
        check = self.check_low_precision if low_precision else self.check
        return compacting_loop(
            self.not_done, self.wants_step, lambda now: self.step(now, precision), check, start
        )

    def not_done(self, now: _Progress) -> Flag:
        """Return whether the loop goes on after a check."""
        # The objective of the start may be infinite; an infinite objective later means divergence.
        finite = jnp.isfinite(now.state.objective) | (now.steps == 0)
        unfinished = (now.best > self.tol) & (now.steps < self.max_steps) & (now.idle_checks < _PATIENCE)
        return unfinished & finite

    def wants_step(self, now: _Progress) -> Flag:
        """Return whether a step comes before the next check."""
        taken = now.steps_since_check
        left = (taken < _STEPS_PER_CHECK) & (now.steps + taken < self.max_steps)
        return jnp.isfinite(now.state.objective) & (now.state.residual > now.target) & left

    def step(self, now: _Progress, precision: str) -> _Progress:
        """Take one step of the solver."""
        with jax.default_matmul_precision(precision):
            state = self.solver.step(self.problem, self.penalty, self.null_fit, now.state)
        return now._replace(state=state, steps_since_check=now.steps_since_check + 1)

    def check(self, now: _Progress) -> _Progress:
        """Compute the certificate, count checks without progress, and lower the target."""
        certificate, gap_or_kkt = self._certify(now.state)
        eps = jnp.finfo(self.problem.dtype).eps
        slack = 2 * eps * jnp.abs(now.best_objective)
        progress = (gap_or_kkt < _PROGRESS * now.best) | (now.state.objective < now.best_objective - slack)
        # An early check without progress does not count as idle: the residual can still fall.
        final = (now.steps_since_check >= _STEPS_PER_CHECK) | (now.target <= _TARGET_FLOOR * eps)
        return self._checked(now, certificate, gap_or_kkt, jnp.where(progress, 0, now.idle_checks + final))

    def check_low_precision(self, now: _Progress) -> _Progress:
        """Compute the certificate, lower the target, and end the loop where the certificate is not halved."""
        certificate, gap_or_kkt = self._certify(now.state)
        halved = gap_or_kkt < _LOW_PRECISION_PROGRESS * now.best
        return self._checked(now, certificate, gap_or_kkt, jnp.where(halved, 0, _PATIENCE))

    def _certify(self, state: State) -> tuple[Certificate, Scalar]:
        """Return the certificate of an iterate, and which of its numbers `tol` applies to."""
        at = evaluate(self.problem, state.coef, state.intercept)
        certificate = certificate_at(self.problem, self.penalty, self.null_fit, at, self.tol)
        return certificate, certificate.gap if self.penalty.has_conjugate else certificate.kkt

    def _checked(
        self, now: _Progress, certificate: Certificate, gap_or_kkt: Scalar, idle_checks: Count
    ) -> _Progress:
        target, residual = now.target, now.state.residual
        first = _FIRST_TARGET * jnp.sqrt(self.tol).astype(self.problem.dtype)
        lowered = jnp.minimum(
            _MAX_TARGET_FACTOR * target, jnp.maximum(0.5 * residual, _MIN_TARGET_FACTOR * target)
        )
        return _Progress(
            state=now.state,
            certificate=certificate,
            best=jnp.minimum(now.best, gap_or_kkt),
            best_objective=jnp.minimum(now.best_objective, now.state.objective),
            target=jnp.where(jnp.isinf(target), first, lowered),
            steps=now.steps + now.steps_since_check,
            idle_checks=idle_checks,
            steps_since_check=jnp.zeros_like(now.steps_since_check),
        )


def _prepare_start(
    problem: Problem, penalty: Penalty, null_fit: NullFit, start: tuple[Coef, Intercept]
) -> tuple[Coef, Intercept]:
    """Set the coefficients of constant columns to 0, and fit the unpenalised directions of a start.

    A constant column has no gradient: no step would move its coefficient, except by the prox. Unpenalised
    directions may be nearly dependent, where first-order methods converge slowly.
    """
    coef, intercept = start
    constant = problem.constant if coef.ndim == 1 else problem.constant[:, None]
    coef = jnp.where(constant, 0.0, coef)
    if not any(null_fit.capacity):
        return coef, intercept

    def fit(start: tuple[Coef, Intercept]) -> tuple[Coef, Intercept]:
        best = fit_unpenalised(problem, penalty, null_fit.capacity, start, steps=10)
        return best.coef, best.intercept

    needed = jnp.any(penalty.project_on_unpenalised(jnp.ones_like(coef), coef) != 0)
    return apply_if(needed, fit, (coef, intercept))
