"""Relaxed fits: the unpenalised fit on each support of a path, mixed with the penalised one.

The lasso shrinks the coefficients that it selects. The relaxed lasso (Meinshausen 2007; Hastie, Tibshirani
and Tibshirani 2020, the form of glmnet) takes its support and undoes a part of the shrinkage:

    coef(λ, γ) = γ·coef(λ) + (1 − γ)·(unpenalised fit on the support of coef(λ)).
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from jaxreg._compilation import jit_at_level
from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._typing import ArrayLike
from jaxreg._validation import require
from jaxreg.linear._shapes import Coef, Flag, Intercept
from jaxreg.linear.null_fit import fit_unpenalised, initial_intercept, is_unique_and_finite
from jaxreg.linear.path.result import Path
from jaxreg.linear.prediction import LinearPredictor
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.solve import MAX_UNPENALISED_STEPS
from jaxreg.linear.unpenalised import Capacity
from jaxreg.losses import Loss
from jaxreg.penalties import L1

__all__ = ["RelaxedPath", "relax"]

#: Number of columns in the smallest size class of supports.
_MIN_ROOM = 16
#: Ratio of two size classes: each compiles a program, and a fit costs as much as the largest of its class.
_ROOM_RATIO = 4


class RelaxedPath(LinearPredictor):
    """Relaxed solutions along a grid of λ, on the scale of the data.

    Attributes:
        lambdas: the grid.
        gamma: the share γ of the penalised fit.
        coef: relaxed coefficients at γ.
        intercept: relaxed intercepts at γ.
        penalised: coefficients and intercepts of the path, γ = 1.
        unpenalised: coefficients and intercepts of the unpenalised fits on the supports, γ = 0. Where
            `relaxed` is false they are those of the path.
        relaxed: the λ (L,) whose support has a unique finite unpenalised fit.
        loss: the loss, for predictions.
        with_offset: whether the problem had an offset.
    """

    lambdas: Float[Array, " L"]
    gamma: Float[Array, ""]
    coef: Shaped[Array, "L p ..."]
    intercept: Shaped[Array, "L ..."]
    penalised: tuple[Float[Array, "L p *K"], Float[Array, "L *K"]]
    unpenalised: tuple[Float[Array, "L p *K"], Float[Array, "L *K"]]
    relaxed: Bool[Array, " L"]
    loss: Loss
    with_offset: bool = eqx.field(static=True, default=False)

    one_per_lambda: ClassVar[bool] = True

    def at_gamma(self, gamma: float) -> "RelaxedPath":
        """Return the solutions at another γ in [0, 1], without a new fit."""
        gamma = _checked_gamma(gamma)
        both = zip(self.penalised, self.unpenalised, strict=True)
        coef, intercept = (jnp.asarray(_mixed(gamma, *pair), self.coef.dtype) for pair in both)
        fields = (gamma.astype(self.coef.dtype), coef, intercept)
        return eqx.tree_at(lambda path: (path.gamma, path.coef, path.intercept), self, fields)

    def __str__(self) -> str:
        lambdas, coef, relaxed = map(np.asarray, (self.lambdas, self.coef, self.relaxed))
        nonzero = np.sum(coef != 0, axis=tuple(range(1, coef.ndim)))
        return (
            f"RelaxedPath: γ = {float(self.gamma):g}, {lambdas.size} λ from {lambdas[0]:.4g} to"
            f" {lambdas[-1]:.4g}, {nonzero[0]} to {nonzero[-1]} of {coef[0].size} weights nonzero,"
            f" {relaxed.sum()} of {lambdas.size} supports refitted"
        )


def _checked_gamma(gamma: float) -> np.ndarray:
    if isinstance(gamma, type) or callable(gamma):
        raise TypeError(f"gamma must be one number in [0, 1], got {gamma!r}: relax takes no family")
    value = np.asarray(gamma, float)
    require(value.ndim == 0 and 0 <= value <= 1, f"gamma must be one number in [0, 1], got {gamma}")
    return value


def _mixed(gamma: ArrayLike, penalised: Array, unpenalised: Array) -> np.ndarray:
    """Mix on the host; γ = 1 and γ = 0 return their fits to the last bit."""
    return np.asarray(gamma) * np.asarray(penalised) + (1 - np.asarray(gamma)) * np.asarray(unpenalised)


@on_auto_axes(replicated)
@jax.default_matmul_precision("highest")
def relax(path: Path, problem: Problem, gamma: float = 0.0) -> RelaxedPath:
    """Refit each support of a path without a penalty, and mix both fits.

    Bounds and penalty factors do not apply to the refit, offsets and sample weights do. A support that occurs
    several times is fitted once. For several outputs each output has its own support; the classes of
    `Multinomial` share the features that any of them uses.

    A support has no unique finite unpenalised fit if it has as many coefficients as there are samples,
    dependent columns, or separates the classes. The solution is then that of the path at every γ, and
    `relaxed` is false there. (glmnet ends its relaxed path at supports of n − 3 features.)

    Args:
        path: a concrete path of a penalty with exact zeros.
        problem: its problem.
        gamma: share γ in [0, 1] of the penalised fit: 1 is the path, 0 the unpenalised fit.

    Returns:
        A `RelaxedPath`: `coef` and `intercept` at γ for each λ, those of both fits, and `relaxed`. Its method
        `predict(X)` returns the expected targets of new rows, `at_gamma` the mixture at another γ.

    Raises:
        TypeError: where the arguments are not a path and a problem.
        ValueError: for γ outside of [0, 1], and a path of another number of features.

    References:
        N. Meinshausen: Relaxed lasso. Computational Statistics and Data Analysis 52 (2007). T. Hastie,
        R. Tibshirani, R. J. Tibshirani: Best subset, forward stepwise or lasso? Statistical Science 35
        (2020).

    >>> import jaxreg as jr
    >>> X = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    >>> problem = jr.Problem(jr.losses.SquaredError(), X, 3 * X[:, 0] + 0.5 * X[:, 1])
    >>> path = jr.path(problem, jr.L1, [1.0])
    >>> relaxed = jr.relax(path, problem)
    >>> [fit.coef[0].round(3).tolist() for fit in (path, relaxed, relaxed.at_gamma(0.5))]
    [[2.0, 0.0], [3.0, 0.0], [2.5, 0.0]]
    """
    if not isinstance(path, Path):
        raise TypeError(
            f"the first argument must be a Path, got {type(path).__name__}: write relax(path, problem)"
        )
    require_problem(problem, "jaxreg.relax(path, problem)")
    coef = np.asarray(path.coef)
    shape = problem.zeros()[0].shape
    require(
        coef.shape[1:] == shape, f"the path has coefficients of shape {coef.shape[1:]}, the problem {shape}"
    )
    gamma = _checked_gamma(gamma)
    refit_coef, refit_intercept, relaxed = _refit_supports(path, problem, _supports(problem, coef))
    result = RelaxedPath(
        lambdas=path.lambdas,
        gamma=gamma,
        coef=path.coef,
        intercept=path.intercept,
        penalised=(path.coef, path.intercept),
        unpenalised=(jnp.asarray(refit_coef), jnp.asarray(refit_intercept)),
        relaxed=jnp.asarray(relaxed),
        loss=path.loss,
        with_offset=path.with_offset,
    )
    return result.at_gamma(float(gamma))


def _supports(problem: Problem, coef: np.ndarray) -> Bool[np.ndarray, "L p *K"]:
    """Return the coefficients to refit; classes share their features, as a shift of all changes nothing."""
    support = coef != 0
    if problem.outputs and problem.y.ndim == 1:
        support = np.broadcast_to(support.any(axis=2, keepdims=True), support.shape)
    return support


def _refit_supports(
    path: Path, problem: Problem, support: Bool[np.ndarray, "L p *K"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the unpenalised fits and where they exist; elsewhere the fits of the path."""
    coef, intercept = np.array(path.coef), np.array(path.intercept)
    relaxed = np.zeros(len(support), bool)
    supports, inverse = np.unique(support.reshape(len(support), -1), axis=0, return_inverse=True)
    supports = supports.reshape(-1, *support.shape[1:])
    features = supports.reshape(*supports.shape[:2], -1)
    columns, largest = features.any(axis=2).sum(axis=1), features.sum(axis=1).max(axis=1)
    n = int(np.sum(np.asarray(problem.weight) > 0))
    fitted = np.flatnonzero(largest + int(problem.intercept) < n)
    rooms = _size_classes(columns[fitted], problem.shape[1])
    for room in np.unique(rooms):
        chosen = fitted[rooms == room]
        fits = [np.asarray(x) for x in _unpenalised_fits(problem, int(room), jnp.asarray(supports[chosen]))]
        for k, one_coef, one_intercept, exists in zip(chosen, *fits, strict=True):
            lams = inverse.ravel() == k
            if exists:
                coef[lams], intercept[lams], relaxed[lams] = one_coef, one_intercept, True
    return coef, intercept, relaxed


def _size_classes(columns: np.ndarray, p: int) -> np.ndarray:
    """Return 16, 64, 256, …, p at most: the number of columns that a fit has room for."""
    rooms = np.full(columns.shape, min(_MIN_ROOM, p))
    while np.any(rooms < columns):
        rooms = np.where(rooms < columns, np.minimum(rooms * _ROOM_RATIO, p), rooms)
    return rooms


@jit_at_level(2)
def _unpenalised_fits(
    problem: Problem, room: int, supports: Bool[Array, "S p *K"]
) -> tuple[Float[Array, "S p *K"], Float[Array, "S *K"], Bool[Array, " S"]]:
    """Fit on each support; the last result is whether the fit is unique and finite."""
    start = problem.zeros()[0], initial_intercept(problem)

    def fit_one(support: Bool[Array, "p *K"]) -> tuple[Coef, Intercept, Flag]:
        penalty = problem.working_penalty(L1(1.0, weights=jnp.where(support, 0.0, jnp.inf)))
        fit = fit_unpenalised(problem, penalty, Capacity(room, 0), start, steps=MAX_UNPENALISED_STEPS)
        constant = problem.constant if support.ndim == 1 else problem.constant[:, None]
        n_directions = jnp.sum(support & ~constant) + int(problem.intercept) * start[1].size
        exists = is_unique_and_finite(problem, fit, n_directions)
        return *problem.to_original(jnp.where(support, fit.coef, 0.0), fit.intercept), exists

    return jax.lax.map(fit_one, supports)
