"""Fits of all folds: their paths, their scores, and the result."""

from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxreg._compilation import on_device
from jaxreg._threads import map_in_threads
from jaxreg.linear.path.matrix_columns import gram_applies
from jaxreg.linear.path.path import GridOptions, Precomputed, solve_grid
from jaxreg.linear.path.result import Path
from jaxreg.linear.problem import Problem
from jaxreg.linear.selection._fold_batch import batched_paths
from jaxreg.linear.selection._fold_features import FoldFeatures
from jaxreg.linear.selection._fold_problems import FoldProblems, padded_rows
from jaxreg.linear.selection._fold_scores import score_rows
from jaxreg.linear.selection.cv_result import CrossValidation, count_nonzeros, summarise
from jaxreg.linear.selection.cv_targets import TargetCrossValidation
from jaxreg.linear.selection.folds import Folds
from jaxreg.linear.selection.scores import Metric
from jaxreg.linear.solvers import Newton
from jaxreg.linear.unpenalised import count_unpenalised
from jaxreg.penalties import Family

__all__ = ["Task", "fit_folds"]


#: Result of one family.
Result = CrossValidation | TargetCrossValidation


class Task(NamedTuple):
    """A cross-validation: its problem, folds and options.

    Attributes:
        problem: problem of all rows.
        n_rows: number of rows of data; rows beyond have weight 0 and fill up the size class.
        folds: the folds.
        metric: score of predictions.
        options: options of the paths.
        features: makes the features of each fit; None for those of the problem.
        keep_predictions: whether predictions are kept.
        train_scores: whether each fit is scored on its own rows too.
        per_target: whether each target has a score of its own.
    """

    problem: Problem
    n_rows: int
    folds: Folds
    metric: Metric
    options: GridOptions
    features: FoldFeatures | None
    keep_predictions: bool
    train_scores: bool
    per_target: bool


class _Rows(NamedTuple):
    """Indices of the rows on which each fit is scored, filled up with n; `train` is None if not asked for."""

    test: Int[np.ndarray, "S r"]
    train: Int[np.ndarray, "S t"] | None


class _Fit(NamedTuple):
    """Scores, predictions and certificates of the path of one fold."""

    scores: Float[np.ndarray, "L *K"]
    train_scores: Float[np.ndarray, " L"] | None
    means: Float[np.ndarray, "L r *K"] | None
    gap: Float[np.ndarray, " L"]
    kkt: Float[np.ndarray, " L"]
    converged: Bool[np.ndarray, " L"]
    nonzeros: Int[np.ndarray, " L"]


def fit_folds(task: Task, families: tuple[Family, ...], paths: list[Path]) -> list[Result]:
    """Fit and score all families on each fold.

    Args:
        task: the problem, its folds, and the options.
        families: the families.
        paths: the path of each family on all rows.
    """
    solver, batched = task.options.solver or Newton(), task.options.mode == "batched"
    with_gram = isinstance(solver, Newton) and gram_applies(task.problem, solver) and not batched
    problems = FoldProblems.of(task.problem, task.folds, task.features, with_gram=with_gram)
    rows = _Rows(padded_rows(task.folds.test), padded_rows(task.folds.train) if task.train_scores else None)
    grids = [path.lambdas for path in paths]
    precomputed = [
        _shared_penalties(task.problem, family, grid) for family, grid in zip(families, grids, strict=True)
    ]
    per_family = list(zip(families, grids, precomputed, strict=True))

    # A thread does not inherit the precision, which programs are compiled for.
    @jax.default_matmul_precision("highest")
    def fit(k: int) -> list[_Fit]:
        fold = problems.fold(k)
        fold_paths = (
            solve_grid(fold.problem, family, lambdas, task.options, shared._replace(gram=fold.gram))
            for family, lambdas, shared in per_family
        )
        return [_fit(task, fold.whole, path, rows, k) for path in fold_paths]

    if batched:
        folds = [problems.fold(k) for k in range(len(rows.test))]
        fold_problems = [fold.problem for fold in folds]
        fits = []
        for family, lambdas, shared in per_family:
            fold_paths = batched_paths(fold_problems, family, lambdas, task.options, shared)
            fits.append([_fit(task, folds[k].whole, path, rows, k) for k, path in enumerate(fold_paths)])
    else:
        # A prox that couples blocks has a Jacobian of blocks, which Newton's method inverts.
        factorises = not all(family(on_device(1.0, task.problem.dtype)).separable for family in families)
        fits = list(zip(*map_in_threads(fit, len(rows.test), factorises=factorises), strict=True))
    return [
        _result(task, path, list(fold_fits), rows.test) for path, fold_fits in zip(paths, fits, strict=True)
    ]


def _shared_penalties(problem: Problem, family: Family, lambdas: Float[Array, " L"]) -> Precomputed:
    """Return the working penalties of all folds, where they do not depend on the scales of the features."""
    # Compare the penalties with those of a problem of other scales.
    rescaled = eqx.tree_at(lambda p: p.standardization.scale, problem, replace_fn=lambda scale: 2 * scale)
    grid, rescaled_grid = (x.working_grid(family, lambdas) for x in (problem, rescaled))
    pairs = zip(jax.tree.leaves(grid), jax.tree.leaves(rescaled_grid), strict=True)
    if not all(np.array_equal(a, b) for a, b in pairs):
        return Precomputed()
    return Precomputed(grid=grid, capacity=count_unpenalised(problem, grid))


def _fit(task: Task, whole: Problem, path: Path, rows: _Rows, k: int) -> _Fit:
    """Score the path of fold k on the rows of the fold; ValueError where the metric returns NaN."""
    options = {"per_target": task.per_target, "with_mean": task.keep_predictions}
    scores, means = score_rows(whole, path, rows.test[k], task.metric, **options)
    has_weight = np.asarray(task.problem.weight)[task.folds.test[k]].sum() > 0
    if has_weight and np.isnan(scores).any():
        raise ValueError(
            f"{task.metric.name} of fold {k} is NaN at {int(np.isnan(scores).sum())} of {scores.size} λ: the"
            " fold may lack a class (take fewer folds, or stratify=)"
        )
    train_scores = None
    if rows.train is not None:
        train_scores = score_rows(whole, path, rows.train[k], task.metric).score
    return _Fit(
        scores=scores,
        train_scores=train_scores,
        means=means if task.keep_predictions else None,
        gap=np.asarray(path.gap),
        kkt=np.asarray(path.kkt),
        converged=np.asarray(path.converged),
        nonzeros=count_nonzeros(path),
    )


def _result(task: Task, path: Path, fits: list[_Fit], test: Int[np.ndarray, "S r"]) -> Result:
    """Return the scores of all folds with their mean and standard error."""
    scores = np.stack([fit.scores for fit in fits])
    weights = task.folds.test @ np.asarray(task.problem.weight)
    mean, se = summarise(scores, weights, task.folds.repeat)
    shared = {
        "path": path,
        "fold_scores": scores,
        "fold_weights": weights,
        "repeat": task.folds.repeat,
        "mean": mean,
        "se": se,
        "fold_gap": np.stack([fit.gap for fit in fits]),
        "fold_kkt": np.stack([fit.kkt for fit in fits]),
        "converged": np.stack([fit.converged for fit in fits]),
        "predictions": _predictions(task, fits, test) if task.keep_predictions else None,
        "metric": task.metric.name,
        "higher_is_better": task.metric.higher_is_better,
    }
    if task.per_target:
        return TargetCrossValidation(**shared)
    return CrossValidation(
        **shared,
        fold_nonzeros=np.stack([fit.nonzeros for fit in fits]),
        train_scores=np.stack([fit.train_scores for fit in fits]) if task.train_scores else None,
    )


def _predictions(task: Task, fits: list[_Fit], test: Int[np.ndarray, "S r"]) -> Float[np.ndarray, "n L *K"]:
    """Return the mean prediction of each row over the folds that test it; NaN for rows in none."""
    n = task.problem.shape[0]
    means = fits[0].means
    total = np.zeros((n, means.shape[0], *means.shape[2:]), means.dtype)
    for rows, fit in zip(test, fits, strict=True):
        used = rows < n
        total[rows[used]] += np.moveaxis(fit.means, 0, 1)[used]
    count = task.folds.test.sum(axis=0).reshape((n,) + (1,) * (total.ndim - 1))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)[: task.n_rows]
