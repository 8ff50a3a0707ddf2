"""What a solver is, and the one loop for all of them.

A solver writes `init` and `step`, as pure functions of immutable state, and exposes in its state the current
point and a cheap residual. The loop takes steps until that residual is small, asks the certificate, and where
the certificate disagrees asks for a smaller residual. So a solver never decides that it is done.

Matrix products have the full precision of the working dtype: some devices multiply float32 with the digits of
TF32 or bfloat16 unless told otherwise. A solver may take its first steps that way (`rough`); the certificates
between them and every step after them are exact, so that what comes out is.
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._compacting_loop import compacting_loop
from jaxreg._typing import Scalar
from jaxreg.linear.certificate import Certificate, certificate_at, evaluate
from jaxreg.linear.null_fit import NullFit, fit_unpenalised
from jaxreg.linear.problem import Problem
from jaxreg.linear.solvers.status import Status
from jaxreg.penalties import Penalty

__all__ = ["Outcome", "Solver", "State", "iterate"]


class State(eqx.Module):
    """What the loop reads of a solver's state; `inner` is the solver's own."""

    coef: Array
    intercept: Array
    objective: Scalar
    residual: Scalar
    inner: Any


class Solver(eqx.Module):
    """Base of all solvers. To add one: subclass, write `init` and `step`, name it in `solvers/__init__`."""

    @property
    def rough(self) -> bool:
        """Whether float32 steps are taken in rough products first, as long as they halve the gap."""
        return False

    @abstractmethod
    def init(
        self, problem: Problem, penalty: Penalty, null_fit: NullFit, start: tuple[Array, Array]
    ) -> State:
        """The state at working coefficients and intercept."""

    @abstractmethod
    def step(self, problem: Problem, penalty: Penalty, null_fit: NullFit, state: State) -> State:
        """One step; never raises the objective by more than rounding."""


class Outcome(eqx.Module):
    """What the loop returns: the point, its certificate, the number of steps and the status.

    `rounds` are the steps that its place in a batch took part in; alone they are its own.
    """

    coef: Array
    intercept: Array
    certificate: Certificate
    steps: Array
    rounds: Array
    status: Status


class _Progress(NamedTuple):
    """What the loop carries: the solver's state; the last certificate, the best gap or kkt and the lowest
    objective so far; the residual asked for; steps until the last look, looks without progress, steps since.
    """

    state: State
    found: Certificate
    best: Scalar
    best_objective: Scalar
    ask: Scalar
    steps: Array
    idle: Array
    taken: Array


#: Steps between two looks at the certificate, at most; looks without progress before the loop gives up.
_BLOCK, _PATIENCE = 500, 4


@jax.default_matmul_precision("highest")
def iterate(
    solver: Solver,
    problem: Problem,
    penalty: Penalty,
    null_fit: NullFit,
    start: tuple[Array, Array],
    tol: Scalar,
    max_steps: Scalar,
) -> Outcome:
    """Run the solver until the gap (kkt where the penalty has no conjugate) is ≤ tol, or it cannot go on.

    An infinite gap is not excused by a small kkt: weights that run off to infinity have that too. Pure.
    """
    never, zero = jnp.array(jnp.inf, problem.dtype), jnp.array(0)
    state = solver.init(problem, penalty, null_fit, _begin(problem, penalty, null_fit, start))
    last = _Progress(state, Certificate(never, never), never, state.objective, never, zero, zero, zero)
    call, rounds = (solver, problem, penalty, null_fit, tol, max_steps), zero
    if solver.rough and problem.dtype == jnp.float32:
        first, rounds = _run(last, *call, rough=True)
        state = solver.init(problem, penalty, null_fit, (first.state.coef, first.state.intercept))
        again = first._replace(state=state, best_objective=state.objective, ask=never, idle=zero, taken=zero)
        # Where rough steps ran off, exact ones begin where they did.
        last = jax.tree.map(lambda x, y: jnp.where(jnp.isfinite(state.objective), x, y), again, last)
    last, more = _run(last, *call, rough=False)
    state, rounds = last.state, rounds + more
    finite = jnp.all(jnp.isfinite(state.coef)) & jnp.isfinite(state.objective)
    status = Status.where(last.idle >= _PATIENCE, Status.stalled, Status.max_steps)
    status = Status.where(last.best <= tol, Status.converged, status)
    status = Status.where(finite, status, Status.nonfinite)
    return Outcome(state.coef, state.intercept, last.found, last.steps, rounds, status)


def _run(
    begin: _Progress,
    solver: Solver,
    problem: Problem,
    penalty: Penalty,
    null_fit: NullFit,
    tol: Scalar,
    max_steps: Scalar,
    rough: bool,
) -> tuple[_Progress, Array]:
    """Steps and looks, as far as they lead; where they are `rough`, until a look gains less than a half."""
    eps = jnp.finfo(problem.dtype).eps
    first = 0.1 * jnp.sqrt(tol).astype(problem.dtype)

    def stepping(now: _Progress) -> Array:
        finite = jnp.isfinite(now.state.objective)
        left = (now.taken < _BLOCK) & (now.steps + now.taken < max_steps)
        return finite & (now.state.residual > now.ask) & left

    def step(now: _Progress) -> _Progress:
        with jax.default_matmul_precision("tensorfloat32" if rough else "highest"):
            return now._replace(state=solver.step(problem, penalty, null_fit, now.state), taken=now.taken + 1)

    def look(now: _Progress) -> _Progress:
        """One look at the certificate, and a smaller residual asked for where that is not enough."""
        state, ask = now.state, now.ask
        at = evaluate(problem, state.coef, state.intercept)
        found = certificate_at(problem, penalty, null_fit, at, tol)
        reached = found.gap if penalty.has_conjugate else found.kkt
        less = state.objective < now.best_objective - 2 * eps * jnp.abs(now.best_objective)
        better = (reached < 0.9 * now.best) | less
        # A look that came early, at a residual which can still fall, says nothing of what can be reached.
        final = (now.taken >= _BLOCK) | (ask <= 4 * eps)
        idle = jnp.where(better, 0, now.idle + final)
        if rough:
            idle = jnp.where(reached < 0.5 * now.best, 0, _PATIENCE)
        # The first look takes no step: a start that is good enough stays as it is.
        less_still = jnp.minimum(0.2 * ask, jnp.maximum(0.5 * state.residual, 0.02 * ask))
        return _Progress(
            state,
            found,
            jnp.minimum(now.best, reached),
            jnp.minimum(now.best_objective, state.objective),
            jnp.where(jnp.isinf(ask), first, less_still),
            now.steps + now.taken,
            idle,
            jnp.zeros_like(now.taken),
        )

    def unfinished(now: _Progress) -> Array:
        # The objective of the start may be infinite; that of a later point says that the solver ran off.
        sane = jnp.isfinite(now.state.objective) | (now.steps == 0)
        return (now.best > tol) & (now.steps < max_steps) & (now.idle < _PATIENCE) & sane

    return compacting_loop(unfinished, stepping, step, look, begin)


def _begin(
    problem: Problem, penalty: Penalty, null_fit: NullFit, start: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Return the start of a solver: constant columns at 0, unpenalised directions at their best.

    A constant column feels no gradient: it stays unless the penalty wants it elsewhere. Unpenalised
    directions may be nearly dependent, where first-order steps take forever.
    """
    coef, intercept = start
    still = problem.constant if coef.ndim == 1 else problem.constant[:, None]
    coef = jnp.where(still, 0.0, coef)
    if not any(null_fit.capacity):
        return coef, intercept

    def fit(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        best = fit_unpenalised(problem, penalty, null_fit.capacity, carry[:2], steps=10)
        return *best[:2], jnp.array(False)

    # A loop and not a branch: under vmap it is skipped where no lane needs it.
    needed = jnp.any(penalty.unpenalised(jnp.ones_like(coef), coef) != 0)
    return jax.lax.while_loop(lambda carry: carry[2], fit, (coef, intercept, needed))[:2]
