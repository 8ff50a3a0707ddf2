"""λ is the conversion rate between loss and complexity: along the path the trade-off has slope −λ.

At the minimum of EmpLoss + λ·Complexity, giving up one unit of complexity costs λ units of loss. The curve of
EmpLoss against Complexity along a λ-path is therefore convex, with slope −λ at every point. The experiment
measures that slope in two ways that do not use the value of λ: by finite differences of two nearby solutions,
and by automatic differentiation of the solution, (dEmpLoss/dλ) / (dComplexity/dλ).

References:
    Russell and Norvig (2010), section 18.4.3, where λ is a conversion rate between loss and hypothesis
    complexity.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr
from experiments._data import NAMES, load_bundled
from experiments._report import COLOURS, LINES, figure, option, save

PENALTIES = ("L1", "L2")
# Data sets with one output, and the label of their loss.
LOSS_LABELS = {"diabetes": "half mean squared error [variance of y]", "breast_cancer": "mean log loss [nats]"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and settings; the defaults take about half a minute."""

    data: str = option("diabetes,breast_cancer", f"data sets, of {', '.join(NAMES)}")
    lams: int = option(24, "values of λ")
    ratio: float = option(0.01, "smallest λ / largest λ")
    change: float = option(1e-3, "relative step in λ of the central differences")
    tol: float = option(1e-11, "relative duality gap of every solution")
    max_steps: int = option(20_000, "largest number of solver steps")


def main(config: Config, out: Path) -> None:
    """Sweep λ for each data set and penalty, measure the slopes, and save figure and numbers."""
    names = config.data.split(",")
    results = {name: sweep(config, name) for name in names}
    rows = [slope_errors(name, kind, results[name]) for name in names for kind in range(len(PENALTIES))]
    autodiff = max(row["worst |slope/λ + 1|, autodiff"] for row in rows)
    differences = max(row["worst |slope/λ + 1|, differences"] for row in rows)
    points = sum(row["points"] for row in rows)
    number = (
        f"At {points} points of {len(rows)} paths the slope is −λ to within a relative {autodiff:.0e} by"
        f" autodiff and {differences:.0e} by differences; {sum(row['convex'] for row in rows)} of {len(rows)}"
        " curves are convex."
    )
    save(out, {"conversion_rate": plot_trade_off(results)}, rows, config, number)


def sweep(config: Config, name: str) -> Any:
    """Compute EmpLoss, Complexity and both measured slopes for both penalties as a labelled data set.

    Both penalties use one grid, which starts just below the λ_max of L1: above, the L1 solution is constant.
    """
    data = load_bundled(name)
    problem = data.problem
    if problem.outputs:
        raise ValueError(f"data must be of one output, such as {' or '.join(LOSS_LABELS)}, got {name!r}")
    top = float(jr.lambda_max(problem, jr.L1))

    def run(kind: jax.Array, lam: jax.Array) -> dict[str, jax.Array]:
        unit = jr.L1((kind == 0) * 1.0) + jr.SquaredL2((kind == 1) * 1.0)

        def parts(lam: jax.Array) -> tuple[jax.Array, jax.Array]:
            fit = jr.solve(problem, lam * unit, tol=config.tol, max_steps=config.max_steps, throw=False)
            return problem.value(fit.linear(data.X)), unit.value(fit.coef)

        lams_nearby = lam * (1 + config.change * jnp.array([0.0, 1.0, -1.0]))
        (loss, complexity), (dloss, dcomplexity) = jax.jvp(
            jax.vmap(parts), (lams_nearby,), (jnp.ones_like(lams_nearby),)
        )
        return {
            "loss": loss[0],
            "complexity": complexity[0],
            "autodiff": dloss[0] / dcomplexity[0],
            "differences": (loss[1] - loss[2]) / (complexity[1] - complexity[2]),
        }

    lams = np.geomspace(0.95, config.ratio, config.lams) * top
    return jr.sweep(run, kind=range(len(PENALTIES)), lam=lams)


def slope_errors(name: str, kind: int, results: Any) -> dict[str, Any]:
    """Return one row of the table: relative errors of both slopes, and convexity of the curve."""
    part = results.isel(kind=kind)
    lam = part["lam"].values
    relative_error = {method: part[method].values / lam + 1 for method in ("autodiff", "differences")}
    # The slopes of the chords of a convex curve increase from left to right, for any spacing.
    order = np.argsort(part["complexity"].values)
    x, y = part["complexity"].values[order], part["loss"].values[order]
    chords = np.diff(y) / np.diff(x)
    return {
        "data": name,
        "penalty": PENALTIES[kind],
        "points": lam.size,
        "worst |slope/λ + 1|, autodiff": float(np.abs(relative_error["autodiff"]).max()),
        "worst |slope/λ + 1|, differences": float(np.abs(relative_error["differences"]).max()),
        "convex": bool(np.all(np.diff(chords) > 0)),
    }


# ---------------------------------------------------------------- the figure


def plot_trade_off(results: dict[str, Any]) -> Any:
    """Plot the trade-off curves with tangents of slope −λ, and next to them the slopes against λ."""
    fig, axes = figure(len(results), 3, (14.0, 4.3 * len(results)), squeeze=False)
    for row, (name, data) in zip(axes, results.items(), strict=True):
        for kind in range(len(PENALTIES)):
            _plot_curve(row[kind], data.isel(kind=kind), name, kind)
        _plot_slopes(row[2], data, name)
    return fig


def _plot_curve(ax: Any, part: Any, name: str, kind: int) -> None:
    x, y, lam = part["complexity"].values, part["loss"].values, part["lam"].values
    penalty = PENALTIES[kind]
    ax.plot(x, y, color=COLOURS[penalty], linestyle=LINES[penalty], linewidth=2)
    ax.plot(x, y, "o", color=COLOURS[penalty], markersize=3.5, label="solutions along the path")
    width = 0.16 * np.ptp(x)
    for share, label in ((0.06, "tangents of slope −λ"), (0.3, None), (0.7, None)):
        k = int(np.argmin(np.abs(x - x.min() - share * np.ptp(x))))
        ends = np.array([-width, width])
        ax.plot(x[k] + ends, y[k] - lam[k] * ends, color="black", linewidth=1.2, label=label)
        ax.annotate(
            f"λ = {lam[k]:.2g}", (x[k], y[k]), (6, 9), textcoords="offset points", fontsize=9
        )  # fmt: skip
    complexity = {"L1": "Complexity Σ|w|", "L2": "Complexity ½Σw²"}[penalty]
    ax.set(
        title=f"{name}, {penalty}", xlabel=complexity, ylabel=f"EmpLoss: {LOSS_LABELS.get(name, 'mean loss')}"
    )
    ax.set_ylim(top=y.max() + 0.1 * np.ptp(y), bottom=y.min() - 0.12 * np.ptp(y))
    ax.legend(loc="upper right", fontsize=9)


def _plot_slopes(ax: Any, data: Any, name: str) -> None:
    lam = data["lam"].values
    ax.plot(lam, lam, color="0.6", linewidth=5, alpha=0.5, label="λ itself")
    marks = {"autodiff": ("o", 7), "differences": ("x", 5)}
    for kind, penalty in enumerate(PENALTIES):
        for method, (marker, size) in marks.items():
            ax.plot(
                lam, -data[method].isel(kind=kind), marker, color=COLOURS[penalty], markersize=size,
                markerfacecolor="none", label=f"{penalty}, {method}",
            )  # fmt: skip
    ax.set(
        xscale="log", yscale="log", xlabel="λ", ylabel="−dEmpLoss / dComplexity",
        title=f"{name}: the slope, measured",
    )  # fmt: skip
    ax.legend(loc="upper left", fontsize=9)
