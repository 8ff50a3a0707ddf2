"""Penalties on the differences of neighbours: what is alike becomes equal.

Each acts leaf by leaf along the first axis, every column of a matrix on its own chain.
"""

from typing import Any, Self

import jax
import jax.numpy as jnp
from jax.ops import segment_sum
from jaxtyping import Array

from jaxreg import projections
from jaxreg._pytree import weights_of
from jaxreg._typing import ArrayLike, Params, Scalar
from jaxreg._validation import holds, hyperparameter, number, require, require_scalar
from jaxreg.penalties._vectors import indicator, magnitude, scalar_step, smallest_ratio
from jaxreg.penalties.base import Penalty
from jaxreg.penalties.combine import Named
from jaxreg.penalties.separable import L1

__all__ = ["FusedLasso", "TotalVariation"]


class TotalVariation(Penalty):
    r"""$\lambda \sum_i s_i |w_{i+1} - w_i|$ along the first axis of each leaf: piecewise constant weights.

    `lam` is λ ≥ 0; `weights` s (n − 1,) are the factors of the differences, None is 1 for all; a negative
    number raises ValueError, and so do factors that do not fit. Constants are not penalised.
    Source: Rudin, Osher and Fatemi (1992); the prox is direct, linear in the length: Johnson (2013).

    >>> TotalVariation(1.0).prox(jnp.array([0.0, 1.0, 5.0, 6.0]), 1.0).tolist()
    [1.0, 1.0, 5.0, 5.0]
    """

    lam: Array = hyperparameter(1.0)
    weights: Array | None = None

    def __init__(self, lam: ArrayLike = 1.0, weights: ArrayLike | None = None) -> None:
        self.lam, self.weights = number(lam), None if weights is None else number(weights)
        require_scalar("TotalVariation: λ", self.lam)
        if self.weights is not None:
            require(
                holds(lambda w: w >= 0, self.weights),
                "TotalVariation: weights must be ≥ 0, got negative or NaN",
            )

    convex = conjugate_is_indicator = keeps_order = property(lambda self: True)

    def value(self, params: Params) -> Scalar:
        """λ Σ s|difference|."""
        leaves, _ = weights_of(params)
        return sum(jnp.sum(self._factors(w) * _jumps(w)).astype(w.dtype) for w in leaves)

    def prox(self, params: Params, step: Any) -> Params:
        """The exact minimiser on each chain."""
        leaves, put = weights_of(params)
        step = scalar_step(step, self)
        return put([_columns(projections.total_variation, w, step * self._factors(w)) for w in leaves])

    def conjugate(self, dual: Params) -> Scalar:
        """0 where the running sums of u stay within λs and end at 0, else inf."""
        out = 0.0
        for u in weights_of(dual)[0]:
            sums = jnp.cumsum(u, axis=0)
            rounding = jnp.finfo(u.dtype).eps * u.shape[0] * jnp.sum(jnp.abs(u), axis=0)
            out = out + indicator(jnp.abs(sums[:-1]), self._factors(u) + rounding)
            out = out + indicator(jnp.abs(sums[-1]), 64 * rounding)
        return out

    def dual_scale(self, dual: Params) -> Scalar:
        """The smallest ratio of λs to a running sum, at most 1."""
        tops = []
        for u in weights_of(dual)[0]:
            sums = jnp.abs(jnp.cumsum(u, axis=0))
            bound = jnp.concatenate([self._factors(u), jnp.zeros_like(u[:1])])
            rounding = 64 * jnp.finfo(u.dtype).eps * u.shape[0] * jnp.sum(jnp.abs(u), axis=0)
            # Where a chain ends its sum is 0 up to rounding, or the dual is outside at every scale.
            sums = jnp.where((bound == 0) & (sums <= rounding), 0.0, sums)
            tops.append(smallest_ratio(bound, sums))
        return jnp.min(jnp.stack(tops))

    def free(self, direction: Params, at: Params | None = None) -> Params:
        """The mean of each chain, or of its parts where a factor of 0 cuts it."""
        leaves, put = weights_of(direction)
        return put([_columns(_segment_means, d, self._factors(d)) for d in leaves])

    def take(self, index: Array) -> Self:
        """TypeError: a chain has no meaning on some of its links."""
        raise TypeError("TotalVariation cannot be restricted to some coordinates: it ties neighbours")

    def beside_slope(self, slope: Array, u: Array) -> Array:
        """Whether u, one chain (n,) or one per column, lies in the dual domain of this + slope·Σ|w|.

        There the running sums of u − q, for some q within ±slope, stay within λs and end at 0. What sums can
        be reached is an interval; its ends are maps x ↦ min(max(x + a, b), c), composed in parallel.
        """
        tube = jnp.concatenate([self._factors(u), jnp.zeros_like(u[:1])])
        slack = 64 * jnp.finfo(u.dtype).eps * (jnp.max(tube, initial=0.0) + slope + jnp.max(jnp.abs(u)))
        low = _running_max(u - slope, -tube)
        high = -_running_max(-u - slope, -tube)
        return jnp.all(low <= high + slack)

    def _factors(self, w: Array) -> Array:
        """λs, shaped to multiply the differences of w."""
        if w.ndim == 0:
            raise ValueError(
                "TotalVariation sees chains, got a single number among the leaves: leave it out with Masked"
            )
        shape = (w.shape[0] - 1, *(1,) * (w.ndim - 1))
        if self.weights is None:
            return jnp.broadcast_to(self.lam.astype(w.dtype), (w.shape[0] - 1, *w.shape[1:]))
        if self.weights.size != shape[0]:
            raise ValueError(
                f"TotalVariation: {self.weights.size} weights do not fit a chain of {w.shape[0]}: give one"
                " per difference of neighbours"
            )
        factors = (self.lam * self.weights).reshape(shape).astype(w.dtype)
        return jnp.broadcast_to(factors, (w.shape[0] - 1, *w.shape[1:]))


class FusedLasso(Named):
    r"""$\lambda_1 \sum_j |w_j| + \lambda_2 \sum_i |w_{i+1} - w_i|$: few levels, most of them 0.

    `lam_l1` and `lam_tv` are ≥ 0, otherwise ValueError. The prox is that of total variation, then a soft
    threshold. Source: Tibshirani et al. (2005); Friedman, Hastie, Höfling and Tibshirani (2007), lemma A.1.

    >>> FusedLasso(1.0, 1.0).prox(jnp.array([0.0, 1.0, 5.0, 6.0]), 1.0).tolist()
    [0.0, 0.0, 4.0, 4.0]
    """

    lam_l1: Array = hyperparameter(1.0)
    lam_tv: Array = hyperparameter(1.0)

    def __check_init__(self) -> None:
        require_scalar("FusedLasso: lam_l1", self.lam_l1)
        require_scalar("FusedLasso: lam_tv", self.lam_tv)

    def made_of(self) -> Penalty:
        """Total variation + L1."""
        return TotalVariation(self.lam_tv) + L1(self.lam_l1)

    def take(self, index: Array) -> Self:
        """TypeError: a chain has no meaning on some of its links."""
        raise TypeError("FusedLasso cannot be restricted to some coordinates: it ties neighbours")


def _jumps(w: Array) -> Array:
    """Return |w[j+1] − w[j]|, half precision in float32, whose range the differences do not leave."""
    wide = w.astype(jnp.promote_types(w.dtype, jnp.float32))
    return magnitude(jnp.diff(wide, axis=0))


def _columns(function: Any, w: Array, factors: Array) -> Array:
    """The function on each chain along the first axis."""
    if w.shape[0] < 2:
        return w
    if w.ndim == 1:
        return function(w, factors)
    flat = jax.vmap(function, in_axes=(1, 1), out_axes=1)
    return flat(w.reshape(w.shape[0], -1), factors.reshape(factors.shape[0], -1)).reshape(w.shape)


def _segment_means(d: Array, factors: Array) -> Array:
    """The mean of each run of coordinates that no factor of 0 cuts."""
    labels = jnp.pad(jnp.cumsum(factors == 0), (1, 0))
    sums, counts = (segment_sum(x, labels, d.shape[0]) for x in (d, jnp.ones_like(d)))
    return (sums / jnp.maximum(counts, 1.0))[labels]


def _running_max(add: Array, floor: Array) -> Array:
    """x_i = max(x_{i−1} + add_i, floor_i) from x_0 = 0, by composing such maps in parallel."""

    def then(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        return first[0] + second[0], jnp.maximum(first[1] + second[0], second[1])

    total, least = jax.lax.associative_scan(then, (add, floor))
    return jnp.maximum(total, least)
