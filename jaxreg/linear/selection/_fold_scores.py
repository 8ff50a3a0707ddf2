"""Scores of the paths of folds on the rows that these have not seen, and on their own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxreg._compilation import jit_at_level
from jaxreg.linear.design import Design
from jaxreg.linear.path.result import Path
from jaxreg.linear.problem import Problem
from jaxreg.linear.selection.scores import Metric

__all__ = ["RowScores", "score_rows", "targets"]


class RowScores(NamedTuple):
    """Scores at each λ on some rows, and the predictions of these where they were computed."""

    score: Float[np.ndarray, "L *K"]
    mean: Shaped[np.ndarray, "L r *K"] | None


class _Predictions(NamedTuple):
    """Weighted mean deviance at each λ; expected targets or probabilities of classes, or None."""

    deviance: Float[Array, "L *K"]
    mean: Shaped[Array, "L r *K"] | None


def targets(problem: Problem) -> np.ndarray:
    """Return the targets on the scale of the data, less the mean of the offset where they have a unit."""
    y = np.asarray(problem.y)
    if not problem.loss.has_unit:
        return y
    return np.asarray(problem.target_scale) * y + np.asarray(problem.target_mean)


def score_rows(
    problem: Problem,
    path: Path,
    rows: Int[np.ndarray, " r"],
    metric: Metric,
    *,
    per_target: bool = False,
    with_mean: bool = False,
) -> RowScores:
    """Return the scores of a path on some rows.

    Args:
        problem: the problem of all rows.
        path: the path, whose coefficients are on the scale of the data.
        rows: indices of the rows; n stands for no row. Scores are NaN where all rows have weight 0.
        metric: the metric.
        per_target: whether each of K targets has a score of its own, (L, K).
        with_mean: whether predictions are returned; n stands for a row of any prediction.
    """
    n, weight = problem.shape[0], np.asarray(problem.weight, float)
    used = rows[rows < n]
    counted = weight[used] > 0
    unscored = np.full((path.lambdas.size, *(problem.outputs if per_target else ())), np.nan)
    if not counted.any() and not with_mean:
        return RowScores(unscored, None)
    wants_mean = with_mean or metric.score is not None
    predictions = _predict(problem, path.coef, path.intercept, rows, wants_mean, per_target)
    deviance, mean = jax.tree.map(np.asarray, predictions)
    if not counted.any():
        return RowScores(unscored, mean)
    if metric.score is None:
        return RowScores(deviance, mean)
    used, mean_used = used[counted], mean[:, np.flatnonzero(rows < n)[counted]]
    y, weight = targets(problem)[used], weight[used]
    if not per_target:
        return RowScores(np.array([float(metric.score(y, z, weight)) for z in mean_used]), mean)
    scores = [[float(metric.score(*pair, weight)) for pair in zip(y.T, z.T, strict=True)] for z in mean_used]
    return RowScores(np.array(scores), mean)


@jit_at_level(0)
@jax.default_matmul_precision("highest")
def _predict(
    problem: Problem,
    coef: Float[Array, "L p *K"],
    intercept: Float[Array, "L *K"],
    rows: Int[Array, " r"],
    wants_mean: bool,
    per_target: bool,
) -> _Predictions:
    take = lambda x: x.at[rows].get(mode="fill", fill_value=0)  # noqa: E731
    coef, intercept = jax.vmap(problem.to_working)(coef, intercept)
    y, weight, offset = take(problem.y), take(problem.weight), take(problem.offset)
    z = _products(problem.design, coef, rows) + intercept[:, None] + offset
    loss = problem.loss

    def deviance_of(z: Float[Array, "L r *K"], y: Array) -> Float[Array, " L"]:
        deviance = jax.vmap(lambda z: loss.value(z, y))(z) - loss.saturated(y)
        # A row of weight 0 may have a loss that overflows.
        return jnp.where(weight > 0, weight * deviance, 0.0).sum(axis=1) / jnp.sum(weight)

    deviance = jax.vmap(deviance_of, -1, -1)(z, y) if per_target else deviance_of(z, y)
    deviance = problem.original_objective(2 * deviance)
    if not wants_mean:
        return _Predictions(deviance, None)
    if loss.has_unit:
        z = problem.target_scale * z + problem.target_mean
    return _Predictions(deviance, jax.vmap(problem.original_loss.mean)(z))


def _products(design: Design, coef: Float[Array, "L p *K"], rows: Int[Array, " r"]) -> Float[Array, "L r *K"]:
    """Return the products (L, r) or (L, r, K) of some rows with the coefficients of each λ."""
    part = design.rows(rows)
    if part is not None:
        return jax.vmap(part.matmul)(coef)
    return jax.vmap(design.matmul)(coef).at[:, rows].get(mode="fill", fill_value=0)
