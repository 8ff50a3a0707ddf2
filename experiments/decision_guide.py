"""L1 predicts best where few features matter, L2 where many do; the elastic net lies between.

The share of relevant features, the correlation of features and the noise vary. Features come in blocks of
equal correlation; relevant features fill whole blocks, with one sign in each. Every penalty gets the λ with
the smallest loss on held-out samples of the same size, and its error is exact, (w − w*)ᵀΣ(w − w*) in units of
the signal's variance, since the truth w* and the covariance Σ are known. All fits are one `jr.sweep`.

The table holds what each criterion for a choice asks for: the features that L1 selects (precision, recall),
the error where all features matter, and the largest weight, which decides where large weights do harm, as in
networks whose units saturate.

- Tibshirani (1996), Regression shrinkage and selection via the lasso, section 7.
- Zou and Hastie (2005), Regularization and variable selection via the elastic net, section 5.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr
from experiments._report import COLOURS, figure, option, save

#: Share of L1 in the elastic net, by name.
RATIOS = {"L1": 1.0, "elastic net": 0.5, "L2": 0.0}
SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
CORRELATIONS = (0.0, 0.3, 0.6, 0.9)
#: Standard deviations of the noise over that of the signal.
NOISES = (0.5, 1.5)
#: Smallest share of L1 that counts in the largest λ; glmnet takes 0.001, for a grid that is twice as long.
LEAST_RATIO = 0.05
#: Smallest over largest λ of the grid.
GRID_RATIO = 1e-3
#: Gap of the fits, far below the differences between penalties.
TOL = 1e-5


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    n: int = option(80, "training samples, and as many held out")
    p: int = option(60, "features")
    block: int = option(3, "features in a block")
    lams: int = option(12, "λ of each grid")
    seeds: int = option(10, "data sets for each setting")
    seed: int = option(0, "first seed")
    max_lanes: int = option(0, "fits in one chunk; default: as many as fit in memory")


class Draw(NamedTuple):
    """Training and held-out samples, and the true coefficients."""

    X: jax.Array
    y: jax.Array
    X_held: jax.Array
    y_held: jax.Array
    coef: jax.Array


def draw(config: Config, share: Any, rho: Any, noise: Any, seed: Any) -> Draw:
    """Draw a data set whose signal has standard deviation 1."""
    for_X, for_signs, for_noise = jax.random.split(jax.random.key(seed), 3)
    blocks = -(-config.p // config.block)
    relevant = jnp.arange(config.p) < jnp.round(share * config.p)
    signs = jnp.repeat(jax.random.rademacher(for_signs, (blocks,), float), config.block)[: config.p]
    coef = jnp.where(relevant, signs, 0.0)
    coef = coef / jnp.sqrt(variance(config, rho, coef))
    common, own = jax.random.normal(for_X, (2, 2 * config.n, config.p))
    shared = jnp.repeat(common[:, :blocks], config.block, axis=1)[:, : config.p]
    X = jnp.sqrt(rho) * shared + jnp.sqrt(1 - rho) * own
    y = X @ coef + noise * jax.random.normal(for_noise, (2 * config.n,))
    return Draw(X[: config.n], y[: config.n], X[config.n :], y[config.n :], coef)


def variance(config: Config, rho: Any, coef: jax.Array) -> jax.Array:
    """Return the variance wᵀΣw of a new sample's prediction, less the intercept."""
    blocks = -(-config.p // config.block)
    sums = jnp.zeros(blocks).at[jnp.arange(config.p) // config.block].add(coef)
    return (1 - rho) * jnp.sum(coef**2) + rho * jnp.sum(sums**2)


def fit_everything(config: Config) -> Any:
    """Fit every penalty at every λ on every data set."""
    steps = np.linspace(0.0, 1.0, config.lams)

    def run(share: Any, rho: Any, noise: Any, seed: Any, ratio: Any, step: Any) -> dict[str, jax.Array]:
        data = draw(config, share, rho, noise, seed)
        centred = data.y - jnp.mean(data.y)
        largest = jnp.max(jnp.abs(data.X.T @ centred)) / config.n / jnp.maximum(ratio, LEAST_RATIO)
        problem = jr.Problem(jr.losses.SquaredError(), data.X, data.y)
        penalty = jr.ElasticNet(largest * GRID_RATIO**step, ratio)
        fit = jr.solve(problem, penalty, tol=TOL, max_steps=5000, throw=False)
        selected, relevant = fit.coef != 0, data.coef != 0
        return {
            "held_out": jnp.mean((fit.linear(data.X_held) - data.y_held) ** 2),
            "error": variance(config, rho, fit.coef - data.coef),
            "largest": jnp.max(jnp.abs(fit.coef)),
            "precision": jnp.sum(selected & relevant) / jnp.maximum(jnp.sum(selected), 1),
            "recall": jnp.sum(selected & relevant) / jnp.sum(relevant),
            "converged": fit.converged,
        }

    return jr.sweep(
        run, share=list(SHARES), rho=list(CORRELATIONS), noise=list(NOISES),
        seed=range(config.seed, config.seed + config.seeds), ratio=list(RATIOS.values()), step=list(steps),
        max_lanes=config.max_lanes or None,
    )  # fmt: skip


def main(config: Config, out: Path) -> None:
    """Fit, choose λ on held-out samples, and write the map of winners."""
    results = fit_everything(config)
    chosen = results.isel(step=results["held_out"].argmin("step"))
    means = chosen.mean("seed").transpose("noise", "rho", "share", "ratio")
    error = np.asarray(means["error"])
    rows = [_row(means, index) for index in np.ndindex(*error.shape[:3])]
    regret = error / error.min(axis=-1, keepdims=True) - 1
    worst = dict(zip(RATIOS, regret.max(axis=(0, 1, 2)), strict=True))
    winner = error.argmin(axis=-1)
    wins = {name: int(np.sum(winner == k)) for k, name in enumerate(RATIOS)}
    few, all_of_them = error[..., 0, :], error[..., -1, :]
    sparse = np.mean(few[..., 2] / few[..., 0])
    dense = np.mean(all_of_them[..., 0] / all_of_them[..., 2])
    weights = np.asarray(means["largest"])
    largest = weights[..., 0] / weights[..., 2]
    number = (
        f"{results['error'].size:,} fits, {winner.size} settings: L1 predicts best in {wins['L1']},"
        f" the elastic net in {wins['elastic net']}, L2 in {wins['L2']}. Where {SHARES[0]:.0%} of the"
        f" features matter L2 has {sparse:.1f} times the error of L1; where all matter L1 has {dense:.1f}"
        f" times that of L2. At worst the error is {worst['L1']:.0%} (L1), {worst['elastic net']:.0%}"
        f" (elastic net) and {worst['L2']:.0%} (L2) above the best. The largest weight of L1 is"
        f" {largest.min():.1f} to {largest.max():.1f} times that of L2."
    )
    not_converged = 1 - float(results["converged"].mean())
    figures = {"decision_guide": _plot(error)}
    save(
        out,
        figures,
        rows,
        config,
        number,
        wins=wins,
        worst=worst,
        largest=largest.min(),
        not_converged=not_converged,
    )


def _row(means: Any, index: tuple[int, ...]) -> dict[str, Any]:
    """Return the errors of a setting, its winner and margin, and the features that L1 selects."""
    part = means.isel(noise=index[0], rho=index[1], share=index[2])
    error = np.asarray(part["error"])
    first, second = np.sort(error)[:2]
    return {
        "noise": float(part.noise),
        "correlation": float(part.rho),
        "relevant": float(part.share),
        **{f"error {name}": float(error[k]) for k, name in enumerate(RATIOS)},
        "winner": list(RATIOS)[int(error.argmin())],
        "margin": float(second / first - 1),
        **{f"largest weight {name}": float(part["largest"][k]) for k, name in enumerate(RATIOS)},
        "L1 precision": float(part["precision"][0]),
        "L1 recall": float(part["recall"][0]),
    }


def _plot(error: np.ndarray) -> Any:
    """Draw the winner of each setting as colour and letter, and its margin over the second as a number."""
    fig, axes = figure(1, len(NOISES), (5.6 * len(NOISES), 4.2), squeeze=False)
    letters = {"L1": "L1", "elastic net": "EN", "L2": "L2"}
    for ax, noise, part in zip(axes[0], NOISES, error, strict=True):
        ordered = np.sort(part, axis=-1)
        margin = ordered[..., 1] / ordered[..., 0] - 1
        for (i, j), k in np.ndenumerate(part.argmin(axis=-1)):
            name = list(RATIOS)[k]
            # The colour fades to white as the margin falls to 0; 30 % and more are saturated.
            strength = 0.15 + 0.75 * min(float(margin[i, j]) / 0.3, 1.0)
            ax.fill(
                [j, j + 1, j + 1, j], [i, i, i + 1, i + 1], color=COLOURS[name], alpha=strength, linewidth=0
            )
            ax.text(j + 0.5, i + 0.5, f"{letters[name]}\n+{margin[i, j]:.0%}", ha="center", va="center")
        ax.set_xticks(np.arange(len(SHARES)) + 0.5, [f"{share:.0%}" for share in SHARES])
        ax.set_yticks(np.arange(len(CORRELATIONS)) + 0.5, [f"{rho:g}" for rho in CORRELATIONS])
        ax.set(xlabel="relevant features", ylabel="correlation within blocks")
        ax.set(xlim=(0, len(SHARES)), ylim=(0, len(CORRELATIONS)))
        ax.set_title(f"noise {noise:g} × signal: winner, error of the second", fontsize=11)
    return fig
