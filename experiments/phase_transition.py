"""Exact recovery by the lasso breaks down at a sharp boundary that theory predicts.

The truth has p weights, k of them ±1 and the others 0; there are n Gaussian measurements. Without noise (λ
near 0, basis pursuit) the boundary is Donoho and Tanner's: n/p = ψ(k/p), where ψ is the statistical dimension
of the descent cone of the ℓ1 norm, computed here from its formula. With noise, λ above the noise level, and
success defined as the exact signed support, the boundary is Wainwright's: n = 2(k + σ²/λ²)·log(p − k) for
large p. Every pixel is an average over random lassos; each panel is one sweep.

References:
    Donoho and Tanner (2009); Amelunxen, Lotz, McCoy and Tropp (2014), proposition 4.5; Wainwright (2009),
    theorems 3 and 4.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr
from experiments._report import figure, option, save


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and settings; the defaults take less than a minute on two cores."""

    p: int = option(64, "number of weights")
    rows: int = option(20, "values of n")
    columns: int = option(20, "values of k")
    seeds: int = option(26, "lassos for each pair (n, k)")
    seed: int = option(0, "the first seed")
    small: float = option(2e-3, "λ / λ_max of the noiseless panel")
    tol: float = option(3e-5, "relative duality gap")
    max_steps: int = option(3000, "largest number of solver steps")
    largest_n: float = option(2.4, "largest n/p in the noisy panel")
    largest_k: float = option(0.3, "largest k/p in the noisy panel")
    noise: float = option(0.1, "standard deviation σ of the noise")
    lam: float = option(
        0.25, "λ of the noisy panel: well above the noise level, well below the weights, which are ±1"
    )
    store: str = option("", "folder of the sweeps, from which a killed run resumes")
    max_lanes: int = option(0, "lassos in one chunk; default: as many as fit in memory")


def main(config: Config, out: Path) -> None:
    """Run both sweeps, compare their boundaries with theory, and save figure and numbers."""
    panels = {"noiseless": noiseless(config), "noisy": noisy(config)}
    rows = table_rows(config, panels)
    tanner, wainwright = (
        np.array([row["measured/theory"] for row in rows if row["panel"] == name]) for name in panels
    )
    lassos = sum(int(np.prod(list(results.sizes.values()))) for results in panels.values())
    number = (
        f"{lassos:,} lassos: where half of them recover the truth, n is"
        f" {tanner.mean():.2f} ± {tanner.std():.2f} times Donoho and Tanner's without noise and"
        f" {wainwright.mean():.2f} ± {wainwright.std():.2f} times Wainwright's with noise (mean ± standard"
        " deviation over k)."
    )
    not_converged = {name: 1 - float(results["converged"].mean()) for name, results in panels.items()}
    save(
        out, {"phase_transition": plot_panels(config, panels)}, rows, config, number, lassos=lassos,
        not_converged=not_converged,
    )  # fmt: skip


# ---------------------------------------------------------------- the lassos


def sweep(config: Config, ns: np.ndarray, ks: np.ndarray, noise: float, name: str) -> Any:
    """Solve a lasso for every (n, k, seed) and record recovery of the truth.

    All lassos share one shape: rows beyond n have weight 0.
    """
    p, largest_n = config.p, int(ns.max())

    def run(n: jax.Array, k: jax.Array, seed: jax.Array) -> dict[str, jax.Array]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), n), k)
        for_X, for_w, for_noise = jax.random.split(key, 3)
        used = (jnp.arange(largest_n) < n) * 1.0
        X = jax.random.normal(for_X, (largest_n, p)) * used[:, None]
        w = jnp.where(jnp.arange(p) < k, jax.random.rademacher(for_w, (p,), X.dtype), 0.0)
        y = X @ w + noise * used * jax.random.normal(for_noise, (largest_n,))
        problem = jr.Problem(jr.losses.SquaredError(), X, y, sample_weight=used, intercept=False)
        lam = config.lam if noise else config.small * jnp.max(jnp.abs(X.T @ y)) / n
        fit = jr.solve(problem, jr.L1(lam), tol=config.tol, max_steps=config.max_steps, throw=False)
        # The noiseless λ is small but not 0, which leaves small nonzero weights: round them to 0 or ±1.
        estimated_signs = jnp.sign(fit.coef) if noise else jnp.sign(fit.coef) * (jnp.abs(fit.coef) > 0.5)
        return {"recovered": jnp.all(estimated_signs == w), "converged": fit.converged, "steps": fit.steps}

    return jr.sweep(
        run, n=ns, k=ks, seed=range(config.seed, config.seed + config.seeds),
        store=f"{config.store}/{name}" if config.store else None, max_lanes=config.max_lanes or None,
    )  # fmt: skip


def noiseless(config: Config) -> Any:
    """Run the sweep without noise: n up to p, k up to p/2, λ near 0."""
    ns = integer_grid(0.04, 1.0, config.rows, config.p)
    return sweep(config, ns, integer_grid(0.01, 0.5, config.columns, config.p), 0.0, "noiseless")


def noisy(config: Config) -> Any:
    """Run the sweep with noise, in Wainwright's setting."""
    ns = integer_grid(0.1, config.largest_n, config.rows, config.p)
    ks = integer_grid(0.01, config.largest_k, config.columns, config.p)
    return sweep(config, ns, ks, config.noise, "noisy")


def integer_grid(low: float, high: float, count: int, p: int) -> np.ndarray:
    """Return distinct integers, evenly spaced from low·p to high·p."""
    return np.unique(np.linspace(max(low * p, 1), high * p, count).round().astype(int))


# ---------------------------------------------------------------- predicted and measured boundary


def statistical_dimension(share: np.ndarray) -> np.ndarray:
    """Compute ψ(ρ) = min over τ ≥ 0 of ρ(1 + τ²) + (1 − ρ)·E(|g| − τ)₊², g standard normal, for every ρ."""
    tau = jnp.linspace(0.0, 8.0, 20_001)
    cdf, pdf = jax.scipy.stats.norm.cdf(-tau), jax.scipy.stats.norm.pdf(tau)
    excess = 2 * ((1 + tau**2) * cdf - tau * pdf)
    rho = jnp.asarray(share)[:, None]
    return np.asarray(jnp.min(rho * (1 + tau**2) + (1 - rho) * excess, axis=1))


def theory(config: Config, name: str, k: np.ndarray) -> np.ndarray:
    """Return the predicted boundary n of a panel at each k."""
    k, p = np.asarray(k, float), config.p
    if name == "noiseless":
        return p * statistical_dimension(k / p)
    return 2 * (k + (config.noise / config.lam) ** 2) * np.log(p - k)


def measured_boundary(results: Any) -> np.ndarray:
    """Return the n at which half of the lassos succeed, for every k; NaN where the grid does not contain it.

    A logistic curve in log n is fitted to the success rates by `jr.solve`; at the boundary it is ½.
    """
    rate = results["recovered"].mean("seed").transpose("k", "n").values
    log_n = np.log(results["n"].values)
    out = np.full(len(rate), np.nan)
    for j, y in enumerate(rate):
        if y.min() > 0.25 or y.max() < 0.75:
            continue
        # Each n enters as one success and one failure, weighted by their rates.
        X, both = np.concatenate([log_n, log_n])[:, None], np.repeat([1.0, 0.0], len(y))
        weight = np.concatenate([y, 1 - y]) + 1e-9
        problem = jr.Problem(jr.losses.Logistic(), X, both, sample_weight=weight, standardize=True)
        fit = jr.solve(problem, jr.SquaredL2(1e-4), throw=False)
        out[j] = np.exp(-float(fit.intercept) / float(fit.coef[0]))
    return out


def table_rows(config: Config, panels: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the table: measured and predicted n, for every k whose boundary is on the grid."""
    out = []
    for name, results in panels.items():
        measured = measured_boundary(results)
        predicted = theory(config, name, results["k"].values)
        for k, n, expected in zip(results["k"].values, measured, predicted, strict=True):
            if np.isfinite(n):
                out.append(
                    {"panel": name, "k": int(k), "n measured": float(n), "n theory": float(expected),
                     "measured/theory": float(n / expected)}
                )  # fmt: skip
    return out


# ---------------------------------------------------------------- the figure


def plot_panels(config: Config, panels: dict[str, Any]) -> Any:
    """Plot the probability of recovery as an image, with the predicted and the measured boundary."""
    fig, axes = figure(1, 2, (13.0, 5.4))
    names = {
        "noiseless": "Donoho and Tanner: n/p = ψ(k/p)",
        "noisy": "Wainwright: n = 2(k + σ²/λ²) log(p − k)",
    }
    image = None
    for ax, (name, results) in zip(axes, panels.items(), strict=True):
        rate = results["recovered"].mean("seed").transpose("k", "n").values
        x, y = results["n"].values / config.p, results["k"].values / config.p
        image = ax.pcolormesh(x, y, rate, cmap="cividis", vmin=0, vmax=1, shading="nearest", rasterized=True)
        limits = ax.get_xlim(), ax.get_ylim()
        k = np.linspace(0.2, results["k"].values.max() * 1.1, 300)
        expected = theory(config, name, k) / config.p
        ax.plot(expected, k / config.p, color="white", linewidth=5, alpha=0.8)
        ax.plot(expected, k / config.p, color="#D55E00", linewidth=2.2, label=names[name])
        ax.plot(
            measured_boundary(results) / config.p, y, "o", color="black", markerfacecolor="white",
            markersize=5, label="measured: half of the lassos succeed",
        )  # fmt: skip
        sigma = "no noise" if name == "noiseless" else f"noise σ = {config.noise:g}, λ = {config.lam:g}"
        ax.set(title=f"{sigma}, p = {config.p}", xlim=limits[0], ylim=limits[1])
        ax.set(xlabel="measurements per weight, n/p", ylabel="share of weights that are not 0, k/p")
        ax.legend(loc="upper left", fontsize=10, framealpha=0.95)
    fig.colorbar(image, ax=axes, label="probability of exact support recovery", pad=0.02)
    return fig
