"""Iterates of proximal gradient: coefficients, intercepts, and their image under a linear map.

The image (see `SmoothPart.image`) is carried along, so that an extrapolated iterate needs no product.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._numerics import two_sum
from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Coef, Intercept
from jaxreg.penalties import Penalty
from jaxreg.penalties.piecewise_quadratic import Coefficients, ElementaryPenalty

__all__ = ["CompensatedIterate", "Iterate", "PlainIterate"]

#: Function from the coefficients of an iterate to its intercepts and its image.
Completion = Callable[[Coef], tuple[Intercept, Array]]


class Iterate(eqx.Module):
    """Base of the two kinds of iterates."""

    coef: eqx.AbstractVar[Coef]
    intercept: eqx.AbstractVar[Intercept]
    image: eqx.AbstractVar[Array]

    @abstractmethod
    def minus(self, other: Self) -> Coef:
        """Return the difference of the coefficients."""

    @abstractmethod
    def extrapolated(self, previous: Self, beta: Scalar) -> Self:
        """Return self + beta·(self − previous)."""

    @abstractmethod
    def prox_step(self, penalty: Penalty, change: Coef, t: Scalar, complete: Completion) -> Self:
        """Return the iterate with the coefficients prox(coef + change, t)."""


class PlainIterate(Iterate):
    """Iterate without compensated coefficients, for double precision."""

    coef: Coef
    intercept: Intercept
    image: Array

    def minus(self, other: Self) -> Coef:
        return self.coef - other.coef

    def extrapolated(self, previous: Self, beta: Scalar) -> Self:
        return _extrapolate(self, previous, beta)

    def prox_step(self, penalty: Penalty, change: Coef, t: Scalar, complete: Completion) -> Self:
        coef = penalty.prox(self.coef + change, t)
        return PlainIterate(coef, *complete(coef))


class CompensatedIterate(Iterate):
    """Iterate in single precision with compensated coefficients coef + low (Dekker's double-float format).

    Where the largest curvature makes steps short, a step can be smaller than the rounding error of `coef`;
    `low` accumulates these errors. Only the prox of elementary penalties (sums of L1, squared L2 and boxes,
    with factors) is evaluated in two parts. For other penalties `low` is 0, so that solvers stall at a larger
    gap, which their status reports.
    """

    coef: Coef
    intercept: Intercept
    image: Array
    low: Coef

    def minus(self, other: Self) -> Coef:
        return (self.coef - other.coef) + (self.low - other.low)

    def extrapolated(self, previous: Self, beta: Scalar) -> Self:
        plain = _extrapolate(self, previous, beta)
        coef, low = two_sum(self.coef, self.low + beta * self.minus(previous))
        return CompensatedIterate(coef, plain.intercept, plain.image, low)

    def prox_step(self, penalty: Penalty, change: Coef, t: Scalar, complete: Completion) -> Self:
        coef = penalty.prox(self.coef + (change + self.low), t)
        if isinstance(penalty, ElementaryPenalty):
            coef, low = self._elementary_prox(penalty.coefficients(), coef, change, t)
        else:
            low = jnp.zeros_like(coef)
        return CompensatedIterate(coef, *complete(coef), low)

    def _elementary_prox(self, given: Coefficients, prox: Coef, change: Coef, t: Scalar) -> tuple[Coef, Coef]:
        """Return the prox in two parts where the penalty is quadratic around it, else `prox` and 0."""
        slope = jnp.where(prox > 0, given.positive, -jnp.asarray(given.negative))
        pull = slope + given.curvature * self.coef
        high, low = two_sum(self.coef, (change + self.low - t * pull) / (1 + t * given.curvature))
        smooth = (high * prox > 0) & (prox > given.lower) & (prox < given.upper)
        return jnp.where(smooth, high, prox), jnp.where(smooth, low, 0.0)


def _extrapolate(now: Iterate, previous: Iterate, beta: Scalar) -> Iterate:
    return jax.tree.map(lambda a, b: a + beta * (a - b), now, previous)
