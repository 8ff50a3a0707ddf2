"""Seconds, programs and instructions of the first calls of a process.

    python -m experiments.benchmarks.first_call [--calls NAME …] [--counts] [--out FILE.json]

Each call runs in a process of its own, after `import jaxreg` and the construction of its data:

- `empty`: seconds with an empty cache of compiled programs, wall clock and CPU;
- `filled`: the same with the cache that the first process filled (`jaxreg.cache_programs`);
- `second`: seconds of the same call on other data of the same size class, in the same process, and the
  programs that it compiles;
- `programs`, `instructions`: compiled programs, and the StableHLO instructions in them. XLA's compile time
  is close to proportional to these; unlike seconds they are the same on every machine, so that a test holds
  them;
- `memory`: megabytes that the process grows by with each further size class, from the third to the eighth.

`--counts` prints programs and instructions alone, within seconds.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxreg as jr
from experiments.benchmarks._hardware import processor


class Call(NamedTuple):
    """Targets and size of a problem, and the call that is measured on it."""

    targets: str
    n: int
    p: int
    run: Callable[[jr.Problem], Any]


def _batch(problem: jr.Problem) -> jax.Array:
    """Solve for 100 λ in one program of the user's."""
    return jax.jit(jax.vmap(lambda lam: jr.solve(problem, jr.L1(lam)).coef))(np.geomspace(1, 1e-2, 100))


def _gradient(problem: jr.Problem) -> jax.Array:
    """Return the derivative of a fitted intercept in λ, outside of jit."""
    return jax.grad(lambda lam: jr.solve(problem, jr.L1(lam)).intercept)(0.1)


def _by_newton(lam: float) -> Callable[[jr.Problem], jr.Solution]:
    return lambda problem: jr.solve(problem, jr.L1(lam), solver=jr.Newton())


CALLS = {
    "certify lasso": Call(
        "squared", 100, 10, lambda problem: jr.certify(problem, jr.L1(0.1), np.zeros(10), 0.0)
    ),
    "certify logistic": Call(
        "logistic", 100, 10, lambda problem: jr.certify(problem, jr.L1(0.01), np.zeros(10), 0.0)
    ),
    "solve lasso": Call("squared", 100, 10, lambda problem: jr.solve(problem, jr.L1(0.1))),
    "solve logistic": Call("logistic", 100, 10, lambda problem: jr.solve(problem, jr.L1(0.01))),
    "solve lasso, Newton": Call("squared", 100, 10, _by_newton(0.1)),
    "solve logistic, Newton": Call("logistic", 100, 10, _by_newton(0.01)),
    "path lasso 442x10": Call("squared", 442, 10, lambda problem: jr.path(problem, jr.L1)),
    "path lasso 1000x100": Call("squared", 1000, 100, lambda problem: jr.path(problem, jr.L1)),
    "path ridge 442x10": Call("squared", 442, 10, lambda problem: jr.path(problem, jr.SquaredL2)),
    "path elastic net 442x10": Call(
        "squared", 442, 10, lambda problem: jr.path(problem, lambda lam: jr.ElasticNet(lam, 0.5))
    ),
    "path logistic 1000x100": Call("logistic", 1000, 100, lambda problem: jr.path(problem, jr.L1)),
    "path Poisson 1000x100": Call("Poisson", 1000, 100, lambda problem: jr.path(problem, jr.L1)),
    "path group 1000x100": Call(
        "squared",
        1000,
        100,
        lambda problem: jr.path(problem, lambda lam: jr.GroupL2(lam, np.arange(100) // 5)),
    ),
    "path MCP 1000x100": Call(
        "squared", 1000, 100, lambda problem: jr.path(problem, lambda lam: jr.MCP(lam, 3.0))
    ),
    "jit(vmap(solve)) 100": Call("squared", 100, 10, _batch),
    "grad(solve) 100x10": Call("squared", 100, 10, _gradient),
}

#: Size of the second data set over that of the first: of the same size class.
_SHRINK = 0.98
#: Sizes of the further data sets for the memory that programs keep.
_SIZES = [64 + 40 * k for k in range(8)]


def make_problem(kind: str, n: int, p: int, seed: int) -> jr.Problem:
    """Return a problem with five relevant features."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    z = X[:, :5] @ np.array([1.0, -1.0, 0.5, -0.5, 0.2])
    if kind == "squared":
        return jr.Problem(jr.losses.SquaredError(), X, z + rng.normal(size=n))
    if kind == "logistic":
        return jr.Problem(jr.losses.Logistic(), X, (z + rng.logistic(size=n) > 0).astype(float))
    return jr.Problem(jr.losses.Poisson(), X, rng.poisson(np.exp(0.3 * z)).astype(float))


class Counter:
    """Counts the programs that JAX compiles."""

    def __init__(self) -> None:
        self.programs = 0
        jax.monitoring.register_event_duration_secs_listener(self._count)

    def _count(self, event: str, duration: float, **_: Any) -> None:
        self.programs += event.endswith("backend_compile_duration")


def measure(name: str, second: bool = True, memory: bool = False) -> dict[str, Any]:
    """Run a call in this process; return seconds, programs, and what a second data set takes."""
    jax.config.update("jax_enable_x64", True)
    call, counter = CALLS[name], Counter()

    def run(n: int, seed: int) -> dict[str, Any]:
        before, wall, cpu = counter.programs, time.perf_counter(), time.process_time()
        jax.block_until_ready(call.run(make_problem(call.targets, n, call.p, seed)))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return {"wall": wall, "cpu": cpu, "programs": counter.programs - before}

    row: dict[str, Any] = {"first": run(call.n, 0)}
    if second:
        row["second"] = run(round(_SHRINK * call.n), 1)
    if memory:
        sizes = []
        for size in _SIZES:
            run(size, 2)
            sizes.append(_resident_megabytes())
        row["memory"] = (sizes[-1] - sizes[1]) / (len(sizes) - 2)
    return row


def _resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def in_new_process(name: str, *options: str, **environment: str) -> dict[str, Any]:
    """Run `measure` in a process of its own."""
    command = [sys.executable, "-m", "experiments.benchmarks.first_call", "--measure", name, *options]
    out = subprocess.run(
        command, env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )
    return json.loads(out.stdout.splitlines()[-1])


def count(name: str) -> dict[str, int]:
    """Return programs and instructions of a first call, in a process of its own with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        dump = {"JAX_DUMP_IR_TO": folder, "JAX_DUMP_IR_MODES": "stablehlo"}
        in_new_process(name, "--no-second", JAX_ENABLE_COMPILATION_CACHE="false", **dump)
        texts = [path.read_text() for path in Path(folder).glob("*.mlir")]
    instructions = sum(len(re.findall(r"(?m)^ *%[^=\n]* = ", text)) for text in texts)
    return {"programs": len(texts), "instructions": instructions}


def table_row(name: str) -> dict[str, Any]:
    """Return all columns of a call."""
    row: dict[str, Any] = {"call": name, **count(name)}
    with tempfile.TemporaryDirectory() as folder:
        cache = {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        empty, filled = in_new_process(name, **cache), in_new_process(name, **cache)
    for label, result in (
        ("empty", empty["first"]),
        ("filled", filled["first"]),
        ("second", empty["second"]),
    ):
        row[f"{label} wall"], row[f"{label} cpu"] = round(result["wall"], 3), round(result["cpu"], 3)
    row["second programs"] = empty["second"]["programs"]
    row["memory"] = round(in_new_process(name, "--memory", JAX_ENABLE_COMPILATION_CACHE="false")["memory"], 1)
    return row


def main(arguments: list[str] | None = None) -> None:
    """Print the table; with --out write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", nargs="+", choices=CALLS, default=list(CALLS), metavar="NAME")
    parser.add_argument("--counts", action="store_true", help="programs and instructions alone")
    parser.add_argument("--out", type=Path, help="write the table to a JSON file")
    parser.add_argument("--measure", choices=CALLS, help=argparse.SUPPRESS)
    for option in ("--memory", "--no-second"):
        parser.add_argument(option, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure, not options.no_second, options.memory)))
        return
    rows = []
    for name in options.calls:
        rows.append({"call": name, **count(name)} if options.counts else table_row(name))
        if len(rows) == 1:
            print("  ".join(rows[0]))
        print("  ".join(str(value) for value in rows[-1].values()), flush=True)
    if options.out:
        hardware = {"processor": processor(), "cores": os.cpu_count(), "jax": version("jax")}
        table = {"date": time.strftime("%Y-%m-%d"), **hardware, "rows": rows}
        options.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
