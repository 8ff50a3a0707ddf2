"""Draw a sweep (the map of sparsity versus shrinkage, the paths of the coefficients, the error), a
cross-validation, the calibration of predictions and the stability of a selection.

Penalties differ by marker and line, the largest features by colour and line, so that the pictures can be read
without colour. The colours are Okabe and Ito's and the scale is cividis, both safe for the colour-blind.
"""

from __future__ import annotations

import pathlib
import warnings
from typing import TYPE_CHECKING

from jaxreg.plots._calibration import calibration
from jaxreg.plots._cv import cv
from jaxreg.plots._error import error
from jaxreg.plots._map import map
from jaxreg.plots._paths import paths
from jaxreg.plots._stability import stability
from jaxreg.plots._style import DPI, best_step, new_axes

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["best_step", "calibration", "cv", "error", "map", "paths", "prepare", "save", "stability"]


def prepare() -> None:
    """Load the drawing libraries and find the fonts, which takes seconds the first time on a machine."""
    import xarray  # noqa: F401
    from matplotlib.backends import backend_agg  # noqa: F401

    ax = new_axes(1, (2.0, 2.0))[0]
    ax.set(title="λ", xlabel="λ", ylabel="λ", xscale="log")
    ax.figure.draw_without_rendering()


def save(dataset: Dataset, folder: pathlib.Path) -> None:
    """Write map.png, paths.png and error.png into a folder."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        map(dataset).figure.savefig(folder / "map.png", dpi=DPI)
        paths(dataset)[0].figure.savefig(folder / "paths.png", dpi=DPI)
        error(dataset)[0].figure.savefig(folder / "error.png", dpi=DPI)
