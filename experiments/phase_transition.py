"""The lasso finds the true weights or it does not, and the border between the two is sharp and known.

p weights, k of them ±1 and the others 0, n Gaussian measurements. Without noise (λ near 0, basis pursuit) the
border is Donoho and Tanner's: n/p = ψ(k/p), where ψ is the statistical dimension of the descent cone of the
ℓ1 norm, computed here from its formula. With noise and a λ above it, and the exact signed support asked for,
the border is Wainwright's: n = 2(k + σ²/λ²)·log(p − k) for large p. Every pixel is an average over random
lassos; each panel is one sweep.
Source: Donoho and Tanner (2009); Amelunxen, Lotz, McCoy and Tropp (2014), proposition 4.5; Wainwright (2009),
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

    p: int = option(64, "weights")
    rows: int = option(20, "values of n")
    columns: int = option(20, "values of k")
    seeds: int = option(26, "lassos for each pair (n, k)")
    seed: int = option(0, "the first seed")
    small: float = option(2e-3, "λ of the noiseless panel, as a part of λ_max")
    tol: float = option(3e-5, "relative duality gap")
    max_steps: int = option(3000, "steps of the solver at most")
    largest_n: float = option(2.4, "n/p in the noisy panel at most")
    largest_k: float = option(0.3, "k/p in the noisy panel at most")
    noise: float = option(0.1, "standard deviation σ of the noise")
    lam: float = option(
        0.25, "λ of the noisy panel: well above the noise, well below the weights, which are ±1"
    )
    store: str = option("", "folder that keeps the sweeps, so that a killed run goes on")
    max_lanes: int = option(0, "lassos in one chunk; default: what memory allows")


def main(config: Config, out: Path) -> None:
    """Both sweeps, their borders against theory, the figure, the numbers."""
    panels = {"noiseless": noiseless(config), "noisy": noisy(config)}
    rows = border_rows(config, panels)
    tanner, wainwright = (
        np.array([row["measured/theory"] for row in rows if row["panel"] == name]) for name in panels
    )
    lassos = sum(int(np.prod(list(found.sizes.values()))) for found in panels.values())
    number = (
        f"{lassos:,} lassos: where half of them recover the truth, n is"
        f" {tanner.mean():.2f} ± {tanner.std():.2f} times Donoho and Tanner's without noise and"
        f" {wainwright.mean():.2f} ± {wainwright.std():.2f} times Wainwright's with noise (mean ± standard"
        " deviation over k)."
    )
    unfinished = {name: 1 - float(found["converged"].mean()) for name, found in panels.items()}
    save(
        out, {"phase_transition": drawn(config, panels)}, rows, config, number, lassos=lassos,
        not_converged=unfinished,
    )  # fmt: skip


# ---------------------------------------------------------------- the lassos


def sweep(config: Config, ns: np.ndarray, ks: np.ndarray, noise: float, name: str) -> Any:
    """Every (n, k, seed): whether the lasso recovered the truth. One shape for all: rows beyond n weigh 0."""
    p, most = config.p, int(ns.max())

    def run(n: jax.Array, k: jax.Array, seed: jax.Array) -> dict[str, jax.Array]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), n), k)
        for_X, for_w, for_noise = jax.random.split(key, 3)
        used = (jnp.arange(most) < n) * 1.0
        X = jax.random.normal(for_X, (most, p)) * used[:, None]
        w = jnp.where(jnp.arange(p) < k, jax.random.rademacher(for_w, (p,), X.dtype), 0.0)
        y = X @ w + noise * used * jax.random.normal(for_noise, (most,))
        problem = jr.Problem(jr.losses.SquaredError(), X, y, sample_weight=used, intercept=False)
        lam = config.lam if noise else config.small * jnp.max(jnp.abs(X.T @ y)) / n
        fit = jr.solve(problem, jr.L1(lam), tol=config.tol, max_steps=config.max_steps, throw=False)
        # Near λ = 0 small weights are the trace of λ: what counts is which ones are nearer to ±1 than to 0.
        seen = jnp.sign(fit.coef) if noise else jnp.sign(fit.coef) * (jnp.abs(fit.coef) > 0.5)
        return {"recovered": jnp.all(seen == w), "converged": fit.converged, "steps": fit.steps}

    return jr.sweep(
        run, n=ns, k=ks, seed=range(config.seed, config.seed + config.seeds),
        store=f"{config.store}/{name}" if config.store else None, max_lanes=config.max_lanes or None,
    )  # fmt: skip


def noiseless(config: Config) -> Any:
    """n and k up to p and p/2, no noise, λ near 0."""
    ns = grid(0.04, 1.0, config.rows, config.p)
    return sweep(config, ns, grid(0.01, 0.5, config.columns, config.p), 0.0, "noiseless")


def noisy(config: Config) -> Any:
    """Wainwright's setting."""
    ns = grid(0.1, config.largest_n, config.rows, config.p)
    ks = grid(0.01, config.largest_k, config.columns, config.p)
    return sweep(config, ns, ks, config.noise, "noisy")


def grid(low: float, high: float, count: int, p: int) -> np.ndarray:
    """Different whole numbers from low·p to high·p, evenly spread."""
    return np.unique(np.linspace(max(low * p, 1), high * p, count).round().astype(int))


# ---------------------------------------------------------------- theory, and the measured border


def statistical_dimension(share: np.ndarray) -> np.ndarray:
    """ψ(ρ) = min over τ ≥ 0 of ρ(1 + τ²) + (1 − ρ)·E(|g| − τ)₊² with g standard normal, for every ρ."""
    tau = jnp.linspace(0.0, 8.0, 20_001)
    cdf, pdf = jax.scipy.stats.norm.cdf(-tau), jax.scipy.stats.norm.pdf(tau)
    excess = 2 * ((1 + tau**2) * cdf - tau * pdf)
    rho = jnp.asarray(share)[:, None]
    return np.asarray(jnp.min(rho * (1 + tau**2) + (1 - rho) * excess, axis=1))


def theory(config: Config, name: str, k: np.ndarray) -> np.ndarray:
    """The border n of a panel at each k."""
    k, p = np.asarray(k, float), config.p
    if name == "noiseless":
        return p * statistical_dimension(k / p)
    return 2 * (k + (config.noise / config.lam) ** 2) * np.log(p - k)


def border(found: Any) -> np.ndarray:
    """n where half of the lassos succeed, for every k; NaN where the grid does not show it.

    A logistic curve in log n, fitted to the counts by `jr.solve`, crosses ½ there.
    """
    rate = found["recovered"].mean("seed").transpose("k", "n").values
    log_n = np.log(found["n"].values)
    out = np.full(len(rate), np.nan)
    for j, y in enumerate(rate):
        if y.min() > 0.25 or y.max() < 0.75:
            continue
        # Each n is a success and a failure, weighted by how many there were.
        X, both = np.concatenate([log_n, log_n])[:, None], np.repeat([1.0, 0.0], len(y))
        weight = np.concatenate([y, 1 - y]) + 1e-9
        problem = jr.Problem(jr.losses.Logistic(), X, both, sample_weight=weight, standardize=True)
        fit = jr.solve(problem, jr.SquaredL2(1e-4), throw=False)
        out[j] = np.exp(-float(fit.intercept) / float(fit.coef[0]))
    return out


def border_rows(config: Config, panels: dict[str, Any]) -> list[dict[str, Any]]:
    """The table: measured and predicted n, for every k whose border is on the grid."""
    out = []
    for name, found in panels.items():
        measured = border(found)
        predicted = theory(config, name, found["k"].values)
        for k, n, wanted in zip(found["k"].values, measured, predicted, strict=True):
            if np.isfinite(n):
                out.append(
                    {"panel": name, "k": int(k), "n measured": float(n), "n theory": float(wanted),
                     "measured/theory": float(n / wanted)}
                )  # fmt: skip
    return out


# ---------------------------------------------------------------- the figure


def drawn(config: Config, panels: dict[str, Any]) -> Any:
    """Probability of recovery as an image, theory and the measured border over it."""
    made, axes = figure(1, 2, (13.0, 5.4))
    names = {
        "noiseless": "Donoho and Tanner: n/p = ψ(k/p)",
        "noisy": "Wainwright: n = 2(k + σ²/λ²) log(p − k)",
    }
    image = None
    for ax, (name, found) in zip(axes, panels.items(), strict=True):
        rate = found["recovered"].mean("seed").transpose("k", "n").values
        x, y = found["n"].values / config.p, found["k"].values / config.p
        image = ax.pcolormesh(x, y, rate, cmap="cividis", vmin=0, vmax=1, shading="nearest", rasterized=True)
        limits = ax.get_xlim(), ax.get_ylim()
        k = np.linspace(0.2, found["k"].values.max() * 1.1, 300)
        wanted = theory(config, name, k) / config.p
        ax.plot(wanted, k / config.p, color="white", linewidth=5, alpha=0.8)
        ax.plot(wanted, k / config.p, color="#D55E00", linewidth=2.2, label=names[name])
        ax.plot(
            border(found) / config.p, y, "o", color="black", markerfacecolor="white", markersize=5,
            label="measured: half of the lassos succeed",
        )  # fmt: skip
        sigma = "no noise" if name == "noiseless" else f"noise σ = {config.noise:g}, λ = {config.lam:g}"
        ax.set(title=f"{sigma}, p = {config.p}", xlim=limits[0], ylim=limits[1])
        ax.set(xlabel="measurements per weight, n/p", ylabel="share of weights that are not 0, k/p")
        ax.legend(loc="upper left", fontsize=10, framealpha=0.95)
    made.colorbar(image, ax=axes, label="probability of exact support recovery", pad=0.02)
    return made
