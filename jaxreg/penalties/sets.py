"""Sets as penalties: 0 inside, inf outside; the prox is the projection, at every step.

`Box` and `NonNegative`, which act on each coordinate alone, are in `separable`. In a problem that
standardises, the sets of this module constrain the standardised coefficients. A member writes `value`,
`project` and `conjugate`.
"""

from abc import abstractmethod

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxreg import prox
from jaxreg._numerics import norm
from jaxreg._pytree import ravel
from jaxreg._typing import Params, Scalar, StepSize
from jaxreg._validation import holds, hyperparameter, require
from jaxreg.penalties._duals import indicator
from jaxreg.penalties.base import Capabilities, Penalty

__all__ = ["L1Ball", "L2Ball", "SetPenalty", "Simplex"]


class SetPenalty(Penalty):
    """Base of bounded convex sets for the vector of all weights; the conjugate is finite everywhere."""

    capabilities = Capabilities(convex=True, has_conjugate=True)

    @abstractmethod
    def project(self, vector: Float[Array, " p"]) -> Float[Array, " p"]:
        """Return the nearest point of the set."""

    def prox(self, params: Params, step: StepSize) -> Params:
        self._scalar_step(step)
        vector, back = ravel(params)
        return back(self.project(vector))

    def dual_scale(self, dual: Params) -> Scalar:
        return jnp.ones((), ravel(dual)[0].dtype)


class L1Ball(SetPenalty):
    r"""The constraint $\lVert w \rVert_1 \le r$ over all weights: the lasso in its constrained form.

    `radius` is r ≥ 0, otherwise ValueError.
    Reference: Duchi et al. (2008), Efficient projections onto the ℓ1-ball for learning in high dimensions.

    >>> L1Ball(1.0).prox(jnp.array([2.0, -1.5, 0.5]), 1.0).tolist()
    [0.75, -0.25, 0.0]
    """

    capabilities = SetPenalty.capabilities._replace(keeps_signs=True)

    radius: Scalar = hyperparameter(1.0)

    def __check_init__(self) -> None:
        _check("L1Ball: radius", self.radius)

    def value(self, params: Params) -> Scalar:
        return indicator(jnp.sum(jnp.abs(ravel(params)[0])), self.radius)

    def project(self, vector: Float[Array, " p"]) -> Float[Array, " p"]:
        return prox.l1_ball(vector, self.radius)

    def conjugate(self, dual: Params) -> Scalar:
        """Return r·max|u|."""
        return self.radius * jnp.max(jnp.abs(ravel(dual)[0]))


class L2Ball(SetPenalty):
    r"""The constraint $\lVert w \rVert_2 \le r$ over all weights: ridge in its constrained form.

    `radius` is r ≥ 0, otherwise ValueError.
    Reference: Parikh and Boyd (2014), Proximal Algorithms, section 6.5.1.

    >>> L2Ball(2.5).prox(jnp.array([3.0, -4.0]), 1.0).tolist()
    [1.5, -2.0]
    """

    capabilities = SetPenalty.capabilities._replace(keeps_signs=True)

    radius: Scalar = hyperparameter(1.0)

    def __check_init__(self) -> None:
        _check("L2Ball: radius", self.radius)

    def value(self, params: Params) -> Scalar:
        return indicator(norm(ravel(params)[0]), self.radius)

    def project(self, vector: Float[Array, " p"]) -> Float[Array, " p"]:
        return prox.l2_ball(vector, self.radius)

    def conjugate(self, dual: Params) -> Scalar:
        """Return r·‖u‖₂."""
        return self.radius * norm(ravel(dual)[0])


class Simplex(SetPenalty):
    r"""The constraint $w \ge 0, \sum_j w_j = s$ over all weights: mixtures and portfolios.

    `total` is s ≥ 0, otherwise ValueError.
    Reference: Held, Wolfe and Crowder (1974), Validation of subgradient optimization.

    >>> Simplex(1.0).prox(jnp.array([0.7, 0.7, -1.0]), 1.0).tolist()
    [0.5, 0.5, 0.0]
    """

    total: Scalar = hyperparameter(1.0)

    def __check_init__(self) -> None:
        _check("Simplex: total", self.total)

    def value(self, params: Params) -> Scalar:
        """Return 0 on the simplex up to 64 roundings of the sum, inf elsewhere."""
        w, _ = ravel(params)
        size = jnp.sum(jnp.abs(w))
        rounding = jnp.where(jnp.isfinite(size), 64 * jnp.finfo(w.dtype).eps * size, 0.0)
        return indicator(jnp.abs(jnp.sum(w) - self.total), rounding) + indicator(-jnp.min(w), 0.0)

    def project(self, vector: Float[Array, " p"]) -> Float[Array, " p"]:
        return prox.simplex(vector, self.total)

    def conjugate(self, dual: Params) -> Scalar:
        """Return s·max u."""
        return self.total * jnp.max(ravel(dual)[0])


def _check(name: str, x: Array) -> None:
    require(holds(lambda x: (x >= 0) & np.isfinite(x), x), f"{name} must be a finite number ≥ 0, got {x}")
