"""The output of an experiment: figures, and numbers with settings and versions."""

import dataclasses
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

__all__ = ["COLOURS", "LINES", "MARKERS", "figure", "format_table", "option", "plot_band", "save"]

# Okabe and Ito's palette, safe for the colour-blind; each penalty has its own line and marker as well.
COLOURS = {"none": "#666666", "L1": "#0072B2", "L2": "#D55E00", "elastic net": "#009E73", "MCP": "#CC79A7"}
LINES = {"none": ":", "L1": "-", "L2": "--", "elastic net": "-.", "MCP": (0, (6, 1, 1, 1, 1, 1))}
MARKERS = {"none": ".", "L1": "o", "L2": "s", "elastic net": "^", "MCP": "D"}


def option(default: Any, text: str) -> Any:
    """Return a dataclass field with its default and help text."""
    return dataclasses.field(default=default, metadata={"help": text})


def figure(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Any, Any]:
    """Return a figure and its axes without opening a window."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=size, layout="constrained")
    return fig, fig.subplots(rows, columns, **options)


def plot_band(ax: Any, x: Any, values: Any, name: str) -> None:
    """Plot the mean over the last axis (seeds) as a line and the range as a band."""
    values = np.asarray(values)
    ax.plot(x, values.mean(-1), color=COLOURS[name], linestyle=LINES[name], label=name)
    ax.fill_between(x, values.min(-1), values.max(-1), color=COLOURS[name], alpha=0.2, linewidth=0)


def format_table(rows: list[dict[str, Any]]) -> str:
    """Format rows with equal keys as aligned columns."""
    lines = [list(rows[0]), *[[_format(value) for value in row.values()] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def save(
    out: Path, figures: dict[str, Any], rows: list[dict[str, Any]], config: Any, number: str, **more: Any
) -> None:
    """Write the figures as PNG and the numbers as `numbers.json`, and print the table and the file names.

    Args:
        out: Folder for the files, made if needed.
        figures: Figures by name; the index page shows them in this order.
        rows: The table, one dict with equal keys per row.
        config: Settings of the experiment, a dataclass.
        number: The result in one sentence: what was measured and its value.
        **more: Further entries of `numbers.json`.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, fig in figures.items():
        fig.savefig(out / f"{name}.png", dpi=150, pil_kwargs={"optimize": True})
    numbers = {
        "number": number,
        "figures": [f"{name}.png" for name in figures],
        "settings": dataclasses.asdict(config),
        "versions": {name: version(name) for name in ("jaxreg", "jax", "optax", "numpy", "scikit-learn")},
        "machine": {"python": platform.python_version(), "device": jax.devices()[0].device_kind},
        "table": rows,
        **more,
    }
    (out / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    print(f"{format_table(rows)}\n\n{number}")
    print(f"{', '.join(f'{name}.png' for name in figures)} and numbers.json are in {out}")


def _format(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
