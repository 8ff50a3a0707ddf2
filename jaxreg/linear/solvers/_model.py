"""Minimisation of a quadratic model of the smooth part plus the penalty, by semismooth Newton.

The minimiser of q(u) = ⟨s, u − x⟩ + ½⟨u − x, H(u − x)⟩ + g(u) is a zero of the prox residual

    r(u) = u − prox(v, t),    v = u − t∇,    ∇ = s + H(u − x),

for any step size t > 0. With J the derivative of the prox at v (see `_prox_jacobian`), A the active
coordinates and I the others, a semismooth Newton step sets δ_I = −r_I, the change by the prox, and solves

    (H_AA + (J_AA⁻¹ − I)/t) δ_A = −J_AA⁻¹ r_A/t − H_AI δ_I,

a symmetric system: by one Cholesky factorisation, or matrix-free by conjugate gradients. For L1 this is the
primal-dual active set method (Hintermüller, Ito and Kunisch 2003).

The iteration converges in a few rounds if it starts near the minimiser, and may cycle otherwise. `damping` μ
adds ½μ·⟨u − x, diag(H)(u − x)⟩ to the model, for which the iteration converges if μ is large enough. The
caller raises and lowers μ.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._krylov import conjugate_gradients
from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Coef, Count, Flag, Flat, Index, Mask
from jaxreg.linear.solvers._factor import Factor, empty_factor, factor, substitute
from jaxreg.linear.solvers._hessian import MatrixFreeHessian, ReducedHessian
from jaxreg.linear.solvers._prox_jacobian import BlockLayout, Prox, ProxJacobian, SeparableLayout
from jaxreg.penalties import Penalty
from jaxreg.penalties.base import Blocks

__all__ = ["Model", "blocks_of", "minimise", "prox_ravelled", "step_sizes"]

# Rounds after which a model counts as not solved: a few suffice near the minimiser, and a cycle never ends.
_MAX_ROUNDS = 10
# Factor by which the residual must fall: the model is only an approximation, which the next step replaces.
_REDUCTION = 1e-4
# The same factor where the model is the smooth part itself, so that one step solves the problem.
_REDUCTION_EXACT = 1e-7
# Residual, in units of eps·‖s‖∞, below which rounding takes over.
_ROUNDING = 1e3
# Target in units of the caller's tolerance, so that the residual evaluated afterwards is below the tolerance.
_SAFETY = 0.5
# Factor by which a round must reduce the residual for its factorisation to serve the next round too.
_REUSE_BELOW = 1e-2
# Relative residual to which conjugate gradients solve a system: Newton is inexact anyway.
_CG_REDUCTION = 1e-2
# Share of the model's target at which conjugate gradients stop at the latest.
_CG_TARGET = 0.1
# Iterations of conjugate gradients per system.
_CG_MAX_STEPS = 300
# Lower bound of the curvature of a coordinate for its step size, relative to the largest curvature.
_MIN_CURVATURE = 1e-6


class Model(NamedTuple):
    """Quadratic model plus penalty in m coordinates, of which `count` are in use and the others 0.

    Attributes:
        hessian: H.
        grad: s, gradient of the smooth part at `start`.
        start: x.
        prox: prox of the penalty on the m coordinates.
        count: coordinates in use; m is a `padded` size.
        layout: structure of the derivative of the prox.
        exact: whether the model is the smooth part itself, and worth solving to more digits.
    """

    hessian: ReducedHessian | MatrixFreeHessian
    grad: Flat
    start: Flat
    prox: Prox
    count: Count | int
    layout: SeparableLayout | BlockLayout
    exact: bool


def step_sizes(penalty: Penalty, hessian_diag: Flat) -> Flat:
    """Return step sizes t of a prox: 1/diag(H) for a separable penalty, else the smallest of them."""
    return _step_sizes(hessian_diag, 0.0, penalty.separable)


def _step_sizes(hessian_diag: Flat, damping: Scalar | float, separable: bool) -> Array:
    floor = _MIN_CURVATURE * jnp.max(hessian_diag) + jnp.finfo(hessian_diag.dtype).tiny
    bound = (1 + damping) * jnp.maximum(hessian_diag, floor)
    return 1 / bound if separable else jnp.full_like(bound, 1 / jnp.max(bound))


def prox_ravelled(penalty: Penalty, shape: tuple[int, ...], v: Flat, t: Flat) -> Flat:
    """Return the prox of ravelled coefficients of this `shape`, for step sizes of `step_sizes`."""
    step = t.reshape(shape) if penalty.separable else t[0]
    return penalty.prox(v.reshape(shape), step).ravel()


def blocks_of(penalty: Penalty, coef: Coef, index: Index) -> Blocks:
    """Return the penalty's blocks of ravelled coordinates; an index out of range gets the label `count`."""
    blocks = penalty.blocks(coef)
    assert blocks is not None, "only penalties that `newton.accepts` have blocks"
    labels = blocks.labels.ravel().at[index].get(mode="fill", fill_value=blocks.count)
    return Blocks(labels, blocks.count, blocks.size)


class _Iterate(NamedTuple):
    """Iterate u with v = u − t∇, prox(v, t) and the residual ‖(u − prox(v, t))/t‖∞."""

    u: Flat
    v: Flat
    prox: Flat
    residual: Scalar


class _Round(NamedTuple):
    """State of the iteration.

    Attributes:
        at: iterate.
        factorisation: last factorisation, None for conjugate gradients.
        active: active set of the last step.
        residual: residual at the start of the last step.
        count: rounds so far.
    """

    at: _Iterate
    factorisation: Factor | None
    active: Mask
    residual: Scalar
    count: Count


class _DampedModel(NamedTuple):
    """Model with step sizes t, damping μ·diag(H) as `extra` diagonal, and the mask of coordinates in use."""

    model: Model
    t: Flat
    extra: Flat
    in_use: Mask

    def times(self, d: Flat) -> Flat:
        """Return (H + extra) d."""
        return self.model.hessian.times(d) + self.extra * d

    def evaluate(self, u: Flat) -> _Iterate:
        """Return the prox residual at u."""
        model, t = self.model, self.t
        v = u - t * (model.grad + self.times(u - model.start))
        prox = jnp.where(self.in_use, model.prox(v, t), 0.0)
        return _Iterate(u, v, prox, jnp.max(jnp.abs(u - prox) / t))

    def jacobian(self, v: Flat) -> ProxJacobian:
        """Return the derivative of the prox at v, with no active coordinates beyond those in use."""
        jacobian = self.model.layout.jacobian(self.model.prox, v, self.t)
        return jacobian._replace(active=jacobian.active & self.in_use)

    def target(self, first: Scalar, inner_tol: Scalar | float) -> Scalar:
        """Return the residual at which the model counts as solved, from the `first` one."""
        target = _REDUCTION * first
        if self.model.exact:
            rounding = _ROUNDING * jnp.finfo(self.t.dtype).eps * jnp.max(jnp.abs(self.model.grad))
            target = jnp.maximum(_REDUCTION_EXACT * first, jnp.minimum(rounding, target))
        return jnp.maximum(target, _SAFETY * inner_tol)


def minimise(model: Model, damping: Scalar, inner_tol: Scalar | float) -> tuple[Flat, Flag]:
    """Minimise a model by semismooth Newton.

    Args:
        model: the model.
        damping: μ ≥ 0.
        inner_tol: residual that is small enough in any case.

    Returns:
        A point near the minimiser that came out of a prox, so that its zeros are exact and it is feasible;
        and whether its residual fell to the target.
    """
    diag = model.hessian.diag
    # Damp directions without curvature too. The damping is centred at the start: it vanishes at a solution.
    extra = damping * jnp.maximum(diag, _MIN_CURVATURE * jnp.max(diag))
    separable = isinstance(model.layout, SeparableLayout)
    in_use = jnp.arange(model.start.size) < model.count
    damped = _DampedModel(model, _step_sizes(diag, damping, separable), extra, in_use)
    first = damped.evaluate(model.start)
    target = damped.target(first.residual, inner_tol)
    solver = (
        _CGSolver(damped, target) if isinstance(model.hessian, MatrixFreeHessian) else _CholeskySolver(damped)
    )

    def semismooth_step(now: _Round) -> _Round:
        at = now.at
        jacobian = damped.jacobian(at.v)
        active = jacobian.active

        # With δ_I = −r_I, the right side −J_AA⁻¹ r_A/t − H_AI δ_I of the system in δ_A.
        r = at.u - at.prox
        r_active = jnp.where(active, r, 0.0)
        right = damped.times(r - r_active) - jacobian.inverse_times(r_active) / damped.t
        right = jnp.where(active, right, 0.0)

        reuse = jnp.all(active == now.active) & (at.residual < _REUSE_BELOW * now.residual)
        factorisation, change = solver.solve(now.factorisation, jacobian, right, reuse)
        new = damped.evaluate(jnp.where(active, at.u + change, at.prox))
        return _Round(new, factorisation, active, at.residual, now.count + 1)

    def not_done(now: _Round) -> Flag:
        return (now.at.residual > target) & (now.count < _MAX_ROUNDS)

    none_active = jnp.zeros(model.start.size, bool)
    start = _Round(first, solver.init(), none_active, first.residual, jnp.array(0))
    end = jax.lax.while_loop(not_done, semismooth_step, start).at
    return end.prox, end.residual <= target


class _CholeskySolver(NamedTuple):
    """Linear systems by Cholesky factorisation of the active block."""

    damped: _DampedModel

    def init(self) -> Factor:
        return empty_factor(self.damped.t.size, self.damped.t.dtype)

    def solve(
        self, previous: Factor, jacobian: ProxJacobian, right: Flat, reuse: Flag
    ) -> tuple[Factor, Flat]:
        """Return the factorisation, the `previous` one for `reuse`, and the solution."""
        active, m = jacobian.active, right.size

        def factorise() -> Factor:
            matrix = self.damped.model.hessian.matrix + jnp.diag(self.damped.extra)
            block = jnp.where(active[:, None] & active, matrix, jnp.eye(m, dtype=right.dtype))
            last = jnp.max(jnp.where(active, 1 + jnp.arange(m), 0))
            return factor(jacobian.add_curvature(block), last)

        chol = jax.lax.cond(reuse, lambda: previous, factorise)
        return chol, substitute(chol, right)


class _CGSolver(NamedTuple):
    """Linear systems by conjugate gradients with the inverse diagonal as preconditioner."""

    damped: _DampedModel
    target: Scalar

    def init(self) -> None:
        return None

    def solve(self, previous: None, jacobian: ProxJacobian, right: Flat, reuse: Flag) -> tuple[None, Flat]:
        """Return no factorisation, and the solution."""
        active, damped = jacobian.active, self.damped
        diag = damped.model.hessian.diag + damped.extra + jacobian.curvature
        diag = jnp.where(active & (diag > 0), diag, jnp.inf)

        def times(d: Flat) -> Flat:
            penalty_part = (jacobian.inverse_times(d) - d) / damped.t
            return jnp.where(active, damped.times(d) + penalty_part, 0.0)

        target = jnp.maximum(_CG_REDUCTION * jnp.max(jnp.abs(right)), _CG_TARGET * self.target)
        return None, conjugate_gradients(times, lambda r: r / diag, right, target, _CG_MAX_STEPS)
