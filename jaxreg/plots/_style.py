"""Styles, names and axes that the pictures share, and the best step of a penalty."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxreg._extras import import_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from xarray import Dataset

__all__ = [
    "COLOURS",
    "DPI",
    "PANELS",
    "STYLES",
    "Style",
    "best_step",
    "lam_axis",
    "new_axes",
    "nonzero",
    "require_result",
    "require_sweep",
    "shown_name",
]


class Style(NamedTuple):
    """Marker and line of a penalty; its line also marks a feature."""

    marker: str
    line: str | tuple[int, tuple[float, ...]]


STYLES = (
    Style("o", "-"),
    Style("s", "--"),
    Style("^", ":"),
    Style("D", "-."),
    Style("v", (0, (8, 2))),
)
#: Colours of the features with the largest coefficients: as many are labelled.
COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7")
#: Panels side by side at most.
PANELS = 4
#: Dots per inch of the written pictures.
DPI = 140
#: Characters of a name in a legend or title.
_NAME_LENGTH = 28
#: Largest λ over the smallest from which a log axis has ticks at powers of ten alone.
_MANY_DECADES = 1e3
#: Characters of the units of an axis.
UNITS_LENGTH = 60


def best_step(part: Dataset) -> int | None:
    """Return the step of the grid with the smallest error, the largest λ among equals.

    A sweep with cross-validation has its choice in `best_step`.

    Args:
        part: The sweep's dataset at one penalty, `dataset.isel(penalty=k)`.

    Returns:
        The position along `step`, or None where no rows were held out and there were no folds.
    """
    if "best_step" in part:
        return int(part["best_step"])
    error = part["error"].values
    if not part.attrs["rows_held_out"] or np.isnan(error).all():
        return None
    return int(np.nanargmin(error))


def require_sweep(dataset: object) -> None:
    """Raise TypeError for an object that is not the dataset of a sweep over penalties."""
    if "penalty" not in getattr(dataset, "dims", ()):
        raise TypeError(
            "wanted the xarray.Dataset of a sweep, such as xarray.open_dataset('jaxreg-diabetes/sweep.nc'),"
            f" got {type(dataset).__name__}"
        )


def require_result(result: object, kinds: tuple[type, ...], made_by: str) -> None:
    """Raise TypeError for an object that is not a result of the function `made_by`."""
    if not isinstance(result, kinds):
        raise TypeError(f"wanted the result of jaxreg.{made_by}, got {type(result).__name__}")


def nonzero(part: Dataset) -> Int[np.ndarray, " steps"]:
    """Return the number of weights that are not 0 at each step of one penalty."""
    return part["coef"][0].size - part["zeros"].values.astype(int)


def new_axes(count: int, panel: tuple[float, float], margin: float = 0.0, share: bool = True) -> np.ndarray:
    """Return axes (count,) in a new figure, in rows of at most `PANELS`.

    Args:
        count: Number of panels.
        panel: Width and height of a panel in inches.
        margin: Width beside the panels in inches.
        share: Whether all panels have one y axis.
    """
    figures = import_extra("matplotlib.figure", "plots", "jaxreg.plots")
    columns = min(count, PANELS)
    rows = -(-count // columns)
    size = (margin + columns * panel[0], rows * panel[1])
    axes = np.ravel(figures.Figure(figsize=size, layout="constrained").subplots(rows, columns, sharey=share))
    for ax in axes[count:]:
        ax.remove()
    return axes[:count]


def lam_axis(ax: Axes, lam: Float[np.ndarray, " L"], penalty: str = "") -> None:
    """Draw λ on a log axis, falling to the right, with the name of the penalty as title."""
    ax.set_xscale("log")
    above_0 = lam[lam > 0]
    if above_0.size and above_0.max() >= _MANY_DECADES * above_0.min():
        # Minor ticks, some fifty in each panel, would take a third of the time of drawing.
        ax.minorticks_off()
    ax.invert_xaxis()
    ax.set_title(shown_name(penalty, True))
    ax.set_xlabel("λ, falling to the right")
    ax.grid(alpha=0.25)


def shown_name(text: str, capital: bool = False, longest: int = _NAME_LENGTH) -> str:
    """Return a name as matplotlib shows it: on one line, no formula, not hidden for its underscore, cut."""
    text = "".join(c if c.isprintable() else " " for c in str(text))
    text = " ".join(text.split())
    text = text if len(text) <= longest or capital else text[: longest - 1] + "…"
    text = text[:1].upper() + text[1:] if capital else text
    return (" " + text if text.startswith("_") else text).replace("$", r"\$")
