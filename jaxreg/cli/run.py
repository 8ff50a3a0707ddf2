"""The sweep behind the command: every penalty on a grid of λ, as one labelled dataset.

What is eager here would compile a small program for each new shape, so the problem is built in one compiled
program and every number of a path is computed in another, shared by all penalties.
"""

import difflib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr
from jaxreg.cli._dataset import labelled
from jaxreg.cli.load import Table, split

__all__ = ["family", "run"]

_LOSSES = {
    "squared": jr.losses.SquaredError,
    "huber": jr.losses.Huber,
    "logistic": jr.losses.Logistic,
    "poisson": jr.losses.Poisson,
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
        hint = f"did you mean {close[0]!r}?" if close else "correct the name"
        raise ValueError(f"no penalty {name!r}: wanted one of {', '.join(map(repr, known))}; {hint}")
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
    """Solve every penalty on its own grid; returns an `xarray.Dataset` (penalty, step, feature, class).

    `tick` is called with a label at the start of each part of the work. Sets JAX's precision to `dtype`.
    Raises ValueError for what `split`, `Problem` or `path` refuse, and for an unknown penalty.
    """
    families = dict(family(name) for name in penalties)
    train, held = split(table, holdout, seed)
    tick("preparing the problem")
    jax.config.update("jax_enable_x64", dtype == "float64")
    loss = jr.losses.Multinomial(len(table.classes)) if table.loss == "multinomial" else _LOSSES[table.loss]()
    X, judged = table.X.astype(dtype), held if held.size else train
    problem = _problem(loss, X[train], table.y[train], standardize)
    rows = (X[train], table.y[train]), (X[judged], table.y[judged])
    parts, free = [], None
    with ThreadPoolExecutor(1) as beside:  # compiles at the same time as the first path
        unpenalized = beside.submit(jr.unpenalized, problem)
        for label, member in families.items():
            tick(f"solving {label}")
            default = 1e-4 if train.size > X.shape[1] else 1e-2
            # Ridge starts at glmnet's 1000·‖∇f(null)‖, where nothing happens yet: go as much further down.
            span = ratio or (default * 1e-3 if label == "L2" else default)
            path = jr.path(problem, member, num=num, ratio=span, tol=tol)
            free = unpenalized.result()
            parts.append(_measure(problem, path, member, path.coef[-1] if free is None else free[0], rows))
    settings = {
        "penalties": ", ".join(penalties),
        "reference": "the unpenalised fit" if free is not None else "the fit at the smallest λ",
        "rows_train": int(train.size),
        "rows_held_out": int(held.size),
        "lambdas": num,
        "ratio": "default" if ratio is None else ratio,
        "holdout": holdout,
        "standardize": int(standardize),
        "seed": seed,
        "dtype": dtype,
        "tol": tol,
    }
    return labelled(table, list(families), parts, np.asarray(problem.constant), settings)


@eqx.filter_jit
def _problem(loss: jr.losses.Loss, X: Any, y: Any, standardize: bool) -> jr.Problem:
    """The problem in one compiled program; its values were checked by `load`."""
    return jr.Problem(loss, X, y, standardize=standardize)


@eqx.filter_jit
def _numbers(problem: jr.Problem, path: jr.Path, base: Any, rows: Any) -> dict[str, Any]:
    """What is said of each λ, and the weights as the penalty sees them, in one compiled program."""
    loss = problem.loss
    (X, y), (X_judged, y_judged) = rows
    y, y_judged = (loss.encode(jnp.asarray(target), problem.dtype) for target in (y, y_judged))
    scale = problem.scale.reshape(-1, *(1,) * (base.ndim - 1))

    def one(row: tuple[Any, Any]) -> dict[str, Any]:
        coef, intercept = row
        z, z_judged = X @ coef + intercept, X_judged @ coef + intercept
        return {
            "standardized_coef": coef * scale,
            "zeros": jr.metrics.zeros(coef),
            "zero_fraction": jr.metrics.zero_fraction(coef).astype(coef.dtype),
            "shrinkage": jr.metrics.shrinkage(coef * scale, base * scale),
            "deviance_explained": jr.metrics.explained_deviance(loss, z, y),
            "error": jr.metrics.prediction_error(loss, z_judged, y_judged).astype(coef.dtype),
        }

    with jax.default_matmul_precision("highest"):
        numbers = jax.lax.map(one, (path.coef, path.intercept))
    return numbers | {"reference_coef": base * scale}


def _measure(problem: jr.Problem, path: jr.Path, member: Any, base: Any, rows: Any) -> dict[str, np.ndarray]:
    """The numbers of one path, by the names of the dataset."""
    numbers = _numbers(problem, path, base, rows)
    numbers["dof"] = path.degrees_of_freedom(problem, member)
    numbers["lam"] = path.lambdas
    for name in ("coef", "intercept", "gap", "kkt", "steps"):
        numbers[name] = getattr(path, name)
    found = {name: np.asarray(value) for name, value in numbers.items()}
    return found | {"status": np.asarray(path.messages())}
