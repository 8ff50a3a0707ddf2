"""The score of a cross-validation against λ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxreg.linear.selection.cv_result import CrossValidation, CrossValidations
from jaxreg.plots._style import COLOURS, STYLES, new_axes, require_result, shown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cv"]

#: Numbers of nonzero coefficients above a cross-validation.
_COUNTS = 9


def cv(result: CrossValidation | CrossValidations, ax: Axes | None = None) -> Axes:
    """Draw the mean score against λ with error bars of one standard error, as glmnet does.

    The choices of λ are marked, and the number of nonzero coefficients of the path on all rows stands on top.
    With several families or a second axis, one curve for each is drawn, without counts, and the best λ of
    each is marked; the band is the standard error of the best.

    Args:
        result: The result of `jaxreg.cross_validate`.
        ax: The axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        TypeError: The argument is not the result of a cross-validation.
    """
    require_result(result, (CrossValidation, CrossValidations), "cross_validate")
    ax = new_axes(1, (6.4, 4.4))[0] if ax is None else ax
    if isinstance(result, CrossValidations):
        _curves(ax, result)
        _finish(ax, result.best)
        return ax
    lam = np.asarray(result.lambdas)
    mean, se = np.asarray(result.mean), np.asarray(result.se)
    ax.errorbar(
        lam, mean, yerr=se, fmt="o", color=COLOURS[1], markersize=3.5, ecolor="0.72", elinewidth=0.9,
        capsize=2, label="Mean over folds ± standard error",
    )  # fmt: skip
    choices = (("min", result.index_min, "Best mean"), ("1se", result.index_1se, "One-standard-error rule"))
    for style, colour, (_, k, label) in zip(STYLES[1:], (COLOURS[2], COLOURS[0]), choices, strict=False):
        text = f"{label}: λ = {lam[k]:.3g}, {result.nonzeros[k]} nonzero"
        ax.axvline(lam[k], color=colour, linestyle=style.line, linewidth=1.2, label=text)
    _finish(ax, result)
    top = ax.secondary_xaxis("top")
    shown = np.unique(np.linspace(0, lam.size - 1, min(lam.size, _COUNTS)).round().astype(int))
    top.set_xticks(lam[shown], [str(count) for count in result.nonzeros[shown]], fontsize=8)
    top.tick_params(which="minor", top=False)
    top.set_xlabel("Nonzero coefficients", fontsize=9)
    return ax


def _curves(ax: Axes, result: CrossValidations) -> None:
    """Draw the mean score of each value of the second axis, the best one with its band."""
    for k, (value, one) in enumerate(zip(result.values, result.results, strict=True)):
        best, at = k == result.best_index, one.index_min
        lam, mean = np.asarray(one.lambdas), np.asarray(one.mean)
        colour, style = COLOURS[k % len(COLOURS)], STYLES[k % len(STYLES)]
        named = str(value) if result.name == "family" else f"{result.name} {value}"
        label = f"{shown_name(named)}: λ = {lam[at]:.3g}, {one.nonzeros[at]} nonzero"
        ax.plot(
            lam, mean, color=colour, linestyle=style.line, linewidth=2.2 if best else 1.3,
            label=f"{label} (best)" if best else label,
        )  # fmt: skip
        ax.plot(lam[at], mean[at], style.marker, color=colour, markeredgecolor="black", zorder=3)
        if best:
            ax.fill_between(lam, mean - one.se, mean + one.se, color=colour, alpha=0.15, linewidth=0)


def _finish(ax: Axes, result: CrossValidation) -> None:
    """Label the axes, λ on a log scale unless the grid ends in 0."""
    if result.lambdas[-1] > 0:
        ax.set_xscale("log")
    ax.invert_xaxis()
    ax.set_xlabel("λ, falling to the right")
    ax.set_ylabel(shown_name(result.metric, True) + f", {len(result.fold_weights)} folds")
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8)
