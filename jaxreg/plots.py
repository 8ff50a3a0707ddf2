"""Draw sweeps (map of sparsity versus shrinkage, coefficient paths), calibration and stability.

Penalties differ by marker and line, the largest features by colour and line, so that both pictures can be
read without colour. The colours are Okabe and Ito's and the scale is cividis, both safe for the colour-blind.
"""

from __future__ import annotations

import pathlib
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxreg import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from xarray import Dataset

    from jaxreg._typing import ArrayLike
    from jaxreg.linear.selection.stability import Stability
    from jaxreg.losses import Loss

__all__ = ["best_step", "calibration", "map", "paths", "prepare", "save", "stability"]


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


def calibration(
    loss: Loss, z: ArrayLike, y: ArrayLike, *, groups: int = 10, name: str = "target", ax: Axes | None = None
) -> Axes:
    """Draw observed against predicted targets, with the calibration line and the line of perfect calibration.

    Points are the means of groups of equal size by prediction, with two standard errors to each side.

    Args:
        loss: `SquaredError`, `Logistic` or `Poisson`.
        z: Linear predictors (n,) of samples that were not used in the fit.
        y: Their targets (n,).
        groups: Number of groups.
        name: Name of the target, with its unit.
        ax: The axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        TypeError, ValueError: as `jaxreg.metrics.calibration`, and for fewer than 2 samples in a group.
    """
    z, y = np.asarray(z, float), np.asarray(y, float)
    found = metrics.calibration(loss, z, y)
    if not 1 <= groups <= z.size // 2:
        raise ValueError(f"groups must be from 1 to {z.size // 2}, half of the samples, got {groups}")
    ax = _axes(1, (5.4, 4.9))[0] if ax is None else ax
    predicted, line = np.asarray(loss.mean(z)), np.linspace(z.min(), z.max(), 100)
    fitted = np.asarray(loss.mean(float(found.intercept) + float(found.slope) * line))
    members = np.array_split(np.argsort(z), groups)
    x, means = (np.array([values[i].mean() for i in members]) for values in (predicted, y))
    errors = np.array([2 * y[i].std(ddof=1) / np.sqrt(i.size) for i in members])
    ends = np.asarray(loss.mean(line[[0, -1]]))
    ax.plot(ends, ends, color="0.5", linestyle="--", linewidth=1.2, label="Perfect calibration")
    slope = f"slope {float(found.slope):.2f} ± {float(found.slope_se):.2f}"
    ax.plot(np.asarray(loss.mean(line)), fitted, color=_COLOURS[0], label=f"Fit: {slope}")
    style = {"color": _COLOURS[2], "capsize": 2, "linewidth": 1.0, "markersize": 5}
    ax.errorbar(x, means, errors, fmt="o", label=f"Means of {groups} groups ± 2 s.e.", **style)
    name = _shown_name(name, longest=_UNITS_LENGTH)
    ax.set(xlabel=f"Predicted {name}", ylabel=f"Observed {name}")
    ax.legend(fontsize=9)
    ax.grid(alpha=0.25)
    return ax


def stability(found: Stability, features: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw selection probabilities against λ; the five features with the largest are labelled.

    Args:
        found: The result of `jaxreg.stability_selection`.
        features: Names of the features (p,); by default their column numbers.
        ax: The axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: for another number of names than features.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    p = found.selected.size
    names = [f"column {j}" for j in range(p)] if features is None else list(features)
    if len(names) != p:
        raise ValueError(f"features must have {p} names, got {len(names)}")
    ax = _axes(1, (6.6, 4.4))[0] if ax is None else ax
    order = np.argsort(-found.max_probability, kind="stable")
    labelled = order[: len(_COLOURS)]
    others = order[len(_COLOURS) :]
    for chosen, colour in ((True, "0.35"), (False, "0.75")):
        some = others[found.selected[others] == chosen]
        if some.size:
            ax.plot(found.lambdas, found.probabilities[:, some], color=colour, linewidth=0.8, zorder=1)
            words = "selected" if chosen else "not selected"
            ax.plot([], [], color=colour, linewidth=0.8, label=f"{some.size} others, {words}")
    for rank, j in reversed([*enumerate(labelled)]):
        style = {"color": _COLOURS[rank], "linestyle": _STYLES[rank].line, "linewidth": 1.7}
        ax.plot(
            found.lambdas, found.probabilities[:, j], label=_shown_name(names[j]), zorder=8 - rank, **style
        )
    threshold = f"Threshold {found.threshold:g}: {found.selected.sum()} selected"
    ax.axhline(found.threshold, color="0.3", linewidth=1.0, linestyle=(0, (2, 2)), label=threshold)
    ax.set(xscale="log", xlabel="λ, falling to the right", ylabel="Selection probability", ylim=(-0.03, 1.03))
    # A short grid holds few powers of ten, and labels of all minor ticks would overlap.
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.invert_xaxis()
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], labels[::-1], fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.grid(alpha=0.25)
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
