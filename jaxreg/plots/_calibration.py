"""Observed against predicted targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxreg import metrics
from jaxreg.plots._style import COLOURS, UNITS_LENGTH, new_axes, shown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxreg._typing import ArrayLike
    from jaxreg.losses import Loss

__all__ = ["calibration"]


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
    if z.ndim != 1:
        raise ValueError(f"z has shape {z.shape}, wanted one row of linear predictors (n,): choose a λ")
    fit = metrics.calibration(loss, z, y)
    if not 1 <= groups <= z.size // 2:
        raise ValueError(f"groups must be from 1 to {z.size // 2}, half of the samples, got {groups}")
    ax = new_axes(1, (5.4, 4.9))[0] if ax is None else ax
    predicted, line = np.asarray(loss.mean(z)), np.linspace(z.min(), z.max(), 100)
    fitted = np.asarray(loss.mean(float(fit.intercept) + float(fit.slope) * line))
    members = np.array_split(np.argsort(z), groups)
    x, means = (np.array([values[i].mean() for i in members]) for values in (predicted, y))
    errors = np.array([2 * y[i].std(ddof=1) / np.sqrt(i.size) for i in members])
    ends = np.asarray(loss.mean(line[[0, -1]]))
    ax.plot(ends, ends, color="0.5", linestyle="--", linewidth=1.2, label="Perfect calibration")
    slope = f"slope {float(fit.slope):.2f} ± {float(fit.slope_se):.2f}"
    ax.plot(np.asarray(loss.mean(line)), fitted, color=COLOURS[0], label=f"Fit: {slope}")
    style = {"color": COLOURS[2], "capsize": 2, "linewidth": 1.0, "markersize": 5}
    ax.errorbar(x, means, errors, fmt="o", label=f"Means of {groups} groups ± 2 s.e.", **style)
    name = shown_name(name, longest=UNITS_LENGTH)
    ax.set(xlabel=f"Predicted {name}", ylabel=f"Observed {name}")
    ax.legend(fontsize=9)
    ax.grid(alpha=0.25)
    return ax
