"""Pictures of a sweep: the map of sparsity versus shrinkage, and the paths of the coefficients.

Penalties are told apart by marker and line, the largest features by colour and line, so that both pictures
can be read without colour. The colours are Okabe and Ito's, the scale is cividis: safe for the colour-blind.
"""

import pathlib
import warnings
from typing import Any

import numpy as np

from jaxreg.cli.report import best

__all__ = ["map", "paths", "prepare", "save"]

_STYLES = (("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."), ("v", (0, (8, 2))))
_COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7")
_BEST = {"facecolors": "none", "edgecolors": "black", "linewidths": 1.8, "s": 170}


def _axes(count: int, size: tuple[float, float]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return np.atleast_1d(figure.subplots(1, count, sharey=True))


def prepare() -> None:
    """Load what drawing needs and find the fonts, which takes seconds the first time on a machine."""
    import xarray  # noqa: F401
    from matplotlib.backends import backend_agg  # noqa: F401

    ax = _axes(1, (2.0, 2.0))[0]
    ax.set(title="λ", xlabel="λ", ylabel="λ", xscale="log")
    ax.figure.draw_without_rendering()


def map(dataset: Any, ax: Any = None) -> Any:
    """Shrinkage across, exact zeros up, colour the error: one curve per penalty. Returns its axes."""
    ax = _axes(1, (7.5, 5.2))[0] if ax is None else ax
    share = "fraction" in dataset.attrs["error"]
    error = (100 if share else 1) * dataset["error"].values
    low, high = np.nanmin(error), np.nanquantile(error, 0.98)
    points, tops = None, []
    for k in range(dataset.sizes["penalty"]):
        part = dataset.isel(penalty=k)
        marker, line = _STYLES[k % len(_STYLES)]
        x, y = 100 * part["shrinkage"].values, 100 * part["zero_fraction"].values
        ax.plot(x, y, linestyle=line, color="0.45", linewidth=1.2, zorder=1)
        top = best(part)
        shown = _apart(x, y, top)
        points = ax.scatter(
            x[shown], y[shown], c=error[k, shown], marker=marker, s=34, vmin=low, vmax=high, cmap="cividis",
            edgecolors="0.35", linewidths=0.4, zorder=2,
        )  # fmt: skip
        ax.plot(
            [], [], marker=marker, linestyle=line, color="0.35", label=_name(part["penalty"].item(), True)
        )
        if top is not None:
            tops.append((x[top], y[top], marker))
    for x, y, marker in tops:
        ax.scatter(x, y, marker=marker, zorder=3, **_BEST)
    if tops:
        ax.scatter([], [], marker="o", label="Smallest error", **_BEST)
    extend = "max" if np.nanmax(error) > high else "neither"
    units = "%" if share else dataset["error"].attrs.get("units", "1")
    label = f"{dataset.attrs['error']}, {dataset.attrs['error_rows']}{'' if units == '1' else f' [{units}]'}"
    label = label.replace("misclassified fraction", "misclassified")
    ax.figure.colorbar(points, ax=ax, label=_name(label, True), extend=extend)
    ax.set_xlabel(f"Shrinkage: norm of the weights below that of {dataset.attrs['reference']} [%]")
    ax.set_ylabel("Sparsity: weights that are exactly 0 [%]")
    ax.set_ylim(-4, 104)
    # Above the axes, where no curve can run through it.
    columns, entries = 4, len(error) + bool(tops)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, fontsize=9)
    title = f"Sparsity versus shrinkage: {_name(dataset.attrs['data'])}"
    ax.set_title(title, pad=14 + 18 * -(-entries // columns))
    ax.grid(alpha=0.25)
    return ax


def _apart(x: np.ndarray, y: np.ndarray, kept: int | None, distance: float = 1.5) -> list[int]:
    """Places along a curve, so far apart that their markers can be told from each other; `kept` is one."""
    shown = [0]
    for k in range(1, len(x)):
        if np.hypot(x[k] - x[shown[-1]], y[k] - y[shown[-1]]) >= distance:
            shown.append(k)
    return sorted({*shown, len(x) - 1, *([] if kept is None else [kept])})


def paths(dataset: Any, axes: Any = None) -> Any:
    """Coefficients against λ, one panel per penalty, the five largest labelled. Returns its axes.

    Where there are several classes a feature's curve is the norm of its coefficients over the classes.
    """
    count = dataset.sizes["penalty"]
    axes = _axes(count, (1.6 + 3.6 * count, 4.6)) if axes is None else np.atleast_1d(axes)
    names, coef = dataset["feature"].values, dataset["standardized_coef"].values
    several = coef.ndim == 4
    coef = np.linalg.norm(coef, axis=3) if several else coef
    # One order for all panels, so that a colour means the same feature everywhere.
    order = np.argsort(-np.abs(coef).max(axis=(0, 1)), kind="stable")
    for k, ax in enumerate(axes):
        part = dataset.isel(penalty=k)
        lam = part["lam"].values
        if order.size > 5:
            ax.plot(lam, coef[k][:, order[5:]], color="0.7", linewidth=0.8, alpha=0.8, zorder=1)
            ax.plot([], [], color="0.7", linewidth=0.8, label=f"{order.size - 5} others")
        for rank, j in reversed([*enumerate(order[:5])]):
            style = {"color": _COLOURS[rank], "linestyle": _STYLES[rank][1], "linewidth": 1.7}
            ax.plot(lam, coef[k][:, j], label=_name(names[j]), zorder=8 - rank, **style)
        ax.axhline(0, color="0.3", linewidth=0.8)
        if (top := best(part)) is not None:
            ax.axvline(lam[top], color="0.3", linewidth=1.0, linestyle=(0, (2, 2)), label="Smallest error")
        ax.set_xscale("log")
        ax.invert_xaxis()
        ax.set_title(_name(part["penalty"].item(), True))
        ax.set_xlabel("λ, falling to the right")
        ax.grid(alpha=0.25)
    units = dataset["standardized_coef"].attrs.get("units", "1").replace("standard deviation", "s.d.")
    what = f"Norm over the {dataset.sizes['class']} classes" if several else "Coefficient"
    axes[0].set_ylabel(f"{what}\n[{_name(units, longest=60)}]")
    handles, labels = axes[-1].get_legend_handles_labels()
    axes[-1].legend(handles[::-1], labels[::-1], fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[0].figure.suptitle(f"Coefficient paths: {_name(dataset.attrs['data'])}")
    return axes


def _name(text: str, capital: bool = False, longest: int = 28) -> str:
    """A name as matplotlib shows it: no formula, one line, not hidden for its underscore, not too long."""
    text = " ".join(str(text).split())
    text = text if len(text) <= longest or capital else text[: longest - 1] + "…"
    text = text[:1].upper() + text[1:] if capital else text
    return (" " + text if text.startswith("_") else text).replace("$", r"\$")


def save(dataset: Any, folder: pathlib.Path) -> None:
    """Write map.png and paths.png into a folder."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        map(dataset).figure.savefig(folder / "map.png", dpi=140)
        paths(dataset)[0].figure.savefig(folder / "paths.png", dpi=140)
