"""The numbers of a sweep as one labelled `xarray.Dataset`, with meanings, units, settings and versions."""

import importlib.metadata
import platform
from typing import Any

import jax
import numpy as np

from jaxreg.cli.load import Table

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
    "gap": "relative duality gap: how far the cost may be from its minimum; inf where there is none",
    "kkt": "residual of the optimality conditions, relative to the gradient of the null fit",
    "steps": "steps of the solver",
    "status": "why the solver stopped",
    "constant": "1 where the feature never varies in the training rows, so that its coefficient is 0",
    "penalty": "penalty",
    "step": "place in the grid of λ, the largest first",
    "feature": "feature",
    "class": "class of the target",
}


def labelled(
    table: Table,
    labels: list[str],
    parts: list[dict[str, np.ndarray]],
    constant: np.ndarray,
    settings: dict[str, Any],
) -> Any:
    """Dimensions penalty, step, feature (and class); λ is a coordinate of (penalty, step).

    `parts` has the numbers of each penalty by the names above, `settings` goes into the attributes.
    """
    import xarray

    extra = ("class",) * (parts[0]["coef"].ndim - 2)
    dims = {
        "coef": ("step", "feature", *extra),
        "standardized_coef": ("step", "feature", *extra),
        "reference_coef": ("feature", *extra),
        "intercept": ("step", *extra),
    }
    data: dict[str, Any] = {
        name: (("penalty", *dims.get(name, ("step",))), np.stack([part[name] for part in parts]))
        for name in parts[0]
    }
    coords: dict[str, Any] = {"lam": data.pop("lam"), "penalty": labels, "feature": list(table.features)}
    coords["step"] = np.arange(len(parts[0]["lam"]), dtype="int32")
    if extra:
        coords["class"] = list(table.classes)
    data["constant"] = ("feature", constant.astype("int32"))
    out = xarray.Dataset(data, coords)
    error, units = _units(table, settings)
    judged = "held-out rows" if settings["rows_held_out"] else "training rows"
    for name, variable in out.variables.items():
        meaning = f"{error} on the {judged}" if name == "error" else _MEANING[str(name)]
        variable.attrs.update(long_name=meaning, units=units.get(str(name), "1"))
    out.attrs = {
        "data": table.name,
        "target": table.target,
        "target_meaning": table.unit,
        "loss": table.loss,
        "classes": ", ".join(table.classes),
        "error": error,
        "error_rows": judged,
        **settings,
        "notes": " ".join(table.notes),
        **_versions(),
    }
    return out


def _units(table: Table, settings: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The name of the error, and the units of what has one."""
    response, error, unit = {
        "poisson": (f"log of {table.target}", "mean Poisson deviance", "1"),
        "logistic": ("log-odds", "misclassified fraction", "1"),
        "multinomial": ("log-odds up to a constant", "misclassified fraction", "1"),
    }.get(table.loss, (table.target, "mean squared error", f"({table.target})²"))
    seen = "standard deviation" if settings["standardize"] else "unit"
    return error, {
        "lam": "unit of the loss per unit of the penalty",
        "coef": f"{response} per unit of the feature",
        "standardized_coef": f"{response} per {seen} of the feature",
        "reference_coef": f"{response} per {seen} of the feature",
        "intercept": response,
        "error": unit,
    }


def _versions() -> dict[str, str]:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    device = jax.devices()[0]
    return {
        "versions": ", ".join(found),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": f"{device.platform} ({device.device_kind})",
    }
