"""Solve every penalty on its grid of λ and collect the numbers in one labelled dataset.

Eager operations would compile a small program for each new shape, so the problem is built in one compiled
program and the numbers of a path are computed in another, which all penalties share.
"""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

import jaxreg as jr
from jaxreg.cli._dataset import labelled
from jaxreg.cli._messages import wanted_one_of
from jaxreg.cli._settings import Settings
from jaxreg.cli.load import Table
from jaxreg.cli.split import Split, split

__all__ = ["family", "run"]

_LOSSES = {
    "squared": jr.losses.SquaredError,
    "huber": jr.losses.Huber,
    "logistic": jr.losses.Logistic,
    "poisson": jr.losses.Poisson,
}
_FAMILIES: dict[str, tuple[str, Any]] = {
    "l1": ("L1", jr.L1),
    "l2": ("L2", jr.SquaredL2),
    "nonnegative-l1": ("nonnegative L1", lambda lam: jr.L1(lam) + jr.NonNegative()),
}
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


def family(name: str) -> tuple[str, Any]:
    """Return the label and the family of penalties for l1, l2, elastic-net:RATIO or nonnegative-l1.

    Raises:
        ValueError: The name is unknown, or the ratio is not a number between 0 and 1.
    """
    kind, _, number = name.lower().partition(":")
    if kind in _FAMILIES and not number:
        return _FAMILIES[kind]
    if kind != "elastic-net":
        raise ValueError(f"no penalty {name!r}: {wanted_one_of([*_FAMILIES, 'elastic-net:0.5'], name)}")
    try:
        ratio = float(number or 0.5)
    except ValueError:
        ratio = float("nan")
    if not 0 <= ratio <= 1:
        wanted = "wanted an L1 ratio between 0 and 1; try elastic-net:0.5"
        raise ValueError(f"penalty {name!r} has the ratio {number!r}: {wanted}")
    return f"elastic net {ratio:g}", lambda lam: jr.ElasticNet(lam, ratio)


def run(
    table: Table,
    penalties: Sequence[str],
    settings: Settings | None = None,
    tick: Callable[[str], None] = lambda label: None,
) -> Any:
    """Solve every penalty on its own grid. Sets JAX's precision to that of the settings.

    Args:
        table: The data.
        penalties: Names that `family` knows.
        settings: By default those of the command.
        tick: Called with a label at the start of each part of the work.

    Returns:
        An `xarray.Dataset` over penalty, step, feature and, where there are several, class.

    Raises:
        ValueError: `family`, `split`, `Problem` or `path` refuse what they were given.
    """
    settings = Settings() if settings is None else settings
    families = dict(family(name) for name in penalties)
    rows = split(table, settings.holdout, settings.seed)
    tick("preparing the problem")
    jax.config.update("jax_enable_x64", settings.dtype == "float64")
    loss = jr.losses.Multinomial(len(table.classes)) if table.loss == "multinomial" else _LOSSES[table.loss]()
    X, error_rows = table.X.astype(settings.dtype), rows.held if rows.held.size else rows.train
    problem = _problem(loss, X[rows.train], table.y[rows.train], settings.standardize)
    data = _Rows(X[rows.train], table.y[rows.train], X[error_rows], table.y[error_rows])
    parts, free = [], None
    with ThreadPoolExecutor(1) as worker:  # compiles at the same time as the first path
        unpenalized = worker.submit(jr.unpenalized, problem)
        for label, member in families.items():
            tick(f"solving {label}")
            ratio = settings.ratio or _default_ratio(label, data.X.shape)
            path = jr.path(problem, member, num=settings.lambdas, ratio=ratio, tol=settings.tol)
            free = unpenalized.result()
            reference = path.coef[-1] if free is None else free[0]
            parts.append(_measure(problem, path, member, reference, data))
    reference = "the unpenalised fit" if free is not None else "the fit at the smallest λ"
    attributes = _attributes(settings, penalties, rows, reference)
    return labelled(table, list(families), parts, np.asarray(problem.constant), attributes)


def _default_ratio(label: str, shape: tuple[int, int]) -> float:
    """Return the smallest λ over the largest for a penalty, by the shape (n, p) of the training data."""
    ratio = _RATIO_TALL if shape[0] > shape[1] else _RATIO_WIDE
    return ratio * _RATIO_RIDGE if label == "L2" else ratio


def _attributes(settings: Settings, penalties: Sequence[str], rows: Split, reference: str) -> dict[str, Any]:
    """Return the settings of a sweep as values that a netCDF file holds."""
    return {
        "penalties": ", ".join(penalties),
        "reference": reference,
        "rows_train": int(rows.train.size),
        "rows_held_out": int(rows.held.size),
        **dataclasses.asdict(settings),
        "ratio": "default" if settings.ratio is None else settings.ratio,
        "standardize": int(settings.standardize),
    }


@eqx.filter_jit
def _problem(loss: jr.losses.Loss, X: Any, y: Any, standardize: bool) -> jr.Problem:
    """Build the problem in one compiled program, which skips the checks of values: `load` made them."""
    return jr.Problem(loss, X, y, standardize=standardize)


@eqx.filter_jit
def _numbers(problem: jr.Problem, path: jr.Path, reference: Array, rows: _Rows) -> dict[str, Array]:
    """Compute the metrics of each λ and the standardised coefficients in one compiled program."""
    loss = problem.loss
    y, y_error = (loss.encode(jnp.asarray(target), problem.dtype) for target in (rows.y, rows.y_error))
    scale = problem.scale.reshape(-1, *(1,) * (reference.ndim - 1))

    def one(fit: tuple[Array, Array]) -> dict[str, Array]:
        coef, intercept = fit
        z, z_error = rows.X @ coef + intercept, rows.X_error @ coef + intercept
        return {
            "standardized_coef": coef * scale,
            "zeros": jr.metrics.zeros(coef),
            "zero_fraction": jr.metrics.zero_fraction(coef).astype(coef.dtype),
            "shrinkage": jr.metrics.shrinkage(coef * scale, reference * scale),
            "deviance_explained": jr.metrics.explained_deviance(loss, z, y),
            "error": jr.metrics.prediction_error(loss, z_error, y_error).astype(coef.dtype),
        }

    with jax.default_matmul_precision("highest"):
        numbers = jax.lax.map(one, (path.coef, path.intercept))
    return numbers | {"reference_coef": reference * scale}


def _measure(
    problem: jr.Problem, path: jr.Path, member: Any, reference: Array, rows: _Rows
) -> dict[str, np.ndarray]:
    """Return the numbers of one path by the names of the dataset."""
    numbers = _numbers(problem, path, reference, rows)
    numbers["dof"] = path.degrees_of_freedom(problem, member)
    numbers["lam"] = path.lambdas
    for name in ("coef", "intercept", "gap", "kkt", "steps"):
        numbers[name] = getattr(path, name)
    return {name: np.asarray(value) for name, value in numbers.items()} | {
        "status": np.asarray(path.messages())
    }
