"""On an orthonormal design each penalty is one curve: soft threshold, proportional shrinkage, hard threshold.

Where XᵀX = nI the cost falls apart into one problem for each weight, and every penalty has a closed form in
the least-squares estimate z. The estimates here come from the solver, which sees a dense random design and
knows nothing of that; the closed forms are written out below and laid over them.
Source: James et al. (2013), section 6.2.2; Fan and Li (2001) for SCAD, Zhang (2010) for MCP.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import jaxreg as jr
from experiments._report import figure, option, save


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and settings; the defaults take a few seconds."""

    weights: int = option(161, "weights, whose least-squares estimates are spread evenly over ±largest")
    largest: float = option(4.0, "the largest least-squares estimate")
    lam: float = option(1.0, "λ of every penalty")
    l1_ratio: float = option(0.5, "the share of L1 in the elastic net")
    gamma: float = option(3.0, "γ of MCP")
    a: float = option(3.7, "a of SCAD")
    seed: int = option(0, "seed of the design")


def main(config: Config, out: Path) -> None:
    """Solve, lay the closed forms over the estimates, write the numbers."""
    z, found = estimates(config)
    forms = closed_forms(config)
    rows = [compared(name, z, found[name], forms[name]) for name in found]
    worst = max(row["largest difference"] for row in rows)
    zeros = ", ".join(f"{row['penalty']} {row['zeros']}" for row in rows)
    number = (
        f"The solver's {len(z)} estimates under each of {len(rows)} penalties differ from the closed forms by"
        f" at most {worst:.0e}. Exact zeros: {zeros}."
    )
    save(out, {"orthonormal": drawn(config, z, found, forms)}, rows, config, number)


def penalties(config: Config) -> dict[str, Any]:
    """The six penalties, each at λ."""
    return {
        "lasso": jr.L1(config.lam),
        "ridge": jr.SquaredL2(config.lam),
        "best subset": jr.penalties.L0(config.lam**2 / 2),
        "elastic net": jr.ElasticNet(config.lam, config.l1_ratio),
        "MCP": jr.MCP(config.lam, config.gamma),
        "SCAD": jr.SCAD(config.lam, config.a),
    }


def closed_forms(config: Config) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The estimate under each penalty as a function of the least-squares estimate z."""
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
    """The least-squares estimates z, and the solver's estimates under each penalty."""
    p = config.weights
    if p < 2:
        raise ValueError(f"weights must be at least 2, got {p}")
    noise = np.random.default_rng(config.seed).normal(size=(2 * p, p))
    X = np.linalg.qr(noise)[0] * np.sqrt(2 * p)
    # Half a step off 0 and ±1: just beyond the hard threshold both 0 and z are stationary, and the solver,
    # whose steps are a little shorter than 1, may stay at 0.
    z = np.linspace(-config.largest, config.largest, p)
    z = z + 0.5 * (z[1] - z[0])
    problem = jr.Problem(jr.losses.SquaredError(), X, X @ z, intercept=False)
    found = {
        name: np.asarray(jr.solve(problem, penalty, tol=1e-12).coef)
        for name, penalty in penalties(config).items()
    }
    return z, found


def compared(name: str, z: np.ndarray, found: np.ndarray, form: Callable[..., Any]) -> dict[str, Any]:
    """One row of the table."""
    wanted = form(z)
    return {
        "penalty": name,
        "largest difference": float(np.abs(found - wanted).max()),
        "zeros": int(np.sum(found == 0)),
        "zeros of the closed form": int(np.sum(wanted == 0)),
        "pull on the largest weight": float(np.abs(z[0]) - np.abs(found[0])),
    }


# ---------------------------------------------------------------- the figure


def drawn(
    config: Config, z: np.ndarray, found: dict[str, np.ndarray], forms: dict[str, Callable[..., Any]]
) -> Any:
    """Estimate against least squares, one panel per penalty."""
    made, axes = figure(2, 3, (11.0, 7.2), sharex=True, sharey=True)
    titles = {
        "lasso": "lasso (L1): soft threshold",
        "ridge": "ridge (L2): proportional shrinkage",
        "best subset": "best subset (L0): hard threshold",
        "elastic net": "elastic net: soft, then shrunk",
        "MCP": "MCP: firm threshold",
        "SCAD": "SCAD: soft, then let go",
    }
    fine = np.linspace(-config.largest, config.largest, 2001)
    for ax, (name, values) in zip(axes.ravel(), found.items(), strict=True):
        zero = values == 0
        line = forms[name](fine)
        ax.set(xlim=(-config.largest, config.largest), ylim=(-config.largest, config.largest))
        jump = np.abs(np.diff(line, append=line[-1])) > 0.1
        ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.plot(fine, fine, ":", color="0.45", label="least squares")
        ax.plot(fine, np.where(jump, np.nan, line), "-", color="#56B4E9", linewidth=6, label="closed form")
        every = slice(None, None, max(1, len(z) // 54))
        ax.plot(
            z[every], np.where(zero, np.nan, values)[every], "o", color="#0B3C5D", markersize=2.6,
            label="solver",
        )  # fmt: skip
        ax.plot(
            z[every], np.where(zero, 0.0, np.nan)[every], "s", color="#D55E00", markersize=4.5,
            markerfacecolor="white", label="solver: exactly 0",
        )  # fmt: skip
        ax.set_title(titles[name], fontsize=12)
        ax.set_aspect("equal")
    for ax in axes[-1]:
        ax.set_xlabel("least-squares estimate z")
    for ax in axes[:, 0]:
        ax.set_ylabel(f"estimate, λ = {config.lam:g}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return made
