"""The sweep in words: a table per penalty and one plain sentence."""

from typing import Any

import numpy as np

__all__ = ["best", "sentence", "table"]


def best(part: Any) -> int:
    """The step with the smallest error; the largest λ among equals."""
    return int(np.nanargmin(part["error"].values))


def sentence(part: Any, reference: str) -> str:
    """What this penalty did at its best λ."""
    k = best(part)
    here = part["standardized_coef"].isel(step=k).values.ravel()
    base = part["reference_coef"].values.ravel()
    kept, total = int(np.sum(part["coef"].isel(step=k).values != 0)), here.size
    words = f"{part['penalty'].item()} kept {'all' if kept == total else kept}"
    words += f" {total}" if kept == total else f" of {total}"
    words += f" weights at λ = {float(part['lam'][k]):.3g}"
    top = int(np.argmax(np.abs(base)))
    if base[top] == 0:
        return words + "."
    columns = here.size // part.sizes["feature"]
    name = part["feature"].values[top // columns]
    pulled = 100 * abs(here[top]) / abs(base[top])
    return words + (
        f"; their norm is {100 * (1 - float(part['shrinkage'][k])):.0f} % of that of {reference},"
        f" whose largest weight ({name}) is pulled to {pulled:.0f} %."
    )


def table(part: Any, error: str, rows: int = 12) -> Any:
    """A rich table of about `rows` steps of the grid, the best marked."""
    from rich.table import Table

    out = Table(title=f"{part['penalty'].item()} (error: {error})", title_justify="left")
    for name in ("", "λ", "exact zeros", "shrinkage", "df", "explained", "error", "gap", "status"):
        out.add_column(name, justify="left" if name in ("", "status") else "right", no_wrap=name == "λ")
    steps, top = part.sizes["step"], best(part)
    total = int(np.prod(part["coef"].shape[1:]))
    for k in sorted({*np.linspace(0, steps - 1, min(rows, steps)).round().astype(int).tolist(), top}):
        row = part.isel(step=k)
        gap = float(row["gap"])
        out.add_row(
            "★" if k == top else "",
            f"{float(row['lam']):.4g}",
            f"{int(row['zeros'])}/{total}",
            f"{100 * float(row['shrinkage']):.0f} %",
            f"{float(row['dof']):.1f}",
            f"{100 * float(row['deviance_explained']):.1f} %",
            f"{float(row['error']):.4g}",
            f"{gap:.0e}" if np.isfinite(gap) else f"kkt {float(row['kkt']):.0e}",
            {"converged": "ok"}.get(str(row["status"].item()), str(row["status"].item())),
            style="bold" if k == top else None,
        )
    return out
