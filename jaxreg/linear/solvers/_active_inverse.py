"""Primal-dual active set method for a quadratic, with the inverse of the active block kept from step to step.

For a quadratic ½⟨w, Gw⟩ + ⟨b, w⟩ and a penalty whose prox has slopes 0 or one number per coordinate (L1,
factors, bounds, with or without a square), the linear system of a semismooth Newton step is

    (G_AA + diag(c)_AA) δ_A = right,    c = (J⁻¹ − 1)/t,

with A the active coordinates, J the slope of the prox, t its step size and c the penalty's own curvature.
From one λ to the next a few coordinates enter A and leave it, and pivots exchange them in the inverse
(`_packed_inverse`).

A change of λ changes c on all of A. The old inverse then preconditions conjugate gradients, which converge in
few iterations if c has changed by a common factor. If the method fails, for dependent columns or far from the
solution, the caller goes on with damped Newton steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._krylov import conjugate_gradients
from jaxreg._numerics import diagonal
from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Count, Flag, Flat, Mask, Square
from jaxreg.linear.solvers._packed_inverse import ActiveInverse
from jaxreg.linear.solvers._prox_jacobian import Prox
from jaxreg.penalties import Penalty

__all__ = [
    "ActiveSetResult",
    "QuadraticForm",
    "continuation",
    "prox_slopes_are_0_or_1",
    "solve_active_set",
]

# Limit of the rounds for one λ: a few suffice after a warm start, and a cycle never ends.
_MAX_ROUNDS = 10
# Growth of the residual over that of the first iterate at which the iteration counts as diverged.
_MAX_GROWTH = 300.0
# Shortest stride of the continuation, as a fraction of the interval from one λ to the next.
_MIN_STRIDE = 0.05
# Relative residual to which conjugate gradients solve a system.
_CG_REDUCTION = 1e-5
# Share of the tolerance at which conjugate gradients stop at the latest.
_CG_TARGET = 0.1
# Iterations of conjugate gradients per system; one is enough while c has not changed.
_CG_MAX_STEPS = 30
# Ratio of the curvature c in the inverse to the present one, above which the inverse is discarded.
_MAX_CURVATURE_RATIO = 20.0
# Lower bound of the curvature of a coordinate for its step size, relative to the largest curvature.
_MIN_CURVATURE = 1e-6


class QuadraticForm(NamedTuple):
    """½⟨w, gram·w⟩ + ⟨linear, w⟩."""

    gram: Square
    linear: Flat


class ActiveSetResult(NamedTuple):
    """Point, inverse of its active block, rounds taken, and whether the residual is below the tolerance."""

    coef: Flat
    inverse: ActiveInverse
    rounds: Count
    solved: Flag


def prox_slopes_are_0_or_1(penalty: Penalty, shape: tuple[int, ...], scale: Scalar) -> Flag:
    """Return whether the slopes of a separable prox are 0 or one number ≤ 1 per coordinate.

    The slopes are probed at points of both signs and 25 sizes from 2⁻¹² to 2¹² times `scale`.
    """
    signs = jnp.where(jnp.arange(shape[0]) % 2 == 0, 1.0, -1.0)

    def slopes_at(size: Scalar) -> Flat:
        v = size * signs
        return jax.jvp(lambda v: penalty.prox(v, jnp.ones_like(v)), (v,), (jnp.ones_like(v),))[1]

    # Not at powers of 2, which bounds may be: at a kink the derivative is between two slopes.
    slopes = jax.lax.map(slopes_at, 1.0472 * scale * 2.0 ** jnp.arange(-12.0, 13.0))
    top = jnp.max(slopes, axis=0)
    is_top = jnp.abs(slopes - top) <= 8 * jnp.finfo(slopes.dtype).eps
    return jnp.all((slopes == 0) | (is_top & (top <= 1)))


class _Iterate(NamedTuple):
    """Point u, its prox step, the slope J of the prox, and the residual ‖(u − prox)/t‖∞."""

    u: Flat
    prox: Flat
    slope: Flat
    residual: Scalar

    def prox_curvature(self, t: Flat) -> Flat:
        """Return c, 0 at coordinates that are not active."""
        return (1 / jnp.where(self.slope > 0, self.slope, 1.0) - 1) / t


def solve_active_set(
    form: QuadraticForm, prox: Prox, start: Flat, inverse: ActiveInverse, inner_tol: Scalar
) -> ActiveSetResult:
    """Minimise a quadratic plus a penalty.

    Args:
        form: the quadratic.
        prox: prox of the penalty, which `prox_slopes_are_0_or_1`.
        start: first iterate; returned unchanged if its residual is at most `inner_tol`.
        inverse: inverse of the active block of an earlier solution.
        inner_tol: residual ‖(u − prox(u − t∇, t))/t‖∞ to reach.
    """
    gram, linear = form
    diag = diagonal(gram)
    t = 1 / jnp.maximum(diag, _MIN_CURVATURE * jnp.max(diag) + jnp.finfo(gram.dtype).tiny)

    def evaluate(u: Flat) -> _Iterate:
        v = u - t * (linear + gram @ u)
        moved, slope = jax.jvp(lambda v: prox(v, t), (v,), (jnp.ones_like(v),))
        return _Iterate(u, moved, slope, jnp.max(jnp.abs(u - moved) / t))

    first_active = inverse.active

    def newton_round(carry: tuple[_Iterate, ActiveInverse, Count]) -> tuple[_Iterate, ActiveInverse, Count]:
        at, inverse, k = carry
        wanted = at.slope > 0
        curvature = jnp.where(wanted, at.prox_curvature(t), inverse.prox_curvature)
        # Keep the active set in the first round: after a change of λ many coordinates seem to enter or leave
        # that do not, while the gradients after one round predict the new active set far better.
        target_set = jnp.where((k > 0) | ~jnp.any(first_active), wanted, first_active)
        inverse = inverse.exchanged(gram, target_set, curvature)
        active = inverse.active
        # A column that depends on the active ones waits until one of them leaves.
        waiting = wanted & ~active
        r = jnp.where(waiting, 0.0, at.u - at.prox)
        r_inactive = jnp.where(active, 0.0, r)
        # Most rounds move no inactive coordinate: skip the product with the matrix.
        moves = jnp.any(r_inactive != 0)
        from_inactive = jax.lax.cond(moves, lambda: gram @ r_inactive, lambda: jnp.zeros_like(r))
        right = jnp.where(active, from_inactive - (1 / t + curvature) * r, 0.0)
        change = _solve(gram, curvature, inverse, right, inner_tol)
        u = jnp.where(active, at.u + change, jnp.where(waiting, at.u, at.prox))
        return evaluate(u), inverse, k + 1

    first = evaluate(start)

    def not_done(carry: tuple[_Iterate, ActiveInverse, Count]) -> Flag:
        at, _, k = carry
        return (at.residual > inner_tol) & (k < _MAX_ROUNDS) & (at.residual <= _MAX_GROWTH * first.residual)

    inverse = _discard_if_stale(inverse, first.slope > 0, first.prox_curvature(t))
    at, inverse, k = jax.lax.while_loop(not_done, newton_round, (first, inverse, jnp.array(0)))
    return ActiveSetResult(jnp.where(k > 0, at.prox, start), inverse, k, at.residual <= inner_tol)


def _discard_if_stale(inverse: ActiveInverse, active: Mask, curvature: Flat) -> ActiveInverse:
    """Return the inverse, or that of an empty block if a curvature of the penalty has fallen by 20 times."""
    both = inverse.active & active
    return inverse.emptied(jnp.any(both & (inverse.prox_curvature > _MAX_CURVATURE_RATIO * curvature)))


def _solve(gram: Square, curvature: Flat, inverse: ActiveInverse, right: Flat, inner_tol: Scalar) -> Flat:
    """Solve (gram + diag(curvature)) x = right on the active block.

    An inverse of the same curvature is multiplied with the right side; the next round corrects the rounding
    error. Any other inverse preconditions conjugate gradients.
    """
    same = ~jnp.any(inverse.active & (curvature != inverse.prox_curvature))
    target = jnp.maximum(_CG_REDUCTION * jnp.max(jnp.abs(right)), _CG_TARGET * inner_tol)

    def times(x: Flat) -> Flat:
        return jnp.where(inverse.active, gram @ x + curvature * x, 0.0)

    def by_inverse(r: Flat) -> Flat:
        return inverse.times(r)

    def by_conjugate_gradients(r: Flat) -> Flat:
        return conjugate_gradients(times, by_inverse, r, target, _CG_MAX_STEPS)

    return jax.lax.cond(same, by_inverse, by_conjugate_gradients, right)


class _Continuation(NamedTuple):
    """State of a continuation.

    Attributes:
        done: fraction of the interval between the penalties that is solved.
        stride: next fraction.
        coef: last solution.
        inverse: inverse of its active block.
        rounds: rounds so far.
    """

    done: Scalar
    stride: Scalar
    coef: Flat
    inverse: ActiveInverse
    rounds: Count


def continuation(
    form: QuadraticForm,
    prox_of: Callable[[list[Array]], Prox],
    ends: tuple[list[Array], list[Array]],
    start: Flat,
    inverse: ActiveInverse,
    inner_tol: Scalar,
) -> ActiveSetResult:
    """Follow the solution from one penalty to another by continuation, in shorter strides after a failure.

    Args:
        form: the quadratic.
        prox_of: function from the leaves of the penalty that depend on λ to its prox.
        ends: these leaves of the first and the last penalty; those between are interpolated.
        start: solution under the first penalty.
        inverse: inverse of its active block.
        inner_tol: residual to reach for each penalty.

    Returns:
        The last solution, and whether it is that under the last penalty.
    """
    first, last = ends

    def interpolate(done: Scalar) -> list[Array]:
        mix = lambda a, b: jnp.where(a == b, b, a + done.astype(b.dtype) * (b - a))  # noqa: E731
        return [mix(a, b) for a, b in zip(first, last, strict=True)]

    def stride(now: _Continuation) -> _Continuation:
        done = jnp.minimum(now.done + now.stride, 1.0)
        coef, inverse, rounds, solved = solve_active_set(
            form, prox_of(interpolate(done)), now.coef, now.inverse, inner_tol
        )
        # Discard the inverse after a failure: rounding errors may have accumulated in it.
        return _Continuation(
            done=jnp.where(solved, done, now.done),
            stride=jnp.where(solved, 2.0, 0.25) * now.stride,
            coef=jnp.where(solved, coef, now.coef),
            inverse=inverse.emptied(~solved),
            rounds=now.rounds + rounds,
        )

    def not_done(now: _Continuation) -> Flag:
        return (now.done < 1) & (now.stride > _MIN_STRIDE)

    one = jnp.ones((), start.dtype)
    begin = _Continuation(0 * one, one, start, inverse, jnp.array(0))
    end = jax.lax.while_loop(not_done, stride, begin)
    return ActiveSetResult(end.coef, end.inverse, end.rounds, end.done >= 1)
