"""Draw a sweep (the map of sparsity versus shrinkage, the paths of the coefficients) and a cross-validation.

Penalties differ by marker and line, the largest features by colour and line, so that both pictures can be
read without colour. The colours are Okabe and Ito's and the scale is cividis, both safe for the colour-blind.
"""

from __future__ import annotations

import pathlib
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from xarray import Dataset

    from jaxreg.linear.selection.cv_result import CrossValidation

__all__ = ["best_step", "cv", "map", "paths", "prepare", "save"]


class _Style(NamedTuple):
    """Marker and line of a penalty; its line also marks a feature."""

    marker: str
    line: Any


_STYLES = (
    _Style("o", "-"),
    _Style("s", "--"),
    _Style("^", ":"),
    _Style("D", "-."),
    _Style("v", (0, (8, 2))),
)
#: Colours of the features with the largest coefficients: as many are labelled.
_COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7")
_BEST = {"facecolors": "none", "edgecolors": "black", "linewidths": 1.8, "s": 170}
#: Quantile of the error at which the colour scale ends: a few large errors would leave the rest one colour.
_ERROR_QUANTILE = 0.98
#: Least distance of two markers on a curve, in percent of the axes' ranges.
_MARKER_DISTANCE = 1.5
#: Columns of the legend above the map.
_LEGEND_COLUMNS = 4
#: Characters of a name in a legend or title.
_NAME_LENGTH = 28
#: Characters of the units of an axis.
_UNITS_LENGTH = 60
#: Numbers of nonzero coefficients above a cross-validation.
_COUNTS = 9
#: Dots per inch of the written pictures.
_DPI = 140


def best_step(part: Dataset) -> int | None:
    """Return the step of the grid with the smallest held-out error, the largest λ among equals.

    Args:
        part: The sweep's dataset at one penalty, `dataset.isel(penalty=k)`.

    Returns:
        The position along `step`, or None where no rows were held out.
    """
    error = part["error"].values
    if not part.attrs["rows_held_out"] or np.isnan(error).all():
        return None
    return int(np.nanargmin(error))


def prepare() -> None:
    """Load the drawing libraries and find the fonts, which takes seconds the first time on a machine."""
    import xarray  # noqa: F401
    from matplotlib.backends import backend_agg  # noqa: F401

    ax = _axes(1, (2.0, 2.0))[0]
    ax.set(title="λ", xlabel="λ", ylabel="λ", xscale="log")
    ax.figure.draw_without_rendering()


def map(dataset: Dataset, ax: Axes | None = None) -> Axes:
    """Draw one curve per penalty: shrinkage across, exact zeros up, the error as colour.

    Args:
        dataset: The `xarray.Dataset` of a sweep, as in the command's sweep.nc.
        ax: The axes to draw on; by default those of a new figure.

    Returns:
        The axes.
    """
    ax = _axes(1, (7.5, 5.2))[0] if ax is None else ax
    fraction = "fraction" in dataset.attrs["error"]
    error = (100 if fraction else 1) * dataset["error"].values
    limits = np.nanmin(error), np.nanquantile(error, _ERROR_QUANTILE)
    points, any_best = None, False
    for k in range(dataset.sizes["penalty"]):
        part, style = dataset.isel(penalty=k), _STYLES[k % len(_STYLES)]
        points = _map_curve(ax, part, error[k], limits, style)
        any_best |= best_step(part) is not None
    if any_best:
        ax.scatter([], [], marker="o", label="Smallest error", **_BEST)
    units = "%" if fraction else dataset["error"].attrs.get("units", "1")
    label = f"{dataset.attrs['error']}, {dataset.attrs['error_rows']}{'' if units == '1' else f' [{units}]'}"
    label = label.replace("misclassified fraction", "misclassified")
    extend = "max" if np.nanmax(error) > limits[1] else "neither"
    ax.figure.colorbar(points, ax=ax, label=_shown_name(label, True), extend=extend)
    ax.set_xlabel(f"Shrinkage: norm of the weights below that of {dataset.attrs['reference']} [%]")
    ax.set_ylabel("Sparsity: weights that are exactly 0 [%]")
    ax.set_ylim(-4, 104)
    # The legend stands above the axes, where no curve can run through it.
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=_LEGEND_COLUMNS, fontsize=9)
    legend_rows = -(-(len(error) + any_best) // _LEGEND_COLUMNS)
    title = f"Sparsity versus shrinkage: {_shown_name(dataset.attrs['data'])}"
    ax.set_title(title, pad=14 + 18 * legend_rows)
    ax.grid(alpha=0.25)
    return ax


def _map_curve(
    ax: Axes, part: Dataset, error: np.ndarray, limits: tuple[float, float], style: _Style
) -> PathCollection:
    """Draw the curve of one penalty, its best step marked; returns the points, which carry the colours."""
    x, y = 100 * part["shrinkage"].values, 100 * part["zero_fraction"].values
    ax.plot(x, y, linestyle=style.line, color="0.45", linewidth=1.2, zorder=1)
    best = best_step(part)
    shown = _spaced(x, y, best)
    points = ax.scatter(
        x[shown], y[shown], c=error[shown], marker=style.marker, s=34, vmin=limits[0], vmax=limits[1],
        cmap="cividis", edgecolors="0.35", linewidths=0.4, zorder=2,
    )  # fmt: skip
    name = _shown_name(part["penalty"].item(), True)
    ax.plot([], [], marker=style.marker, linestyle=style.line, color="0.35", label=name)
    if best is not None:
        ax.scatter(x[best], y[best], marker=style.marker, zorder=3, **_BEST)
    return points


def _spaced(x: np.ndarray, y: np.ndarray, always: int | None) -> list[int]:
    """Choose steps along a curve whose markers do not overlap; the first, the last and `always` are shown."""
    shown = [0]
    for k in range(1, len(x)):
        if np.hypot(x[k] - x[shown[-1]], y[k] - y[shown[-1]]) >= _MARKER_DISTANCE:
            shown.append(k)
    return sorted({*shown, len(x) - 1, *([] if always is None else [always])})


def paths(dataset: Dataset, axes: Axes | np.ndarray | None = None) -> np.ndarray:
    """Draw the coefficients against λ, one panel per penalty, with the five largest labelled.

    The curve of a feature in a model of several classes is the norm of its coefficients over the classes.

    Args:
        dataset: The `xarray.Dataset` of a sweep, as in the command's sweep.nc.
        axes: One axes per penalty; by default those of a new figure.

    Returns:
        The array of axes.
    """
    count = dataset.sizes["penalty"]
    axes = _axes(count, (1.6 + 3.6 * count, 4.6)) if axes is None else np.atleast_1d(axes)
    coef = dataset["standardized_coef"].values
    classes = dataset.sizes.get("class", 0) if coef.ndim == 4 else 0
    coef = np.linalg.norm(coef, axis=3) if classes else coef
    # One order for all panels, so that a colour means the same feature everywhere.
    order = np.argsort(-np.abs(coef).max(axis=(0, 1)), kind="stable")
    for k, ax in enumerate(axes):
        _path_panel(ax, dataset.isel(penalty=k), coef[k], order)
    units = dataset["standardized_coef"].attrs.get("units", "1").replace("standard deviation", "s.d.")
    height = f"Norm over the {classes} classes" if classes else "Coefficient"
    axes[0].set_ylabel(f"{height}\n[{_shown_name(units, longest=_UNITS_LENGTH)}]")
    handles, labels = axes[-1].get_legend_handles_labels()
    axes[-1].legend(handles[::-1], labels[::-1], fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[0].figure.suptitle(f"Coefficient paths: {_shown_name(dataset.attrs['data'])}")
    return axes


def _path_panel(ax: Axes, part: Dataset, coef: np.ndarray, order: np.ndarray) -> None:
    """Draw the coefficients (steps, p) of one penalty, the largest features in `order` labelled."""
    lam, names, labelled = part["lam"].values, part["feature"].values, len(_COLOURS)
    if order.size > labelled:
        ax.plot(lam, coef[:, order[labelled:]], color="0.7", linewidth=0.8, alpha=0.8, zorder=1)
        ax.plot([], [], color="0.7", linewidth=0.8, label=f"{order.size - labelled} others")
    for rank, j in reversed([*enumerate(order[:labelled])]):
        style = {"color": _COLOURS[rank], "linestyle": _STYLES[rank].line, "linewidth": 1.7}
        ax.plot(lam, coef[:, j], label=_shown_name(names[j]), zorder=8 - rank, **style)
    ax.axhline(0, color="0.3", linewidth=0.8)
    if (best := best_step(part)) is not None:
        ax.axvline(lam[best], color="0.3", linewidth=1.0, linestyle=(0, (2, 2)), label="Smallest error")
    ax.set_xscale("log")
    ax.invert_xaxis()
    ax.set_title(_shown_name(part["penalty"].item(), True))
    ax.set_xlabel("λ, falling to the right")
    ax.grid(alpha=0.25)


def cv(result: CrossValidation, ax: Axes | None = None) -> Axes:
    """Draw the mean score against λ with error bars of one standard error, as glmnet does.

    The choices of λ are marked, and the number of nonzero coefficients of the path on all rows stands on top.

    Args:
        result: The result of `jaxreg.cross_validate`; for several families that of one, such as `.best`.
        ax: The axes to draw on; by default those of a new figure.

    Returns:
        The axes.
    """
    ax = _axes(1, (6.4, 4.4))[0] if ax is None else ax
    lam = np.asarray(result.lambdas)
    mean, se = np.asarray(result.mean), np.asarray(result.se)
    ax.errorbar(
        lam, mean, yerr=se, fmt="o", color=_COLOURS[1], markersize=3.5, ecolor="0.72", elinewidth=0.9,
        capsize=2, label="Mean over folds ± standard error",
    )  # fmt: skip
    choices = (("min", result.index_min, "Best mean"), ("1se", result.index_1se, "One-standard-error rule"))
    for style, colour, (_, k, label) in zip(_STYLES[1:], (_COLOURS[2], _COLOURS[0]), choices, strict=False):
        text = f"{label}: λ = {lam[k]:.3g}, {result.nonzeros[k]} nonzero"
        ax.axvline(lam[k], color=colour, linestyle=style.line, linewidth=1.2, label=text)
    if lam[-1] > 0:
        ax.set_xscale("log")
    ax.invert_xaxis()
    ax.set_xlabel("λ, falling to the right")
    ax.set_ylabel(_shown_name(result.metric, True) + f", {len(result.fold_weights)} folds")
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8)
    top = ax.secondary_xaxis("top")
    shown = np.unique(np.linspace(0, lam.size - 1, min(lam.size, _COUNTS)).round().astype(int))
    top.set_xticks(lam[shown], [str(count) for count in result.nonzeros[shown]], fontsize=8)
    top.tick_params(which="minor", top=False)
    top.set_xlabel("Nonzero coefficients", fontsize=9)
    return ax


def save(dataset: Dataset, folder: pathlib.Path) -> None:
    """Write map.png and paths.png into a folder."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        map(dataset).figure.savefig(folder / "map.png", dpi=_DPI)
        paths(dataset)[0].figure.savefig(folder / "paths.png", dpi=_DPI)


def _axes(count: int, size: tuple[float, float]) -> np.ndarray:
    """Return axes side by side in a new figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return np.atleast_1d(figure.subplots(1, count, sharey=True))


def _shown_name(text: str, capital: bool = False, longest: int = _NAME_LENGTH) -> str:
    """Return a name as matplotlib shows it: on one line, no formula, not hidden for its underscore, cut."""
    text = " ".join(str(text).split())
    text = text if len(text) <= longest or capital else text[: longest - 1] + "…"
    text = text[:1].upper() + text[1:] if capital else text
    return (" " + text if text.startswith("_") else text).replace("$", r"\$")
