"""Label the numbers of a sweep: one `xarray.Dataset` with meanings, units, settings and versions."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from jaxreg.cli.load import Table

if TYPE_CHECKING:
    import xarray

__all__ = ["compact", "labelled"]

#: Coefficients above which a file holds them in single precision, and once: 8 MB instead of 32.
_MANY = 1_000_000

_PACKAGES = ("jaxreg", "jax", "equinox", "numpy", "xarray", "scikit-learn")
_MEANING = {
    "lam": "strength of the penalty λ",
    "coef": "coefficient of the feature as given",
    "standardized_coef": "coefficient as the penalty sees it",
    "reference_coef": "coefficient of the reference, as the penalty sees it",
    "intercept": "intercept, never penalised",
    "zeros": "number of coefficients that are exactly 0",
    "zero_fraction": "fraction of coefficients that are exactly 0",
    "shrinkage": "1 - norm of the coefficients / norm of the reference's, as the penalty sees them",
    "dof": "effective degrees of freedom, without the intercept",
    "deviance_explained": "fraction of the deviance explained on the training rows",
    "error_se": "standard error of the error over its rows",
    "misclassified": "fraction of the same rows whose most probable class is not theirs",
    "scale": "factor from coef to the coefficient as the penalty sees it",
    "gap": "relative duality gap: how far the cost may be from its minimum; inf where there is none",
    "kkt": "residual of the optimality conditions, relative to the gradient of the null fit",
    "steps": "steps of the solver",
    "status": "why the solver stopped",
    "constant": "1 where the feature never varies in the training rows, so that its coefficient is 0",
    "best_step": "step of the chosen λ",
    "prediction": "prediction of each row by a fit without it, at the chosen λ",
    "penalty": "penalty",
    "step": "position in the grid of λ, the largest first",
    "feature": "feature",
    "class": "class of the target",
}


class _Response(NamedTuple):
    """Name of the linear predictor, and name and unit of the prediction error."""

    predictor: str
    error: str
    unit: str


def labelled(
    table: Table,
    labels: list[str],
    parts: list[dict[str, np.ndarray]],
    constant: np.ndarray,
    attributes: dict[str, str | int | float],
) -> xarray.Dataset:
    """Label the numbers of all penalties by penalty, step, feature and, where there are several, class.

    `parts` has the numbers of each penalty by the names in `_MEANING`, `constant` (p,) marks the features
    that never vary, and `attributes` are the settings of the sweep. λ is a coordinate over (penalty, step).
    """
    import xarray

    classes = ("class",) * (parts[0]["coef"].ndim - 2)
    own_dims = {
        "coef": ("step", "feature", *classes),
        "standardized_coef": ("step", "feature", *classes),
        "reference_coef": ("feature", *classes),
        "intercept": ("step", *classes),
        "best_step": (),
        "prediction": ("row", *classes),
    }
    data: dict[str, object] = {
        name: (("penalty", *own_dims.get(name, ("step",))), np.stack([part[name] for part in parts]))
        for name in parts[0]
    }
    coords: dict[str, object] = {"lam": data.pop("lam"), "penalty": labels, "feature": list(table.features)}
    coords["step"] = np.arange(len(parts[0]["lam"]), dtype="int32")
    if classes:
        coords["class"] = list(table.classes)
    data["constant"] = ("feature", constant.astype("int32"))
    response = _response(table)
    error_rows = "held-out rows" if attributes["rows_held_out"] else "training rows"
    if folds := attributes.get("cv"):
        error_rows = f"rows of {folds} folds"
    meanings = _MEANING | {"error": f"{response.error} on the {error_rows}"}
    units = _units(response, attributes["standardize"], table.loss in ("squared", "huber"))
    dataset = xarray.Dataset(data, coords)
    for name, variable in dataset.variables.items():
        variable.attrs.update(long_name=meanings[str(name)], units=units.get(str(name), "1"))
    dataset.attrs = {
        "data": table.name,
        "target": table.target,
        "target_meaning": table.unit,
        "loss": table.loss,
        **({} if table.delta is None else {"huber_delta": table.delta}),
        "classes": ", ".join(table.classes),
        "error": response.error,
        "error_rows": error_rows,
        **attributes,
        "notes": " ".join(table.notes),
        **_versions(),
    }
    return dataset


def compact(dataset: xarray.Dataset) -> xarray.Dataset:
    """Return a dataset for a file: above a million coefficients in float32, standardised ones as a factor.

    `standardized_coef` is then `coef * scale`, and a file takes a quarter of the space.
    """
    if dataset["coef"].size <= _MANY:
        return dataset
    coef, standardized = dataset["coef"], dataset["standardized_coef"]
    over = [name for name in coef.dims if name != "feature"]
    largest = np.abs(coef).max(over)
    scale = (np.abs(standardized).max(over) / largest.where(largest > 0, 1.0)).astype("float32")
    scale.attrs = {"long_name": _MEANING["scale"], "units": "unit of the feature"}
    small = dataset.drop_vars("standardized_coef").assign(scale=scale)
    for name in ("coef", "reference_coef"):
        small[name] = dataset[name].astype("float32").assign_attrs(dataset[name].attrs)
    return small


def _response(table: Table) -> _Response:
    return {
        "poisson": _Response(f"log of {table.target}", "mean Poisson deviance", "1"),
        "logistic": _Response("log-odds", "mean deviance", "1"),
        "multinomial": _Response("log-odds up to a constant", "mean deviance", "1"),
        "huber": _Response(table.target, "mean Huber deviance", f"({table.target})²"),
    }.get(table.loss, _Response(table.target, "mean squared error", f"({table.target})²"))


def _units(response: _Response, standardize: bool, scaled: bool) -> dict[str, str]:
    """Return the units of the variables that have one."""
    per_penalised = (
        f"{response.predictor} per {'standard deviation' if standardize else 'unit'} of the feature"
    )
    return {
        "lam": "1 (the target in units of its standard deviation)" if scaled else "1",
        "coef": f"{response.predictor} per unit of the feature",
        "standardized_coef": per_penalised,
        "reference_coef": per_penalised,
        "intercept": response.predictor,
        "error": response.unit,
        "error_se": response.unit,
    }


def _versions() -> dict[str, str]:
    """Return the versions of the packages that took part, and the machine."""
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    device = jax.devices()[0]
    return {
        "versions": ", ".join(versions),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": f"{device.platform} ({device.device_kind})",
    }
