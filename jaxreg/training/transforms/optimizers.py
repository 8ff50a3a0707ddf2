"""Optimisers that end at a minimum of loss + penalty, with exact zeros.

Each takes the direction d of a known optimiser and the diagonal metric D in which that direction is a
gradient step, d = D·gradient at rest, and applies the prox in that same metric: w ← prox(w − η·d, η·D). At a
fixed point the metric cancels, which leaves 0 ∈ ∇f(w) + ∂g(w) for any D. With a penalty of 0 each optimiser
is the one it is named after. To add one, write its direction and its metric.

Weights in bfloat16 or float16 get exact zeros too, but a step below half a unit in the last place of a weight
is lost, as with any optimiser: keep the weights in float32 where λ·η is small.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxreg._typing import ArrayLike, Params, StepSize
from jaxreg.training.transforms.links import (
    ProximalState,
    Rate,
    ScheduledPenalty,
    check_penalty,
    prox_updates,
    value_at,
    widen,
)

__all__ = ["proximal_adagrad", "proximal_adam", "proximal_lion", "proximal_sgd"]


class Step(NamedTuple):
    """A step of the inner optimiser: its state, the direction, and the metric (a number or a tree)."""

    inner: optax.OptState
    direction: optax.Updates
    metric: StepSize


def proximal_sgd(
    learning_rate: Rate, penalty: ScheduledPenalty, *, momentum: ArrayLike = 0.0, nesterov: bool = False
) -> optax.GradientTransformationExtraArgs:
    """SGD, as `optax.sgd`, that ends at a minimum of loss + penalty, for any penalty with a prox.

    With momentum β the gradients of the k steps so far count with weights that sum to (1 − βᵏ)/(1 − β), and
    so does the penalty: prox-SGD with the scale of optax's momentum. A run without noise converges for η
    below 2(1 − β)/L, where L is the largest curvature of the loss, and often for η well above.

    Args:
        learning_rate: A number or a schedule.
        penalty: A penalty, or a function of the step count that returns one.
        momentum: A number in [0, 1).
        nesterov: Whether momentum is Nesterov's.

    Raises:
        TypeError: `penalty` is neither a penalty nor a function.
        ValueError: `momentum` is outside [0, 1).

    References:
        Yang et al. (2020), ProxSGD: Training structured neural networks under regularization and constraints.

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

    def step(gradient: optax.Updates, inner: optax.OptState, count: Array, params: Params) -> Step:
        direction, inner = trace.update(gradient, inner, params)
        terms = count + (2 if nesterov else 1)
        return Step(inner, direction, (1 - _power(momentum, terms)) / (1 - jnp.asarray(momentum)))

    return _optimiser(trace.init, step, learning_rate, penalty)


def proximal_adam(
    learning_rate: Rate,
    penalty: ScheduledPenalty,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Adam, as `optax.adam`, that ends at a minimum of loss + penalty, by the prox in Adam's own metric.

    The threshold of a coordinate is λ times the step that its own gradient gets, η·λ/(√v̂ + ε). The penalty is
    not part of the moments: under plain Adam an L1 subgradient is normalised away and never gives a zero.
    With a non-convex penalty let the rate fall to 0: where the gradient vanishes the metric grows, and a prox
    with a long step may set a weight to 0.

    Args:
        learning_rate: A number or a schedule.
        penalty: A penalty with a prox that takes one step per coordinate (separable penalties, `GroupL2` and
            `SparseGroup`), or a function of the step count that returns one.
        b1: Decay rate of the first moment.
        b2: Decay rate of the second moment.
        eps: Added to the root of the second moment.

    Raises:
        TypeError: The penalty has no such prox, or the argument is neither a penalty nor a function.

    References:
        Duchi, Hazan and Singer (2011), Adaptive subgradient methods, eq. 4, for the metric.
        Yun, Lozano and Yang (2021), Adaptive proximal gradient methods for structured neural networks.

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

    def step(gradient: optax.Updates, inner: optax.OptState, count: Array, params: Params) -> Step:
        direction, inner = adam.update(gradient, inner, params)
        known = 1 - _power(b2, inner.count)

        def metric(v: jax.Array) -> jax.Array:
            v = widen(v)
            return 1 / (jnp.sqrt(v / known.astype(v.dtype)) + jnp.asarray(eps, v.dtype))

        return Step(inner, direction, jax.tree.map(metric, inner.nu))

    return _optimiser(adam.init, step, learning_rate, penalty, metric="Adam")


def proximal_adagrad(
    learning_rate: Rate,
    penalty: ScheduledPenalty,
    initial_accumulator_value: ArrayLike = 0.1,
    eps: ArrayLike = 1e-7,
) -> optax.GradientTransformationExtraArgs:
    """Adagrad, as `optax.adagrad`, that ends at a minimum of loss + penalty.

    Args:
        learning_rate: A number or a schedule.
        penalty: A penalty with a prox that takes one step per coordinate, or a function of the step count.
        initial_accumulator_value: Start of the sum of squared gradients.
        eps: Added to the sum of squared gradients.

    Raises:
        TypeError: The penalty has no such prox, or the argument is neither a penalty nor a function.

    References:
        Duchi, Hazan and Singer (2011), Adaptive subgradient methods, eq. 4.

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

    def step(gradient: optax.Updates, inner: optax.OptState, count: Array, params: Params) -> Step:
        direction, inner = adagrad.update(gradient, inner, params)
        metric = jax.tree.map(lambda s: jax.lax.rsqrt(widen(s) + eps), inner.sum_of_squares)
        return Step(inner, direction, metric)

    return _optimiser(adagrad.init, step, learning_rate, penalty, metric="Adagrad")


def proximal_lion(
    learning_rate: Rate,
    penalty: ScheduledPenalty,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Lion, as `optax.lion`, that ends at a minimum of loss + penalty.

    Lion steps along sign(c), where c is an average of gradients. That is the gradient step c in the metric
    1/|c|, so the prox takes the step η/|c| per coordinate: at rest c is the gradient, and the stated problem
    is solved, while a prox with a uniform step would solve another. Let the rate fall to 0: at a constant
    rate, weights without a penalty step to and fro by η.

    Args:
        learning_rate: A number or a schedule.
        penalty: A convex penalty with a prox that takes one step per coordinate, or a function of the step
            count that returns one.
        b1: Decay rate of the average c.
        b2: Decay rate of the momentum.
        eps: Least |c| in the metric.

    Raises:
        TypeError: The penalty has no such prox or is not convex (where the gradient vanishes the metric grows
            without bound, and the prox would set any weight to 0), or the argument is neither a penalty nor a
            function.

    References:
        Chen et al. (2023), Symbolic discovery of optimization algorithms.

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

    def step(gradient: optax.Updates, inner: optax.OptState, count: Array, params: Params) -> Step:
        average = jax.tree.map(lambda m, g: widen(b1 * m + (1 - b1) * g), inner, gradient)
        inner = jax.tree.map(lambda m, g: (b2 * m + (1 - b2) * g).astype(m.dtype), inner, gradient)
        metric = jax.tree.map(lambda c: 1 / jnp.maximum(jnp.abs(c), eps), average)
        return Step(inner, jax.tree.map(jnp.multiply, metric, average), metric)

    return _optimiser(optax.tree.zeros_like, step, learning_rate, penalty, metric="Lion", convex=True)


def _optimiser(
    init_inner: Callable[[Params], optax.OptState],
    step: Callable[[optax.Updates, optax.OptState, Array, Params], Step],
    learning_rate: Rate,
    penalty: ScheduledPenalty,
    **needs: str | bool,
) -> optax.GradientTransformationExtraArgs:
    """Return the optimiser w ← prox(w − η·direction, η·metric); `needs` are arguments of `check_penalty`."""
    check_penalty(penalty, **needs)

    def init(params: Params) -> ProximalState:
        return ProximalState(jnp.zeros((), jnp.int32), init_inner(params))

    def update(
        gradient: optax.Updates, state: ProximalState, params: Params | None = None, **extra: object
    ) -> tuple[optax.Updates, ProximalState]:
        rate = value_at(learning_rate, state.count)
        inner, direction, metric = step(gradient, state.inner, state.count, params)
        wide = jax.tree.map(widen, direction)
        moves = jax.tree.map(lambda d: (-rate * d).astype(d.dtype), wide)
        # Finite steps: an infinite step times a λ of 0 would be NaN.
        steps = jax.tree.map(lambda m: jnp.minimum(rate * m, jnp.finfo(jnp.result_type(m)).max), metric)
        current = check_penalty(value_at(penalty, state.count), **needs)
        new = prox_updates(params, moves, current, steps, like=gradient)
        return new, ProximalState(optax.safe_increment(state.count), inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _power(base: ArrayLike, exponent: jax.Array) -> jax.Array:
    """Return base^exponent for an integer exponent.

    Outside of jit JAX makes an integer exponent a constant of the program: each step would compile one.
    """
    base = jnp.asarray(base)
    return base ** exponent.astype(base.dtype)
