"""Cross-validation of a certified path: the public function."""

import inspect
import warnings
from collections.abc import Hashable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from jaxreg._compilation import is_traced, on_device
from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._typing import ArrayLike
from jaxreg.linear.path.path import GridOptions, path, resolve_mode
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.selection._fold_features import FeaturesOfFit, FoldFeatures
from jaxreg.linear.selection._fold_fits import Task, fit_folds
from jaxreg.linear.selection._fold_problems import in_form_of_folds
from jaxreg.linear.selection.cv_result import CrossValidation, CrossValidations
from jaxreg.linear.selection.cv_targets import TargetCrossValidation
from jaxreg.linear.selection.folds import Folds, FoldsLike, make_folds
from jaxreg.linear.selection.scores import Score, metric_of
from jaxreg.linear.size_classes import in_size_class
from jaxreg.linear.solve import MAX_STEPS, tolerance
from jaxreg.linear.solvers import Solver
from jaxreg.losses import SquaredError
from jaxreg.penalties import Family
from jaxreg.penalties.family import checked

__all__ = ["cross_validate"]


@on_auto_axes(replicated)
@jax.default_matmul_precision("highest")
def cross_validate(  # noqa: PLR0913, public options by keyword
    problem: Problem,
    family: Family | Mapping[Hashable, Family],
    lambdas: ArrayLike | None = None,
    *,
    second: Mapping[str, Iterable[Hashable]] | None = None,
    folds: FoldsLike = 10,
    repeats: int = 1,
    key: Array | int | None = None,
    groups: ArrayLike | None = None,
    stratify: ArrayLike | bool | None = None,
    metric: str | Score | None = None,
    higher_is_better: bool | None = None,
    fold_features: FeaturesOfFit | None = None,
    keep_predictions: bool = False,
    train_scores: bool = False,
    per_target: bool = False,
    num: int = 100,
    ratio: float | None = None,
    mode: str = "auto",
    solver: Solver | None = None,
    tol: float | None = None,
    max_steps: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> CrossValidation | CrossValidations | TargetCrossValidation:
    """Choose λ by cross-validation, with a certificate for every fit.

    The grid comes from the path on all rows. Each fold is predicted by a path on the other rows: features and
    targets are centred and scaled by these alone, so that nothing of a fold enters its prediction. A step
    that is fitted to the data, such as the means that replace missing cells, needs `fold_features` for that.
    Sample weights count in the fits and in the scores.

    Args:
        problem: loss and data, concrete.
        family: function of λ that returns a penalty, such as `jaxreg.L1`; or a mapping from names to
            families, which are compared on the same folds.
        lambdas: the grid (L,), falling, at least 2 values. None takes `num` values from λ_max of all rows.
        second: one further argument of the family, by name, with its values: `second={"l1_ratio": [0.5, 1]}`
            calls `family(lam, l1_ratio=0.5)`.
        folds: a number of random folds, one label per row (n,), pairs (rows to train on, rows to test on), or
            a splitter of scikit-learn, or any object with `split(X, y, groups)`.
        repeats: number of random partitions into folds.
        key: JAX key or integer that seeds random folds; None is 0.
        groups: one label per row (n,); rows of a group stay in one fold.
        stratify: one class per row (n,), of which each random fold gets its share; True takes the targets of
            a loss of classes or counts.
        metric: "deviance" (None; the mean squared error for `SquaredError`), "squared_error",
            "absolute_error", "misclassification", "auc", or a function `(y_true, prediction, weight)` of
            arrays of NumPy. Predictions are means or probabilities of classes; with an offset and a loss
            with a unit, both they and the targets are less the mean of the offset.
        higher_is_better: for a function, whether a higher score is better; None is no.
        fold_features: function from the rows of a fit, booleans (n,), to the features (n, p) of all rows as
            that fit takes them, such as gaps filled by the means of its rows; called once for each fit, from
            several threads. Dense features only. The path on all rows takes the features of the problem, and
            columns that are constant there stay out of all fits. None gives all fits those features.
        keep_predictions: whether to keep the prediction of each row by fits without it.
        train_scores: whether to score each fit on its own rows too.
        per_target: whether each of several targets (n, K) has a λ of its own, chosen on the common grid by
            the scores of that target. For squared error and a separable penalty, which fit the targets one by
            one; bring targets to a common scale, such as a standard deviation of 1, for which one grid suits.
        num: number of λ of the default grid.
        ratio: smallest over largest λ of the default grid, see `jaxreg.path`.
        mode: as in `jaxreg.path`; "batched" solves all folds and λ in one batch.
        solver: as in `jaxreg.path`.
        tol: as in `jaxreg.path`.
        max_steps: as in `jaxreg.path`.
        mesh: devices to spread a batch over.

    Returns:
        A `CrossValidation`; with `second` or several families `CrossValidations`, which hold one for each;
        with `per_target` a `TargetCrossValidation`.

    Raises:
        TypeError: where the arguments are not a problem and a family, for a second axis that the family does
            not take, and for `fold_features` with sparse features.
        ValueError: for folds that cannot be made, fits that predict their own rows, groups in several
            folds, a fold without which a class has no sample, a metric that does not fit the loss or
            returns NaN, a grid of one λ, and a problem under a trace (see `jaxreg.criteria.k_fold`).

    References:
        Friedman, Hastie and Tibshirani (2010), Regularization paths for generalized linear models via
        coordinate descent: `cv.glmnet`, whose mean, standard error and choices of λ these are.

    >>> import jaxreg as jr
    >>> X = jnp.sin(jnp.arange(120.0)).reshape(40, 3)
    >>> y = X[:, 0] + 0.1 * jnp.cos(jnp.arange(40.0))
    >>> cv = cross_validate(jr.Problem(jr.losses.SquaredError(), X, y), jr.L1, num=20, folds=5)
    >>> bool(cv.converged.all()), cv.lambda_1se >= cv.lambda_min
    (True, True)
    """
    require_problem(problem, "jaxreg.cross_validate(jaxreg.Problem(loss, X, y), jaxreg.L1)")
    if is_traced(problem):
        raise ValueError(
            "cross_validate needs a concrete problem: under a trace take jaxreg.criteria.k_fold, or call it"
            " outside of jit and vmap"
        )
    axis = _axis(family, second)
    if per_target:
        _require_separate_targets(problem, axis, train_scores=train_scores)
    if (num if lambdas is None else np.size(lambdas)) < 2:
        raise ValueError("cross-validation chooses among at least 2 λ: the grid has one")
    features = FoldFeatures.of(fold_features, problem)
    score = metric_of(metric, problem.loss, higher_is_better=higher_is_better)
    targets = np.asarray(problem.y)
    if stratify is True and problem.loss.has_unit:
        raise ValueError(
            "stratify=True takes the targets as classes, which these are not: give one class per row"
        )
    stratify = targets if stratify is True else None if stratify is False else stratify
    fold_options = {"y": targets, "repeats": repeats, "key": key, "groups": groups, "stratify": stratify}
    masks = make_folds(problem.shape[0], folds, **fold_options)
    _warn_of_empty_folds(problem, masks)
    # The path on all rows and those of the folds share their compiled programs.
    whole = in_size_class(in_form_of_folds(problem))
    masks = masks.with_rows_of_no_weight(whole.shape[0])
    options = {"mode": mode, "solver": solver, "tol": tol, "max_steps": max_steps, "mesh": mesh}
    paths = [path(whole, family, lambdas, num=num, ratio=ratio, **options) for family in axis.families]
    step_limit = on_device(MAX_STEPS if max_steps is None else max_steps)
    grid_options = GridOptions(resolve_mode(mode, mesh), solver, tolerance(whole, tol), step_limit, mesh)
    outputs = {"keep_predictions": keep_predictions, "train_scores": train_scores, "per_target": per_target}
    task = Task(whole, problem.shape[0], masks, score, grid_options, features, **outputs)
    results = fit_folds(task, axis.families, paths)
    return results[0] if axis.name is None else CrossValidations(axis.name, axis.values, tuple(results))


class _Axis(NamedTuple):
    """Families, with their values of a second argument; the name is None for a single family."""

    name: str | None
    values: tuple[Hashable, ...]
    families: tuple[Family, ...]


def _axis(
    family: Family | Mapping[Hashable, Family], second: Mapping[str, Iterable[Hashable]] | None
) -> _Axis:
    """Return the families; ValueError for a second axis of no or several names, or without values."""
    if second is None:
        if not isinstance(family, Mapping):
            return _Axis(None, (), (checked(family),))
        name, values, families = "family", tuple(family), tuple(map(checked, family.values()))
    else:
        if not isinstance(second, Mapping) or len(second) != 1 or isinstance(family, Mapping):
            raise ValueError(
                "second names one argument of one family and its values, such as"
                f' second={{"l1_ratio": [0.5, 0.9]}}, got {second!r}'
            )
        ((name, values),) = second.items()
        if isinstance(values, str) or not np.iterable(values):
            raise ValueError(f"second needs a list of values of {name!r}, got {values!r}: write [{values!r}]")
        values = tuple(values)
        if values:
            _require_argument(checked(family), name)
        families = tuple(partial(checked(family), **{name: value}) for value in values)
    if not families:
        raise ValueError(f"there is no value of {name!r} to compare: give at least one")
    return _Axis(name, values, families)


def _require_separate_targets(problem: Problem, axis: _Axis, *, train_scores: bool) -> None:
    """Raise ValueError where a λ for each target has no meaning: targets that are fitted together."""
    if axis.name is not None or train_scores:
        raise ValueError(
            "per_target=True compares the λ of one family and keeps no training scores: leave out"
            f" {'train_scores' if train_scores else 'second, and give one family'}"
        )
    if not (problem.outputs and isinstance(problem.loss, SquaredError)):
        raise ValueError(
            "per_target=True needs SquaredError with several targets y (n, K), got"
            f" {type(problem.loss).__name__} with y of shape {np.shape(problem.y)}"
        )
    if not axis.families[0](on_device(1.0, problem.dtype)).separable:
        raise ValueError(
            "per_target=True needs a penalty that fits the targets one by one, such as L1 or SquaredL2: this"
            " one couples them"
        )


def _require_argument(family: Family, name: str) -> None:
    """Raise TypeError where a family takes no argument of this name."""
    try:
        inspect.signature(family).bind(1.0, **{name: None})
    except TypeError as error:
        shown = getattr(family, "__name__", type(family).__name__)
        raise TypeError(
            f"second names {name!r}, which {shown} does not take ({error}): name an argument beside λ"
        ) from None
    except ValueError:
        return  # A builtin without a signature shows its arguments when it is called.


def _warn_of_empty_folds(problem: Problem, folds: Folds) -> None:
    """Warn of folds whose rows have weight 0; ValueError where all have."""
    weights = folds.test @ np.asarray(problem.weight, float)
    empty = np.flatnonzero(weights <= 0)
    if empty.size == weights.size:
        raise ValueError("all rows of all folds have weight 0: there is nothing to score")
    if empty.size:
        named = ", ".join(map(str, empty[:3])) + (", …" if empty.size > 3 else "")
        warnings.warn(f"folds without weight are left out of the mean score: {named}", stacklevel=3)
