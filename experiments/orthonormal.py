"""On an orthonormal design each penalty is one curve: soft threshold, proportional shrinkage, hard threshold.

Where XᵀX = nI the cost separates into one problem per weight, and the estimate under every penalty is a
closed-form function of the least-squares estimate z. The estimates come from the solver, which sees a dense
random design and does not use that structure; they are compared with the closed forms written out below.

References:
    James et al. (2013), section 6.2.2; Fan and Li (2001) for SCAD; Zhang (2010) for MCP.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import jaxreg as jr
from experiments._report import figure, option, save

# The estimate as a function of the least-squares estimate z.
Curve = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and settings; the defaults take a few seconds."""

    weights: int = option(161, "number of weights, with least-squares estimates evenly spaced over ±largest")
    largest: float = option(4.0, "largest least-squares estimate")
    lam: float = option(1.0, "λ of every penalty")
    l1_ratio: float = option(0.5, "the share of L1 in the elastic net")
    gamma: float = option(3.0, "γ of MCP")
    a: float = option(3.7, "a of SCAD")
    seed: int = option(0, "seed of the design")


def main(config: Config, out: Path) -> None:
    """Solve, compare with the closed forms, and save figure and numbers."""
    z, results = estimates(config)
    curves = closed_forms(config)
    rows = [table_row(name, z, results[name], curves[name]) for name in results]
    largest_error = max(row["largest difference"] for row in rows)
    zeros = ", ".join(f"{row['penalty']} {row['zeros']}" for row in rows)
    number = (
        f"The solver's {len(z)} estimates under each of {len(rows)} penalties differ from the closed forms by"
        f" at most {largest_error:.0e}. Exact zeros: {zeros}."
    )
    save(out, {"orthonormal": plot_estimates(config, z, results, curves)}, rows, config, number)


def penalties(config: Config) -> dict[str, Any]:
    """Return the six penalties at λ."""
    return {
        "lasso": jr.L1(config.lam),
        "ridge": jr.SquaredL2(config.lam),
        "best subset": jr.penalties.L0(config.lam**2 / 2),
        "elastic net": jr.ElasticNet(config.lam, config.l1_ratio),
        "MCP": jr.MCP(config.lam, config.gamma),
        "SCAD": jr.SCAD(config.lam, config.a),
    }


def closed_forms(config: Config) -> dict[str, Curve]:
    """Return the estimate under each penalty as a function of the least-squares estimate z."""
    lam, r, gamma, a = config.lam, config.l1_ratio, config.gamma, config.a

    def soft(z: np.ndarray, t: float) -> np.ndarray:
        return np.sign(z) * np.maximum(np.abs(z) - t, 0.0)

    def scad(z: np.ndarray) -> np.ndarray:
        middle = soft(z, a * lam / (a - 1)) * (a - 1) / (a - 2)
        return np.where(np.abs(z) <= 2 * lam, soft(z, lam), np.where(np.abs(z) <= a * lam, middle, z))

    return {
        "lasso": lambda z: soft(z, lam),
        "ridge": lambda z: z / (1 + lam),
        "best subset": lambda z: np.where(np.abs(z) > lam, z, 0.0),
        "elastic net": lambda z: soft(z, lam * r) / (1 + lam * (1 - r)),
        "MCP": lambda z: np.where(np.abs(z) <= gamma * lam, soft(z, lam) * gamma / (gamma - 1), z),
        "SCAD": scad,
    }


def estimates(config: Config) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the least-squares estimates z and the solver's estimates under each penalty."""
    p = config.weights
    if p < 2:
        raise ValueError(f"weights must be at least 2, got {p}")
    noise = np.random.default_rng(config.seed).normal(size=(2 * p, p))
    X = np.linalg.qr(noise)[0] * np.sqrt(2 * p)
    # The grid is shifted by half a spacing off 0 and ±1: just above the hard threshold both 0 and z are
    # stationary, and the solver, whose steps are slightly shorter than 1, may stay at 0.
    z = np.linspace(-config.largest, config.largest, p)
    z = z + 0.5 * (z[1] - z[0])
    problem = jr.Problem(jr.losses.SquaredError(), X, X @ z, intercept=False)
    results = {
        name: np.asarray(jr.solve(problem, penalty, tol=1e-12).coef)
        for name, penalty in penalties(config).items()
    }
    return z, results


def table_row(name: str, z: np.ndarray, estimate: np.ndarray, curve: Curve) -> dict[str, Any]:
    """Return one row of the table."""
    expected = curve(z)
    return {
        "penalty": name,
        "largest difference": float(np.abs(estimate - expected).max()),
        "zeros": int(np.sum(estimate == 0)),
        "zeros of the closed form": int(np.sum(expected == 0)),
        "pull on the largest weight": float(np.abs(z[0]) - np.abs(estimate[0])),
    }


# ---------------------------------------------------------------- the figure


def plot_estimates(
    config: Config, z: np.ndarray, results: dict[str, np.ndarray], curves: dict[str, Curve]
) -> Any:
    """Plot the estimate against least squares, one panel per penalty."""
    fig, axes = figure(2, 3, (11.0, 7.2), sharex=True, sharey=True)
    titles = {
        "lasso": "lasso (L1): soft threshold",
        "ridge": "ridge (L2): proportional shrinkage",
        "best subset": "best subset (L0): hard threshold",
        "elastic net": "elastic net: soft, then shrunk",
        "MCP": "MCP: firm threshold",
        "SCAD": "SCAD: soft, then unshrunk",
    }
    for ax, (name, estimate) in zip(axes.ravel(), results.items(), strict=True):
        _plot_panel(ax, z, estimate, curves[name], config.largest)
        ax.set_title(titles[name], fontsize=12)
    for ax in axes[-1]:
        ax.set_xlabel("least-squares estimate z")
    for ax in axes[:, 0]:
        ax.set_ylabel(f"estimate, λ = {config.lam:g}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return fig


def _plot_panel(ax: Any, z: np.ndarray, estimate: np.ndarray, curve: Curve, largest: float) -> None:
    zero = estimate == 0
    z_fine = np.linspace(-largest, largest, 2001)
    line = curve(z_fine)
    jump = np.abs(np.diff(line, append=line[-1])) > 0.1
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.plot(z_fine, z_fine, ":", color="0.45", label="least squares")
    ax.plot(z_fine, np.where(jump, np.nan, line), "-", color="#56B4E9", linewidth=6, label="closed form")
    subset = slice(None, None, max(1, len(z) // 54))
    ax.plot(
        z[subset], np.where(zero, np.nan, estimate)[subset], "o", color="#0B3C5D", markersize=2.6,
        label="solver",
    )  # fmt: skip
    ax.plot(
        z[subset], np.where(zero, 0.0, np.nan)[subset], "s", color="#D55E00", markersize=4.5,
        markerfacecolor="white", label="solver: exactly 0",
    )  # fmt: skip
    ax.set(xlim=(-largest, largest), ylim=(-largest, largest))
    ax.set_aspect("equal")
