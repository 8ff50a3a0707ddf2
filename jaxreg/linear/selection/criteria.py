"""Criteria for the choice of hyperparameters: estimates of the error on new data.

A criterion is a function `(problem, penalty, solve) -> scalar` of traced arguments, differentiable by JAX.
`solve(problem, penalty)` returns the `Solution` of a problem, and `solve.batch(problem_of, xs, penalty)` the
solutions of the problems `problem_of(x)`, for x along the leading axis of `xs`. In a descent both start from
the solutions of the step before. Any function with these arguments is a criterion, such as

    def criterion(problem, penalty, solve):
        return jnp.mean((solve(problem, penalty).predict(X_new) - y_new) ** 2)

`information(path, problem, family)` evaluates AIC, BIC and their relatives along a path instead.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from jaxreg._typing import ArrayLike, Scalar
from jaxreg._validation import holds, prng_key, require
from jaxreg.linear._shapes import Predictor
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.selection._restandardize import restandardized
from jaxreg.linear.selection.information import Information, information
from jaxreg.linear.solve import Solution
from jaxreg.losses import SquaredError
from jaxreg.penalties import Penalty

__all__ = ["Information", "held_out", "information", "k_fold", "sure"]

#: Exponent of the number of samples in the step of the finite differences of `sure` (Deledalle et al. 2014).
_STEP_EXPONENT = 0.3


class Solve(Protocol):
    """The third argument of a criterion."""

    def __call__(self, problem: Problem, penalty: Penalty) -> Solution:
        """Return the solution of a problem."""
        ...

    def batch(self, problem_of: Callable[[Array], Problem], xs: Array, penalty: Penalty) -> Solution:
        """Return the solutions of the problems `problem_of(x)`, for x along the leading axis of `xs`."""
        ...


Criterion: TypeAlias = Callable[[Problem, Penalty, Solve], Scalar]


def held_out(problem: Problem) -> Partial:
    """Return the mean loss of the fit on another problem, on the scale of the data.

    Loss, sample weights and offset are those of the held-out problem; its intercept, standardisation and
    scaling of targets do not matter.

    Args:
        problem: the held-out samples.

    Raises:
        TypeError: for anything but a problem.

    >>> import jaxreg as jr
    >>> X, y = jnp.eye(4), jnp.arange(4.0)
    >>> criterion = held_out(jr.Problem(jr.losses.SquaredError(), X[2:], y[2:]))
    >>> train = jr.Problem(jr.losses.SquaredError(), X[:2], y[:2])
    >>> float(criterion(train, jr.L1(1.0), jr.solve))  # all coefficients are 0, and the intercept is 0.5
    2.125
    """
    require_problem(problem, "jaxreg.criteria.held_out(jaxreg.Problem(loss, X, y))")
    return Partial(_held_out, problem)


def _held_out(held: Problem, problem: Problem, penalty: Penalty, solve: Solve) -> Scalar:
    return _mean_loss(held, solve(problem, penalty), held.weight)


def _mean_loss(problem: Problem, fit: Solution, weight: Float[Array, " n"]) -> Scalar:
    """Return the weighted mean loss of a fit on the samples of a problem, on the scale of the data."""
    z = problem.predictor(*problem.to_working(fit.coef, fit.intercept))
    # A sample of weight 0 may have a loss that overflows.
    losses = jnp.where(weight > 0, problem.loss.value(z, problem.y), 0.0)
    return problem.original_objective(jnp.sum(weight * losses) / jnp.sum(weight))


def k_fold(folds: ArrayLike = 5, *, key: Array | int | None = None) -> Partial:
    """Return the cross-validated loss: the mean over folds of the mean loss on the fold's samples.

    Each fold is predicted by a fit in which its samples have weight 0. Features and targets are centred and
    scaled under these weights, as if the problem had been built without the fold, so that nothing of a fold
    enters its prediction. The features are not copied, and all folds are solved as one batch. The criterion
    is NaN if a fold has no sample of positive weight.

    Args:
        folds: the number of folds K ≥ 2 of equal size, drawn at random; or the fold of each sample, integers
            0 … K − 1 (n,), to keep groups, classes or periods together.
        key: JAX key of the random folds, or the integer that seeds one; None is 0.

    Raises:
        TypeError: for folds that are not integers.
        ValueError: for less than two folds, and labels that leave out a fold.

    >>> five_folds, two_halves = k_fold(5), k_fold([0, 0, 1, 1])
    """
    array = np.asarray(folds)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise TypeError(f"folds must be a number of folds or integer labels (n,), got {folds!r}")
    count = int(array) if array.ndim == 0 else int(array.max(initial=-1)) + 1
    require(count >= 2, f"cross-validation needs at least 2 folds, got {count}")
    if array.ndim == 0:
        return Partial(_k_fold, Partial(_random_masks, prng_key(key), count))
    masks = array == np.arange(count)[:, None]
    require(holds(lambda masks: masks.any(axis=1), masks) and array.min() >= 0, _NO_LABELS)
    return Partial(_k_fold, Partial(_masks_of_labels, masks))


_NO_LABELS = "folds must be the labels 0 … K − 1, each of them on at least one sample"


def _random_masks(key: Array, count: int, n: int) -> Bool[Array, "K n"]:
    require(count <= n, f"{count} folds need as many samples, got {n}")
    return jax.random.permutation(key, jnp.arange(n) % count) == jnp.arange(count)[:, None]


def _masks_of_labels(masks: Bool[Array, "K n"], n: int) -> Bool[Array, "K n"]:
    require(masks.shape[1] == n, f"folds has {masks.shape[1]} labels for {n} samples")
    return masks


def _k_fold(masks_of: Partial, problem: Problem, penalty: Penalty, solve: Solve) -> Scalar:
    masks = jnp.asarray(masks_of(problem.shape[0]))

    def without_fold(mask: Bool[Array, " n"]) -> Problem:
        weight = jnp.where(mask, 0.0, problem.weight)
        return restandardized(problem, weight / jnp.sum(weight), problem.y)

    def loss_on_fold(mask: Bool[Array, " n"], fit: Solution) -> Scalar:
        return _mean_loss(problem, fit, jnp.where(mask, problem.weight, 0.0))

    return jnp.mean(jax.vmap(loss_on_fold)(masks, solve.batch(without_fold, masks, penalty)))


def sure(sigma: ArrayLike, *, draws: int = 1, key: Array | int | None = None) -> Partial:
    r"""Return Stein's unbiased estimate of the risk of a fit by squared error.

    With noise of standard deviation σ, predictions ŷ and weights ω that sum to 1, the risk
    E Σᵢ ωᵢ(ŷᵢ − E yᵢ)² is estimated by

        Σᵢ ωᵢ(yᵢ − ŷᵢ)² − σ² + 2σ² Σᵢ ωᵢ ∂ŷᵢ/∂yᵢ,

    summed over outputs. The divergence, the degrees of freedom of the fit, is estimated by finite differences
    in random directions δ of entries ±1, ωᵢδᵢ(ŷᵢ(y + εδ) − ŷᵢ(y))/ε, with ε = 2σ/n^0.3. They make the
    estimate differentiable in the hyperparameters, which the divergence itself is not: for the lasso it is
    the number of nonzero coefficients. The directions stay the same in all steps of a descent.

    Args:
        sigma: standard deviation σ > 0 of the noise, in the units of y.
        draws: the number of directions, each of them one more fit.
        key: JAX key of the directions, or the integer that seeds one; None is 0.

    Raises:
        ValueError: for a σ that is not positive and finite, and `draws` below 1.
        TypeError: on use, for a loss other than `SquaredError`.

    References:
        Stein (1981), Estimation of the mean of a multivariate normal distribution. Deledalle, Vaiter, Fadili
        and Peyré (2014), Stein Unbiased GrAdient estimator of the Risk (SUGAR) for multiple parameter
        selection.
    """
    good = holds(lambda sigma: np.ndim(sigma) == 0 and np.isfinite(sigma) & (sigma > 0), sigma)
    require(good, f"sigma must be one finite number > 0, got {sigma}")
    require(draws >= 1, f"draws must be at least 1, got {draws}")
    return Partial(_sure, jnp.asarray(sigma), prng_key(key), int(draws))


def _sure(sigma: Scalar, key: Array, draws: int, problem: Problem, penalty: Penalty, solve: Solve) -> Scalar:
    if not isinstance(problem.loss, SquaredError):
        raise TypeError(f"sure is the risk of squared error, got {type(problem.loss).__name__}")
    n, unit = problem.shape[0], problem.target_scale
    sigma = (sigma / unit).astype(problem.dtype)
    step = 2 * sigma / n**_STEP_EXPONENT
    directions = jax.random.rademacher(key, (draws, *problem.y.shape), problem.dtype)
    shifts = step * jnp.concatenate([jnp.zeros_like(directions[:1]), directions])

    def shifted(shift: Array) -> Problem:
        return restandardized(problem, problem.weight, problem.y + shift)

    def predictor(fit: Solution) -> Predictor:
        return problem.predictor(*problem.to_working(fit.coef, fit.intercept))

    z, *moved = jax.vmap(predictor)(solve.batch(shifted, shifts, penalty))
    rates = [direction * (other - z) / step for direction, other in zip(directions, moved, strict=True)]
    freedom = jnp.sum(problem.weighted(sum(rates) / draws))
    error = jnp.sum(problem.weighted((problem.y - z) ** 2))
    outputs = problem.y[0].size
    return unit**2 * (error - outputs * sigma**2 + 2 * sigma**2 * freedom)
