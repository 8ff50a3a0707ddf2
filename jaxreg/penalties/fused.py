"""Penalties on differences of neighbours: similar neighbours become equal.

They act leaf by leaf along the first axis; every column of a matrix is a separate chain. On a chain,
u lies in the dual domain of λ Σ s_i|w_{i+1} − w_i| iff its running sums stay within ±λs and end at 0.
"""

from collections.abc import Callable
from typing import Self

import jax
import jax.numpy as jnp
from jax.ops import segment_sum
from jaxtyping import Array, Float, Int

from jaxreg import prox
from jaxreg._numerics import at_least_float32, magnitude
from jaxreg._pytree import weights_of
from jaxreg._typing import ArrayLike, Params, Scalar, StepSize
from jaxreg._validation import holds, hyperparameter, number, require, require_scalar
from jaxreg.penalties._duals import indicator, smallest_ratio
from jaxreg.penalties.base import Capabilities, Penalty
from jaxreg.penalties.combine import NamedCombination
from jaxreg.penalties.separable import L1

__all__ = ["FusedLasso", "TotalVariation"]


class TotalVariation(Penalty):
    r"""$\lambda \sum_i s_i |w_{i+1} - w_i|$ along the first axis of each leaf: piecewise constant weights.

    Constants are not penalised. The prox is direct and linear in the length (Johnson 2013).

    Args:
        lam: λ ≥ 0.
        weights: Factors s (n − 1,) ≥ 0 of the differences; None is 1 for all. A factor of 0 cuts the chain.

    Raises:
        ValueError: A number is negative, or the factors do not fit the params.

    References:
        Rudin, Osher and Fatemi (1992), Nonlinear total variation based noise removal algorithms.

    >>> TotalVariation(1.0).prox(jnp.array([0.0, 1.0, 5.0, 6.0]), 1.0).tolist()
    [1.0, 1.0, 5.0, 5.0]
    """

    capabilities = Capabilities(convex=True, keeps_order=True, has_conjugate=True)

    lam: Scalar = hyperparameter(1.0)
    weights: Float[Array, " n-1"] | None = None

    def __init__(self, lam: ArrayLike = 1.0, weights: ArrayLike | None = None) -> None:
        self.lam, self.weights = number(lam), None if weights is None else number(weights)
        require_scalar("TotalVariation: λ", self.lam)
        if self.weights is not None:
            fine = holds(lambda w: w >= 0, self.weights)
            require(fine, "TotalVariation: weights must be ≥ 0, got negative or NaN")

    def value(self, params: Params) -> Scalar:
        leaves, _ = weights_of(params)
        return sum(jnp.sum(self._factors(w) * _jumps(w)).astype(w.dtype) for w in leaves)

    def prox(self, params: Params, step: StepSize) -> Params:
        leaves, put = weights_of(params)
        step = self._scalar_step(step)
        return put([_on_chains(prox.total_variation, w, step * self._factors(w)) for w in leaves])

    def conjugate(self, dual: Params) -> Scalar:
        out = 0.0
        for u in weights_of(dual)[0]:
            sums = jnp.cumsum(u, axis=0)
            rounding = _rounding_of_sums(u)
            out = out + indicator(jnp.abs(sums[:-1]), self._factors(u) + rounding)
            out = out + indicator(jnp.abs(sums[-1]), 64 * rounding)
        return out

    def dual_scale(self, dual: Params) -> Scalar:
        scales = []
        for u in weights_of(dual)[0]:
            sums = jnp.abs(jnp.cumsum(u, axis=0))
            bound = jnp.concatenate([self._factors(u), jnp.zeros_like(u[:1])])
            # Where a chain ends its sum is 0 up to rounding, or the dual is outside at every scale.
            sums = jnp.where((bound == 0) & (sums <= 64 * _rounding_of_sums(u)), 0.0, sums)
            scales.append(smallest_ratio(bound, sums))
        return jnp.min(jnp.stack(scales))

    def project_on_unpenalised(self, direction: Params, at: Params | None = None) -> Params:
        """Return the mean of each chain, or of its parts where a factor of 0 cuts it."""
        leaves, put = weights_of(direction)
        return put([_on_chains(_segment_means, d, self._factors(d)) for d in leaves])

    def take(self, index: Int[Array, " k"]) -> Self:
        raise TypeError("TotalVariation cannot be restricted to some coordinates: it ties neighbours")

    def dual_plus_l1_contains(self, slope: Array, dual: Array) -> Array:
        """Return whether dual − q lies in the dual domain for some q with |q| ≤ slope.

        The running sums of such dual − q within their bounds form an interval at each position. Each end of
        the interval is a recursion of maps x ↦ max(x + a, b), which are composed in parallel.
        """
        tube = jnp.concatenate([self._factors(dual), jnp.zeros_like(dual[:1])])
        size = jnp.max(tube, initial=0.0) + slope + jnp.max(jnp.abs(dual))
        low = _running_max(dual - slope, -tube)
        high = -_running_max(-dual - slope, -tube)
        return jnp.all(low <= high + 64 * jnp.finfo(dual.dtype).eps * size)

    def _factors(self, w: Array) -> Array:
        """Return λs in the shape of the differences of w."""
        if w.ndim == 0:
            raise ValueError(
                "TotalVariation sees chains, got a single number among the leaves: leave it out with Masked"
            )
        shape = (w.shape[0] - 1, *w.shape[1:])
        if self.weights is None:
            return jnp.broadcast_to(self.lam.astype(w.dtype), shape)
        if self.weights.size != shape[0]:
            raise ValueError(
                f"TotalVariation: {self.weights.size} weights do not fit a chain of {w.shape[0]}: give one"
                " per difference of neighbours"
            )
        factors = (self.lam * self.weights).reshape(shape[0], *(1,) * (w.ndim - 1)).astype(w.dtype)
        return jnp.broadcast_to(factors, shape)


class FusedLasso(NamedCombination):
    r"""$\lambda_1 \sum_j |w_j| + \lambda_2 \sum_i |w_{i+1} - w_i|$: few levels, most of them 0.

    The prox is that of total variation, then a soft threshold.

    Args:
        lam_l1: λ₁ ≥ 0.
        lam_tv: λ₂ ≥ 0.

    Raises:
        ValueError: A number is negative.

    References:
        Tibshirani, Saunders, Rosset, Zhu and Knight (2005), Sparsity and smoothness via the fused lasso;
        Friedman, Hastie, Höfling and Tibshirani (2007), Pathwise coordinate optimization, lemma A.1.

    >>> FusedLasso(1.0, 1.0).prox(jnp.array([0.0, 1.0, 5.0, 6.0]), 1.0).tolist()
    [0.0, 0.0, 4.0, 4.0]
    """

    lam_l1: Scalar = hyperparameter(1.0)
    lam_tv: Scalar = hyperparameter(1.0)

    def __check_init__(self) -> None:
        require_scalar("FusedLasso: lam_l1", self.lam_l1)
        require_scalar("FusedLasso: lam_tv", self.lam_tv)

    def composed(self) -> Penalty:
        return TotalVariation(self.lam_tv) + L1(self.lam_l1)

    def take(self, index: Int[Array, " k"]) -> Self:
        raise TypeError("FusedLasso cannot be restricted to some coordinates: it ties neighbours")


def _jumps(w: Array) -> Array:
    """Return |w[j+1] − w[j]|, in float32 for half precision, where the differences would overflow."""
    return magnitude(jnp.diff(*at_least_float32(w), axis=0))


def _rounding_of_sums(u: Array) -> Array:
    """Return a bound of the rounding error of running sums of u along the first axis."""
    return jnp.finfo(u.dtype).eps * u.shape[0] * jnp.sum(jnp.abs(u), axis=0)


def _on_chains(function: Callable[[Array, Array], Array], w: Array, factors: Array) -> Array:
    """Apply a function of a vector and its factors to each chain along the first axis."""
    if w.shape[0] < 2:
        return w
    if w.ndim == 1:
        return function(w, factors)
    by_column = jax.vmap(function, in_axes=(1, 1), out_axes=1)
    return by_column(w.reshape(w.shape[0], -1), factors.reshape(factors.shape[0], -1)).reshape(w.shape)


def _segment_means(d: Float[Array, " n"], factors: Float[Array, " n-1"]) -> Float[Array, " n"]:
    """Return, at each coordinate, the mean of its part of the chain, which factors of 0 cut into parts."""
    labels = jnp.pad(jnp.cumsum(factors == 0), (1, 0))
    sums, counts = (segment_sum(x, labels, d.shape[0]) for x in (d, jnp.ones_like(d)))
    return (sums / jnp.maximum(counts, 1.0))[labels]


def _running_max(add: Array, floor: Array) -> Array:
    """Return x_i = max(x_{i−1} + add_i, floor_i) from x_0 = 0, by composing such maps in parallel."""

    def compose(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        return first[0] + second[0], jnp.maximum(first[1] + second[0], second[1])

    total, least = jax.lax.associative_scan(compose, (add, floor))
    return jnp.maximum(total, least)
