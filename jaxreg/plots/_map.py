"""The map of sparsity versus shrinkage."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxreg.plots._style import STYLES, Style, best_step, new_axes, nonzero, require_sweep, shown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from xarray import Dataset

__all__ = ["map"]

_BEST = {"facecolors": "none", "edgecolors": "black", "linewidths": 1.8, "s": 170}
_MARK = {"facecolors": "none", "edgecolors": "black", "linewidths": 1.2, "s": 34, "zorder": 3}
_CHOSEN = {"marker": "*", "color": "#D55E00", "edgecolors": "black", "linewidths": 0.6, "s": 190}
#: Quantile of the error at which the colour scale ends at the latest: a few large errors would leave the rest
#: one colour.
_ERROR_QUANTILE = 0.98
#: Exponent of the colour scale: half of it shows the quarter of the range next to the smallest error.
_COLOUR_POWER = 0.5
#: Least distance of two markers on a curve, in percent of the axes' ranges.
_MARKER_DISTANCE = 1.5
#: Ticks of the colour scale at most.
_TICKS = 7
#: Format of the labels of the colour bar.
_TICK_FORMAT = "%.4g"
#: Fraction of the range of colours that is free of ticks above the smallest error.
_TICK_ROOM = 0.02
#: Characters of two entries of the legend up to which they stand side by side.
_LEGEND_LENGTH = 66
#: Height of the map without its legend, and of a row of the legend, in inches.
_HEIGHT = 4.8
_ROW_HEIGHT = 0.2
#: Powers of ten of λ that are marked along a curve at most.
_LAMBDAS_MARKED = 4
#: Least distances between two marks of λ, across and up, in percent of the axes' ranges.
_MARK_DISTANCE = (11.0, 6.0)
#: Height up to which marks of λ stand right above the curve, in percent of the axis.
_BOTTOM = 12.0
#: Weights from which the map may count the weights that are not 0, on a log axis.
_MANY_WEIGHTS = 100
#: Fraction of weights that are not 0 below which all sparse fits would lie at the edge of a linear axis.
_FEW_NONZERO = 0.1


class _Rows(NamedTuple):
    """Rows and columns of the legend."""

    count: int
    columns: int


class _Frame(NamedTuple):
    """Settings shared by all curves of a map: range of colours, and whether a log axis counts the weights."""

    lowest: float
    highest: float
    counts: bool
    total: int


def map(dataset: Dataset, ax: Axes | None = None) -> Axes:
    """Draw one curve per penalty: shrinkage across, exact zeros up, the error as colour.

    Powers of ten of λ are marked along the curves. Where the sparse fits use less than a tenth of more
    than 100 weights, the axis of zeros counts the weights that are not 0, on a log scale.

    Args:
        dataset: The `xarray.Dataset` of a sweep, as in the command's sweep.nc.
        ax: The axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        TypeError: The argument is not the dataset of a sweep.
    """
    require_sweep(dataset)
    parts = [dataset.isel(penalty=k) for k in range(dataset.sizes["penalty"])]
    frame = _frame(dataset, parts)
    points, best = None, [best_step(part) for part in parts]
    labels = [_label(part, step) for part, step in zip(parts, best, strict=True)]
    rule = "One-standard-error choice" if dataset.attrs.get("choose") == "1se" else "Smallest error"
    rules = [f"{rule} of a penalty", f"{rule} of all"] if any(step is not None for step in best) else []
    rows = _legend_rows([*labels, *rules])
    ax = new_axes(1, (7.5, _HEIGHT + _ROW_HEIGHT * rows.count))[0] if ax is None else ax
    errors = [np.inf if b is None else float(p["error"][b]) for b, p in zip(best, parts, strict=True)]
    for k, part in enumerate(parts):
        points = _curve(ax, part, frame, _style(k), best[k])
    if rules:
        k = int(np.argmin(errors))
        x, y = _position(parts[k], frame)
        ax.scatter([], [], marker="o", label=rules[0], **_BEST)
        ax.scatter(x[best[k]], y[best[k]], zorder=4, label=rules[1], **_CHOSEN)
    _mark_lambdas(ax, parts, best, frame)
    units = dataset["error"].attrs.get("units", "1")
    label = f"{dataset.attrs['error']}, {dataset.attrs['error_rows']}{'' if units == '1' else f' [{units}]'}"
    extend = "max" if float(np.nanmax(dataset["error"].values)) > frame.highest else "neither"
    bar = ax.figure.colorbar(points, ax=ax, label=shown_name(label, True), extend=extend, format=_TICK_FORMAT)
    bar.set_ticks(_ticks(frame))
    bar.minorticks_off()
    _label_axes(ax, dataset, frame)
    # The legend stands above the axes, where no curve can run through it.
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=rows.columns, fontsize=9)
    ax.set_title(f"Sparsity versus shrinkage: {shown_name(dataset.attrs['data'])}", pad=20 + 14 * rows.count)
    ax.grid(alpha=0.25)
    return ax


def _frame(dataset: Dataset, parts: list[Dataset]) -> _Frame:
    """Choose colours from the smallest error to that of the null model, and the axis of zeros."""
    error, total = dataset["error"].values, int(parts[0]["coef"][0].size)
    finite = error[np.isfinite(error)]
    finite = finite if finite.size else np.zeros(1)
    lowest = float(finite.min())
    # The first step of each grid is the null model, or nearly so.
    null = float(np.nanmedian(error[:, 0])) if np.isfinite(error[:, 0]).any() else lowest
    highest = float(np.quantile(finite, _ERROR_QUANTILE))
    highest = min(highest, null) if null > lowest else highest
    sparse = [nonzero(part) for part in parts if int(part["zeros"].max()) > 0]
    few = bool(sparse) and max(counts.max() for counts in sparse) < _FEW_NONZERO * total
    return _Frame(lowest, highest, total >= _MANY_WEIGHTS and few, total)


def _position(
    part: Dataset, frame: _Frame
) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """Return shrinkage in percent, and the zeros in percent or the number of weights that are not 0."""
    y = nonzero(part).astype(float) if frame.counts else 100 * part["zero_fraction"].values
    return 100 * part["shrinkage"].values, y


def _curve(ax: Axes, part: Dataset, frame: _Frame, style: Style, best: int | None) -> PathCollection:
    """Draw the curve of one penalty, its best step marked; returns the points, which carry the colours."""
    from matplotlib.colors import PowerNorm

    x, y = _position(part, frame)
    ax.plot(x, y, linestyle=style.line, color="0.45", linewidth=1.2, zorder=1)
    height = 100 * np.log1p(y) / np.log1p(frame.total) if frame.counts else y
    shown = _spaced(x, height, best)
    norm = PowerNorm(_COLOUR_POWER, frame.lowest, max(frame.highest, frame.lowest), clip=True)
    points = ax.scatter(
        x[shown], y[shown], c=part["error"].values[shown], marker=style.marker, s=34, norm=norm,
        cmap="cividis", edgecolors="0.35", linewidths=0.4, zorder=2,
    )  # fmt: skip
    if best is not None:
        ax.scatter(x[best], y[best], marker=style.marker, zorder=3, **_BEST)
    ax.plot([], [], marker=style.marker, linestyle=style.line, color="0.35", label=_label(part, best))
    return points


def _style(k: int) -> Style:
    """Return a marker and a line for the penalty at a position, a pair that no other of the first 25 has."""
    count = len(STYLES)
    return Style(STYLES[k % count].marker, STYLES[(k + k // count) % count].line)


def _label(part: Dataset, best: int | None) -> str:
    """Return the name of a penalty with its best λ."""
    name = shown_name(part["penalty"].item(), True)
    return name if best is None else f"{name}, best λ = {float(part['lam'][best]):.3g}"


def _legend_rows(entries: list[str]) -> _Rows:
    """Return the form of the legend: two columns where their entries are short."""
    half = -(-len(entries) // 2)
    widest = sum(max((len(entry) for entry in part), default=0) for part in (entries[:half], entries[half:]))
    return _Rows(half, 2) if widest <= _LEGEND_LENGTH else _Rows(len(entries), 1)


def _mark_lambdas(ax: Axes, parts: list[Dataset], best: list[int | None], frame: _Frame) -> None:
    """Mark powers of ten of λ along the curves, where they are not too near to each other or to the best."""
    curves = [_position(part, frame) for part in parts]
    heights = [100 - 100 * np.log1p(y) / np.log1p(frame.total) if frame.counts else y for _, y in curves]
    taken = [(x[b], up[b]) for (x, _), up, b in zip(curves, heights, best, strict=True) if b is not None]
    for k, ((x, y), up) in enumerate(zip(curves, heights, strict=True)):
        for lam, step in _decades(parts[k]["lam"].values):
            here = (x[step], up[step])
            near = (np.abs(np.subtract(here, place)) < _MARK_DISTANCE for place in taken)
            if not np.isfinite(here).all() or any(both.all() for both in near):
                continue
            taken.append(here)
            ax.scatter(x[step], y[step], marker=_style(k).marker, **_MARK)
            # Curves rise to the right, so that there is room to the left above them.
            left = x[step] > _MARK_DISTANCE[0] and up[step] > _BOTTOM
            ax.annotate(
                f"λ={lam:g}", (x[step], y[step]), (-3 if left else 0, 5), textcoords="offset points",
                ha="right" if left else "center", va="bottom", fontsize=7, zorder=5,
            )  # fmt: skip


def _decades(lam: Float[np.ndarray, " L"]) -> list[tuple[float, int]]:
    """Return some powers of ten within a grid, each with the step that is nearest."""
    grid = np.log10(lam[lam > 0])
    if not grid.size:
        return []
    powers = np.arange(np.ceil(grid.min() - 1e-9), np.floor(grid.max() + 1e-9) + 1)
    powers = powers[:: -(-powers.size // _LAMBDAS_MARKED)] if powers.size else powers
    return [(float(10.0**power), int(np.argmin(np.abs(grid - power)))) for power in powers]


def _ticks(frame: _Frame) -> list[float]:
    """Return the smallest error and round ones above; matplotlib's own may lie outside of a power scale."""
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(_TICKS, steps=[1, 2, 5, 10]).tick_values(frame.lowest, frame.highest)
    above = frame.lowest + _TICK_ROOM * (frame.highest - frame.lowest)
    rounded = [float(tick) for tick in ticks if above < tick <= frame.highest]
    # Errors that differ little have ticks of the same label: one of them stays, the smallest error always.
    return sorted({_TICK_FORMAT % tick: tick for tick in (*reversed(rounded), frame.lowest)}.values())


def _label_axes(ax: Axes, dataset: Dataset, frame: _Frame) -> None:
    """Label both axes; up is sparser."""
    ax.set_xlabel(f"Shrinkage: norm of the weights below that of {dataset.attrs['reference']} [%]")
    if not frame.counts:
        ax.set_ylabel("Sparsity: weights that are exactly 0 [%]")
        ax.set_ylim(-4, 104)
        return
    from matplotlib.ticker import FuncFormatter

    ax.set_ylabel(f"Weights that are not 0, of {frame.total:,} (log scale, sparser upwards)")
    ax.set_yscale("symlog", linthresh=1.0)
    ax.set_ylim(frame.total * 1.6, -0.3)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _spaced(x: np.ndarray, y: np.ndarray, always: int | None) -> list[int]:
    """Choose steps along a curve whose markers do not overlap; the first, the last and `always` are shown."""
    shown = [0]
    for k in range(1, len(x)):
        if np.hypot(x[k] - x[shown[-1]], y[k] - y[shown[-1]]) >= _MARKER_DISTANCE:
            shown.append(k)
    return sorted({*shown, len(x) - 1, *([] if always is None else [always])})
