"""What an accelerator makes of jaxreg, beside the rates that it reaches by itself.

    python -m experiments.benchmarks.gpu [--quick] [--parts NAME ...] [--out FILE.json]

It runs on the device that JAX takes; on a CPU the sizes of --quick are meant. Parts:

- rates: matrix products in float64, exact float32 and what the device does with float32 unless told
  otherwise (TF32 on some), and the bandwidth of a copy.
- paths: a whole λ-path of the lasso in one batch, beside the same machine's CPU one λ after the other, and
  beside scikit-learn. Every certificate is computed again in float64.
- lassos: small lassos with data of their own, by the number of lanes.
- trainings: a 64-32-10 network on digits (as in `sweeps`), by the number of lanes; then as many as the
  memory of the device holds at once.

`of product` and `of copy` are shares of the measured rates, by the arithmetic of the steps that were run (of
lassos, of those that served): two products with X for a step of a lane; X read twice for a step of the batch
(so `of copy` is above 1 where X stays in a cache); the products of a layer, in the device's own precision,
for a step of a training. `waiting` is the share of a path's steps in which a lane was done, or waited for its
look at the certificate, and had not left the batch yet. `largest kernels` come from a profile of one warm
call, with the copies between host and device inside it; `host calls` are what the compiled program of a path
asks of the host. Rows of `rough first steps` let the device multiply float32 with fewer digits (TF32) before
it refines. What cannot be had is null. Every part is written as it ends.
"""

import argparse
import collections
import gzip
import json
import os
import platform
import re
import tempfile
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
from experiments.benchmarks.sweeps import BATCH, HIDDEN, training

Row = dict[str, Any]


class Sizes(NamedTuple):
    """What is measured: side of the products, megabytes copied, (n, p) and lengths of paths, lanes, and the
    most lanes that are tried at once.
    """

    side: int
    copied: int
    designs: tuple[tuple[int, int], ...]
    lambdas: tuple[int, ...]
    lassos: tuple[int, ...]
    trainings: tuple[int, ...]
    most: int
    steps: int


FULL = Sizes(
    8192, 2048, ((1000, 5000), (50000, 2000)), (100, 1000), (100, 1000, 10_000, 100_000),
    (1, 10, 100, 1000, 4000), 1_000_000, 500,
)  # fmt: skip
QUICK = Sizes(512, 32, ((100, 200),), (10, 20), (10, 100), (1, 10), 40, 20)
#: Relative gaps asked for in each precision.
GAPS = {"float64": (1e-4, 1e-6), "float32": (1e-4, 1e-5)}


def warm(call: Callable[[], Any], repeats: int = 3) -> tuple[float, float]:
    """Seconds of the first call, and the median of those after it."""
    times = []
    for _ in range(1 + repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return times[0], float(np.median(times[1:]))


# ---------------------------------------------------------------- rates


def rates(sizes: Sizes, _: dict[str, float]) -> list[Row]:
    """Multiplications and additions, and bytes, per second."""
    rows = []
    kinds = [("float64", "highest"), ("float32", "highest"), ("float32", "default")]
    for dtype, precision in kinds:
        A = jnp.ones((sizes.side, sizes.side), dtype)
        product = jax.jit(lambda A, precision=precision: jnp.matmul(A, A, precision=precision))
        _, seconds = warm(lambda A=A, product=product: product(A), 5)
        rows.append({"case": f"product {dtype} {precision}", "per second": 2 * sizes.side**3 / seconds})
    x = jnp.ones(sizes.copied * 2**20 // 4, "float32")
    copy = jax.jit(lambda x: x + 1)
    rows.append({"case": "copy", "per second": 2 * x.nbytes / warm(lambda: copy(x), 5)[1]})
    return rows


# ---------------------------------------------------------------- paths


def lasso(n: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns of correlation ½, twenty weights that matter, a signal-to-noise ratio of 3."""
    rng = np.random.default_rng(0)
    X = np.sqrt(0.5) * (rng.standard_normal((n, p)) + rng.standard_normal((n, 1)))
    signal = X[:, :20] @ (-1.0) ** np.arange(20)
    return X, signal / signal.std() + rng.standard_normal(n) / np.sqrt(3)


def paths(sizes: Sizes, reached: dict[str, float]) -> list[Row]:
    """One row for each design, length, precision and gap."""
    rows = []
    for n, p in sizes.designs:
        X, y = lasso(n, p)
        exact = jr.Problem(jr.losses.SquaredError(), X, y)
        for count in sizes.lambdas:
            lams = jr.lambda_grid(jr.lambda_max(exact, jr.L1), count, 0.05)
            for dtype, gaps in GAPS.items():
                here = jr.Problem(jr.losses.SquaredError(), X.astype(dtype), y)
                for tol in gaps:
                    rows.append(path_row(here, exact, lams, tol, reached))
                    rows[-1] |= beside(X, y, lams, tol, rows[-1]["seconds"])
                    if tol != gaps[0]:  # compiled for the first gap
                        rows[-1]["cold"] = None
                if dtype == "float32":
                    rows.append(path_row(here, exact, lams, gaps[-1], reached, rough=True))
                rows[-1]["host calls"] = host_calls(here, y, lams)
    return rows


def path_row(
    here: Any, exact: Any, lams: jax.Array, tol: float, reached: dict[str, float], rough: bool = False
) -> Row:
    """A path in one batch: its times, its certificates, what they take of the device's rates."""
    (n, p), count, dtype = here.shape, lams.size, here.dtype.name
    found: list[Any] = []

    def call() -> Any:
        solver = jr.ProximalGradient(coarse=rough)
        found[:] = [jr.path(here, jr.L1, lams, tol=tol, mode="batched", solver=solver)]
        return found[0].coef

    cold, seconds = warm(call)
    # The last place is in every step of the batch, the others until they leave.
    steps, rounds = np.asarray(found[0].steps), np.asarray(found[0].rounds)
    work = 4 * n * p * int(rounds.sum())
    read = here.dtype.itemsize * (2 * n * p * int(rounds.max()) + 4 * (n + p) * int(rounds.sum()))
    gap = recomputed(exact, lams, found[0])
    how = ", rough first steps" if rough else ""
    row = {"case": f"{n}x{p}, {count} λ, {dtype}{how}, gap {tol:.0e}", "cold": cold, "seconds": seconds}
    row |= {"converged": int(found[0].converged.sum()), "largest gap in float64": gap}
    row |= {"of product": share(work / seconds, reached.get(f"product {dtype} highest"))}
    row |= {"of copy": share(read / seconds, reached.get("copy")), "waiting": waiting(steps, rounds)}
    return row | profiled(call)


#: In the text of a compiled program: calls of Python or of the host, and what goes to and fro.
_HOST = re.compile(r"custom_call_target=\"[^\"]*callback|\b(?:infeed|outfeed|send|recv)(?:-done)?\(")


def host_calls(here: Any, y: np.ndarray, lams: jax.Array) -> int:
    """How often the compiled program of a path in one batch asks something of the host."""
    X = here.design.dense() + here.mean

    def path(X: jax.Array, y: jax.Array, lams: jax.Array) -> jax.Array:
        problem = jr.Problem(jr.losses.SquaredError(), X, y)
        return jr.path(problem, jr.L1, lams, mode="batched").coef

    return len(_HOST.findall(jax.jit(path).lower(X, y, lams).compile().as_text()))


def waiting(steps: Any, rounds: Any) -> float:
    """The share of the steps which were run that served no lane."""
    return 1 - float(np.sum(steps) / max(np.sum(rounds), 1))


def share(rate: float, of: float | None) -> float | None:
    """A part of a rate, where that was measured."""
    return rate / of if of else None


def recomputed(exact: Any, lams: jax.Array, found: Any) -> float:
    """The largest gap of a path, of its points in float64."""

    coef, intercept = found.coef.astype("float64"), found.intercept.astype("float64")
    return float(jnp.max(_certified(exact, lams, coef, intercept)))


@eqx.filter_jit
def _certified(exact: Any, lams: jax.Array, coef: jax.Array, intercept: jax.Array) -> jax.Array:
    one = lambda row: jr.certify(exact, jr.L1(row[0]), row[1], row[2]).gap  # noqa: E731
    return jax.lax.map(one, (lams, coef, intercept))


def beside(X: np.ndarray, y: np.ndarray, lams: jax.Array, tol: float, seconds: float) -> Row:
    """How many times as long the same machine's CPU takes by its own best way, and scikit-learn."""
    with jax.default_device(jax.devices("cpu")[0]):
        problem = jr.Problem(jr.losses.SquaredError(), X, y)
        grid = jnp.asarray(np.asarray(lams))
        _, cpu = warm(lambda: jr.path(problem, jr.L1, grid, tol=tol, mode="warm").coef, 1)
    row: Row = {"x CPU": cpu / seconds, "x scikit-learn": None}
    try:
        from sklearn.linear_model import lasso_path
    except ImportError:
        return row
    centred, alphas = np.asfortranarray(X - X.mean(axis=0)), np.asarray(lams)
    call = lambda: lasso_path(centred, y - y.mean(), alphas=alphas, max_iter=100_000)[1]  # noqa: E731
    return row | {"x scikit-learn": warm(call, 1)[1] / seconds}


# ---------------------------------------------------------------- lanes


def lassos(sizes: Sizes, reached: dict[str, float]) -> list[Row]:
    """Lassos of 48 rows and 64 columns, each with its own data, in one sweep."""
    n, p = 48, 64

    def one(seed: jax.Array) -> dict[str, jax.Array]:
        a, b, c = jax.random.split(jax.random.key(seed), 3)
        X = jax.random.normal(a, (n, p), "float32")
        w = jnp.where(jnp.arange(p) < 8, jax.random.rademacher(b, (p,), X.dtype), 0.0)
        y = X @ w + 0.1 * jax.random.normal(c, (n,), X.dtype)
        fit = jr.solve(jr.Problem(jr.losses.SquaredError(), X, y), jr.L1(0.05), tol=1e-4, throw=False)
        return {"gap": fit.gap, "converged": fit.converged, "steps": fit.steps}

    def told(found: Any) -> Row:
        return {"converged": int(found.converged.sum())}

    def work(found: Any) -> tuple[float, float]:
        steps = int(found.steps.sum())
        return 4 * n * p * steps, 4 * (2 * n * p + 4 * (n + p)) * steps

    rates = reached.get("product float32 highest"), reached.get("copy")
    return [lane_row(one, count, told, work, rates) for count in sizes.lassos]


def trainings(sizes: Sizes, reached: dict[str, float]) -> list[Row]:
    """Trainings over λ, and how many times the rate of one lane they reach."""
    train = training(sizes.steps)
    one = lambda seed: train(1e-4, seed)  # noqa: E731
    first, second = 64 * HIDDEN, HIDDEN * 10

    def work(found: Any) -> tuple[float, float]:
        # Forward, and back to the weights and to what is hidden. Weights are read thrice and written once,
        # their gradients written and read.
        steps = sizes.steps * found.seed.size
        return steps * BATCH * (4 * first + 6 * second), steps * 4 * (6 * (first + second) + 74 * BATCH)

    call = (lambda found: {}), work, (reached.get("product float32 default"), reached.get("copy"))
    rows = [lane_row(one, count, *call) for count in sizes.trainings]
    most = jr.sweeps.fitting_lanes(one, seed=range(sizes.most))
    rows.append(lane_row(one, most, *call, max_lanes=most, repeats=1))
    rows[-1]["case"] += (
        " at once, all that were tried" if most == sizes.most else " at once, the most that fit"
    )
    for row in rows:
        row["x one lane"] = row["per second"] / rows[0]["per second"]
    return rows


def lane_row(
    one: Callable[..., Any],
    count: int,
    more: Callable[[Any], Row],
    work: Callable[[Any], tuple[float, float]],
    rates: tuple[float | None, float | None],
    max_lanes: int | None = None,
    repeats: int = 3,
) -> Row:
    """A sweep over so many seeds: how many per second, and what its arithmetic and its reading take of the
    device's rates.
    """
    found: list[Any] = []

    def call() -> Any:
        found[:] = [jr.sweep(one, seed=range(count), max_lanes=max_lanes, progress=False)]
        return [value.values for value in found[0].data_vars.values()]

    cold, seconds = warm(call, repeats)
    row = {"case": f"{count} lanes", "cold": cold, "seconds": seconds, "per second": count / seconds}
    done = [share(amount / seconds, rate) for amount, rate in zip(work(found[0]), rates, strict=True)]
    return row | dict(zip(("of product", "of copy"), done, strict=True)) | more(found[0]) | profiled(call)


# ---------------------------------------------------------------- the profile


def profiled(call: Callable[[], Any]) -> Row:
    """The three largest kernels of a call by their share of all, and the copies between host and device."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            jax.block_until_ready(call())
        files = sorted(Path(folder).rglob("*.trace.json.gz"))
        events = json.loads(gzip.decompress(files[0].read_bytes()))["traceEvents"] if files else []
    return kernels(events)


#: Events of a CPU that only hold others.
_AROUND = ("ThunkExecutor::Execute", "while", "call", "conditional")


def kernels(events: list[Row]) -> Row:
    """Of the events of a Chrome trace, those of devices; of a CPU those of XLA's own threads."""
    names = {
        (event["pid"], event.get("tid") if event["name"] == "thread_name" else None): event["args"]["name"]
        for event in events
        if event.get("ph") == "M" and event["name"] in ("process_name", "thread_name")
    }
    device = [pid for (pid, tid), name in names.items() if tid is None and name.startswith("/device:")]
    total: collections.Counter[str] = collections.Counter()
    copies = 0
    for event in events:
        if event.get("ph") != "X" or not event.get("dur"):
            continue
        thread = names.get((event["pid"], event.get("tid")), "")
        if event["pid"] in device or (not device and "XLAEigen" in thread):
            name = re.sub(r"[._]\d+$", "", event["name"])
            if name not in _AROUND:
                total[name] += event["dur"]
            copies += bool(re.search("memcpy(d2h|h2d)", event["name"], re.IGNORECASE))
    whole = sum(total.values())
    largest = {name: spent / whole for name, spent in total.most_common(3)}
    return {"largest kernels": largest or None, "copies": copies if device else None}


# ---------------------------------------------------------------- the command

PARTS = {"rates": rates, "paths": paths, "lassos": lassos, "trainings": trainings}


def about() -> Row:
    """Hardware, versions, date."""
    device = jax.devices()[0]
    packages = ("jaxreg", "jax", "jaxlib", "optax", "equinox", "numpy")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in packages},
    }


def shown(row: Row) -> str:
    """A row in one line."""
    words = []
    for name, value in row.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {part:.0%}" for key, part in value.items())
        elif isinstance(value, float):
            value = f"{value:.3g}"
        words.append(str(value) if name == "case" else f"{name} {'unknown' if value is None else value}")
    return " | ".join(words)


def main(words: list[str] | None = None) -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, for a CPU or a first look")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME")
    parser.add_argument("--out", type=Path, help="a JSON file for the rows, hardware, versions and date")
    options = parser.parse_args(words)
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_enable_compilation_cache", False)  # a cold call must compile
    result = about() | {"quick": options.quick, "parts": {}}
    print(f"{result['device']}, {result['devices']} of them, {result['date']}")
    reached: dict[str, float] = {}
    for name in (part for part in PARTS if part in options.parts):
        rows = PARTS[name](QUICK if options.quick else FULL, reached)
        reached |= {row["case"]: row["per second"] for row in rows if name == "rates"}
        result["parts"][name] = rows
        print(f"\n{name}", *map(shown, rows), sep="\n  ")
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
