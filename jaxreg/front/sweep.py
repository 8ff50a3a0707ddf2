"""The sweep behind the command: every penalty on a grid of λ, as one labelled dataset."""

import difflib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr
from jaxreg.front.data import Table, split

__all__ = ["family", "run"]

_LOSSES = {
    "squared": jr.losses.SquaredError,
    "huber": jr.losses.Huber,
    "logistic": jr.losses.Logistic,
    "poisson": jr.losses.Poisson,
}
_ERRORS = {
    "logistic": "misclassified fraction",
    "multinomial": "misclassified fraction",
    "poisson": "mean deviance",
}


def family(name: str) -> tuple[str, Any]:
    """The label and the family of a penalty's name: l1, l2, elastic-net:RATIO, nonnegative-l1."""
    word, _, number = name.lower().partition(":")
    plain = {
        "l1": ("L1", jr.L1),
        "l2": ("L2", jr.SquaredL2),
        "nonnegative-l1": ("nonnegative L1", lambda lam: jr.L1(lam) + jr.NonNegative()),
    }
    if word in plain and not number:
        return plain[word]
    if word != "elastic-net":
        known = [*plain, "elastic-net:0.5"]
        close = difflib.get_close_matches(name.lower(), known, 1, 0.3)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(f"unknown penalty {name!r}: {hint}known are {', '.join(known)}")
    try:
        ratio = float(number or 0.5)
    except ValueError:
        ratio = float("nan")
    if not 0 <= ratio <= 1:
        raise ValueError(f"elastic-net:{number} needs an L1 ratio between 0 and 1, such as elastic-net:0.5")
    return f"elastic net {ratio:g}", lambda lam: jr.ElasticNet(lam, ratio)


def run(
    table: Table,
    penalties: list[str],
    *,
    num: int = 100,
    ratio: float | None = None,
    holdout: float = 0.25,
    standardize: bool = True,
    seed: int = 0,
    dtype: str = "float64",
    tol: float = 1e-6,
    tick: Callable[[str], None] = lambda label: None,
) -> Any:
    """Solve every penalty on its own grid; returns an `xarray.Dataset` (penalty, step, feature, class)."""
    import xarray

    families = dict(family(name) for name in penalties)
    train, held = split(table, holdout, seed)
    X = table.X.astype(dtype)
    loss = jr.losses.Multinomial(len(table.classes)) if table.loss == "multinomial" else _LOSSES[table.loss]()
    problem = jr.Problem(loss, X[train], table.y[train], standardize=standardize)
    scale = np.asarray(problem.scale)
    free = jr.unpenalized(problem)
    parts = []
    for label, member in families.items():
        tick(label)
        default = 1e-4 if train.size > X.shape[1] else 1e-2
        # Ridge starts at glmnet's 1000·‖∇f(null)‖, where nothing happens yet: go as much further down.
        span = ratio or (default * 1e-3 if label == "L2" else default)
        path = jr.path(problem, member, num=num, ratio=span, tol=tol)
        base = np.asarray(path.coef[-1] if free is None else free[0])
        parts.append(_measure(table, problem, path, member, base, scale, train, held if held.size else train))
    out = xarray.concat(parts, dim="penalty").assign_coords(penalty=list(families))
    out.attrs = {
        "data": table.name,
        "target": table.target,
        "unit": table.unit,
        "loss": table.loss,
        "classes": ", ".join(table.classes),
        "reference": "the unpenalised fit" if free is not None else "the smallest λ of the grid",
        "error": _ERRORS.get(table.loss, "mean squared error"),
        "error_rows": "held-out rows" if held.size else "training rows (nothing was held out)",
        "rows_train": int(train.size),
        "rows_held_out": int(held.size),
        "standardize": int(standardize),
        "seed": seed,
        "tol": tol,
        "dtype": dtype,
        "notes": "; ".join(table.notes),
        "versions": f"jaxreg {jr.__version__}, jax {jax.__version__}, numpy {np.__version__}",
    }
    for name, unit in (
        ("shrinkage", "1"),
        ("zero_fraction", "1"),
        ("error", out.attrs["error"]),
        ("gap", "1"),
    ):
        out[name].attrs["units"] = unit
    return out


@eqx.filter_jit
def _summaries(
    loss: jr.losses.Loss, coef: Any, base: Any, train: tuple[Any, Any], held: tuple[Any, Any]
) -> dict[str, Any]:
    """One number per λ of each metric, in one compiled program for all penalties."""

    def one(coef: Any, z_train: Any, z_held: Any) -> dict[str, Any]:
        return {
            "zeros": jr.metrics.zeros(coef),
            "zero_fraction": jr.metrics.zero_fraction(coef),
            "shrinkage": jr.metrics.shrinkage(coef, base),
            "deviance_explained": jr.metrics.explained_deviance(loss, z_train, train[1]),
            "error": jr.metrics.prediction_error(loss, z_held, held[1]),
        }

    return jax.vmap(one)(coef, train[0], held[0])


def _measure(
    table: Table,
    problem: jr.Problem,
    path: jr.Path,
    member: Any,
    base: np.ndarray,
    scale: np.ndarray,
    train: np.ndarray,
    held: np.ndarray,
) -> Any:
    """The numbers of one path; sizes of weights are those the penalty sees."""
    import xarray

    columns = (slice(None),) + (None,) * (base.ndim - 1)
    coef = np.asarray(path.coef)
    seen, base = jnp.asarray(coef * scale[columns]), jnp.asarray(base * scale[columns])
    loss, y = problem.loss, jnp.asarray(table.y)
    y = loss.encode(y, problem.dtype)
    X = jnp.asarray(table.X, problem.dtype)
    extra = ("class",) * (coef.ndim - 2)
    numbers = {
        **_summaries(loss, seen, base, (path.linear(X[train]), y[train]), (path.linear(X[held]), y[held])),
        "dof": path.degrees_of_freedom(problem, member),
        "gap": path.gap,
        "kkt": path.kkt,
        "steps": path.steps,
        "lam": path.lambdas,
    }
    data: dict[str, Any] = {name: ("step", np.asarray(value)) for name, value in numbers.items()}
    data["coef"] = (("step", "feature", *extra), coef)
    data["standardized_coef"] = (("step", "feature", *extra), np.asarray(seen))
    data["intercept"] = (("step", *extra), np.asarray(path.intercept))
    data["reference_coef"] = (("feature", *extra), np.asarray(base))
    data["status"] = ("step", np.asarray(path.messages(), dtype=str))
    coords: dict[str, Any] = {"feature": list(table.features)}
    if extra:
        coords["class"] = list(table.classes)
    return xarray.Dataset(data, coords)
