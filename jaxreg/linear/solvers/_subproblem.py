"""Subproblem of a proximal Newton step: a damped quadratic model on the coordinates that may move now.

The model is minimised over the coordinates that a prox step moves, or would move if it were up to 10 %
longer; the others stay fixed and may join at the next step. The coordinates are sorted by the length of the
step that moves them, and the model works on the leading ones, so that its cost follows their number while the
compiled shapes stay the same. A matrix-free model takes all coordinates.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Int

from jaxreg._numerics import put_inside, take_filled
from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Coef, Count, Flag, Flat, Index, Intercept
from jaxreg.linear.solvers._factor import padded
from jaxreg.linear.solvers._hessian import MatrixFreeHessian, ReducedHessian
from jaxreg.linear.solvers._model import Model, blocks_of, minimise, prox_ravelled, step_sizes
from jaxreg.linear.solvers._prox_jacobian import BlockLayout, SeparableLayout
from jaxreg.linear.solvers._smooth_part import SmoothEvaluation, SmoothPart
from jaxreg.penalties import Penalty

__all__ = ["HessianOf", "Objective", "Proposal", "Subproblem", "min_damping", "minimise_damped"]

# Lengths of prox steps, in units of the step size, that decide which coordinates may move: those that the
# plain step moves come first, then those that a step 2 % or 10 % longer moves.
_STEP_FACTORS = (1.0, 1.02, 1.1)
# Smallest damping, in units of diag(H): above rounding error, so that dependent columns have a solution.
_MIN_DAMPING_FLOAT64 = 1e-11
_MIN_DAMPING_FLOAT32 = 1e-5

#: Hessian in the ravelled coordinates index[:count].
HessianOf = Callable[[Index, Count | int], ReducedHessian | MatrixFreeHessian]


def min_damping(dtype: DTypeLike) -> float:
    """Return the smallest damping in this dtype."""
    return _MIN_DAMPING_FLOAT64 if dtype == jnp.float64 else _MIN_DAMPING_FLOAT32


class Objective(NamedTuple):
    """Smooth part plus penalty; residuals are in units of `grad_scale`, ‖∇f‖∞ at the null fit."""

    smooth: SmoothPart
    penalty: Penalty
    grad_scale: Scalar

    def residual(self, coef: Coef, at: SmoothEvaluation, hessian_diag: Flat) -> Scalar:
        """Return ‖(w − prox(w − t∇f, t))/t‖∞ at t = 1/diag(H), or the intercept's gradient if larger."""
        t = step_sizes(self.penalty, hessian_diag)
        w, grad = coef.ravel(), at.grad.ravel()
        change = w - prox_ravelled(self.penalty, coef.shape, w - t * grad, t)
        largest = jnp.maximum(jnp.max(jnp.abs(change) / t), jnp.max(jnp.abs(at.intercept_grad)))
        return largest / self.grad_scale


class Subproblem(NamedTuple):
    """Iterate of a Newton step, with everything that its model depends on.

    Attributes:
        objective: smooth part and penalty.
        coef: coefficients.
        intercept: intercepts.
        at: smooth part at the iterate.
        hessian_diag: diagonal of the Hessian, for step sizes.
        damping: μ.
        residual: residual of the iterate, in units of `objective.grad_scale`.
        inner_tol: residual to reach, in the same unit.
    """

    objective: Objective
    coef: Coef
    intercept: Intercept
    at: SmoothEvaluation
    hessian_diag: Flat
    damping: Scalar
    residual: Scalar
    inner_tol: Scalar | float


class Proposal(NamedTuple):
    """Minimiser of a subproblem, and whether it was found."""

    coef: Coef
    intercept: Intercept
    solved: Flag


def minimise_damped(sub: Subproblem, hessian_of: HessianOf) -> Proposal:
    """Minimise the damped model on the coordinates that may move now."""
    smooth, penalty = sub.objective.smooth, sub.objective.penalty
    w, shape = sub.coef.ravel(), sub.coef.shape
    index, count = _near_coordinates(sub) if smooth.matrices else (jnp.arange(w.size), w.size)
    hessian = hessian_of(index, count).damped(sub.damping)
    x, grad = take_filled(w, index), take_filled(sub.at.grad.ravel(), index)
    # Move the intercepts to their minimiser at the present coefficients, and update the gradient.
    shift = hessian.hess_intercept_inverse @ jnp.ravel(sub.at.intercept_grad)
    grad = grad - hessian.times_intercept(shift)

    def prox(v: Flat, t: Flat) -> Flat:
        """Return the coordinates `index` of the prox of all coordinates, the others of which stay fixed."""
        full = put_inside(w, index, v)
        steps = put_inside(jnp.full_like(w, t[0]), index, t)
        return take_filled(prox_ravelled(penalty, shape, full, steps), index)

    layout = SeparableLayout()
    if not penalty.separable:
        layout = BlockLayout.of(blocks_of(penalty, sub.coef, index), w.dtype)
    model = Model(hessian, grad, x, prox, count, layout, smooth.model_is_exact)
    u, solved = minimise(model, sub.damping, sub.inner_tol * sub.objective.grad_scale)
    shift = shift + hessian.solve_intercept(u - x)
    coef = put_inside(w, index, u).reshape(shape)
    return Proposal(coef, sub.intercept - shift.reshape(sub.intercept.shape), solved)


def _near_coordinates(sub: Subproblem) -> tuple[Int[Array, " m"], Count]:
    """Return the coordinates that may move, by ascending distance and padded out of range; their number."""
    m = sub.coef.size
    distance = _distance_to_moving(sub)
    count = jnp.sum(distance < len(_STEP_FACTORS))
    order = jnp.argsort(distance, stable=True)
    order = jnp.pad(order, (0, padded(m) - m))
    return jnp.where(jnp.arange(order.size) < count, order, m), count


def _distance_to_moving(sub: Subproblem) -> Int[Array, " m"]:
    """Return for each coordinate the number of `_STEP_FACTORS` whose prox step does not move it.

    A prox step does not move a coordinate if it returns the same number with a derivative of 0. All
    coordinates of a block have the smallest distance in the block.
    """
    penalty, shape = sub.objective.penalty, sub.coef.shape
    t, w = step_sizes(penalty, sub.hessian_diag), sub.coef.ravel()

    def stays(factor: Array) -> Array:
        v = w - factor * t * sub.at.grad.ravel()
        step = lambda v: prox_ravelled(penalty, shape, v, t)  # noqa: E731
        moved, slope = jax.jvp(step, (v,), (jnp.ones_like(v),))
        return (moved == w) & (slope == 0)

    distance = jnp.sum(jax.vmap(stays)(jnp.asarray(_STEP_FACTORS, t.dtype)), axis=0)
    if penalty.separable:
        return distance
    blocks = blocks_of(penalty, sub.coef, jnp.arange(w.size))
    return jax.ops.segment_min(distance, blocks.labels, blocks.count)[blocks.labels]
