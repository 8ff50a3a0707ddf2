"""Sets as penalties: 0 inside, inf outside; their prox is the nearest point of the set, at every step.

`Box` and `NonNegative`, which act on each coordinate alone, are in `separable`. Sets see standardised weights
where a problem standardises. To add one: a class with `value`, `prox` and `conjugate`, named in `__all__`.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg import projections
from jaxreg._pytree import ravel
from jaxreg._typing import Params, Scalar
from jaxreg._validation import holds, hyperparameter, require
from jaxreg.penalties._vectors import indicator, norm, scalar_step
from jaxreg.penalties.base import Penalty

__all__ = ["L1Ball", "L2Ball", "SetPenalty", "Simplex"]


class SetPenalty(Penalty):
    """Base of the members of this file: bounded convex sets, so that the conjugate is finite everywhere."""

    @property
    def convex(self) -> bool:
        """True."""
        return True

    def dual_scale(self, dual: Params) -> Scalar:
        """1: the set is bounded."""
        return jnp.ones((), ravel(dual)[0].dtype)


class L1Ball(SetPenalty):
    r"""The constraint $\lVert w \rVert_1 \le r$ over all weights: the lasso in its constrained form.

    `radius` is r ≥ 0, otherwise ValueError. Source: Tibshirani (1996); Duchi et al. (2008).

    >>> L1Ball(1.0).prox(jnp.array([2.0, -1.5, 0.5]), 1.0).tolist()
    [0.75, -0.25, 0.0]
    """

    radius: Array = hyperparameter(1.0)

    def __check_init__(self) -> None:
        _check("L1Ball: radius", self.radius)

    @property
    def keeps_signs(self) -> bool:
        """True."""
        return True

    def value(self, params: Params) -> Scalar:
        """0 inside, inf outside."""
        return indicator(jnp.sum(jnp.abs(ravel(params)[0])), self.radius)

    def prox(self, params: Params, step: Any) -> Params:
        """The nearest point."""
        scalar_step(step, self)
        vector, back = ravel(params)
        return back(projections.l1_ball(vector, self.radius))

    def conjugate(self, dual: Params) -> Scalar:
        """r·max|u|."""
        return self.radius * jnp.max(jnp.abs(ravel(dual)[0]))


class L2Ball(SetPenalty):
    r"""The constraint $\lVert w \rVert_2 \le r$ over all weights: ridge in its constrained form.

    `radius` is r ≥ 0, otherwise ValueError. Source: Parikh and Boyd (2014), section 6.5.1.

    >>> L2Ball(2.5).prox(jnp.array([3.0, -4.0]), 1.0).tolist()
    [1.5, -2.0]
    """

    radius: Array = hyperparameter(1.0)

    def __check_init__(self) -> None:
        _check("L2Ball: radius", self.radius)

    @property
    def keeps_signs(self) -> bool:
        """True."""
        return True

    def value(self, params: Params) -> Scalar:
        """0 inside, inf outside."""
        return indicator(norm(ravel(params)[0]), self.radius)

    def prox(self, params: Params, step: Any) -> Params:
        """The nearest point."""
        scalar_step(step, self)
        vector, back = ravel(params)
        return back(projections.l2_ball(vector, self.radius))

    def conjugate(self, dual: Params) -> Scalar:
        """r·‖u‖₂."""
        return self.radius * norm(ravel(dual)[0])


class Simplex(SetPenalty):
    r"""The constraint $w \ge 0, \sum_j w_j = s$ over all weights: mixtures and portfolios.

    `total` is s ≥ 0, otherwise ValueError. Source: Held, Wolfe and Crowder (1974); Duchi et al. (2008).

    >>> Simplex(1.0).prox(jnp.array([0.7, 0.7, -1.0]), 1.0).tolist()
    [0.5, 0.5, 0.0]
    """

    total: Array = hyperparameter(1.0)

    def __check_init__(self) -> None:
        _check("Simplex: total", self.total)

    def value(self, params: Params) -> Scalar:
        """0 on the simplex up to rounding, inf elsewhere."""
        w, _ = ravel(params)
        size = jnp.sum(jnp.abs(w))
        rounding = jnp.where(jnp.isfinite(size), 64 * jnp.finfo(w.dtype).eps * size, 0.0)
        return indicator(jnp.abs(jnp.sum(w) - self.total), rounding) + indicator(-jnp.min(w), 0.0)

    def prox(self, params: Params, step: Any) -> Params:
        """The nearest point."""
        scalar_step(step, self)
        vector, back = ravel(params)
        return back(projections.simplex(vector, self.total))

    def conjugate(self, dual: Params) -> Scalar:
        """s·max u."""
        return self.total * jnp.max(ravel(dual)[0])


def _check(what: str, x: Array) -> None:
    require(holds(lambda x: (x >= 0) & np.isfinite(x), x), f"{what} must be a finite number ≥ 0, got {x}")
