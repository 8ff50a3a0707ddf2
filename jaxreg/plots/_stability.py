"""Selection probabilities of features against λ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxreg.linear.selection.stability import Stability
from jaxreg.plots._style import COLOURS, STYLES, new_axes, require_result, shown_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

__all__ = ["stability"]


def stability(found: Stability, features: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw selection probabilities against λ; the five features with the largest are labelled.

    Args:
        found: The result of `jaxreg.stability_selection`.
        features: Names of the features (p,); by default their column numbers.
        ax: The axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        TypeError: The argument is not the result of a stability selection.
        ValueError: for another number of names than features.
    """
    require_result(found, (Stability,), "stability_selection")
    p = found.selected.size
    names = [f"column {j}" for j in range(p)] if features is None else list(features)
    if len(names) != p:
        raise ValueError(f"features must have {p} names, got {len(names)}")
    ax = new_axes(1, (6.6, 4.4))[0] if ax is None else ax
    from matplotlib.ticker import LogLocator, NullFormatter

    order = np.argsort(-found.max_probability, kind="stable")
    labelled = order[: len(COLOURS)]
    others = order[len(COLOURS) :]
    for chosen, colour in ((True, "0.35"), (False, "0.75")):
        some = others[found.selected[others] == chosen]
        if some.size:
            ax.plot(found.lambdas, found.probabilities[:, some], color=colour, linewidth=0.8, zorder=1)
            words = "selected" if chosen else "not selected"
            ax.plot([], [], color=colour, linewidth=0.8, label=f"{some.size} others, {words}")
    for rank, j in reversed([*enumerate(labelled)]):
        style = {"color": COLOURS[rank], "linestyle": STYLES[rank].line, "linewidth": 1.7}
        ax.plot(
            found.lambdas, found.probabilities[:, j], label=shown_name(names[j]), zorder=8 - rank, **style
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
