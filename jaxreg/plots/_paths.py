"""The paths of the coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from jaxreg.linear.path.result import Path
from jaxreg.plots._style import (
    COLOURS,
    PANELS,
    STYLES,
    UNITS_LENGTH,
    best_step,
    lam_axis,
    new_axes,
    require_sweep,
    shown_name,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from xarray import Dataset

__all__ = ["paths"]

#: Ratio of the largest coefficients of two penalties above which each panel has a y axis of its own.
_SCALES_DIFFER = 3.0
#: Multiple of the largest coefficient at the best λ at which a panel ends: weakly penalised coefficients may
#: be so large that the others look like 0.
_ROOM = 4.0
#: Curves that are drawn without a label: those with the largest coefficients.
_CURVES = 500


def paths(
    found: Dataset | Path, axes: Axes | np.ndarray | None = None, features: Sequence[str] | None = None
) -> np.ndarray:
    """Draw the coefficients against λ, one panel per penalty, the five largest at the best λ labelled.

    The curve of a feature in a model of several classes is the norm of its coefficients over the classes.

    Args:
        found: The `xarray.Dataset` of a sweep, as in the command's sweep.nc, or the result of `jaxreg.path`,
            whose coefficients are drawn on the scale of the data and ordered by their largest value.
        axes: One axes per penalty; by default those of a new figure.
        features: Names of the features (p,) of a path; by default their column numbers. A sweep has names.

    Returns:
        The array of axes.

    Raises:
        TypeError: The argument is neither the dataset of a sweep nor a path.
        ValueError: for another number of names than features.
    """
    if isinstance(found, Path):
        return _of_path(found, axes, features)
    require_sweep(found)
    return _of_sweep(found, axes)


def _of_path(path: Path, axes: Axes | np.ndarray | None, features: Sequence[str] | None) -> np.ndarray:
    """Draw one panel of the coefficients of a path."""
    lam, coef = np.asarray(path.lambdas), np.asarray(path.coef)
    names = [f"column {j}" for j in range(coef.shape[1])] if features is None else list(features)
    if len(names) != coef.shape[1]:
        raise ValueError(f"features must have {coef.shape[1]} names, got {len(names)}")
    height = "Coefficient"
    if coef.ndim == 3:
        height, coef = f"Norm over the {coef.shape[2]} outputs", np.linalg.norm(coef, axis=2)
    axes = new_axes(1, (6.4, 4.4)) if axes is None else np.atleast_1d(axes)
    _curves(axes[0], lam, names, coef, _order(coef[None], None))
    lam_axis(axes[0], lam)
    axes[0].set_ylabel(height)
    _legend(axes[0])
    return axes


def _of_sweep(dataset: Dataset, axes: Axes | np.ndarray | None) -> np.ndarray:
    """Draw one panel for each penalty of a sweep."""
    count = dataset.sizes["penalty"]
    coef = _standardized(dataset)
    classes = dataset.sizes.get("class", 0) if coef.ndim == 4 else 0
    coef = np.linalg.norm(coef, axis=3) if classes else coef
    best = [best_step(dataset.isel(penalty=k)) for k in range(count)]
    tops = [_top(coef[k], best[k]) for k in range(count)]
    shared = max(tops) <= _SCALES_DIFFER * max(min(tops), 1e-300)
    panel, given = (3.6 if shared else 4.0, 4.6), axes is not None
    axes = np.atleast_1d(axes) if given else new_axes(count, panel, 1.6, shared)
    order = _order(coef, _chosen(dataset, best))
    for k, ax in enumerate(axes):
        _panel(ax, dataset.isel(penalty=k), coef[k], order)
        _limit(ax, coef[k], max(tops) if shared else tops[k])
    name = "standardized_coef" if "standardized_coef" in dataset else "coef"
    units = dataset[name].attrs.get("units", "1")
    height = f"Norm over the {classes} classes" if classes else "Coefficient"
    units = units.replace("standard deviation", "s.d.")
    for ax in axes[::PANELS]:
        ax.set_ylabel(f"{height}\n[{shown_name(units, longest=UNITS_LENGTH)}]")
    _legend(axes[-1] if given else axes[:PANELS][-1])
    axes[0].figure.suptitle(f"Coefficient paths: {shown_name(dataset.attrs['data'])}")
    return axes


def _legend(ax: Axes) -> None:
    """Place the legend right of the axes, in the order of the features."""
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], labels[::-1], fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _chosen(dataset: Dataset, best: list[int | None]) -> tuple[int, int] | None:
    """Return penalty and step of the smallest error; None where no λ is best."""
    candidates = [
        (float(dataset["error"][k, step]), k, step) for k, step in enumerate(best) if step is not None
    ]
    return min(candidates)[1:] if candidates else None


def _standardized(dataset: Dataset) -> np.ndarray:
    """Return the standardised coefficients, which the file of a large sweep holds as a factor."""
    if "standardized_coef" in dataset:
        return dataset["standardized_coef"].values
    return (dataset["coef"] * dataset["scale"]).transpose(*dataset["coef"].dims).values


def _top(coef: Float[np.ndarray, "steps p"], best: int | None) -> float:
    """Return the largest coefficient at the best λ, or at the middle of the grid where the best is larger."""
    return float(np.abs(coef if best is None else coef[max(best, len(coef) // 2)]).max())


def _order(coef: Float[np.ndarray, "k steps p"], chosen: tuple[int, int] | None) -> Int[np.ndarray, " p"]:
    """Order the features by their size at the λ of the smallest error of all penalties.

    One order for all panels, so that a colour means the same feature everywhere. Ties, such as zeros, are
    ordered by the largest coefficient anywhere.
    """
    anywhere = np.abs(coef).max(axis=(0, 1))
    if chosen is None:
        return np.argsort(-anywhere, kind="stable")
    return np.lexsort((-anywhere, -np.abs(coef[chosen])))


def _panel(ax: Axes, part: Dataset, coef: Float[np.ndarray, "steps p"], order: Int[np.ndarray, " p"]) -> None:
    """Draw the coefficients of one penalty of a sweep, and its best λ."""
    lam = part["lam"].values
    _curves(ax, lam, part["feature"].values, coef, order)
    if (best := best_step(part)) is not None:
        label = "One-standard-error choice" if part.attrs.get("choose") == "1se" else "Smallest error"
        ax.axvline(lam[best], color="0.3", linewidth=1.0, linestyle=(0, (2, 2)), label=label)
    lam_axis(ax, lam, part["penalty"].item())


def _curves(
    ax: Axes,
    lam: Float[np.ndarray, " steps"],
    names: Sequence[str],
    coef: Float[np.ndarray, "steps p"],
    order: Int[np.ndarray, " p"],
) -> None:
    """Draw the coefficients against λ, the largest features in `order` labelled."""
    labelled = len(COLOURS)
    if order.size > labelled:
        others = order[labelled : labelled + _CURVES]
        ax.plot(lam, coef[:, others], color="0.7", linewidth=0.8, alpha=0.8, zorder=1)
        count = order.size - labelled
        ax.plot([], [], color="0.7", linewidth=0.8, label=f"{count:,} other{'s' * (count > 1)}")
    for rank, j in reversed([*enumerate(order[:labelled])]):
        style = {"color": COLOURS[rank], "linestyle": STYLES[rank].line, "linewidth": 1.7}
        ax.plot(lam, coef[:, j], label=shown_name(names[j]), zorder=8 - rank, **style)
    ax.axhline(0, color="0.3", linewidth=0.8)


def _limit(ax: Axes, coef: Float[np.ndarray, "steps p"], top: float) -> None:
    """End a panel at a multiple of `top` where coefficients are larger."""
    if top > 0 and float(np.abs(coef).max()) > _ROOM * top:
        low = -_ROOM * top if coef.min() < 0 else -0.05 * _ROOM * top
        ax.set_ylim(low, _ROOM * top)
