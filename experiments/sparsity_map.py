"""L1 makes many weights exactly 0 and keeps a few large; L2 shrinks all weights, and hardly any becomes 0.

The map of sparsity versus shrinkage shows, for every λ, the share of weights that are exactly 0 and the norm
of all weights relative to its largest, on five data sets and on synthetic ones with known true weights. The
table is taken at the λ of each smallest held-out error: zeros, kurtosis of the nonzero weights,
and the share of Σ|w| held by the largest tenth of the weights. On the synthetic data, the experiment also
measures the recall and precision of the estimated support.

References:
    Tibshirani (1996); James et al. (2013), section 6.2; Harrell (2015), section 4.5, on shrinkage.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr
from experiments._data import Data, load_bundled
from experiments._report import COLOURS, LINES, MARKERS, figure, option, plot_band, save

DATA = ("diabetes", "linnerud", "breast_cancer", "wine", "digits")
RATIOS = {"L1": 1.0, "elastic net": 0.5, "L2": 0.0}


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and settings; the defaults take less than a minute on two cores."""

    data: str = option(",".join(DATA), "data sets that come with scikit-learn")
    lams: int = option(30, "values of λ")
    largest: float = option(10.0, "the largest λ; features have standard deviation 1")
    smallest: float = option(5e-4, "the smallest λ")
    holdout: float = option(0.3, "held-out share of the rows")
    tol: float = option(1e-4, "relative duality gap")
    n: int = option(100, "rows of the synthetic data")
    p: int = option(200, "number of weights of the synthetic data")
    k: int = option(10, "number of nonzero true weights, ±1")
    correlation: float = option(0.5, "correlation of neighbouring synthetic features")
    noise: float = option(1.0, "standard deviation of the synthetic noise")
    seeds: int = option(8, "number of synthetic data sets")
    seed: int = option(0, "seed of the splits, and the first seed of the synthetic data")


def main(config: Config, out: Path) -> None:
    """Solve the paths on every data set, run the synthetic sweep, and save figures and numbers."""
    maps = {name: solve_paths(config, name) for name in config.data.split(",")}
    synthetic_results = synthetic(config)
    maps["synthetic"] = {
        name: {
            key: synthetic_results[key].sel(ratio=ratio, seed=config.seed).values
            for key in ("zeros", "norm", "error")
        }
        | {"coef": synthetic_results["coef"].sel(ratio=ratio, seed=config.seed).values}
        for name, ratio in RATIOS.items()
    }
    rows = [table_row(data, name, parts) for data, parts in maps.items() for name in parts]
    support = support_recovery(synthetic_results)
    zeros = {name: [r["zeros at half the norm [%]"] for r in rows if r["penalty"] == name] for name in RATIOS}
    number = (
        f"Where λ has halved the norm of the weights L1 has {min(zeros['L1']):.0f} to"
        f" {max(zeros['L1']):.0f} % exact zeros on {len(maps)} data sets, L2 at most"
        f" {max(zeros['L2']):.1f} %. On the synthetic data at the λ of the smallest error L1 finds"
        f" {100 * support['L1']['recall']:.0f} % of the true weights, and of what it keeps"
        f" {100 * support['L1']['precision']:.0f} % is true; L2 keeps everything"
        f" ({100 * support['L2']['precision']:.0f} %)."
    )
    figures = {"sparsity_map": plot_maps(maps), "synthetic": plot_recovery(config, synthetic_results)}
    save(out, figures, rows, config, number, support=support)


def lambdas(config: Config) -> np.ndarray:
    """Return the grid of λ, the same for all data sets."""
    return np.geomspace(config.largest, config.smallest, config.lams)


# ---------------------------------------------------------------- data sets


def solve_paths(config: Config, name: str) -> dict[str, dict[str, np.ndarray]]:
    """Return zeros, norm, held-out error and weights along λ for each penalty."""
    data = load_bundled(name)
    order = np.random.default_rng(config.seed).permutation(len(data.y))
    test_rows, training_rows = np.split(order, [round(config.holdout * len(order))])
    training = Data(data.loss, data.X[training_rows], data.y[training_rows], data.features)
    out = {}
    for penalty, ratio in RATIOS.items():
        path = jr.path(
            training.problem, lambda lam, r=ratio: jr.ElasticNet(lam, r), lambdas(config), tol=config.tol
        )
        z, y = path.linear(data.X[test_rows]), jnp.asarray(data.y[test_rows])
        error = jax.vmap(lambda z, y=y: jr.metrics.prediction_error(data.loss, z, y))(z)
        out[penalty] = {**sparsity_and_norm(path.coef), "error": error, "coef": path.coef}
    return jax.tree.map(np.asarray, out)


def sparsity_and_norm(coef: jax.Array) -> dict[str, jax.Array]:
    """Compute the share of exact zeros and the Euclidean norm of the weights at each λ."""
    axes = tuple(range(1, coef.ndim))
    return {"zeros": jnp.mean(coef == 0, axis=axes), "norm": jnp.sqrt(jnp.sum(coef**2, axis=axes))}


def table_row(data: str, penalty: str, parts: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Return one row: the weights at the λ of the smallest held-out error, and zeros at half the norm."""
    part, top = parts[penalty], largest_norm(parts)
    k, half = int(np.argmin(part["error"])), int(np.argmin(np.abs(part["norm"] - top / 2)))
    w = np.abs(part["coef"][k].ravel())
    rest = part["coef"][k].ravel()[w > 0]
    tenth = np.sort(w)[::-1][: max(1, round(w.size / 10))]
    return {
        "data": data,
        "penalty": penalty,
        "weights": w.size,
        "zeros at half the norm [%]": float(100 * part["zeros"][half]),
        "zeros [%]": float(100 * np.mean(w == 0)),
        "kurtosis of the rest": kurtosis(rest),
        "largest tenth holds [%]": float(100 * tenth.sum() / w.sum()) if w.any() else None,
        "held-out error": float(part["error"][k]),
    }


def largest_norm(parts: dict[str, dict[str, np.ndarray]]) -> float:
    """Return the largest norm of the weights over penalties and λ."""
    return float(max(part["norm"].max() for part in parts.values()))


def kurtosis(w: np.ndarray) -> float | None:
    """Return E(w − mean)⁴ / (E(w − mean)²)²: 3 for a normal distribution, more for heavier tails."""
    if w.size < 4:
        return None
    centred = w - w.mean()
    return float(np.mean(centred**4) / np.mean(centred**2) ** 2)


# ---------------------------------------------------------------- synthetic data


def truth(config: Config) -> np.ndarray:
    """Return the true weights: alternately +1 and −1, evenly spaced."""
    w = np.zeros(config.p)
    w[:: config.p // config.k][: config.k] = np.where(np.arange(config.k) % 2, -1.0, 1.0)
    return w


def synthetic(config: Config) -> Any:
    """Solve paths on random data with the true weights, for every penalty and seed, in one sweep.

    Features i and j have correlation ρ^|i−j|. The error is the exact mean squared error on new data:
    (ŵ − w)ᵀΣ(ŵ − w) + noise².
    """
    if not 1 <= config.k <= config.p:
        raise ValueError(f"k must be from 1 to p = {config.p}, got {config.k}")
    w, grid = jnp.asarray(truth(config)), lambdas(config)
    distance = np.abs(np.arange(config.p)[:, None] - np.arange(config.p))
    covariance = jnp.asarray(config.correlation**distance)
    root = jnp.linalg.cholesky(covariance).T

    def run(ratio: jax.Array, seed: jax.Array) -> dict[str, jax.Array]:
        for_X, for_noise = jax.random.split(jax.random.key(seed))
        X = jax.random.normal(for_X, (config.n, config.p)) @ root
        y = X @ w + config.noise * jax.random.normal(for_noise, (config.n,))
        problem = jr.Problem(jr.losses.SquaredError(), X, y)
        path = jr.path(problem, lambda lam: jr.ElasticNet(lam, ratio), grid, tol=config.tol)
        off = path.coef - w
        hits = jnp.sum((path.coef != 0) & (w != 0), axis=1)
        kept = jnp.sum(path.coef != 0, axis=1)
        return {
            **sparsity_and_norm(path.coef),
            "coef": path.coef,
            "error": jnp.einsum("lp,pq,lq->l", off, covariance, off) + config.noise**2,
            "recall": hits / config.k,
            "precision": jnp.where(kept > 0, hits / jnp.maximum(kept, 1), 1.0),
        }

    seeds = range(config.seed, config.seed + config.seeds)
    return jr.sweep(run, ratio=list(RATIOS.values()), seed=seeds)


def support_recovery(synthetic_results: Any) -> dict[str, dict[str, float]]:
    """Return recall and precision at the λ of the smallest error, averaged over seeds."""
    out, kinds = {}, ("recall", "precision")
    for name, ratio in RATIOS.items():
        part = {
            key: synthetic_results[key].sel(ratio=ratio).transpose("seed", ...).values
            for key in ("error", *kinds)
        }
        best = part["error"].argmin(axis=1)[:, None]
        out[name] = {key: float(np.take_along_axis(part[key], best, axis=1).mean()) for key in kinds}
    return out


# ---------------------------------------------------------------- the figures


def plot_maps(maps: dict[str, dict[str, dict[str, np.ndarray]]]) -> Any:
    """Plot exact zeros against shrinkage, with a ring at the smallest held-out error."""
    rows = -(-len(maps) // 3)
    fig, axes = figure(rows, 3, (12.5, 3.9 * rows), sharex=True, sharey=True, squeeze=False)
    for ax, (data, parts) in zip(axes.ravel(), maps.items(), strict=False):
        top = largest_norm(parts)
        for name, part in parts.items():
            x, y = 100 * (1 - part["norm"] / top), 100 * part["zeros"]
            style = {"color": COLOURS[name], "linestyle": LINES[name], "marker": MARKERS[name]}
            ax.plot(x, y, markersize=3.5, linewidth=1.6, label=name, **style)
            k = int(np.argmin(part["error"]))
            ax.plot(
                x[k], y[k], "o", markersize=12, markerfacecolor="none", markeredgecolor="black",
                label="smallest held-out error" if name == "L2" else None,
            )  # fmt: skip
        size = next(iter(parts.values()))["coef"][0].size
        ax.set(title=f"{data}: {size} weights", xlim=(-4, 104), ylim=(-5, 105))
    for ax in axes.ravel()[len(maps) :]:
        ax.axis("off")
    for ax in axes[-1]:
        ax.set_xlabel("shrinkage of ‖w‖, from its largest [%]")
    for ax in axes[:, 0]:
        ax.set_ylabel("weights that are exactly 0 [%]")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return fig


def plot_recovery(config: Config, results: Any) -> Any:
    """Plot the weights and the truth at the λ of the smallest error, and precision and recall along λ."""
    fig, axes = figure(1, 3, (15.0, 4.2))
    for ax, name in zip(axes[:2], ("L1", "L2"), strict=True):
        _plot_weights(ax, config, results, name)
    axes[0].set_ylabel("weight, at the λ of the smallest error")
    _plot_precision(axes[2], config, results)
    return fig


def _plot_weights(ax: Any, config: Config, results: Any, name: str) -> None:
    w = truth(config)
    support = np.flatnonzero(w)
    part = results.sel(ratio=RATIOS[name], seed=config.seed)
    coef = part["coef"].values[int(np.argmin(part["error"].values))]
    kept = np.flatnonzero(coef)
    ax.plot(
        support, w[support], "_", color="black", markersize=9, markeredgewidth=2,
        label="true weights that are not 0",
    )  # fmt: skip
    ax.vlines(kept, 0, coef[kept], color=COLOURS[name], linewidth=1.4)
    ax.plot(kept, coef[kept], MARKERS[name], color=COLOURS[name], markersize=3, label=f"{name}, not 0")
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.set(title=f"{name}: {kept.size} of {w.size} weights are not 0", xlabel="feature", ylim=(-1.25, 1.6))
    ax.legend(loc="upper right", fontsize=9, ncols=2)


def _plot_precision(ax: Any, config: Config, results: Any) -> None:
    for name in RATIOS:
        part = results.sel(ratio=RATIOS[name])
        plot_band(ax, lambdas(config), part["precision"].transpose(..., "seed").values, name)
    recall = results.sel(ratio=1.0)["recall"].transpose(..., "seed").values.mean(-1)
    ax.plot(
        lambdas(config),
        recall,
        ":",
        color="black",
        linewidth=1.6,
        label="L1: share of the\ntrue weights kept",
    )
    ax.set(xscale="log", xlabel="λ", ylim=(-0.03, 1.05), title="Precision and recall of the support")
    ax.set_ylabel("share of the kept weights that are true")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9, frameon=False)
