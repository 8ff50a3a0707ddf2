"""Time of ten-fold cross-validation over a grid of λ, next to peers at their default tolerances.

    python -m experiments.benchmarks.cv [--quick] [--limit SECONDS] [--out FILE.json]

The peers are scikit-learn, glmnet and adelie. Every solver gets the same rows, folds and λ (adelie draws its
own folds), in a process of its own. jaxreg certifies every fit of every fold to a relative duality gap of
1e-4; the peers stop by their default tolerances. Times are the smallest of three warm calls, for jaxreg also
the first call with an empty compilation cache. A solver that has not finished within the limit is stopped,
which bounds its time from below. glmnet needs `Rscript` with the package installed; a solver that is not
installed is left out.

Columns: `seconds` of a warm call; `first` call; `over a path`, seconds over those of one path on all rows;
`gap`, the largest of all fits.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks._hardware import processor

Row = dict[str, Any]

FOLDS = 10
#: Gap of every fit of jaxreg.
TOL = 1e-4
#: Warm calls of which the smallest time is taken.
REPEATS = 3
#: Pairwise correlation of the columns.
RHO = 0.5
#: Factor by which --quick divides sizes.
SHRINK = 10


class Workload(NamedTuple):
    """Samples, columns, the loss, the mixtures of the elastic net, and the grid of λ."""

    n: int
    p: int
    loss: str = "squared"
    l1_ratios: tuple[float, ...] = (1.0,)
    num: int = 100
    ratio: float = 1e-2


WORKLOADS = {
    "lasso 1000×5000": Workload(1000, 5000),
    "lasso 5000×200": Workload(5000, 200, ratio=1e-4),
    "logistic 5000×200": Workload(5000, 200, loss="logistic", num=50, ratio=1e-3),
    "elastic net 5000×200, 5 mixtures": Workload(5000, 200, l1_ratios=(0.1, 0.5, 0.7, 0.9, 1.0), ratio=1e-4),
}


class Data(NamedTuple):
    """Standardised columns, targets, the fold of each row and λ from the largest one down."""

    X: np.ndarray
    y: np.ndarray
    fold: np.ndarray
    lambdas: np.ndarray


def make(workload: Workload, quick: bool) -> Data:
    """Draw the design of Friedman, Hastie and Tibshirani (2010), with signal-to-noise ratio 3."""
    n, p = (max(workload.n // SHRINK, 60), max(workload.p // SHRINK, 10)) if quick else workload[:2]
    rng = np.random.default_rng(0)
    X = (1 - RHO) ** 0.5 * rng.standard_normal((n, p)) + RHO**0.5 * rng.standard_normal((n, 1))
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    signal = X @ ((-1.0) ** np.arange(1, p + 1) * np.exp(-2 * np.arange(p) / 20))
    y = signal / signal.std() + rng.standard_normal(n) / 3**0.5
    if workload.loss == "logistic":
        y = (y > np.median(y)).astype(float)
    top = np.abs(X.T @ (y - y.mean())).max() / n
    lambdas = np.geomspace(top, workload.ratio * top, workload.num)
    return Data(np.asfortranarray(X), y, rng.permutation(n) % FOLDS, lambdas)


# ---------------------------------------------------------------- solvers


def jaxreg(workload: Workload, data: Data) -> Row:
    """`jr.cross_validate`, with the problem made anew in each call."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jaxreg as jr

    loss = jr.losses.Logistic() if workload.loss == "logistic" else jr.losses.SquaredError()
    X, several = np.ascontiguousarray(data.X), len(workload.l1_ratios) > 1
    second = {"l1_ratio": workload.l1_ratios} if several else None

    def path() -> list[Any]:
        problem = jr.Problem(loss, X, data.y, standardize=True)
        return [
            jr.path(
                problem, lambda lam, r=r: jr.ElasticNet(lam, r), data.lambdas, tol=TOL
            ).coef.block_until_ready()
            for r in workload.l1_ratios
        ]

    def validate() -> Any:
        problem = jr.Problem(loss, X, data.y, standardize=True)
        family = jr.ElasticNet if several else jr.L1
        return jr.cross_validate(problem, family, data.lambdas, second=second, folds=data.fold, tol=TOL)

    row = timed(validate)
    row["over a path"] = row["seconds"] / timed(path)["seconds"]
    result = validate()
    parts = result.results if several else [result]
    row["gap"] = max(float(max(cv.fold_gap.max(), np.max(cv.path.gap))) for cv in parts)
    row["lambda_min"] = result.lambda_min
    return row


def scikit_learn(workload: Workload, data: Data) -> Row:
    """`LassoCV`, `ElasticNetCV` or `LogisticRegressionCV` with liblinear, at their default tolerances."""
    from sklearn.linear_model import ElasticNetCV, LassoCV, LogisticRegressionCV
    from sklearn.model_selection import PredefinedSplit

    folds = PredefinedSplit(data.fold)
    if workload.loss == "logistic":
        Cs = 1 / (len(data.y) * data.lambdas[::-1])
        model: Any = LogisticRegressionCV(
            Cs=Cs, cv=folds, penalty="l1", solver="liblinear", scoring="neg_log_loss", intercept_scaling=100
        )
        return timed(lambda: model.fit(data.X, data.y)) | {"lambda_min": 1 / (len(data.y) * model.C_[0])}
    options: Row = {"alphas": data.lambdas, "cv": folds}
    model = (
        LassoCV(**options)
        if len(workload.l1_ratios) == 1
        else ElasticNetCV(l1_ratio=workload.l1_ratios, **options)
    )
    return timed(lambda: model.fit(data.X, data.y)) | {"lambda_min": float(model.alpha_)}


GLMNET = """
suppressMessages(library(glmnet))
args <- commandArgs(TRUE)
read <- function(name, count) readBin(file.path(args[1], name), "double", count)
n <- as.integer(args[2]); p <- as.integer(args[3]); ratios <- as.numeric(strsplit(args[5], ",")[[1]])
X <- matrix(read("X", n * p), n, p); y <- read("y", n); fold <- read("fold", n) + 1
lambdas <- read("lambdas", as.integer(args[6]))
run <- function() {
  for (alpha in ratios)
    cv <- cv.glmnet(X, y, family = args[4], alpha = alpha, lambda = lambdas, foldid = fold)
  cv$lambda.min
}
best <- Inf
for (k in seq_len(as.integer(args[7]))) best <- min(best, system.time(found <- run())["elapsed"])
cat(sprintf('{"seconds": %.6g, "lambda_min": %.6g}', best, found))
"""


def glmnet(workload: Workload, data: Data) -> Row:
    """`cv.glmnet` for each mixture, at its default tolerance of 1e-7."""
    with tempfile.TemporaryDirectory() as folder:
        for name, x in data._asdict().items():
            np.asarray(x, float).ravel(order="F").tofile(Path(folder) / name)
        (Path(folder) / "run.R").write_text(GLMNET, encoding="utf-8")
        family = "binomial" if workload.loss == "logistic" else "gaussian"
        ratios = ",".join(map(str, workload.l1_ratios))
        sizes = (*data.X.shape, family, ratios, data.lambdas.size, REPEATS)
        command = ["Rscript", str(Path(folder) / "run.R"), folder, *map(str, sizes)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def adelie(workload: Workload, data: Data) -> Row:
    """`adelie.cv.cv_grpnet` for each mixture, at its default tolerance of 1e-7."""
    ad: Any = import_module("adelie")

    y = data.y

    def validate() -> Any:
        glm = ad.glm.binomial(y) if workload.loss == "logistic" else ad.glm.gaussian(y)
        for alpha in workload.l1_ratios:
            options = {"alpha": alpha, "lmda_path_size": workload.num, "min_ratio": workload.ratio}
            found = ad.cv.cv_grpnet(data.X, glm, n_folds=FOLDS, seed=0, progress_bar=False, **options)
        return found

    return timed(validate)


SOLVERS: dict[str, Callable[[Workload, Data], Row]] = {
    "jaxreg": jaxreg,
    "scikit-learn": scikit_learn,
    "glmnet": glmnet,
    "adelie": adelie,
}


def installed(solver: str) -> bool:
    """Return whether a solver can run."""
    if solver == "glmnet":
        return shutil.which("Rscript") is not None
    return find_spec({"scikit-learn": "sklearn"}.get(solver, solver)) is not None


def timed(call: Callable[[], Any]) -> Row:
    """Return the seconds of the first call, and the smallest seconds of warm calls."""
    seconds = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
        # A slow solver is slow because of its work, not of its first call.
        if (seconds[-1] > 20 and len(seconds) > 1) or seconds[0] > 60:
            break
    return {"seconds": min(seconds[1:] or seconds), "first": seconds[0]}


# ---------------------------------------------------------------- the command


def measure(name: str, solver: str, quick: bool, limit: float) -> Row:
    """Return the row of a solver on a workload, measured in a process of its own."""
    command = [sys.executable, "-m", "experiments.benchmarks.cv", "--run", name, solver]
    command += ["--quick"] if quick else []
    row: Row = {"workload": name, "solver": solver}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return row | {"seconds": limit, "stopped": True}
    if done.returncode:
        return row | {"fault": done.stderr.strip().splitlines()[-1]}
    return row | {"stopped": False} | json.loads(done.stdout.strip().splitlines()[-1])


def ratios(rows: list[Row]) -> dict[str, Row]:
    """Return the time of the fastest peer over that of jaxreg on each workload, a bound if it was stopped."""
    found = {}
    for name in dict.fromkeys(row["workload"] for row in rows):
        timed_rows = {row["solver"]: row for row in rows if row["workload"] == name and "seconds" in row}
        ours = timed_rows.pop("jaxreg", None)
        if ours is None or not timed_rows:
            continue
        peer = min(timed_rows.values(), key=lambda row: row["seconds"])
        ratio = peer["seconds"] / ours["seconds"]
        found[name] = {"fastest peer": peer["solver"], "ratio": ratio, "is a bound": peer["stopped"]}
    return found


def versions() -> dict[str, str]:
    """Return the versions of the installed packages."""
    found = {}
    for name in ("jaxreg", "jax", "numpy", "scikit-learn", "adelie"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if installed("glmnet"):
        code = "cat(as.character(packageVersion('glmnet')))"
        done = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=False)
        found["glmnet"] = done.stdout.strip()
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure all solvers on all workloads, print the rows, and save them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes, for a first run")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which a solver is stopped")
    parser.add_argument("--out", type=Path, help="a JSON file for the rows, hardware, versions and date")
    parser.add_argument(
        "--run", nargs=2, metavar=("WORKLOAD", "SOLVER"), help="measure one pair in this process"
    )
    options = parser.parse_args(argv)
    if options.run:
        # The first call is that of a new installation.
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        workload = WORKLOADS[options.run[0]]
        print(json.dumps(SOLVERS[options.run[1]](workload, make(workload, options.quick))))
        return 0
    rows = []
    for name in WORKLOADS:
        for solver in filter(installed, SOLVERS):
            rows.append(measure(name, solver, options.quick, options.limit))
            cells = (f"{k} {v:.3g}" if isinstance(v, float) else f"{v}" for k, v in rows[-1].items())
            print(" | ".join(cells), flush=True)
    result = {
        "date": time.strftime("%Y-%m-%d"), "processor": processor(), "cores": os.cpu_count(),
        "load": os.getloadavg(), "versions": versions(), "quick": options.quick, "rows": rows,
        "ratios": ratios(rows),
    }  # fmt: skip
    for name, row in result["ratios"].items():
        print(
            f"{name}: {row['fastest peer']} takes {'>' * row['is a bound']}{row['ratio']:.2g} times as long"
        )
    if options.out:
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
