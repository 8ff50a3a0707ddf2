"""Least squares is unbiased, but its largest estimates are too large; shrinkage calibrates predictions.

Each coefficient of least squares is right on average. The coefficients that come out largest are not: they
were selected because noise made them large. Predictions inherit this. On new samples the regression of the
target on the prediction has a slope below 1, the factor by which predictions should have been shrunk. Ways to
know the shrinkage without new samples: a factor from the fit's own R² (Harrell's and Copas's), the λ at which
out-of-fold predictions have slope 1, and the λ of the smallest out-of-fold error.

- Copas (1983), Regression, prediction and shrinkage.
- van Houwelingen and le Cessie (1990), Predictive value of statistical models.
- Harrell (2015), Regression modeling strategies, sections 4.5 and 20.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxreg as jr
from experiments._report import COLOURS, LINES, figure, option, save

#: New samples on which slope and error are computed.
TEST_SAMPLES = 5000
#: Largest and smallest λ of each penalty's grid, for features and a signal of standard deviation 1.
GRIDS = {"L1": (0.5, 2e-3), "L2": (20.0, 2e-2)}
FAMILIES = {"L1": jr.L1, "L2": jr.SquaredL2}
LOSS = jr.losses.SquaredError()
SLOPE = "slope on new samples"
WINNERS = "winners: estimate / truth"


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    n: int = option(150, "training samples")
    p: int = option(50, "features")
    noise: float = option(1.0, "standard deviation of the noise over that of the signal")
    winners: int = option(5, "number of largest estimates")
    lams: int = option(25, "λ of each grid")
    folds: int = option(10, "folds of the cross-validation")
    seeds: int = option(60, "number of data sets")
    seed: int = option(0, "seed of the coefficients and first seed of the data")


class Data(NamedTuple):
    """Training samples and new samples."""

    X: np.ndarray
    y: np.ndarray
    X_new: np.ndarray
    y_new: np.ndarray


class Fit(NamedTuple):
    """Coefficients and intercept."""

    coef: np.ndarray
    intercept: float


def true_coefficients(config: Config) -> np.ndarray:
    """Draw coefficients whose signal has standard deviation 1."""
    coef = np.random.default_rng(config.seed).normal(size=config.p)
    return coef / np.linalg.norm(coef)


def draw(config: Config, coef: np.ndarray, seed: int) -> Data:
    """Draw independent standard normal features, and targets with noise."""
    rng = np.random.default_rng([config.seed, seed])
    X = rng.normal(size=(config.n + TEST_SAMPLES, config.p))
    y = X @ coef + config.noise * rng.normal(size=len(X))
    return Data(X[: config.n], y[: config.n], X[config.n :], y[config.n :])


# ---------------------------------------------------------------- the fits


def fit_all(config: Config, data: Data, fold_of: np.ndarray) -> tuple[dict[str, Fit], dict[str, np.ndarray]]:
    """Fit by every method; also return the slope on new samples at each λ of a grid."""
    problem = jr.Problem(LOSS, data.X, data.y)
    unpenalised = jr.unpenalized(problem)
    assert unpenalised is not None, "more samples than features have a unique fit"
    coef, intercept = np.asarray(unpenalised[0]), unpenalised[1]
    fits = {"least squares": Fit(coef, float(intercept))}
    for name, factor in factors(config, data, problem, fits["least squares"]).items():
        fits[name] = Fit(factor * coef, float(data.y.mean() - data.X.mean(axis=0) @ (factor * coef)))
    slopes = {}
    for name, family in FAMILIES.items():
        grid = np.geomspace(*GRIDS[name], config.lams)
        path = jr.path(problem, family, grid)
        z = out_of_fold(config, data, family, grid, fold_of)
        by_slope = lambda_of_slope_one(grid, z, data.y)
        by_error = float(grid[np.argmin(np.mean((z - data.y) ** 2, axis=1))])
        for rule, lam in (("out-of-fold slope 1", by_slope), ("smallest out-of-fold error", by_error)):
            fit = path.at(lam)
            fits[f"{name}, {rule}"] = Fit(np.asarray(fit.coef), float(fit.intercept))
        found = jr.metrics.calibration(LOSS, path.linear(data.X_new), data.y_new)
        slopes[name] = np.asarray(found.slope)
    return fits, slopes


def factors(config: Config, data: Data, problem: jr.Problem, fit: Fit) -> dict[str, float]:
    """Return the heuristic factors (n−p−1)/(n−1)·R²_adj/R² and R²_adj/R²."""
    residual = np.sum((data.y - data.X @ fit.coef - fit.intercept) ** 2)
    r2 = 1 - residual / np.sum((data.y - data.y.mean()) ** 2)
    adjusted = 1 - (1 - r2) * (config.n - 1) / (config.n - config.p - 1)
    harrell = jr.shrinkage.heuristic_factor(problem)
    return {"heuristic factor, Harrell": harrell, "heuristic factor, Copas": max(adjusted / r2, 0.0)}


def out_of_fold(config: Config, data: Data, family: Any, grid: np.ndarray, fold_of: np.ndarray) -> np.ndarray:
    """Return the predictions (λ, n) of each sample by the fits without its fold."""
    z = np.empty((grid.size, config.n))
    for fold in range(config.folds):
        held = fold_of == fold
        path = jr.path(jr.Problem(LOSS, data.X[~held], data.y[~held]), family, grid)
        z[:, held] = path.linear(data.X[held])
    return z


def lambda_of_slope_one(grid: np.ndarray, z: np.ndarray, y: np.ndarray) -> float:
    """Return the λ of out-of-fold slope 1; the end of the grid where no λ has it."""
    try:
        return jr.shrinkage.calibrated_lambda(LOSS, grid, z, y).lam
    except ValueError as error:
        return float(grid[-1] if "at least 1" in str(error) else grid[0])


# ---------------------------------------------------------------- measures


def measure(config: Config, data: Data, fit: Fit, coef: np.ndarray) -> dict[str, float]:
    """Return slope and error on new samples, and the size of the largest estimates over that of the truth."""
    z = data.X_new @ fit.coef + fit.intercept
    slope = jr.metrics.calibration(LOSS, z, data.y_new).slope if np.ptp(z) > 0 else np.nan
    largest = np.argsort(-np.abs(fit.coef))[: config.winners]
    return {
        "slope": float(slope),
        "error": float(np.mean((z - data.X_new @ coef) ** 2)),
        "estimated": float(np.sum(np.abs(fit.coef[largest]))),
        "true": float(np.sum(np.sign(fit.coef[largest]) * coef[largest])),
    }


def main(config: Config, out: Path) -> None:
    """Fit by every method on every data set, and write the figure and the table of means."""
    coef = true_coefficients(config)
    fold_of = np.arange(config.n) % config.folds
    runs, errors_of_coef, slopes, first = [], [], [], {}
    for seed in range(config.seeds):
        data = draw(config, coef, seed)
        fits, slopes_new = fit_all(config, data, fold_of)
        runs.append({name: measure(config, data, fit, coef) for name, fit in fits.items()})
        errors_of_coef.append(fits["least squares"].coef - coef)
        slopes.append(slopes_new)
        first = first or fits
    values = {
        name: {key: np.array([run[name][key] for run in runs]) for key in runs[0][name]} for name in first
    }
    rows = [_row(name, value) for name, value in values.items()]
    bias = _bias_in_standard_errors(np.array(errors_of_coef))
    table = {row["method"]: row for row in rows}
    plain, ridge = table["least squares"], table["L2, out-of-fold slope 1"]
    relative = ridge["error on new samples"] / plain["error on new samples"]
    number = (
        f"Over {config.seeds} data sets the mean error of a coefficient of least squares is {bias:.2f}"
        " standard errors (root mean square; 1 is unbiased). Its"
        f" {config.winners} largest estimates are {plain[WINNERS]:.2f} times the truth, and the median slope"
        f" on new samples is {plain[SLOPE]:.2f}. L2 at out-of-fold slope 1 has slope {ridge[SLOPE]:.2f},"
        f" winners {ridge[WINNERS]:.2f} times the truth, and {relative:.2f} times the error."
    )
    save(
        out, {"calibration": _plot(config, first, coef, values, slopes)}, rows, config, number,
        bias_in_standard_errors=bias,
    )  # fmt: skip


def _bias_in_standard_errors(errors: np.ndarray) -> float:
    """Return the root mean square over coefficients of mean error over its standard error."""
    standard_error = errors.std(axis=0, ddof=1) / np.sqrt(len(errors))
    return float(np.sqrt(np.mean((errors.mean(axis=0) / standard_error) ** 2)))


def _row(name: str, value: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return quantiles of the slope, the mean error, and the winners' ratio of sums over data sets."""
    return {
        "method": name,
        SLOPE: float(np.nanmedian(value["slope"])),
        "10 % of slopes below": float(np.nanquantile(value["slope"], 0.1)),
        "90 % below": float(np.nanquantile(value["slope"], 0.9)),
        "error on new samples": float(value["error"].mean()),
        WINNERS: float(value["estimated"].sum() / value["true"].sum()),
    }


def _plot(
    config: Config, fits: dict[str, Fit], coef: np.ndarray, values: dict, slopes: list[dict[str, np.ndarray]]
) -> Any:
    """Plot estimates against the truth, slopes against λ, and the errors by method."""
    fig, (left, middle, right) = figure(1, 3, (14.5, 4.4), width_ratios=(1, 1.2, 1.3))
    plain = fits["least squares"].coef
    largest = np.argsort(-np.abs(plain))[: config.winners]
    ends = np.array([-1, 1]) * 1.1 * np.abs(plain).max()
    left.plot(ends, ends, color="0.5", linestyle="--", linewidth=1, label="estimate = truth")
    left.plot(coef, plain, ".", color="0.55", label="least squares")
    left.plot(coef[largest], plain[largest], "o", color=COLOURS["L2"], label=f"its {largest.size} largest")
    left.set(xlabel="true coefficient", ylabel="estimate", title="one data set")
    left.legend(fontsize=8)
    for name, (top, bottom) in GRIDS.items():
        grid = np.geomspace(top, bottom, config.lams)
        stacked = np.array([run[name] for run in slopes])
        known = np.isfinite(stacked).all(axis=0)
        low, mean, high = (f(stacked[:, known], axis=0) for f in (np.min, np.mean, np.max))
        middle.plot(grid[known], mean, color=COLOURS[name], linestyle=LINES[name], label=name)
        middle.fill_between(grid[known], low, high, color=COLOURS[name], alpha=0.2, linewidth=0)
    middle.axhline(1, color="0.3", linewidth=1)
    middle.set(xscale="log", yscale="log", xlabel="λ", ylabel="calibration slope on new samples")
    middle.set_title(f"mean and range over {config.seeds} data sets")
    middle.legend(fontsize=9)
    right.boxplot([value["error"] for value in values.values()], orientation="horizontal", whis=(0, 100))
    right.set_yticks(1 + np.arange(len(values)), list(values))
    right.invert_yaxis()
    right.set(xlabel="error on new samples / variance of the signal", xlim=(0, None))
    return fig
