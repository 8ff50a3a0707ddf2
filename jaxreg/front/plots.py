"""Pictures of a sweep: the map of sparsity versus shrinkage, and the paths of the coefficients."""

from typing import Any

import numpy as np

from jaxreg.front.report import best

__all__ = ["map", "paths", "save"]

_STYLES = (("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."), ("v", (0, (5, 1))))


def _axes(count: int, size: tuple[float, float]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return np.atleast_1d(figure.subplots(1, count, sharey=True))


def map(dataset: Any, ax: Any = None) -> Any:
    """Shrinkage across, exact zeros up, colour the error: one curve per penalty. Returns its axes."""
    ax = _axes(1, (7.5, 5.2))[0] if ax is None else ax
    error = dataset["error"].values
    low, high = np.nanmin(error), np.nanquantile(error, 0.98)
    points = None
    for k, name in enumerate(dataset["penalty"].values):
        part = dataset.isel(penalty=k)
        marker, line = _STYLES[k % len(_STYLES)]
        x, y = 100 * part["shrinkage"].values, 100 * part["zero_fraction"].values
        ax.plot(x, y, linestyle=line, color="0.55", linewidth=1, zorder=1)
        points = ax.scatter(
            x, y, c=part["error"].values, marker=marker, s=26, vmin=low, vmax=high, cmap="cividis"
        )
        top = best(part)
        ax.plot([], [], marker=marker, linestyle=line, color="0.35", label=str(name))
        ax.scatter(
            x[top],
            y[top],
            marker=marker,
            s=170,
            facecolors="none",
            edgecolors="black",
            linewidths=1.8,
            zorder=3,
        )
    ax.scatter(
        [],
        [],
        marker="o",
        s=120,
        facecolors="none",
        edgecolors="black",
        linewidths=1.8,
        label="smallest error",
    )
    ax.figure.colorbar(points, ax=ax, label=f"{dataset.attrs['error']}, {dataset.attrs['error_rows']}")
    ax.set_xlabel(f"shrinkage: norm pulled below that of {dataset.attrs['reference']} (%)")
    ax.set_ylabel("sparsity: weights that are exactly 0 (%)")
    ax.set_ylim(-4, 106)
    ax.set_title(f"{dataset.attrs['data']}: sparsity versus shrinkage")
    ax.legend(loc="upper left")
    ax.grid(alpha=0.25)
    return ax


def paths(dataset: Any, axes: Any = None) -> Any:
    """Coefficients against λ, one panel per penalty, the largest labelled. Returns its axes."""
    count = dataset.sizes["penalty"]
    axes = _axes(count, (1.2 + 4.2 * count, 4.6)) if axes is None else axes
    names = dataset["feature"].values
    size = np.abs(dataset["standardized_coef"].values)
    # One order for all panels, so that a colour means the same feature everywhere.
    order = np.argsort(-size.max(axis=tuple(k for k in range(size.ndim) if k != 2)))
    for k, ax in enumerate(axes):
        part = dataset.isel(penalty=k)
        coef = part["standardized_coef"].values
        coef = coef.reshape(coef.shape[0], coef.shape[1], -1)
        lam = part["lam"].values
        for rank, j in enumerate(order):
            shown = rank < 5
            line = _STYLES[rank % len(_STYLES)][1] if shown else "-"
            color = f"C{rank}" if shown else "0.75"
            for c in range(coef.shape[2]):
                label = str(names[j]) if shown and c == 0 else None
                ax.plot(lam, coef[:, j, c], color=color, linestyle=line, label=label, zorder=2 + shown)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.axvline(lam[best(part)], color="0.3", linestyle=(0, (2, 2)), label="smallest error")
        ax.set_xscale("log")
        ax.invert_xaxis()
        ax.set_title(str(part["penalty"].item()))
        ax.set_xlabel("λ (falls to the right)")
        ax.grid(alpha=0.25)
    scaled = "standardised " if dataset.attrs.get("standardize") else ""
    axes[0].set_ylabel(f"{scaled}coefficient")
    axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return axes


def save(dataset: Any, folder: Any) -> None:
    """Write map.png and paths.png into a folder."""
    map(dataset).figure.savefig(folder / "map.png", dpi=140)
    paths(dataset)[0].figure.savefig(folder / "paths.png", dpi=140)
