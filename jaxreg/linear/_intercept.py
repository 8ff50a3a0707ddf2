"""The best intercept for a given predictor: a problem in one number per output, without products with X."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreg._pytree import tree_where
from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Flag, Predictor
from jaxreg.linear.problem import Problem

__all__ = ["InterceptFit", "fit_intercept"]

#: Newton steps at most.
_MAX_STEPS = 8


class InterceptFit(NamedTuple):
    """Best shift b of a predictor z.

    Attributes:
        shift: b.
        u: gradient of the loss at z + b, for each sample.
        decrement: half the squared Newton decrement, the further decrease of the loss in b.
    """

    shift: Float[Array, "*K"]
    u: Float[Array, "n *K"]
    decrement: Scalar


def fit_intercept(problem: Problem, z: Predictor) -> InterceptFit:
    """Minimise the loss over z + b, in closed form or by Newton's method.

    Newton's method takes at most 8 steps, as long as each divides the gradient by at least 10. Where the
    gradient at z is not finite, `u` and `decrement` are NaN.
    """
    shift = problem.loss.optimal_shift(z, problem.y, problem.weight)
    if shift is not None:
        u, grad, newton = _newton_step(problem, z + shift, coupled=False)
        return InterceptFit(shift, u, 0.5 * jnp.sum(grad * newton))

    def step(carry: tuple[InterceptFit, Array, Array, Flag, Array]) -> tuple:
        best, smallest, shift, _, k = carry
        u, grad, newton = _newton_step(problem, z + shift, coupled=z.ndim == 2)
        size, new = jnp.max(jnp.abs(grad)), InterceptFit(shift, u, 0.5 * jnp.sum(grad * newton))
        best = tree_where(size < smallest, new, best)
        unfinished = (size < 0.1 * smallest) & (size > 0) & (k < _MAX_STEPS)
        return best, jnp.minimum(size, smallest), shift - newton, unfinished, k + 1

    none, nan = jnp.zeros(z.shape[1:], z.dtype), jnp.array(jnp.nan, z.dtype)
    unknown = InterceptFit(none, jnp.full_like(z, jnp.nan), nan)
    start = unknown, jnp.array(jnp.inf, z.dtype), none, jnp.array(True), jnp.array(0)
    return jax.lax.while_loop(lambda carry: carry[3], step, start)[0]


class _NewtonStep(NamedTuple):
    """Gradient u of each sample, their sum along the intercept, and the Newton step of the intercept."""

    u: Float[Array, "n *K"]
    grad: Float[Array, "*K"]
    newton: Float[Array, "*K"]


def _newton_step(problem: Problem, z: Predictor, *, coupled: bool) -> _NewtonStep:
    """Return the gradient along the intercept and the Newton step; `coupled` outputs share a Hessian."""

    def gradient(z: Predictor) -> Predictor:
        return problem.loss.gradient(z, problem.y)

    if coupled:
        u, hessian = gradient(z), jnp.sum(problem.curvatures(z), axis=0)
        grad = jnp.sum(problem.weighted(u), axis=0)
        return _NewtonStep(u, grad, jnp.linalg.pinv(hessian) @ grad)
    u, curvature = jax.jvp(gradient, (z,), (jnp.ones_like(z),))
    grad, curvature = (jnp.sum(problem.weighted(x), axis=0) for x in (u, curvature))
    return _NewtonStep(u, grad, grad / jnp.where(curvature > 0, curvature, 1.0))
