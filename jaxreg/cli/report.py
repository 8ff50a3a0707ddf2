"""Report a sweep in words: a table and a sentence for each penalty, a legend, and remarks.

`part` is the sweep's dataset at one penalty, `dataset.isel(penalty=k)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxreg.cli._messages import counted
from jaxreg.plots import best_step

if TYPE_CHECKING:
    from rich.table import Table
    from xarray import Dataset

    from jaxreg.cli.choose import Chosen

__all__ = ["LEGEND_INDENT", "headline", "legend", "remarks", "sentence", "table"]

_STATUS = {"converged": "ok", "max_steps": "max steps", "nonfinite": "non-finite"}
#: Spaces between two columns of a table.
_BETWEEN = 2
#: Characters of the longest name in the legend, and the column at which meanings start.
_LEGEND_NAME = 9
LEGEND_INDENT = 2 + _LEGEND_NAME + 2
#: Degrees of freedom from which on a table shows no decimals.
_MANY_DOF = 1000


class _Column(NamedTuple):
    """A column of a table: its heading, and the cell at a step of the grid."""

    heading: str
    cell: Callable[[int], str]
    #: Columns of high rank are left out first where the terminal is narrow.
    rank: int


def sentence(part: Dataset) -> str:
    """Say what a penalty did to the weights: at its best λ, else from the largest λ to the smallest."""
    best = best_step(part)
    coef = part["coef"].values
    nonzero = np.sum(coef != 0, axis=tuple(range(1, coef.ndim)))
    varying = int(np.sum(part["constant"].values == 0))
    total = coef[0].size * varying // part.sizes["feature"]
    return _over_grid(part, nonzero, total) if best is None else _at_best(part, best, nonzero[best], total)


def headline(chosen: Chosen, dataset: Dataset) -> str:
    """Say which model was chosen, and how it does on rows that it has not seen."""
    model, parts = chosen.model, []
    for name, value in chosen.scores.items():
        parts.append(f"{name} {_percent(value)}" if name == "misclassified" else f"{name} {value:.4g}")
    used = int(np.count_nonzero(model.coef.reshape(len(model.coef), -1).any(axis=1)))
    which = (
        f"{model.penalty} at λ = {model.lam:.3g}, which uses {used} of {counted(len(model.coef), 'feature')}"
    )
    rows = dataset.attrs["rows_held_out"]
    return f"Chosen model: {which}; on the {rows} {dataset.attrs['error_rows']} {', '.join(parts)}."


def _over_grid(part: Dataset, nonzero: np.ndarray, total: int) -> str:
    """Say how many weights are not 0 at both ends of the grid, and where their norm passes one half."""
    name, lam = _capitalised(part["penalty"].item()), part["lam"].values
    if (nonzero == nonzero[0]).all():
        kept = f"{name} kept {_count(nonzero[0], total)} at every λ"
    else:
        kept = f"{name} kept {_count(nonzero[0], total)} at λ = {lam[0]:.3g}"
        kept += f" and {_count(nonzero[-1], total)} at λ = {lam[-1]:.3g}"
    half = np.flatnonzero(_norm_percent(part) >= 50)
    passes = f"at λ = {lam[half[0]]:.3g} their norm passes" if half.size else "their norm stays below"
    return f"{kept}; as λ falls, {passes} half of that of {part.attrs['reference']}."


def _at_best(part: Dataset, best: int, nonzero: int, total: int) -> str:
    """Say how many weights are not 0 at the best λ, and how far the largest and the norm of all shrank."""
    name, lam = _capitalised(part["penalty"].item()), part["lam"].values
    where = f"at λ = {lam[best]:.3g}, where the error on the {part.attrs['error_rows']} is {_rule(part)}"
    if best == 0 and nonzero:
        where += " (the start of the grid)"
    if best == len(lam) - 1:
        where += f" (the end of the grid{_beyond_the_grid(part, best)})"
    if not nonzero:
        return f"{name} kept none of {total} weights {where}: no weight is worth its cost there."
    kept = f"{name} kept {_count(nonzero, total)} {where}"
    coef, reference = part["standardized_coef"].values[best].ravel(), part["reference_coef"].values.ravel()
    largest = int(np.argmax(np.abs(reference)))
    if reference[largest] == 0 or (coef == reference).all():
        return f"{kept}."
    percent = 100 * abs(coef[largest]) / abs(reference[largest])
    norm = _norm_percent(part)[best]
    of = f"the largest weight of {part.attrs['reference']} ({_weight_name(part, largest)})"
    if round(percent) >= 100:
        return f"{kept}; {of} has {percent:.0f} % of its size, the norm of all {norm:.0f} %."
    became = "set to 0" if coef[largest] == 0 else f"shrunk to {percent:.0f} % of its size"
    return f"{kept}; {of} is {became}, the norm of all to {norm:.0f} %."


def _beyond_the_grid(part: Dataset, best: int) -> str:
    """Say whether a longer grid may do better than its end: not where that is nearly the unpenalised fit."""
    unpenalised = part.attrs["reference"] == "the unpenalised fit"
    if unpenalised and round(float(_norm_percent(part)[best])) == 100:
        return ", nearly the unpenalised fit"
    return ": a smaller --ratio may do better"


def _rule(dataset: Dataset) -> str:
    return "within a standard error of the smallest" if dataset.attrs.get("choose") == "1se" else "smallest"


def _norm_percent(part: Dataset) -> np.ndarray:
    """Return the norm of the weights at each step, in percent of that of the reference."""
    return 100 * (1 - part["shrinkage"].values)


def _count(nonzero: int, total: int) -> str:
    return f"all {total} weights" if nonzero == total else f"{nonzero} of {total} weights"


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _weight_name(part: Dataset, flat: int) -> str:
    """Return the feature of a weight by its flat index, with the class where there are several."""
    classes = part["reference_coef"].size // part.sizes["feature"]
    feature, label = divmod(flat, classes)
    name = str(part["feature"].values[feature])
    return f"{name}, class {part['class'].values[label]}" if classes > 1 else name


def table(part: Dataset, rows: int = 12, width: int = 80) -> Table:
    """Return a rich table of about `rows` steps of the grid, the best marked.

    Columns that do not fit the width are left out, the least important first: no number is broken.
    """
    from rich import box
    from rich.table import Table

    best, steps = best_step(part), part.sizes["step"]
    title = {
        "title": _capitalised(str(part["penalty"].item())),
        "title_justify": "left",
        "title_style": "bold",
    }
    frame = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False, "show_edge": False}
    out = Table(**title, **frame)
    shown = set(np.linspace(0, steps - 1, min(rows, steps)).round().astype(int).tolist())
    shown = sorted(shown if best is None else shown | {best})
    columns = _fitting(_columns(part, best), shown, width)
    for column in columns:
        justify = "left" if column.heading == "status" else "right"
        out.add_column(column.heading, justify=justify, no_wrap=True)
    for k in shown:
        out.add_row(*(column.cell(k) for column in columns), style="bold" if k == best else None)
    return out


def _fitting(columns: list[_Column], steps: list[int], width: int) -> list[_Column]:
    """Leave out the columns of highest rank until the others fit a width."""
    widths = {
        column.heading: _BETWEEN
        + max(len(text) for text in (*column.heading.split("\n"), *map(column.cell, steps)))
        for column in columns
    }
    kept = list(columns)
    while len(kept) > 2 and sum(widths[column.heading] for column in kept) - _BETWEEN > width:
        kept.remove(max(kept, key=lambda column: column.rank))
    return kept


def _columns(part: Dataset, best: int | None) -> list[_Column]:
    """Return the columns of the table; the KKT residual stands for a duality gap that no λ has."""
    names = ("lam", "zeros", "shrinkage", "dof", "deviance_explained", "error", "status")
    lam, zeros, shrinkage, dof, explained, error, status = (part[name].values for name in names)
    bound = "gap" if np.isfinite(part["gap"].values).any() else "kkt"
    rows = "held-out" if part.attrs["rows_held_out"] else "training"
    rows = "of folds" if part.attrs.get("cv") else rows
    columns = [
        _Column("", lambda k: "★" if k == best else "", 0),
        _Column("λ", lambda k: f"{lam[k]:.3g}", 0),
        _Column(f"zeros\nof {part['coef'][0].size}", lambda k: f"{zeros[k]}", 1),
        _Column("shrinkage", lambda k: _percent(shrinkage[k], 0), 4),
        _Column("df", lambda k: f"{dof[k]:.{1 if dof[k] < _MANY_DOF else 0}f}", 5),
        _Column("explained\ntraining", lambda k: _percent(explained[k]), 3),
        _Column(f"error\n{rows}", lambda k: f"{float(error[k]):.4g}", 0),
        _Column(bound, lambda k: f"{part[bound].values[k]:.0e}", 7),
        _Column("status", lambda k: _STATUS.get(str(status[k]), str(status[k])), 8),
    ]
    if np.isnan(dof).all():
        columns = [column for column in columns if column.heading != "df"]
    if "misclassified" in part:
        wrong = part["misclassified"].values
        columns.insert(-2, _Column("wrong", lambda k: _percent(wrong[k]), 2))
    return columns


def _percent(share: float, digits: int = 1) -> str:
    # Adding 0.0 turns a rounded −0.0 into 0.0.
    return f"{round(100 * float(share), digits) + 0.0:.{digits}f} %"


def legend(dataset: Dataset) -> list[str]:
    """Explain the columns of the tables, a line each."""
    attrs = dataset.attrs
    unit = dataset["error"].attrs.get("units", "1")
    error_rows = f"{attrs['rows_held_out'] or attrs['rows_train']} {attrs['error_rows']}"
    lines = [
        ("λ", f"strength of the penalty{_scaled_target(dataset)}"),
        ("zeros", "weights that are exactly 0"),
        ("shrinkage", f"norm of the weights below that of {attrs['reference']}"),
        ("df", "effective degrees of freedom, as a number of unpenalised weights"),
        ("explained", f"deviance explained on the {attrs['rows_train']} training rows"),
        ("error", f"{attrs['error']} on the {error_rows}{'' if unit == '1' else f', {unit}'}"),
        ("gap", "bound on cost minus its minimum, relative to the null fit's loss"),
    ]
    if "misclassified" in dataset:
        lines.insert(-1, ("wrong", f"misclassified fraction of the {error_rows}"))
    if np.isnan(dataset["dof"].values).all():
        lines = [line for line in lines if line[0] != "df"]
    if not np.isfinite(dataset["gap"].values).any(axis=1).all():
        lines.append(("kkt", "residual of the optimality conditions, where there is no gap"))
    if attrs["rows_held_out"]:
        rule = "one-standard-error choice" if attrs.get("choose") == "1se" else "smallest error"
        lines.append(("★", f"{rule} on the {attrs['error_rows']}"))
    return [f"  {name:<{_LEGEND_NAME}}  {meaning}" for name, meaning in lines]


def _scaled_target(dataset: Dataset) -> str:
    """Say that λ is for a target in units of its standard deviation, where it is."""
    return "" if dataset["lam"].attrs.get("units", "1") == "1" else " (target scaled to standard deviation 1)"


def remarks(dataset: Dataset) -> list[str]:
    """List reservations: no held-out rows, features that never vary, λ that missed the tolerance."""
    attrs, lines = dataset.attrs, []
    if not attrs["rows_held_out"]:
        lines.append("No rows were held out, so no λ is called best and no model is written.")
    if constant := int(dataset["constant"].values.sum()):
        who = "1 feature never varies" if constant == 1 else f"{constant} features never vary"
        lines.append(f"{who} in the training rows: weights of 0 that are not counted above.")
    status = dataset["status"].values.ravel()
    missed = Counter(_STATUS.get(str(word), str(word)) for word in status if word != "converged")
    if missed:
        why = ", ".join(f"{count} {word}" for word, count in missed.items())
        lines.append(
            f"{missed.total()} of {status.size} λ did not reach the tolerance of {attrs['tol']:g} ({why}):"
            " their gap says how near they came."
        )
    else:
        lines.append(f"All {status.size} λ reached the tolerance of {attrs['tol']:g}.")
    return lines
