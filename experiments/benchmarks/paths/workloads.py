"""Workloads: arrays drawn once from a fixed seed and saved to a folder that every solver reads.

Gaussian designs are those of Friedman, Hastie and Tibshirani (2010): pairwise correlation ρ, coefficients
(−1)^j exp(−2(j−1)/20), signal-to-noise ratio 3, columns and target standardised, no intercept. The logistic
L1 workloads have no intercept, since liblinear penalises it and celer fits none; logistic L2, Poisson,
multinomial, diabetes and breast cancer have one. Columns of breast cancer and digits are standardised, as
users do before they penalise columns with different units.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.benchmarks.paths.gaps import lambda_max
from experiments.benchmarks.paths.tasks import Task, save

__all__ = ["QUICK", "WORKLOADS", "Prepared", "Workload", "prepare"]

# Divisor of the sizes with --tiny.
SHRINK = 20


class Workload(NamedTuple):
    """A problem and its grid of λ.

    Attributes:
        make: Function from `shrink` to the task without its grid, with sizes divided by `shrink`.
        ratio: The grid runs from λ_max to ratio·λ_max.
        num: Number of λ.
        counted: True if the workload enters geometric means.
        growth: True if the workload only measures how time grows; few solvers run it.
    """

    make: Callable[[int], Task]
    ratio: float
    num: int = 100
    counted: bool = True
    growth: bool = False


def _standardized(X: np.ndarray) -> np.ndarray:
    X = X - X.mean(axis=0)
    deviation = X.std(axis=0)
    return X[:, deviation > 0] / deviation[deviation > 0]


def _design(n: int, p: int, rho: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Return columns with pairwise correlation ρ, X @ β scaled to variance 1, and the random generator."""
    rng = np.random.default_rng(seed)
    X = (1 - rho) ** 0.5 * rng.standard_normal((n, p)) + rho**0.5 * rng.standard_normal((n, 1))
    X = _standardized(X)
    beta = (-1.0) ** np.arange(1, p + 1) * np.exp(-2 * np.arange(p) / 20)
    signal = X @ beta
    return X, signal / signal.std(), rng


def _size(n: int, p: int, shrink: int) -> tuple[int, int]:
    return max(n // shrink, min(n, 50)), max(p // shrink, min(p, 10))


def gaussian(n: int, p: int, rho: float, **more: object) -> Callable[[int], Task]:
    """Squared error with signal-to-noise ratio 3."""

    def make(shrink: int) -> Task:
        X, signal, rng = _design(*_size(n, p, shrink), rho, seed=0)
        y = signal + rng.standard_normal(len(X)) / 3**0.5
        return Task("", X, y - y.mean(), np.zeros(0), **more)

    return make


def gaussian_widened(n: int, p: int, rho: float) -> Callable[[int], Task]:
    """Squared error with twice as many columns, the second half scaled so that they stay inactive."""

    def make(shrink: int) -> Task:
        task = gaussian(n, p, rho)(shrink)
        more = _standardized(np.random.default_rng(1).standard_normal(task.X.shape))
        return task._replace(X=np.hstack([task.X, 0.01 * more]))

    return make


def logistic(n: int, p: int, **more: object) -> Callable[[int], Task]:
    """Two classes, logits with standard deviation 2."""

    def make(shrink: int) -> Task:
        X, signal, rng = _design(*_size(n, p, shrink), 0.5, seed=2)
        y = (rng.random(len(X)) < 1 / (1 + np.exp(-2 * signal))).astype(float)
        return Task("", X, y, np.zeros(0), loss="logistic", **more)

    return make


def poisson(n: int, p: int) -> Callable[[int], Task]:
    """Counts with a mean of about 2."""

    def make(shrink: int) -> Task:
        X, signal, rng = _design(*_size(n, p, shrink), 0.5, seed=3)
        y = rng.poisson(np.exp(0.5 + 0.6 * signal)).astype(float)
        return Task("", X, y, np.zeros(0), loss="poisson", intercept=True)

    return make


def sparse(n: int, p: int, filled: float) -> Callable[[int], Task]:
    """Squared error on a sparse X with normal entries, neither centred nor scaled."""

    def make(shrink: int) -> Task:
        from scipy.sparse import csc_matrix

        rng = np.random.default_rng(4)
        rows, columns = _size(n, p, shrink)
        count = max(int(filled * rows * columns), columns)
        index = (rng.integers(0, rows, count), rng.integers(0, columns, count))
        X = csc_matrix((rng.standard_normal(count), index), shape=(rows, columns))
        X.sum_duplicates()
        beta = np.where(np.arange(columns) < 100, (-1.0) ** np.arange(columns), 0.0)
        signal = X @ beta
        y = signal + rng.standard_normal(rows) * signal.std() / 3**0.5
        return Task("", X, y - y.mean(), np.zeros(0))

    return make


def sklearn_data(name: str, **about: object) -> Callable[[int], Task]:
    """A data set bundled with scikit-learn."""

    def make(shrink: int) -> Task:
        from sklearn import datasets

        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        rows = slice(None, None, 4 if shrink > 1 else 1)
        X, y = X[rows].astype(float), y[rows].astype(float)
        return Task(
            "", X if name == "diabetes" else _standardized(X), y, np.zeros(0), intercept=True, **about
        )

    return make


_SIZES = ((1000, 5000), (5000, 200), (100, 20000), (50000, 500), (1000, 100))
WORKLOADS = {
    **{
        f"gaussian-{n}x{p}-{rho}": Workload(gaussian(n, p, rho), 1e-2 if n < p else 1e-4)
        for n, p in _SIZES
        for rho in (0, 0.5, 0.95)
    },
    "logistic-1000x5000": Workload(logistic(1000, 5000), 1e-2, 50),
    "logistic-20000x200": Workload(logistic(20000, 200), 1e-3, 50),
    "logistic-l2-20000x200": Workload(logistic(20000, 200, l1_ratio=0.0, intercept=True), 1e-3, 50),
    "poisson-5000x500": Workload(poisson(5000, 500), 1e-3, 50),
    "multinomial-digits": Workload(sklearn_data("digits", loss="multinomial"), 1e-2, 50),
    "group-1000x5000": Workload(gaussian(1000, 5000, 0.5, penalty="group", group=10), 1e-2),
    "elastic-1000x5000": Workload(gaussian(1000, 5000, 0.5, l1_ratio=0.5), 1e-2),
    "mcp-1000x5000": Workload(gaussian(1000, 5000, 0.5, penalty="mcp"), 5e-2),
    "sparse-20000x50000": Workload(sparse(20000, 50000, 1e-3), 1e-2),
    "diabetes": Workload(sklearn_data("diabetes"), 1e-4, counted=False),
    "breast-cancer": Workload(sklearn_data("breast_cancer", loss="logistic"), 1e-3, 50, counted=False),
    "growth-200-lambdas": Workload(gaussian(1000, 5000, 0.5), 1e-2, 200, counted=False, growth=True),
    "growth-10000-columns": Workload(gaussian_widened(1000, 5000, 0.5), 1e-2, counted=False, growth=True),
}
QUICK = (
    "gaussian-1000x100-0.5",
    "gaussian-5000x200-0.5",
    "gaussian-1000x5000-0.5",
    "logistic-20000x200",
    "group-1000x5000",
    "elastic-1000x5000",
)


class Prepared(NamedTuple):
    """Folder of a workload's arrays, and a digest of them."""

    folder: Path
    digest: str


def prepare(name: str, work: Path, tiny: bool = False) -> Prepared:
    """Save the arrays of a workload below `work`, unless they exist."""
    folder = work / "data" / (f"{name}-tiny" if tiny else name)
    if not (folder / "digest").exists():
        workload = WORKLOADS[name]
        task = workload.make(SHRINK if tiny else 1)._replace(name=name)
        num = max(workload.num // 5, 5) if tiny else workload.num
        grid = np.geomspace(1.0, workload.ratio, num) * lambda_max(task)
        save(task._replace(lambdas=grid), folder)
        digest = hashlib.sha256()
        for file in sorted(folder.glob("*.npy")):
            digest.update(file.read_bytes())
        (folder / "digest").write_text(digest.hexdigest()[:12], encoding="utf-8")
    return Prepared(folder, (folder / "digest").read_text(encoding="utf-8"))
