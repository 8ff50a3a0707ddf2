"""Speed of jaxreg on an accelerator, relative to the rates of the device itself and to the CPU.

    python -m experiments.benchmarks.gpu [--quick] [--parts NAME ...] [--out FILE.json]

The benchmark runs on the device that JAX selects; use `--quick` on a CPU. Parts:

- rates: matrix products in float64, in exact float32 and in the device's default float32 (TF32 on some
  devices), and the bandwidth of a copy.
- paths: a whole λ-path of the lasso in one batch, compared with the CPU of the same machine, one λ after the
  other, and with scikit-learn. Every certificate is computed again in float64.
- lassos: small lassos with their own data, by the number of lanes.
- trainings: a 64-32-10 network on digits (as in `sweeps`), by the number of lanes, up to as many as fit in
  the memory of the device.

Columns:

- `of product`, `of copy`: fractions of the measured rates. The arithmetic is that of the steps that were run
  (for lassos, of the steps that served a lane): two products with X per step of a lane; X read twice per step
  of the batch, so that `of copy` exceeds 1 where X stays in a cache; the products of a layer, in the default
  precision of the device, per step of a training.
- `waiting`: fraction of the steps of a path whose lane had converged, or waited for its certificate, and had
  not left the batch yet.
- `largest kernels`, `copies` (between host and device): from a profile of one warm call.
- `host calls`: calls from the compiled program of a path to the host.

Rows with `rough first steps` multiply float32 with fewer digits (TF32) before they refine. Values that cannot
be measured are null. Each part is written when it ends.
"""

import argparse
import json
import os
import re
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr
from experiments.benchmarks._hardware import processor
from experiments.benchmarks._profile import profile
from experiments.benchmarks.sweeps import BATCH, HIDDEN, training

Row = dict[str, Any]


class Sizes(NamedTuple):
    """Sizes of the benchmark.

    Attributes:
        side: Rows and columns of the matrices of the product.
        copied: Megabytes of the copy.
        designs: Shapes (n, p) of the paths.
        lambdas: Numbers of λ of the paths.
        lassos: Numbers of lanes of the lassos.
        trainings: Numbers of lanes of the trainings.
        max_lanes: Largest number of trainings tried at once.
        steps: Steps of a training.
    """

    side: int
    copied: int
    designs: tuple[tuple[int, int], ...]
    lambdas: tuple[int, ...]
    lassos: tuple[int, ...]
    trainings: tuple[int, ...]
    max_lanes: int
    steps: int


FULL = Sizes(
    8192, 2048, ((1000, 5000), (50000, 2000)), (100, 1000), (100, 1000, 10_000, 100_000),
    (1, 10, 100, 1000, 4000), 1_000_000, 500,
)  # fmt: skip
QUICK = Sizes(512, 32, ((100, 200),), (10, 20), (10, 100), (1, 10), 40, 20)
# Tolerances (relative duality gaps) in each precision.
GAPS = {"float64": (1e-4, 1e-6), "float32": (1e-4, 1e-5)}


def cold_and_warm(call: Callable[[], Any], repeats: int = 3) -> tuple[float, float]:
    """Return the seconds of the first call and the median of the following ones."""
    times = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return times[0], float(np.median(times[1:]))


# ---------------------------------------------------------------- rates


def rates(sizes: Sizes, _: dict[str, float]) -> list[Row]:
    """Measure multiplications and additions, and bytes copied, per second."""
    rows = []
    kinds = [("float64", "highest"), ("float32", "highest"), ("float32", "default")]
    for dtype, precision in kinds:
        A = jnp.ones((sizes.side, sizes.side), dtype)
        product = jax.jit(lambda A, precision=precision: jnp.matmul(A, A, precision=precision))
        _, seconds = cold_and_warm(lambda A=A, product=product: product(A), 5)
        rows.append({"case": f"product {dtype} {precision}", "per second": 2 * sizes.side**3 / seconds})
    x = jnp.ones(sizes.copied * 2**20 // 4, "float32")
    copy = jax.jit(lambda x: x + 1)
    rows.append({"case": "copy", "per second": 2 * x.nbytes / cold_and_warm(lambda: copy(x), 5)[1]})
    return rows


# ---------------------------------------------------------------- paths


def lasso(n: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw X and y: columns with correlation ½, twenty nonzero weights, signal-to-noise ratio 3."""
    rng = np.random.default_rng(0)
    X = np.sqrt(0.5) * (rng.standard_normal((n, p)) + rng.standard_normal((n, 1)))
    signal = X[:, :20] @ (-1.0) ** np.arange(20)
    return X, signal / signal.std() + rng.standard_normal(n) / np.sqrt(3)


def paths(sizes: Sizes, rates_measured: dict[str, float]) -> list[Row]:
    """Return one row for each design, number of λ, precision and tolerance."""
    rows = []
    for n, p in sizes.designs:
        X, y = lasso(n, p)
        exact = jr.Problem(jr.losses.SquaredError(), X, y)
        for count in sizes.lambdas:
            lams = jr.lambda_grid(jr.lambda_max(exact, jr.L1), count, 0.05)
            for dtype, gaps in GAPS.items():
                problem = jr.Problem(jr.losses.SquaredError(), X.astype(dtype), y)
                for tol in gaps:
                    rows.append(path_row(problem, exact, lams, tol, rates_measured))
                    rows[-1] |= ratios_to_peers(X, y, lams, tol, rows[-1]["seconds"])
                    if tol != gaps[0]:  # compiled for the first gap
                        rows[-1]["cold"] = None
                if dtype == "float32":
                    rows.append(path_row(problem, exact, lams, gaps[-1], rates_measured, rough=True))
                rows[-1]["host calls"] = host_calls(problem, y, lams)
    return rows


def path_row(
    problem: Any,
    exact: Any,
    lams: jax.Array,
    tol: float,
    rates_measured: dict[str, float],
    rough: bool = False,
) -> Row:
    """Measure a path in one batch: times, certificates, and fractions of the device's rates."""
    (n, p), count, dtype = problem.shape, lams.size, problem.dtype.name
    paths_run: list[Any] = []

    def call() -> Any:
        solver = jr.ProximalGradient(coarse=rough)
        paths_run[:] = [jr.path(problem, jr.L1, lams, tol=tol, mode="batched", solver=solver)]
        return paths_run[0].coef

    cold, seconds = cold_and_warm(call)
    # The last lane takes part in every step of the batch, the others until they leave.
    steps, rounds = np.asarray(paths_run[0].steps), np.asarray(paths_run[0].rounds)
    work = 4 * n * p * int(rounds.sum())
    read = problem.dtype.itemsize * (2 * n * p * int(rounds.max()) + 4 * (n + p) * int(rounds.sum()))
    gap = largest_exact_gap(exact, lams, paths_run[0])
    suffix = ", rough first steps" if rough else ""
    row = {"case": f"{n}x{p}, {count} λ, {dtype}{suffix}, gap {tol:.0e}", "cold": cold, "seconds": seconds}
    row |= {"converged": int(paths_run[0].converged.sum()), "largest gap in float64": gap}
    row |= {"of product": fraction(work / seconds, rates_measured.get(f"product {dtype} highest"))}
    row |= {
        "of copy": fraction(read / seconds, rates_measured.get("copy")),
        "waiting": waiting_fraction(steps, rounds),
    }
    return row | profile(call)


# Instructions in the text of a compiled program that call the host or exchange data with it.
_HOST = re.compile(r"custom_call_target=\"[^\"]*callback|\b(?:infeed|outfeed|send|recv)(?:-done)?\(")


def host_calls(problem: Any, y: np.ndarray, lams: jax.Array) -> int:
    """Count the calls from the compiled program of a path in one batch to the host."""
    X = problem.design.dense() + problem.mean

    def path(X: jax.Array, y: jax.Array, lams: jax.Array) -> jax.Array:
        problem = jr.Problem(jr.losses.SquaredError(), X, y)
        return jr.path(problem, jr.L1, lams, mode="batched").coef

    return len(_HOST.findall(jax.jit(path).lower(X, y, lams).compile().as_text()))


def waiting_fraction(steps: Any, rounds: Any) -> float:
    """Return the fraction of the steps run that served no lane."""
    return 1 - float(np.sum(steps) / max(np.sum(rounds), 1))


def fraction(rate: float, of: float | None) -> float | None:
    """Return rate / of, or None where `of` was not measured."""
    return rate / of if of else None


def largest_exact_gap(exact: Any, lams: jax.Array, path: Any) -> float:
    """Return the largest duality gap of a path, computed in float64."""

    coef, intercept = path.coef.astype("float64"), path.intercept.astype("float64")
    return float(jnp.max(_exact_gaps(exact, lams, coef, intercept)))


@eqx.filter_jit
def _exact_gaps(exact: Any, lams: jax.Array, coef: jax.Array, intercept: jax.Array) -> jax.Array:
    one = lambda row: jr.certify(exact, jr.L1(row[0]), row[1], row[2]).gap  # noqa: E731
    return jax.lax.map(one, (lams, coef, intercept))


def ratios_to_peers(X: np.ndarray, y: np.ndarray, lams: jax.Array, tol: float, seconds: float) -> Row:
    """Return the times of a warm-started path on the CPU and of scikit-learn, divided by `seconds`."""
    with jax.default_device(jax.devices("cpu")[0]):
        problem = jr.Problem(jr.losses.SquaredError(), X, y)
        grid = jnp.asarray(np.asarray(lams))
        _, cpu = cold_and_warm(lambda: jr.path(problem, jr.L1, grid, tol=tol, mode="warm").coef, 1)
    row: Row = {"x CPU": cpu / seconds, "x scikit-learn": None}
    try:
        from sklearn.linear_model import lasso_path
    except ImportError:
        return row
    centred, alphas = np.asfortranarray(X - X.mean(axis=0)), np.asarray(lams)
    call = lambda: lasso_path(centred, y - y.mean(), alphas=alphas, max_iter=100_000)[1]  # noqa: E731
    return row | {"x scikit-learn": cold_and_warm(call, 1)[1] / seconds}


# ---------------------------------------------------------------- lanes


class Work(NamedTuple):
    """Multiplications and additions, and bytes read and written."""

    operations: float
    bytes: float


class LaneBenchmark(NamedTuple):
    """A function of the seed to sweep, the work of its results, and the rates to compare with."""

    run: Callable[..., Any]
    work: Callable[[Any], Work]
    product_rate: float | None
    copy_rate: float | None


def lassos(sizes: Sizes, rates_measured: dict[str, float]) -> list[Row]:
    """Measure sweeps of lassos with 48 rows and 64 columns, each with its own data."""
    n, p = 48, 64

    def run(seed: jax.Array) -> dict[str, jax.Array]:
        a, b, c = jax.random.split(jax.random.key(seed), 3)
        X = jax.random.normal(a, (n, p), "float32")
        w = jnp.where(jnp.arange(p) < 8, jax.random.rademacher(b, (p,), X.dtype), 0.0)
        y = X @ w + 0.1 * jax.random.normal(c, (n,), X.dtype)
        fit = jr.solve(jr.Problem(jr.losses.SquaredError(), X, y), jr.L1(0.05), tol=1e-4, throw=False)
        return {"gap": fit.gap, "converged": fit.converged, "steps": fit.steps}

    def work(results: Any) -> Work:
        steps = int(results.steps.sum())
        return Work(4 * n * p * steps, 4 * (2 * n * p + 4 * (n + p)) * steps)

    rates = rates_measured.get("product float32 highest"), rates_measured.get("copy")
    return [lane_row(LaneBenchmark(run, work, *rates), count) for count in sizes.lassos]


def trainings(sizes: Sizes, rates_measured: dict[str, float]) -> list[Row]:
    """Measure sweeps of trainings, and their rate relative to one lane."""
    train = training(sizes.steps)
    first, second = 64 * HIDDEN, HIDDEN * 10

    def run(seed: jax.Array) -> dict[str, jax.Array]:
        return train(1e-4, seed)

    def work(results: Any) -> Work:
        # Forward pass, and backward pass to the weights and to the hidden layer. Weights are read three times
        # and written once, their gradients written and read.
        steps = sizes.steps * results.seed.size
        operations = steps * BATCH * (4 * first + 6 * second)
        return Work(operations, steps * 4 * (6 * (first + second) + 74 * BATCH))

    rates = rates_measured.get("product float32 default"), rates_measured.get("copy")
    benchmark = LaneBenchmark(run, work, *rates)
    rows = [lane_row(benchmark, count) for count in sizes.trainings]
    fitting = jr.sweeps.fitting_lanes(run, seed=range(sizes.max_lanes))
    rows.append(lane_row(benchmark, fitting, max_lanes=fitting, repeats=1))
    limit = "all that were tried" if fitting == sizes.max_lanes else "the most that fit"
    rows[-1]["case"] += f" at once, {limit}"
    for row in rows:
        row["x one lane"] = row["per second"] / rows[0]["per second"]
    return rows


def lane_row(benchmark: LaneBenchmark, count: int, max_lanes: int | None = None, repeats: int = 3) -> Row:
    """Measure a sweep over `count` seeds: lanes per second, and fractions of the device's rates."""
    results: list[Any] = []

    def call() -> Any:
        results[:] = [jr.sweep(benchmark.run, seed=range(count), max_lanes=max_lanes, progress=False)]
        return [value.values for value in results[0].data_vars.values()]

    cold, seconds = cold_and_warm(call, repeats)
    work = benchmark.work(results[0])
    row = {
        "case": f"{count} lanes",
        "cold": cold,
        "seconds": seconds,
        "per second": count / seconds,
        "of product": fraction(work.operations / seconds, benchmark.product_rate),
        "of copy": fraction(work.bytes / seconds, benchmark.copy_rate),
    }
    if "converged" in results[0]:
        row["converged"] = int(results[0].converged.sum())
    return row | profile(call)


# ---------------------------------------------------------------- the command

PARTS = {"rates": rates, "paths": paths, "lassos": lassos, "trainings": trainings}


def environment() -> Row:
    """Return hardware, versions and date."""
    device = jax.devices()[0]
    packages = ("jaxreg", "jax", "jaxlib", "optax", "equinox", "numpy")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "processor": processor(),
        "versions": {name: version(name) for name in packages},
    }


def format_row(row: Row) -> str:
    """Format a row as one line."""
    argv = []
    for name, value in row.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {part:.0%}" for key, part in value.items())
        elif isinstance(value, float):
            value = f"{value:.3g}"
        argv.append(str(value) if name == "case" else f"{name} {'unknown' if value is None else value}")
    return " | ".join(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure, print the rows, and save them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, for a CPU or a first run")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME")
    parser.add_argument("--out", type=Path, help="a JSON file for the rows, hardware, versions and date")
    options = parser.parse_args(argv)
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_enable_compilation_cache", False)  # a cold call must compile
    result = environment() | {"quick": options.quick, "parts": {}}
    print(f"{result['device']}, {result['devices']} of them, {result['date']}")
    rates_measured: dict[str, float] = {}
    for name in (part for part in PARTS if part in options.parts):
        rows = PARTS[name](QUICK if options.quick else FULL, rates_measured)
        rates_measured |= {row["case"]: row["per second"] for row in rows if name == "rates"}
        result["parts"][name] = rows
        print(f"\n{name}", *map(format_row, rows), sep="\n  ")
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
