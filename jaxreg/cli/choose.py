"""Choose one model of a sweep: the smallest mean deviance on the held-out rows, for classes too.

The fraction of misclassified rows ignores probabilities: it may be smallest where they are useless. A sweep
with folds has the choice of cross-validation in `best_step`, and predictions of each row by fits without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxreg import losses
from jaxreg.cli._losses import loss_of
from jaxreg.cli.load import Table
from jaxreg.linear.selection.scores import auc
from jaxreg.models.model import FittedModel
from jaxreg.plots import best_step

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["Best", "Chosen", "best", "choose", "comparison", "scores", "warnings"]

#: Held-out rows below which the choice is called uncertain.
_FEW_ROWS = 30
#: Held-out rows of the rarest class below which the choice is called uncertain.
_FEW_OF_A_CLASS = 10
#: Attributes of a sweep that its model keeps.
_FACTS = ("data", "rows_train", "loss", "standardize", "seed", "holdout")


class Best(NamedTuple):
    """Positions of a fit in a sweep."""

    penalty: int
    step: int


class Chosen(NamedTuple):
    """The chosen model.

    Attributes:
        at: Its position in the sweep.
        model: The model, of the training rows.
        standardized: Coefficients (p,) or (p, K) as the penalty sees them.
        scores: Measures on the rows of the error by name: R², RMSE, AUC, misclassified.
    """

    at: Best
    model: FittedModel
    standardized: np.ndarray
    scores: dict[str, float]


def best(dataset: Dataset) -> Best | None:
    """Return the fit of the smallest error, among equals that of most zeros; None without held-out rows."""
    candidates = []
    for k in range(dataset.sizes["penalty"]):
        part = dataset.isel(penalty=k)
        if (step := best_step(part)) is not None:
            candidates.append((float(part["error"][step]), -int(part["zeros"][step]), k, step))
    return Best(*min(candidates)[2:]) if candidates else None


def choose(dataset: Dataset, table: Table, held: np.ndarray) -> Chosen | None:
    """Return the chosen model with its scores on rows that it has not seen; None where there are none."""
    at = best(dataset)
    if at is None or not np.isfinite(dataset["coef"].values[at.penalty, at.step]).all():
        return None
    part = dataset.isel(penalty=at.penalty, step=at.step)
    error = {
        "error": float(part["error"]),
        "error_is": dataset.attrs["error"],
        "error_rows": dataset.attrs["error_rows"],
    }
    facts = {name: dataset.attrs[name] for name in _FACTS if name in dataset.attrs}
    model = FittedModel(
        loss_of(table),
        part["coef"].values,
        part["intercept"].values,
        features=table.features,
        target=table.target,
        classes=table.classes,
        columns=table.columns,
        penalty=str(part["penalty"].item()),
        lam=float(part["lam"]),
        gap=float(part["gap"]),
        kkt=float(part["kkt"]),
        settings=facts | error | {"numbers": table.reading.numbers},
    )
    if "prediction" in part:
        numbers = scores(model, part["prediction"].values, table.y)
    else:
        numbers = scores(model, model.predict(table.X[held]), table.y[held])
    return Chosen(at, model, part["standardized_coef"].values, numbers)


def scores(model: FittedModel, mean: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return R² and RMSE of predictions, or the misclassified fraction and, of two classes, the AUC."""
    if isinstance(model.loss, losses.Logistic | losses.Multinomial):
        label = (mean > 0.5).astype(int) if mean.ndim == 1 else mean.argmax(axis=1)
        by_name = {"misclassified": float(np.mean(label != y))}
        # Rows of a single class have no AUC.
        ranked = mean.ndim == 1 and y.min() < y.max()
        return by_name | ({"AUC": auc(y, mean, np.ones(len(y)))} if ranked else {})
    residual = y - mean
    spread = float(np.sum((y - y.mean()) ** 2))
    by_name = {"R²": 1 - float(np.sum(residual**2)) / spread} if spread > 0 else {}
    return by_name | {"RMSE": float(np.sqrt(np.mean(residual**2)))}


def comparison(dataset: Dataset, at: Best) -> str:
    """Compare the best fits of the penalties: "Use L1 at λ = 0.1: mean deviance 0.71 ± 0.05; L2 0.73"."""
    label, lam = str(dataset["penalty"].values[at.penalty]), float(dataset["lam"].values[at.penalty, at.step])
    error = dataset["error"].values
    text = f"Use {label} at λ = {lam:.3g}: {dataset.attrs['error']} {_grouped(error[at])}"
    if "error_se" in dataset:
        text += f" ± {_grouped(dataset['error_se'].values[at])}"
    text += f" on {dataset.attrs['rows_held_out']} {dataset.attrs['error_rows']}"
    others = []
    for k in range(dataset.sizes["penalty"]):
        step = best_step(dataset.isel(penalty=k))
        if k != at.penalty and step is not None:
            others.append(f"{dataset['penalty'].values[k]} {_grouped(error[k, step])}")
    return f"{text}; {', '.join(others)}." if others else f"{text}."


def warnings(table: Table, held: np.ndarray) -> list[str]:
    """List reservations about a choice that rests on few held-out rows."""
    if not len(held):
        return []
    advice = "another --seed may choose another λ"
    if len(held) < _FEW_ROWS:
        return [f"Warning: the choice rests on {len(held)} held-out rows; {advice}."]
    if table.classes:
        counts = np.bincount(table.y[held].astype(int), minlength=len(table.classes))
        if counts.min() < _FEW_OF_A_CLASS:
            name = table.classes[int(counts.argmin())]
            return [f"Warning: class {name!r} has {counts.min()} held-out rows; {advice}."]
    return []


def _grouped(value: float) -> str:
    """Return four digits of a number, thousands separated."""
    value = float(value)
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"
