"""The error against λ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxreg.plots._style import (
    COLOURS,
    PANELS,
    best_step,
    lam_axis,
    new_axes,
    nonzero,
    require_sweep,
    shown_name,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from xarray import Dataset

__all__ = ["error"]

#: Numbers of weights on top of a panel.
_COUNTS_SHOWN = 6
#: Multiple of the range from the smallest error to that of the null model at which the panels end.
_ROOM = 1.6


def error(dataset: Dataset, axes: Axes | np.ndarray | None = None) -> np.ndarray:
    """Draw the error against λ, one panel per penalty, with the number of weights that are not 0 on top.

    The band is one standard error to each side, where the dataset has it; the broken line marks the chosen
    λ of the penalty, the dotted line the error of the best choice.

    Args:
        dataset: The `xarray.Dataset` of a sweep, as in the command's sweep.nc.
        axes: One axes per penalty; by default those of a new figure.

    Returns:
        The array of axes.

    Raises:
        TypeError: The argument is not the dataset of a sweep.
    """
    require_sweep(dataset)
    parts = [dataset.isel(penalty=k) for k in range(dataset.sizes["penalty"])]
    axes = new_axes(len(parts), (3.6, 4.4), 1.2) if axes is None else np.atleast_1d(axes)
    errors = dataset["error"].values
    best = [best_step(part) for part in parts]
    least = min(
        (float(part["error"][b]) for part, b in zip(parts, best, strict=True) if b is not None), default=None
    )
    for ax, part, step in zip(axes, parts, best, strict=True):
        _panel(ax, part, step)
        if least is not None:
            ax.axhline(least, color="0.3", linewidth=0.9, linestyle=":")
    _limit(axes, errors)
    units = dataset["error"].attrs.get("units", "1")
    label = f"{dataset.attrs['error']}, {dataset.attrs['error_rows']}{'' if units == '1' else f' [{units}]'}"
    for ax in axes[::PANELS]:
        ax.set_ylabel(shown_name(label, True))
    axes[0].figure.suptitle(f"Error against λ: {shown_name(dataset.attrs['data'])}")
    return axes


def _panel(ax: Axes, part: Dataset, best: int | None) -> None:
    """Draw the error of one penalty."""
    lam, values = part["lam"].values, part["error"].values
    ax.plot(lam, values, color=COLOURS[0], linewidth=1.6)
    if "error_se" in part:
        se = part["error_se"].values
        ax.fill_between(lam, values - se, values + se, color=COLOURS[0], alpha=0.18, linewidth=0)
    if best is not None:
        ax.axvline(lam[best], color="0.3", linewidth=1.0, linestyle=(0, (2, 2)))
        ax.plot(lam[best], values[best], "o", color=COLOURS[1], markeredgecolor="black", zorder=3)
    lam_axis(ax, lam, part["penalty"].item())
    # The power of ten of large errors belongs left of the counts on top.
    ax.yaxis.get_offset_text().set_horizontalalignment("right")
    top, counts = ax.secondary_xaxis("top"), nonzero(part)
    at = np.unique(np.linspace(0, len(lam) - 1, _COUNTS_SHOWN).round().astype(int))
    top.set_xticks(lam[at], [f"{counts[k]:,}" for k in at], fontsize=8)
    top.set_xticks([], minor=True)
    top.tick_params(length=2, pad=1)
    top.set_xlabel("weights that are not 0", fontsize=8)


def _limit(axes: np.ndarray, errors: np.ndarray) -> None:
    """End the panels above the error of the null model: overfitted models may be far worse."""
    finite = errors[np.isfinite(errors)]
    if not finite.size:
        return
    low, null = float(finite.min()), float(np.nanmedian(errors[:, 0]))
    high = low + _ROOM * (null - low)
    if null > low and finite.max() > high:
        axes[0].set_ylim(low - 0.1 * (high - low), high)
