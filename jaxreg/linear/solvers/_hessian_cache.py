"""Hessians that serve several Newton steps.

A Hessian of the data takes passes over them, a gradient with a cached Hessian takes one product. A step with
a stale Hessian contracts the residual linearly instead of quadratically; the cache is refreshed at the
present iterate when that contraction is poor (Shamanskii 1967).

A source of Hessians has two operations: `minimise` uses its Hessian for a step, `after_step` refreshes a
stale one. `FreshHessian` computes one per step. `CachedHessian` keeps one. `CachedInverse` keeps the inverse
of the active block too, which makes undamped steps cheap, and takes no others.
"""

from abc import abstractmethod
from typing import ClassVar, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp

from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Count, Flag, Flat
from jaxreg.linear.solvers._active_inverse import QuadraticForm, solve_active_set
from jaxreg.linear.solvers._hessian import ReducedHessian
from jaxreg.linear.solvers._packed_inverse import ActiveInverse
from jaxreg.linear.solvers._smooth_part import QuadraticSmoothPart, SmoothEvaluation, SmoothPart
from jaxreg.linear.solvers._subproblem import (
    Objective,
    Proposal,
    Subproblem,
    minimise_damped,
)
from jaxreg.linear.solvers.base import State

__all__ = ["CachedHessian", "CachedInverse", "FreshHessian", "HessianSource", "NewtonInner"]

# Factor by which an active set step must reduce the residual of its model.
_ACTIVE_SET_REDUCTION = 1e-3


class NewtonInner(NamedTuple):
    """Newton's part of a solver's state.

    Attributes:
        at: smooth part at the iterate.
        hessian_diag: diagonal of the Hessian, at the iterate or cached.
        damping: μ of the next step.
        source: source of Hessians.
        quadratic: smooth part of squared error by its Gram matrix, None where the data are used.
    """

    at: SmoothEvaluation
    hessian_diag: Flat
    damping: Scalar
    source: "HessianSource"
    quadratic: QuadraticSmoothPart | None


class HessianSource(eqx.Module):
    """Base of the sources of Hessians.

    Attributes:
        max_damping: damping at which an iteration is given up; by default, steps are then below rounding.
    """

    max_damping: ClassVar[float] = 1e12

    @abstractmethod
    def diag_at(self, smooth: SmoothPart, at: SmoothEvaluation) -> Flat:
        """Return the diagonal of the Hessian that steps from an iterate use."""

    @abstractmethod
    def minimise(self, sub: Subproblem) -> tuple[Proposal, Self]:
        """Minimise the model of a step; return the source for the next step too."""

    @abstractmethod
    def raised_damping(self, damping: Scalar, raised: Scalar) -> Scalar:
        """Return the damping after a step that failed: `raised`, unless a fresh Hessian may help."""

    @abstractmethod
    def after_move(self, moved: Flag) -> Self:
        """Return the source at another iterate if `moved`."""

    @abstractmethod
    def after_step(
        self, objective: Objective, state: State, previous_residual: Scalar, accepted: Flag
    ) -> State:
        """Return the state after a step that was `accepted` or not, with a Hessian fit for the next one."""


class FreshHessian(HessianSource):
    """Hessian at the present iterate, computed in every step on the coordinates that the step needs."""

    def diag_at(self, smooth: SmoothPart, at: SmoothEvaluation) -> Flat:
        return smooth.hessian_diag(at)

    def minimise(self, sub: Subproblem) -> tuple[Proposal, Self]:
        smooth = sub.objective.smooth
        return minimise_damped(sub, lambda index, count: smooth.hessian(sub.at, index, count)), self

    def raised_damping(self, damping: Scalar, raised: Scalar) -> Scalar:
        return raised

    def after_move(self, moved: Flag) -> Self:
        return self

    def after_step(
        self, objective: Objective, state: State, previous_residual: Scalar, accepted: Flag
    ) -> State:
        return state


class _Cache(HessianSource):
    """Base of the sources that keep a Hessian in the first `count` coordinates, beyond which all are 0.

    Attributes:
        hessian: the Hessian.
        diag: its diagonal.
        count: coordinates in use.
        stale: whether the iterate has moved since the Hessian was computed.
        contraction: factor by which a step must reduce the residual for a stale Hessian to be kept.
    """

    hessian: eqx.AbstractVar[ReducedHessian]
    diag: eqx.AbstractVar[Flat]
    count: eqx.AbstractVar[Count]
    stale: eqx.AbstractVar[Flag]
    contraction: eqx.AbstractClassVar[float]

    @classmethod
    @abstractmethod
    def compute(cls, smooth: SmoothPart, at: SmoothEvaluation, count: Count) -> Self:
        """Return the cache of the Hessian at an iterate."""

    def diag_at(self, smooth: SmoothPart, at: SmoothEvaluation) -> Flat:
        return self.diag

    def raised_damping(self, damping: Scalar, raised: Scalar) -> Scalar:
        # Refresh a stale Hessian before raising the damping.
        return jnp.where(self.stale, damping, raised)

    def after_move(self, moved: Flag) -> Self:
        return eqx.tree_at(lambda source: source.stale, self, self.stale | moved)

    def after_step(
        self, objective: Objective, state: State, previous_residual: Scalar, accepted: Flag
    ) -> State:
        inner: NewtonInner = state.inner
        marked = self.after_move(accepted)
        contracted = accepted & (state.residual <= self.contraction * previous_residual)
        source = jax.lax.cond(
            marked.stale & ~contracted,
            lambda: self.compute(objective.smooth, inner.at, self.count),
            lambda: marked,
        )
        residual = objective.residual(state.coef, inner.at, source.diag)
        inner = inner._replace(source=source, hessian_diag=source.diag)
        return State(state.coef, state.intercept, state.objective, residual, inner)


class CachedHessian(_Cache):
    """Hessian that is kept as long as steps with it reduce the residual to a fifth.

    A refresh takes passes over the data, and every step takes a factorisation.
    """

    hessian: ReducedHessian
    diag: Flat
    count: Count
    stale: Flag
    contraction: ClassVar[float] = 0.2

    @classmethod
    def compute(cls, smooth: SmoothPart, at: SmoothEvaluation, count: Count) -> Self:
        return cls(*_compute(smooth, at, count))

    def minimise(self, sub: Subproblem) -> tuple[Proposal, Self]:
        return minimise_damped(sub, lambda index, count: self.hessian.restricted(index)), self


class CachedInverse(_Cache):
    """Hessian with the inverse of its active block, which are kept as long as steps halve the residual.

    Steps take no factorisation, so that a slower contraction pays than for `CachedHessian`. They are never
    damped: if a step with a fresh Hessian fails, the iteration is given up, and the caller goes on with
    `CachedHessian` in a program of its own. Damped steps would be half of the code of this program, and
    well-posed problems never take them.
    """

    hessian: ReducedHessian
    diag: Flat
    count: Count
    stale: Flag
    active_inverse: ActiveInverse
    contraction: ClassVar[float] = 0.5
    max_damping: ClassVar[float] = 1e-3

    @classmethod
    def compute(cls, smooth: SmoothPart, at: SmoothEvaluation, count: Count) -> Self:
        fields = _compute(smooth, at, count)
        return cls(*fields, ActiveInverse.empty(fields[0].matrix))

    def minimise(self, sub: Subproblem) -> tuple[Proposal, Self]:
        """Minimise the undamped model by the active set method, in all coordinates."""
        hessian, coef = self.hessian, sub.coef
        shift = hessian.hess_intercept_inverse @ jnp.ravel(sub.at.intercept_grad)
        linear = sub.at.grad - hessian.times_intercept(shift) - hessian.times(coef)
        form = QuadraticForm(hessian.matrix, linear)
        inner_tol = _ACTIVE_SET_REDUCTION * sub.objective.grad_scale * sub.residual
        result = solve_active_set(form, sub.objective.penalty.prox, coef, self.active_inverse, inner_tol)
        # Discard the inverse after a failure: rounding errors may have accumulated in it.
        inverse = result.inverse.emptied(~result.solved)
        shift = shift + hessian.solve_intercept(result.coef - coef)
        intercept = sub.intercept - shift.reshape(sub.intercept.shape)
        source = eqx.tree_at(lambda source: source.active_inverse, self, inverse)
        return Proposal(result.coef, intercept, result.solved), source


def _compute(
    smooth: SmoothPart, at: SmoothEvaluation, count: Count
) -> tuple[ReducedHessian, Flat, Count, Flag]:
    """Return the fields that every cache has, for the Hessian at an iterate."""
    hessian = smooth.hessian(at, None, count)
    assert isinstance(hessian, ReducedHessian), "only matrices are cached"
    return hessian, hessian.diag, count, jnp.array(False)
