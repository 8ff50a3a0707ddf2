"""Proximal Newton by semismooth Newton: a few steps to high accuracy, with exact zeros.

A step minimises the quadratic model of the smooth part at the present iterate plus the penalty
(`_subproblem`, `_model`). The method is globalised by damping, as in the regularised proximal Newton method
of Kanzow and Lechner (2021). A step that does not lower the objective, or whose model was not solved, raises
the damping; the next step is then close to a short proximal gradient step in the metric diag(H), which
descends. A step that succeeds lowers the damping. Every iterate is the result of a prox, so that it is
feasible and its zeros are exact. For a penalty that is not convex the limit is a stationary point.

A Hessian may be computed in every step or serve several (`_hessian_cache`).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._pytree import tree_where
from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Coef, Flag, Intercept
from jaxreg.linear.null_fit import NullFit
from jaxreg.linear.problem import Problem
from jaxreg.linear.solvers._hessian_cache import FreshHessian, HessianSource, NewtonInner
from jaxreg.linear.solvers._smooth_part import (
    QuadraticSmoothPart,
    SmoothEvaluation,
    gram_suffices,
    gram_wanted,
    smooth_part,
)
from jaxreg.linear.solvers._subproblem import Objective, Subproblem, min_damping
from jaxreg.linear.solvers.base import Solver, State
from jaxreg.penalties import Penalty

__all__ = ["Newton", "accepts", "init_state", "lower_state", "newton_step"]

# Damping after the first step that fails, in units of diag(H).
_FIRST_DAMPING = 1e-2
# Factor by which a failure raises the damping.
_RAISE = 10.0
# Factor by which a success lowers the damping.
_LOWER = 4.0
# Below this value the damping drops to `min_damping`: more would only slow the last steps.
_NEGLIGIBLE_DAMPING = 1e-6
# Rounding error of the objective, in units of eps times the size of its terms.
_ROUNDING = 8


class Newton(Solver):
    """Semismooth proximal Newton, for every loss, and for penalties that act on coordinates, groups or rows.

    A step factorises a matrix of the size of the active set. With a sparse design its systems are solved
    matrix-free by conjugate gradients; a path does so above 448 columns in use, with a dense design above
    4,032. A penalty that couples all coordinates (total variation, sorted L1, nuclear norm) raises TypeError:
    take `ProximalGradient` there.

    Args:
        gram: reduce squared error to its Gram matrix XᵀWX first. None does so in float64 for a dense design
            with p ≤ n, and on a path for the columns in use.

    References:
        C. Kanzow, T. Lechner: Globalized inexact proximal Newton-type methods for nonconvex composite
        functions. Computational Optimization and Applications 78 (2021).

    Example:
        >>> import jaxreg as jr
        >>> problem = jr.Problem(jr.losses.SquaredError(), 2.0 * jnp.eye(4), jnp.arange(4.0), intercept=False)
        >>> jr.solve(problem, jr.L1(1.0), solver=jr.Newton()).coef.round(3).tolist()
        [0.0, 0.0, 0.0, 0.5]
    """

    gram: bool | None = eqx.field(default=None, static=True)

    def init(
        self, problem: Problem, penalty: Penalty, null_fit: NullFit, start: tuple[Coef, Intercept]
    ) -> State:
        """Return the state at `start`, projected on the penalty's domain."""
        coef, intercept = start
        if not accepts(penalty, coef):
            raise TypeError(
                "Newton needs a penalty that acts on each coordinate or on blocks of them, got"
                f" {type(penalty).__name__}: take solver=jaxreg.ProximalGradient()"
            )
        quadratic = None
        if gram_suffices(problem) and gram_wanted(problem, self.gram):
            quadratic, intercept = QuadraticSmoothPart.of(problem, null_fit.intercept), null_fit.intercept
        coef = penalty.prox(coef, jnp.zeros((), problem.dtype))
        objective = Objective(smooth_part(problem, quadratic), penalty, null_fit.max_grad)
        return init_state(objective, coef, intercept, FreshHessian(), quadratic)

    def step(self, problem: Problem, penalty: Penalty, null_fit: NullFit, state: State) -> State:
        """Take one damped step; if the objective would rise, keep the iterate and raise the damping."""
        smooth = smooth_part(problem, state.inner.quadratic)
        return newton_step(Objective(smooth, penalty, null_fit.max_grad), state)


def accepts(penalty: Penalty, coef: Coef) -> bool:
    """Return whether the derivative of the prox is one number per coordinate or a matrix per block."""
    return penalty.separable or penalty.blocks(coef) is not None


def init_state(
    objective: Objective,
    coef: Coef,
    intercept: Intercept,
    source: HessianSource,
    quadratic: QuadraticSmoothPart | None = None,
) -> State:
    """Return the state at a feasible iterate.

    Args:
        objective: smooth part and penalty.
        coef: coefficients in the penalty's domain.
        intercept: intercepts.
        source: source of Hessians; a cached one may come from another iterate.
        quadratic: carried along in the state for `Newton.step`.
    """
    at = objective.smooth.evaluate(coef, intercept)
    damping = jnp.asarray(min_damping(coef.dtype), coef.dtype)
    diag = source.diag_at(objective.smooth, at)
    return _state_at(objective, coef, intercept, NewtonInner(at, diag, damping, source, quadratic))


def _state_at(objective: Objective, coef: Coef, intercept: Intercept, inner: NewtonInner) -> State:
    """Return a state with its objective and residual."""
    value = inner.at.value + objective.penalty.value(coef)
    return State(coef, intercept, value, objective.residual(coef, inner.at, inner.hessian_diag), inner)


def newton_step(objective: Objective, state: State, inner_tol: Scalar | float = 0.0) -> State:
    """Take one damped step towards a residual of `inner_tol`."""
    inner: NewtonInner = state.inner

    # Choose coordinates and minimise the model on them.
    proposal, source = inner.source.minimise(
        Subproblem(
            objective=objective,
            coef=state.coef,
            intercept=state.intercept,
            at=inner.at,
            hessian_diag=inner.hessian_diag,
            damping=inner.damping,
            residual=state.residual,
            inner_tol=inner_tol,
        )
    )

    # Evaluate the minimiser.
    at = objective.smooth.evaluate(proposal.coef, proposal.intercept)
    diag = source.diag_at(objective.smooth, at)
    new_inner = inner._replace(at=at, hessian_diag=diag, source=source)
    candidate = _state_at(objective, proposal.coef, proposal.intercept, new_inner)

    # Accept the step or damp the next one.
    accepted = _descends(candidate, state)
    damping = _next_damping(inner, accepted & proposal.solved)
    new = _with_inner(_where_state(accepted, candidate, state), damping=damping)

    # Refresh the Hessian where it no longer serves.
    return source.after_step(objective, new, state.residual, accepted)


def _descends(candidate: State, state: State) -> Flag:
    """Return whether the objective falls or, if its change is within rounding, whether the residual falls."""
    eps = jnp.finfo(state.coef.dtype).eps
    slack = _ROUNDING * eps * (jnp.abs(state.objective) + state.inner.at.magnitude)
    level = (candidate.objective <= state.objective + slack) & (candidate.residual < state.residual)
    falls = candidate.objective < state.objective - slack
    return jnp.isfinite(candidate.objective) & (falls | level)


def _next_damping(inner: NewtonInner, success: Flag) -> Scalar:
    """Return the damping of the next step."""
    lowered = inner.damping / _LOWER
    lowered = jnp.where(lowered < _NEGLIGIBLE_DAMPING, min_damping(lowered.dtype), lowered)
    raised = jnp.maximum(_RAISE * inner.damping, _FIRST_DAMPING)
    return jnp.where(success, lowered, inner.source.raised_damping(inner.damping, raised))


def lower_state(
    objective: Objective,
    last: tuple[Coef, Intercept, SmoothEvaluation],
    ahead: tuple[Coef, Intercept, SmoothEvaluation],
    source: HessianSource,
) -> State:
    """Return the state at whichever of two evaluated iterates has the lower objective, with minimal damping.

    A cached Hessian belongs to `last`: it is stale at the other iterate.
    """

    def state_at(coef: Coef, intercept: Intercept, at: SmoothEvaluation) -> State:
        damping = jnp.asarray(min_damping(coef.dtype), coef.dtype)
        inner = NewtonInner(at, source.diag_at(objective.smooth, at), damping, None, None)
        return _state_at(objective, coef, intercept, inner)

    # One vmapped call compiles to half the instructions of two calls.
    both = jax.vmap(state_at)(*jax.tree.map(lambda *x: jnp.stack(x), last, ahead))
    is_ahead = both.objective[1] < both.objective[0]
    state = jax.tree.map(lambda x: jnp.where(is_ahead, x[1], x[0]), both)
    return _with_inner(state, source=source.after_move(is_ahead))


def _where_state(condition: Flag, one: State, other: State) -> State:
    """Return one state or the other, with the source of Hessians of `one` in either case."""
    without_source = (_with_inner(state, source=None) for state in (one, other))
    return _with_inner(tree_where(condition, *without_source), source=one.inner.source)


def _with_inner(state: State, **fields: Array | HessianSource | None) -> State:
    return State(state.coef, state.intercept, state.objective, state.residual, state.inner._replace(**fields))
