"""The sweep in words: a table and a plain sentence for each penalty, what the columns mean, what to know.

`part` is the sweep's dataset at one penalty, `dataset.isel(penalty=k)`.
"""

from collections import Counter
from typing import Any

import numpy as np

__all__ = ["best", "legend", "remarks", "sentence", "table"]

_SHORT = {"converged": "ok", "max_steps": "max steps", "nonfinite": "non-finite"}


def best(part: Any) -> int | None:
    """The step with the smallest held-out error, the largest λ among equals; None where none was held out."""
    error = part["error"].values
    if not part.attrs["rows_held_out"] or np.isnan(error).all():
        return None
    return int(np.nanargmin(error))


def sentence(part: Any) -> str:
    """What this penalty did to the weights: at its best λ, else from the largest λ to the smallest."""
    name, reference, top = part["penalty"].item(), part.attrs["reference"], best(part)
    name = name[:1].upper() + name[1:]
    lam, norm = part["lam"].values, 100 * (1 - part["shrinkage"].values)
    coef = part["coef"].values
    kept = np.sum(coef != 0, axis=tuple(range(1, coef.ndim)))
    total = coef[0].size * int(np.sum(part["constant"].values == 0)) // part.sizes["feature"]
    if top is None:
        if (kept == kept[0]).all():
            words = f"{name} kept {_of(kept[0], total)} at every λ"
        else:
            words = f"{name} kept {_of(kept[0], total)} at λ = {lam[0]:.3g} and {_of(kept[-1], total)}"
            words += f" at λ = {lam[-1]:.3g}"
        half = np.flatnonzero(norm >= 50)
        when = (
            f"at λ = {lam[half[0]]:.3g} their norm passes half of" if half.size else "their norm stays below"
        )
        return f"{words}; as λ falls, {when} that of {reference}."
    where = f"at λ = {lam[top]:.3g}, where the error on the held-out rows is smallest"
    if top == len(lam) - 1:
        where += " (the end of the grid: a smaller --ratio may do better)"
    if not kept[top]:
        return f"{name} kept none of {total} weights {where}: no weight is worth its cost there."
    words = f"{name} kept {_of(kept[top], total)} {where}"
    here, base = part["standardized_coef"].values[top].ravel(), part["reference_coef"].values.ravel()
    most = int(np.argmax(np.abs(base)))
    if base[most] == 0 or (here == base).all():
        return f"{words}."
    pulled = 100 * abs(here[most]) / abs(base[most])
    became = "set to 0" if here[most] == 0 else f"pulled to {pulled:.0f} % of its size"
    became = became if pulled < 100 else f"{pulled:.0f} % of its size"
    largest = f"the largest weight of {reference} ({_weight(part, most)}) is {became}"
    return f"{words}; {largest}, the norm of all to {norm[top]:.0f} %."


def _of(kept: int, total: int) -> str:
    return f"all {total} weights" if kept == total else f"{kept} of {total} weights"


def _weight(part: Any, flat: int) -> str:
    """The name of a weight by its place among all: the feature, and the class where there are several."""
    columns = part["reference_coef"].size // part.sizes["feature"]
    feature, column = divmod(flat, columns)
    name = str(part["feature"].values[feature])
    return f"{name}, class {part['class'].values[column]}" if columns > 1 else name


def table(part: Any, rows: int = 12) -> Any:
    """A rich table of about `rows` steps of the grid, the best marked; at most 80 columns wide."""
    from rich import box
    from rich.table import Table

    top, held = best(part), part.attrs["error_rows"].startswith("held")
    value = {name: part[name].values for name in ("lam", "zeros", "shrinkage", "dof", "deviance_explained")}
    gap, name = part["gap"].values, "gap"
    if not np.isfinite(gap).any():
        gap, name = part["kkt"].values, "kkt"
    total = part["coef"][0].size
    title = str(part["penalty"].item())
    out = Table(
        title=title[:1].upper() + title[1:],
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    judged = "held-out" if held else "training"
    heads = (
        "",
        "λ",
        f"zeros\nof {total}",
        "shrinkage",
        "df",
        "explained\ntraining",
        f"error\n{judged}",
        name,
    )
    for head in heads:
        out.add_column(head, justify="right", overflow="fold")
    out.add_column("status", overflow="fold")
    steps = part.sizes["step"]
    shown = {*np.linspace(0, steps - 1, min(rows, steps)).round().astype(int).tolist(), top} - {None}
    for k in sorted(shown):
        status = str(part["status"].values[k])
        out.add_row(
            "★" if k == top else "",
            f"{value['lam'][k]:.3g}",
            f"{value['zeros'][k]}",
            _percent(value["shrinkage"][k], 0),
            f"{value['dof'][k]:.{1 if value['dof'][k] < 1000 else 0}f}",
            _percent(value["deviance_explained"][k]),
            _error(part, k),
            f"{gap[k]:.0e}",
            _SHORT.get(status, status),
            style="bold" if k == top else None,
        )
    return out


def _error(part: Any, k: int) -> str:
    error = part["error"].values[k]
    return _percent(error) if "fraction" in part.attrs["error"] else f"{error:.4g}"


def _percent(share: float, digits: int = 1) -> str:
    return f"{round(100 * float(share), digits) + 0.0:.{digits}f} %"


def legend(dataset: Any) -> list[str]:
    """What the columns of the tables mean, a line each."""
    at = dataset.attrs
    units = dataset["error"].attrs.get("units", "1")
    judged = at["rows_held_out"] or at["rows_train"]
    lines = [
        ("λ", "strength of the penalty"),
        ("zeros", "weights that are exactly 0"),
        ("shrinkage", f"norm of the weights below that of {at['reference']}"),
        ("df", "effective degrees of freedom: what the fit is worth in free weights"),
        ("explained", f"deviance explained on the {at['rows_train']} training rows"),
        ("error", f"{at['error']} on the {judged} {at['error_rows']}{'' if units == '1' else f', {units}'}"),
        ("gap", "bound on what is left to gain, relative to the null fit's loss"),
    ]
    if not np.isfinite(dataset["gap"].values).any(axis=1).all():
        lines.append(("kkt", "residual of the optimality conditions, where there is no gap"))
    if at["rows_held_out"]:
        lines.append(("★", "smallest error on the held-out rows"))
    return [f"  {name:<9}  {meaning}" for name, meaning in lines]


def remarks(dataset: Any) -> list[str]:
    """What to know of the numbers: whether rows were held out, what never varies, what is not certified."""
    at, said = dataset.attrs, []
    if not at["rows_held_out"]:
        said.append("No rows were held out, so no λ is called best.")
    dead = int(dataset["constant"].values.sum())
    if dead:
        who = "1 feature never varies" if dead == 1 else f"{dead} features never vary"
        said.append(f"{who} in the training rows: weights of 0 that are not counted above.")
    status = dataset["status"].values.ravel()
    left = Counter(_SHORT.get(str(word), str(word)) for word in status if word != "converged")
    if left:
        why = ", ".join(f"{count} {word}" for word, count in left.items())
        said.append(
            f"{left.total()} of {status.size} λ did not reach the tolerance of {at['tol']:g} ({why}):"
            " their gap says how near they came."
        )
    else:
        said.append(f"All {status.size} λ reached the tolerance of {at['tol']:g}.")
    return said
