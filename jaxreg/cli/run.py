"""Solve every penalty on its grid of λ and collect the numbers in one labelled dataset.

Eager operations would compile a small program for each new shape, so the problem is built in one compiled
program and the numbers of a path are computed in another, which all penalties share.
"""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

import jaxreg as jr
from jaxreg._compilation import jit_at_level
from jaxreg.cli._dataset import labelled
from jaxreg.cli._losses import loss_of
from jaxreg.cli._settings import Settings
from jaxreg.cli.families import DataForm, member
from jaxreg.cli.load import Table
from jaxreg.cli.split import Split, split
from jaxreg.penalties import Family

if TYPE_CHECKING:
    import xarray

__all__ = ["run"]

#: Smallest λ over largest, glmnet's values, with more rows than features and without.
_RATIO_TALL = 1e-4
_RATIO_WIDE = 1e-2
#: Ridge starts at glmnet's 1000·‖∇f(null)‖∞, where no weight moves yet: its grid goes as much further down.
_RATIO_RIDGE = 1e-3


class _Rows(NamedTuple):
    """Rows on which a path is measured: the training rows, and those of the error (held out, or the same)."""

    X: Float[Array, "n p"]
    y: Shaped[Array, " n"]
    X_error: Float[Array, "m p"]
    y_error: Shaped[Array, " m"]


def run(
    table: Table,
    penalties: Sequence[str],
    settings: Settings | None = None,
    tick: Callable[[str], None] = lambda label: None,
) -> "xarray.Dataset":
    """Solve every penalty on its own grid. Sets JAX's precision to that of the settings.

    Args:
        table: The data.
        penalties: Names that `jaxreg.cli.families` knows.
        settings: By default those of the command.
        tick: Called with a label at the start of each part of the work.

    Returns:
        An `xarray.Dataset` over penalty, step, feature and, where there are several, class.

    Raises:
        ValueError: `member`, `split`, `Problem` or `path` refuse what they were given.
    """
    settings = Settings() if settings is None else settings
    form = DataForm(table.groups, len(table.classes))
    members = {found.label: found for found in (member(name, form) for name in penalties)}
    rows = split(table, settings.holdout, settings.seed)
    tick("preparing the problem")
    jax.config.update("jax_enable_x64", settings.dtype == "float64")
    loss = loss_of(table)
    X, error_rows = table.X.astype(settings.dtype), rows.held if rows.held.size else rows.train
    problem = _problem(loss, X[rows.train], table.y[rows.train], settings.standardize)
    data = _Rows(X[rows.train], table.y[rows.train], X[error_rows], table.y[error_rows])
    parts, free = [], None
    with ThreadPoolExecutor(1) as worker:  # compiles at the same time as the first path
        unpenalised = worker.submit(_unpenalised, problem, data)
        for label, (_, family, thresholds, _) in members.items():
            tick(f"solving {label}")
            ratio = settings.ratio or _default_ratio(thresholds, data.X.shape)
            path, folds = _path(problem, family, ratio, table, settings)
            free = unpenalised.result()
            reference = path.coef[-1] if free is None else free
            parts.append(_measure(problem, path, family, reference, data) | folds)
    reference = "the unpenalised fit" if free is not None else "the fit at the smallest λ"
    attributes = _attributes(settings, penalties, rows, reference)
    return labelled(table, list(members), parts, np.asarray(problem.constant), attributes)


def _unpenalised(problem: jr.Problem, rows: _Rows) -> Array | np.ndarray | None:
    """Return the coefficients of the unpenalised fit; None where they are not unique or not finite.

    Least squares are NumPy's, which compile nothing.
    """
    if not isinstance(problem.loss, jr.losses.SquaredError):
        free = jr.unpenalized(problem)
        return None if free is None else free[0]
    varies = ~np.asarray(problem.constant)
    if varies.size >= len(rows.y):
        return None
    X, coef = np.asarray(rows.X, float)[:, varies], np.zeros(varies.size)
    X = X - X.mean(axis=0)
    unit = np.abs(X).max(axis=0)
    found, _, rank, _ = np.linalg.lstsq(X / unit, rows.y - rows.y.mean(), rcond=None)
    coef[varies] = found / unit
    return coef.astype(problem.dtype) if rank == X.shape[1] else None


def _path(
    problem: jr.Problem, family: Family, ratio: float, table: Table, settings: Settings
) -> tuple[jr.Path, dict[str, np.ndarray]]:
    """Return the path, and with folds the numbers of its cross-validation by the names of the dataset."""
    options = {"num": settings.lambdas, "ratio": ratio, "tol": settings.tol}
    if not settings.cv:
        return jr.path(problem, family, **options), {}
    classes = isinstance(problem.loss, jr.losses.Logistic | jr.losses.Multinomial)
    options |= {"folds": settings.cv, "key": settings.seed, "stratify": True if classes else None}
    if table.unfilled is not None:
        # With folds all rows of the table are training rows.
        options["fold_features"] = lambda train: table.filled_by(train).astype(settings.dtype)
    result = jr.cross_validate(problem, family, **options, keep_predictions=True)
    best, mean = result.index(settings.choose), result.predictions
    assert mean is not None, "the predictions were asked for"
    numbers = {"error": result.mean, "error_se": result.se, "best_step": np.asarray(best, np.int32)}
    numbers["prediction"] = mean[:, best]
    if classes:
        label = mean.argmax(axis=2) if mean.ndim == 3 else mean > 0.5
        numbers["misclassified"] = np.mean(label != np.asarray(problem.y)[:, None], axis=0)
    return result.path, numbers


def _default_ratio(thresholds: bool, shape: tuple[int, int]) -> float:
    """Return the smallest λ over the largest for a penalty, by the shape (n, p) of the training data."""
    ratio = _RATIO_TALL if shape[0] > shape[1] else _RATIO_WIDE
    return ratio if thresholds else ratio * _RATIO_RIDGE


def _attributes(
    settings: Settings, penalties: Sequence[str], rows: Split, reference: str
) -> dict[str, str | int | float]:
    """Return the settings of a sweep as values that a netCDF file holds."""
    return {
        "penalties": ", ".join(penalties),
        "reference": reference,
        "rows_train": int(rows.train.size),
        "rows_held_out": int(rows.train.size if settings.cv else rows.held.size),
        **dataclasses.asdict(settings),
        "ratio": "default" if settings.ratio is None else settings.ratio,
        "standardize": int(settings.standardize),
    }


@jit_at_level(0)
def _problem(
    loss: jr.losses.Loss, X: Float[Array, "n p"], y: Shaped[Array, " n"], standardize: bool
) -> jr.Problem:
    """Build the problem in one compiled program, which skips the checks of values: `load` made them."""
    return jr.Problem(loss, X, y, standardize=standardize, scale_target=loss.has_unit)


@jit_at_level(2)
def _numbers(problem: jr.Problem, path: jr.Path, reference: Array, rows: _Rows) -> dict[str, Array]:
    """Compute the metrics of each λ and the standardised coefficients in one compiled program."""
    loss = problem.original_loss
    y, y_error = (loss.encode(jnp.asarray(target), problem.dtype) for target in (rows.y, rows.y_error))
    # In units of the target, which the problem may have scaled.
    scale = (problem.scale * problem.target_scale).reshape(-1, *(1,) * (reference.ndim - 1))

    def one(fit: tuple[Array, Array]) -> dict[str, Array]:
        coef, intercept = fit
        z, z_error = rows.X @ coef + intercept, rows.X_error @ coef + intercept
        return {
            "standardized_coef": coef * scale,
            "zeros": jr.metrics.zeros(coef),
            "zero_fraction": jr.metrics.zero_fraction(coef).astype(coef.dtype),
            "shrinkage": jr.metrics.shrinkage(coef * scale, reference * scale),
            "deviance_explained": jr.metrics.explained_deviance(loss, z, y),
            **_errors(loss, z_error, y_error),
        }

    with jax.default_matmul_precision("highest"):
        numbers = jax.lax.map(one, (path.coef, path.intercept))
    return numbers | {"reference_coef": reference * scale}


def _errors(loss: jr.losses.Loss, z: Array, y: Array) -> dict[str, Array]:
    """Return the mean deviance of rows with its standard error, and the misclassified fraction of classes.

    The deviance, twice the loss above that of the saturated model, is the squared error for squared losses.
    """
    deviance = 2 * (loss.value(z, y) - loss.saturated(y))
    # Squares of large deviances overflow in single precision.
    unit = jnp.maximum(jnp.max(deviance), jnp.finfo(deviance.dtype).tiny)
    se = unit * jnp.std(deviance / unit) / jnp.sqrt(1.0 * len(deviance))
    error = {"error": jnp.mean(deviance), "error_se": se}
    if isinstance(loss, jr.losses.Logistic | jr.losses.Multinomial):
        error["misclassified"] = jr.metrics.prediction_error(loss, z, y)
    return {name: value.astype(z.dtype) for name, value in error.items()}


def _measure(
    problem: jr.Problem, path: jr.Path, family: Family, reference: Array, rows: _Rows
) -> dict[str, np.ndarray]:
    """Return the numbers of one path by the names of the dataset."""
    numbers = _numbers(problem, path, reference, rows)
    numbers["dof"] = _degrees_of_freedom(problem, path, family)
    numbers["lam"] = path.lambdas
    for name in ("coef", "intercept", "gap", "kkt", "steps"):
        numbers[name] = getattr(path, name)
    return {name: np.asarray(value) for name, value in numbers.items()} | {
        "status": np.asarray(path.messages())
    }


def _degrees_of_freedom(problem: jr.Problem, path: jr.Path, family: Family) -> np.ndarray | Array:
    """Return the degrees of freedom at each λ; NaN for penalties that are not separable."""
    if not family(1.0).separable:
        return np.full(path.lambdas.shape, np.nan)
    return path.degrees_of_freedom(problem, family)
