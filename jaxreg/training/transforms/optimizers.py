"""Optimisers that end at a minimum of loss + penalty, with exact zeros.

Each takes the direction d of a known optimiser and the diagonal metric D in which that direction is a
gradient step, d = D·gradient at rest, and applies the prox in that same metric: w ← prox(w − η·d, η·D). At a
fixed point the metric cancels and what is left is 0 ∈ ∇f(w) + ∂g(w), whatever D is. With a penalty of 0 each
is the optimiser it is named after. To add one, write its direction and its metric.

Weights in bfloat16 or float16 get exact zeros too, but a step below half a unit in the last place of a weight
is lost, as with any optimiser: keep the weights in float32 where λ·η is small.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxreg._typing import ArrayLike, Params
from jaxreg.training.transforms.links import (
    ProximalState,
    Rate,
    ScheduledPenalty,
    at,
    checked,
    landing,
    wide,
)

__all__ = ["proximal_adagrad", "proximal_adam", "proximal_lion", "proximal_sgd"]

#: What a step of the inner optimiser tells: its state, the direction, and the metric (a number or a tree).
Step = tuple[Any, Any, Any]


def proximal_sgd(
    learning_rate: Rate, penalty: ScheduledPenalty, *, momentum: ArrayLike = 0.0, nesterov: bool = False
) -> optax.GradientTransformationExtraArgs:
    """`optax.sgd` whose steps end at a minimum of loss + penalty: any penalty with a prox.

    With momentum β the gradients of all steps so far count with weights that sum to (1 − βᵏ)/(1 − β), and so
    does the penalty: prox-SGD (Yang et al. 2020) with the scale of optax's momentum. A run without noise
    converges for η below 2(1 − β)/L, L the curvature of the loss; often well above.

    `learning_rate` is a number or schedule, `penalty` a penalty or a function of the step count. TypeError
    for what is no penalty, ValueError for a momentum outside [0, 1).

    >>> import jaxreg as jr, optax
    >>> w, tx = jnp.array([1.0, 0.2]), proximal_sgd(0.5, jr.L1(0.5))
    >>> state = tx.init(w)
    >>> for _ in range(60):  # the loss is ½‖w − (1, 0.2)‖²
    ...     updates, state = tx.update(w - jnp.array([1.0, 0.2]), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> w.tolist()
    [0.5, 0.0]
    """
    plain = isinstance(momentum, int | float)
    if plain and not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    trace = optax.identity() if plain and momentum == 0 else optax.trace(momentum, nesterov)

    def step(gradient: Any, inner: Any, count: Any, params: Any) -> Step:
        direction, inner = trace.update(gradient, inner, params)
        terms = count + (2 if nesterov else 1)
        return inner, direction, (1 - jnp.asarray(momentum) ** terms) / (1 - jnp.asarray(momentum))

    return _optimiser(trace.init, step, learning_rate, penalty)


def proximal_adam(
    learning_rate: Rate,
    penalty: ScheduledPenalty,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """`optax.adam` whose steps end at a minimum of loss + penalty, by the prox in Adam's own metric.

    The threshold of a coordinate is η·λ/(√v̂ + ε), that of its own gradient step (Duchi et al. 2011, eq. 4,
    for the metric; Yun et al. 2021 for Adam). The penalty is not part of the moments: under plain Adam an L1
    subgradient is normalised away and never gives a zero. With a penalty that is not convex let the rate fall
    to 0: where the gradient vanishes the metric grows, and a prox with a long step may take a weight to 0.

    Arguments as for `optax.adam`; the rate, λ and the penalty may follow schedules. TypeError for a penalty
    that has no prox with one step per coordinate: separable ones, `GroupL2` and `SparseGroup` have.

    >>> import jaxreg as jr, optax
    >>> w, tx = jnp.array([1.0, 0.2]), proximal_adam(optax.exponential_decay(0.1, 10, 0.8), jr.L1(0.5))
    >>> state = tx.init(w)
    >>> for _ in range(300):
    ...     updates, state = tx.update(w - jnp.array([1.0, 0.2]), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> bool(abs(w[0] - 0.5) < 1e-3), float(w[1])
    (True, 0.0)
    """
    adam = optax.scale_by_adam(b1, b2, eps)

    def step(gradient: Any, inner: Any, count: Any, params: Any) -> Step:
        direction, inner = adam.update(gradient, inner, params)
        known = 1 - jnp.asarray(b2) ** inner.count

        def metric(v: jax.Array) -> jax.Array:
            v = wide(v)
            return 1 / (jnp.sqrt(v / known.astype(v.dtype)) + jnp.asarray(eps, v.dtype))

        return inner, direction, jax.tree.map(metric, inner.nu)

    return _optimiser(adam.init, step, learning_rate, penalty, metric="Adam")


def proximal_adagrad(
    learning_rate: Rate,
    penalty: ScheduledPenalty,
    initial_accumulator_value: ArrayLike = 0.1,
    eps: ArrayLike = 1e-7,
) -> optax.GradientTransformationExtraArgs:
    """`optax.adagrad` whose steps end at a minimum of loss + penalty (Duchi, Hazan and Singer 2011, eq. 4).

    Arguments as for `optax.adagrad`; errors as for `proximal_adam`.

    >>> import jaxreg as jr, optax
    >>> w, tx = jnp.array([1.0, 0.2]), proximal_adagrad(0.5, jr.L1(0.5))
    >>> state = tx.init(w)
    >>> for _ in range(200):
    ...     updates, state = tx.update(w - jnp.array([1.0, 0.2]), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> bool(abs(w[0] - 0.5) < 1e-3), float(w[1])
    (True, 0.0)
    """
    adagrad = optax.scale_by_rss(initial_accumulator_value, eps)

    def step(gradient: Any, inner: Any, count: Any, params: Any) -> Step:
        direction, inner = adagrad.update(gradient, inner, params)
        return inner, direction, jax.tree.map(lambda s: jax.lax.rsqrt(wide(s) + eps), inner.sum_of_squares)

    return _optimiser(adagrad.init, step, learning_rate, penalty, metric="Adagrad")


def proximal_lion(
    learning_rate: Rate,
    penalty: ScheduledPenalty,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """`optax.lion` whose steps end at a minimum of loss + penalty.

    Lion steps along sign(c), c an average of gradients (Chen et al. 2023). That is the gradient step c in the
    metric 1/|c|, so the prox takes η/|c| per coordinate: at rest c is the gradient and the stated problem is
    solved, while the prox with a uniform step would solve another. |c| counts as at least `eps`. Let the rate
    fall to 0: at a constant one, weights without a penalty step to and fro by η. Errors as for
    `proximal_adam`, and TypeError for a penalty that is not convex: where the gradient vanishes the metric
    grows without bound, and the prox would take any weight to 0.

    >>> import jaxreg as jr, optax
    >>> rate = optax.exponential_decay(0.05, 50, 0.6)
    >>> w, tx = jnp.array([1.0, 0.2]), proximal_lion(rate, jr.L1(0.5), b2=0.9)
    >>> state = tx.init(w)
    >>> for _ in range(300):
    ...     updates, state = tx.update(w - jnp.array([1.0, 0.2]), state, w)
    ...     w = optax.apply_updates(w, updates)
    >>> bool(abs(w[0] - 0.5) < 1e-3), float(w[1])
    (True, 0.0)
    """

    def step(gradient: Any, inner: Any, count: Any, params: Any) -> Step:
        average = jax.tree.map(lambda m, g: wide(b1 * m + (1 - b1) * g), inner, gradient)
        inner = jax.tree.map(lambda m, g: (b2 * m + (1 - b2) * g).astype(m.dtype), inner, gradient)
        metric = jax.tree.map(lambda c: 1 / jnp.maximum(jnp.abs(c), eps), average)
        return inner, jax.tree.map(jnp.multiply, metric, average), metric

    return _optimiser(optax.tree.zeros_like, step, learning_rate, penalty, metric="Lion", convex=True)


def _optimiser(
    init_inner: Callable[[Params], Any],
    step: Callable[[Any, Any, Any, Any], Step],
    learning_rate: Rate,
    penalty: ScheduledPenalty,
    **needs: Any,
) -> optax.GradientTransformationExtraArgs:
    """w ← prox(w − η·direction, η·metric), as updates; `needs` is what the penalty must have."""
    checked(penalty, **needs)

    def init(params: Params) -> ProximalState:
        return ProximalState(jnp.zeros((), jnp.int32), init_inner(params))

    def update(
        gradient: Any, state: ProximalState, params: Any = None, **extra: Any
    ) -> tuple[Any, ProximalState]:
        rate = at(learning_rate, state.count)
        inner, direction, metric = step(gradient, state.inner, state.count, params)
        moves = jax.tree.map(lambda d: (-rate * wide(d)).astype(wide(d).dtype), direction)
        # Finite, so that a step of inf times a λ of 0 is no NaN.
        steps = jax.tree.map(lambda m: jnp.minimum(rate * m, jnp.finfo(jnp.result_type(m)).max), metric)
        new = landing(params, moves, checked(at(penalty, state.count), **needs), steps, like=gradient)
        return new, ProximalState(optax.safe_increment(state.count), inner)

    return optax.GradientTransformationExtraArgs(init, update)
