"""The coefficients of a chosen model, the largest first: as a table on the terminal and as a CSV file."""

from __future__ import annotations

import csv
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from jaxreg.cli._messages import printable
from jaxreg.cli.choose import Chosen

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["guarded", "order", "table", "write_csv"]

#: Rows of the table.
_SHOWN = 15
#: Classes up to which the table has a column for each.
_CLASSES_SHOWN = 5
#: Characters of a name in the table.
_NAME_LENGTH = 30
#: Characters with which a spreadsheet lets a formula begin.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def order(chosen: Chosen) -> np.ndarray:
    """Return the features in order of their standardised coefficients, the largest norm first."""
    size = np.linalg.norm(chosen.standardized.reshape(len(chosen.standardized), -1), axis=1)
    return np.argsort(-size, kind="stable")


def table(chosen: Chosen, standardize: bool) -> Table:
    """Return a rich table of the intercept and the largest coefficients."""
    from rich import box
    from rich.table import Table

    model, per = chosen.model, "per s.d." if standardize else "penalised"
    out = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    out.add_column("feature", overflow="fold")
    several = model.coef.ndim == 2
    shown = len(model.classes) if several and len(model.classes) <= _CLASSES_SHOWN else 0
    names = [f"{_cut(name, 12)}\nper unit" for name in model.classes[:shown]] if several else ["per unit"]
    for heading in names if names and (shown or not several) else ["norm over\nclasses"]:
        out.add_column(heading, justify="right", no_wrap=True)
    out.add_column(f"{'norm ' if several else ''}{per}", justify="right", no_wrap=True)
    size = np.linalg.norm(chosen.standardized.reshape(len(model.coef), -1), axis=1)
    out.add_row("(intercept)", *_cells(model.intercept, several, shown), "")
    for j in order(chosen)[:_SHOWN]:
        if size[j]:
            standardized = size[j] if several else chosen.standardized[j]
            out.add_row(
                _cut(model.features[j]), *_cells(model.coef[j], several, shown), f"{standardized:.4g}"
            )
    if (more := int(np.count_nonzero(size)) - _SHOWN) > 0:
        out.add_row(f"… and {more} more in coefficients.csv", *[""] * (len(out.columns) - 1))
    return out


def write_csv(chosen: Chosen, path: pathlib.Path) -> None:
    """Write intercept and all coefficients, with the coefficients as the penalty sees them."""
    model = chosen.model
    several = model.coef.ndim == 2
    suffixes = [f"[{name}]" for name in model.classes] if several else [""]
    header = ["feature", *(f"coefficient{s}" for s in suffixes), *(f"standardized{s}" for s in suffixes)]
    blank = [""] * len(suffixes)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(map(guarded, header))
        writer.writerow(["(intercept)", *map(repr, np.atleast_1d(model.intercept).tolist()), *blank])
        for j in order(chosen):
            both = (model.coef[j], chosen.standardized[j])
            numbers = [repr(value) for part in both for value in np.atleast_1d(part).tolist()]
            writer.writerow([guarded(model.features[j]), *numbers])


def guarded(text: str) -> str:
    """Return text of which a spreadsheet makes no formula and a terminal no command.

    >>> guarded("=1+1"), guarded("age"), guarded("-1")
    ("'=1+1", 'age', '-1')
    """
    return printable(f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cells(values: np.ndarray, several: bool, shown: int) -> list[str]:
    if several and not shown:
        return [f"{np.linalg.norm(values):.4g}"]
    # Adding 0.0 turns −0.0 into 0.0.
    return [f"{value + 0.0:.4g}" for value in np.atleast_1d(values).tolist()]


def _cut(name: str, longest: int = _NAME_LENGTH) -> str:
    name = printable(" ".join(name.split()) or name)
    return name if len(name) <= longest else name[: longest - 1] + "…"
