"""L1 makes many weights exactly 0 and leaves a few large; L2 pulls all of them toward 0 and hardly any to it.

The map of sparsity versus shrinkage: for every λ how many weights are exactly 0, and how far the norm of all
is below its largest, on five data sets and on synthetic ones whose true weights are known. At the λ of the
smallest held-out error of each penalty: zeros, the kurtosis of the weights that are not 0, and what share of
Σ|w| the largest tenth of the weights holds. On the synthetic data: which of the true weights were found.
Source: Tibshirani (1996); James et al. (2013), section 6.2; Harrell (2015), section 4.5, on shrinkage.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr
from experiments._data import Data, bundled
from experiments._report import COLOURS, LINES, MARKERS, band, figure, option, save

DATA = ("diabetes", "linnerud", "breast_cancer", "wine", "digits")
RATIOS = {"L1": 1.0, "elastic net": 0.5, "L2": 0.0}


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and settings; the defaults take less than a minute on two cores."""

    data: str = option(",".join(DATA), "data sets that come with scikit-learn")
    lams: int = option(30, "values of λ")
    largest: float = option(10.0, "the largest λ; features have standard deviation 1")
    smallest: float = option(5e-4, "the smallest λ")
    holdout: float = option(0.3, "share of the rows that is held out")
    tol: float = option(1e-4, "relative duality gap")
    n: int = option(100, "rows of the synthetic data")
    p: int = option(200, "weights of the synthetic data")
    k: int = option(10, "of them not 0: ±1")
    correlation: float = option(0.5, "correlation of neighbouring synthetic features")
    noise: float = option(1.0, "standard deviation of the synthetic noise")
    seeds: int = option(8, "synthetic data sets")
    seed: int = option(0, "seed of the splits, and the first seed of the synthetic data")


def main(config: Config, out: Path) -> None:
    """Paths on every data set, the synthetic sweep, the figures, the numbers."""
    maps = {name: mapped(config, name) for name in config.data.split(",")}
    known = synthetic(config)
    maps["synthetic"] = {
        name: {
            key: known[key].sel(ratio=ratio, seed=config.seed).values for key in ("zeros", "norm", "error")
        }
        | {"coef": known["coef"].sel(ratio=ratio, seed=config.seed).values}
        for name, ratio in RATIOS.items()
    }
    rows = [row(data, name, parts) for data, parts in maps.items() for name in parts]
    support = recovery(known)
    zeros = {name: [r["zeros at half the norm [%]"] for r in rows if r["penalty"] == name] for name in RATIOS}
    number = (
        f"Where λ has halved the norm of the weights L1 has {min(zeros['L1']):.0f} to"
        f" {max(zeros['L1']):.0f} % exact zeros on {len(maps)} data sets, L2 at most"
        f" {max(zeros['L2']):.1f} %. On the synthetic data at the λ of the smallest error L1 finds"
        f" {100 * support['L1']['recall']:.0f} % of the true weights, and of what it keeps"
        f" {100 * support['L1']['precision']:.0f} % is true; L2 keeps everything"
        f" ({100 * support['L2']['precision']:.0f} %)."
    )
    figures = {"sparsity_map": drawn(maps), "synthetic": recovered(config, known)}
    save(out, figures, rows, config, number, support=support)


def lambdas(config: Config) -> np.ndarray:
    """The grid, the same for all."""
    return np.geomspace(config.largest, config.smallest, config.lams)


# ---------------------------------------------------------------- data sets


def mapped(config: Config, name: str) -> dict[str, dict[str, np.ndarray]]:
    """For each penalty, along λ: zeros, norm, held-out error, weights."""
    data = bundled(name)
    order = np.random.default_rng(config.seed).permutation(len(data.y))
    held, kept = np.split(order, [round(config.holdout * len(order))])
    training = Data(data.loss, data.X[kept], data.y[kept], data.features)
    out = {}
    for penalty, ratio in RATIOS.items():
        path = jr.path(
            training.problem, lambda lam, r=ratio: jr.ElasticNet(lam, r), lambdas(config), tol=config.tol
        )
        z, y = path.linear(data.X[held]), jnp.asarray(data.y[held])
        error = jax.vmap(lambda z, y=y: jr.metrics.prediction_error(data.loss, z, y))(z)
        out[penalty] = {**described(path.coef), "error": error, "coef": path.coef}
    return jax.tree.map(np.asarray, out)


def described(coef: jax.Array) -> dict[str, jax.Array]:
    """Share of exact zeros and Euclidean norm of the weights at each λ."""
    axes = tuple(range(1, coef.ndim))
    return {"zeros": jnp.mean(coef == 0, axis=axes), "norm": jnp.sqrt(jnp.sum(coef**2, axis=axes))}


def row(data: str, penalty: str, parts: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """The weights at the λ of the smallest held-out error, the largest such λ; and zeros at half the norm."""
    part, top = parts[penalty], largest(parts)
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


def largest(parts: dict[str, dict[str, np.ndarray]]) -> float:
    """The largest norm of the weights under any penalty and λ."""
    return float(max(part["norm"].max() for part in parts.values()))


def kurtosis(w: np.ndarray) -> float | None:
    """E(w − mean)⁴ / (E(w − mean)²)²: 3 for a normal distribution, more where a few are far out."""
    if w.size < 4:
        return None
    centred = w - w.mean()
    return float(np.mean(centred**4) / np.mean(centred**2) ** 2)


# ---------------------------------------------------------------- known truth


def truth(config: Config) -> np.ndarray:
    """The true weights: ±1 in turn, evenly spread."""
    w = np.zeros(config.p)
    w[:: config.p // config.k][: config.k] = np.where(np.arange(config.k) % 2, -1.0, 1.0)
    return w


def synthetic(config: Config) -> Any:
    """Paths on random data with these weights, for every penalty and seed; one sweep.

    Each feature is correlated with its neighbours, ρ^|i−j|. The error is the mean squared one on new data,
    exactly: (ŵ − w)ᵀΣ(ŵ − w) + noise².
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
            **described(path.coef),
            "coef": path.coef,
            "error": jnp.einsum("lp,pq,lq->l", off, covariance, off) + config.noise**2,
            "recall": hits / config.k,
            "precision": jnp.where(kept > 0, hits / jnp.maximum(kept, 1), 1.0),
        }

    seeds = range(config.seed, config.seed + config.seeds)
    return jr.sweep(run, ratio=list(RATIOS.values()), seed=seeds)


def recovery(known: Any) -> dict[str, dict[str, float]]:
    """Recall and precision at the λ of the smallest error, averaged over seeds."""
    out, kinds = {}, ("recall", "precision")
    for name, ratio in RATIOS.items():
        part = {key: known[key].sel(ratio=ratio).transpose("seed", ...).values for key in ("error", *kinds)}
        best = part["error"].argmin(axis=1)[:, None]
        out[name] = {key: float(np.take_along_axis(part[key], best, axis=1).mean()) for key in kinds}
    return out


# ---------------------------------------------------------------- the figures


def drawn(maps: dict[str, dict[str, dict[str, np.ndarray]]]) -> Any:
    """The maps: shrinkage across, exact zeros up, a ring at the smallest held-out error."""
    rows = -(-len(maps) // 3)
    made, axes = figure(rows, 3, (12.5, 3.9 * rows), sharex=True, sharey=True, squeeze=False)
    for ax, (data, parts) in zip(axes.ravel(), maps.items(), strict=False):
        top = largest(parts)
        for name, part in parts.items():
            x, y = 100 * (1 - part["norm"] / top), 100 * part["zeros"]
            look = {"color": COLOURS[name], "linestyle": LINES[name], "marker": MARKERS[name]}
            ax.plot(x, y, markersize=3.5, linewidth=1.6, label=name, **look)
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
    made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return made


def recovered(config: Config, known: Any) -> Any:
    """Weights beside the truth at the λ of the smallest error; precision and recall along λ, over seeds."""
    made, axes = figure(1, 3, (15.0, 4.2))
    w = truth(config)
    for ax, name in zip(axes[:2], ("L1", "L2"), strict=True):
        part = known.sel(ratio=RATIOS[name], seed=config.seed)
        coef = part["coef"].values[int(np.argmin(part["error"].values))]
        at = np.flatnonzero(w)
        ax.plot(
            at,
            w[at],
            "_",
            color="black",
            markersize=9,
            markeredgewidth=2,
            label="true weights that are not 0",
        )
        kept = np.flatnonzero(coef)
        ax.vlines(kept, 0, coef[kept], color=COLOURS[name], linewidth=1.4)
        ax.plot(kept, coef[kept], MARKERS[name], color=COLOURS[name], markersize=3, label=f"{name}, not 0")
        ax.axhline(0, color="0.6", linewidth=0.8)
        ax.set(
            title=f"{name}: {kept.size} of {w.size} weights are not 0", xlabel="feature", ylim=(-1.25, 1.6)
        )
        ax.legend(loc="upper right", fontsize=9, ncols=2)
    axes[0].set_ylabel("weight, at the λ of the smallest error")
    for name in ("L1", "elastic net", "L2"):
        part = known.sel(ratio=RATIOS[name])
        band(axes[2], lambdas(config), part["precision"].transpose(..., "seed").values, name)
    recall = known.sel(ratio=1.0)["recall"].transpose(..., "seed").values.mean(-1)
    axes[2].plot(
        lambdas(config),
        recall,
        ":",
        color="black",
        linewidth=1.6,
        label="L1: share of the\ntrue weights kept",
    )
    axes[2].set(xscale="log", xlabel="λ", ylim=(-0.03, 1.05), title="What is kept and true")
    axes[2].set_ylabel("share of the kept weights that are true")
    axes[2].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9, frameon=False)
    return made
