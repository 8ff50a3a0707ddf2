"""What every experiment leaves behind: figures, and its numbers with settings and versions."""

import dataclasses
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

__all__ = ["COLOURS", "LINES", "MARKERS", "band", "figure", "option", "save", "table"]

#: Okabe and Ito's, safe for the colour-blind; each penalty has its own line and marker as well.
COLOURS = {"none": "#666666", "L1": "#0072B2", "L2": "#D55E00", "elastic net": "#009E73", "MCP": "#CC79A7"}
LINES = {"none": ":", "L1": "-", "L2": "--", "elastic net": "-.", "MCP": (0, (6, 1, 1, 1, 1, 1))}
MARKERS = {"none": ".", "L1": "o", "L2": "s", "elastic net": "^", "MCP": "D"}


def option(default: Any, text: str) -> Any:
    """A setting with its line of help."""
    return dataclasses.field(default=default, metadata={"help": text})


def figure(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Any, Any]:
    """A figure and its axes, without a window."""
    from matplotlib.figure import Figure

    made = Figure(figsize=size, layout="constrained")
    return made, made.subplots(rows, columns, **options)


def band(ax: Any, x: Any, values: Any, name: str) -> None:
    """The mean over the last axis (seeds) as a line, its smallest and largest value as a band."""
    values = np.asarray(values)
    ax.plot(x, values.mean(-1), color=COLOURS[name], linestyle=LINES[name], label=name)
    ax.fill_between(x, values.min(-1), values.max(-1), color=COLOURS[name], alpha=0.2, linewidth=0)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of equal keys in aligned columns."""
    lines = [list(rows[0]), *[[_text(value) for value in row.values()] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def save(
    out: Path, figures: dict[str, Any], rows: list[dict[str, Any]], config: Any, number: str, **more: Any
) -> None:
    """Write every figure as PNG and the numbers as `numbers.json`; print the table and where all is.

    `number` is one sentence: what was counted or measured, and what came out. The first figure is the one
    that the index shows first.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, made in figures.items():
        made.savefig(out / f"{name}.png", dpi=150, pil_kwargs={"optimize": True})
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
    print(f"{table(rows)}\n\n{number}")
    print(f"{', '.join(f'{name}.png' for name in figures)} and numbers.json are in {out}")


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
