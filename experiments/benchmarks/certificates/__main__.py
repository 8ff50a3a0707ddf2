"""Count false certificates among hostile random problems in both precisions, checked in extended precision.

    python -m experiments.benchmarks.certificates [--count 2065] [--first 0] [--out FILE.json]

The problems are ill-conditioned, badly scaled or partly unpenalised, with all losses (`problems`). Each is
solved to jaxreg's default tolerance, and the solution is improved in extended precision (`extended`). The
decrease of the objective is a lower bound of the suboptimality; the rounding error of the intercept, and what
only the last digits of X explain, are not counted.

- *false*: the solution is marked as converged, and its suboptimality, relative as the gap is, exceeds the
  tolerance.
- *refused*: the solution is marked as not converged, or the problem raises an error.
- *certified*: all others.

float32 runs in a process without double precision, the default of JAX. `--count` is the number of problems
for each dtype. Programs are compiled without XLA's optimisations unless `XLA_FLAGS` is set.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks._hardware import processor

DTYPES = ("float32", "float64")
# Largest number of solver steps per problem: most converge, and the time of the others is bounded.
_MAX_STEPS = 3000
# Flags of XLA for programs that are compiled for a few problems each.
_COMPILE_FAST = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1"
)
# Memory maps of the process above which compiled programs are dropped; Linux allows 65,530.
_MAX_MAPS = 40_000


def check_certificate(seed: int, dtype: str) -> dict[str, Any]:
    """Solve the problem of a seed and check its certificate; return one row of the results."""
    from experiments.benchmarks.certificates.extended import model
    from experiments.benchmarks.certificates.problems import draw

    case = draw(seed, dtype)
    row = {"seed": seed, "dtype": dtype, "loss": case.loss, "penalty": case.kind, "design": case.design}
    row |= {"solver": case.solver, "lam": case.lam, "unpenalised": int((case.factors == 0).sum())}
    # λ is relative to the largest gradient of the model without features.
    unit = model(case, 1.0)
    grad = unit.Z.T @ (unit.weight[:, None] * unit.derivatives(unit.predictor(*unit.zeros()))[0])
    lambdas = np.array(np.abs(grad).max(), dtype) * np.array([2.0, 1.0, case.lam], dtype)
    try:
        solution = _solve(case, lambdas)
    except (ValueError, RuntimeError) as error:
        return row | {"verdict": "refused", "error": str(error)[:200]}
    coef, intercept = np.asarray(solution.coef), np.asarray(solution.intercept)
    converged = bool(solution.converged)
    row |= {"claimed": float(solution.gap)}
    if not (np.isfinite(coef).all() and np.isfinite(intercept).all()):
        return row | {"verdict": "false" if converged else "refused"}
    true_gap = _true_gap(case, lambdas, coef, intercept)
    tol = 1e-4 if dtype == "float32" else 1e-6
    verdict = ("false" if true_gap > tol else "certified") if converged else "refused"
    return row | {"true": true_gap, "verdict": verdict}


def _true_gap(case: Any, lambdas: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> float:
    """Return a lower bound of the suboptimality, relative to null loss − saturated loss."""
    from experiments.benchmarks.certificates.extended import model, to_working

    exact = model(case, float(lambdas[-1]))
    w, b, intercept_size = to_working(case, coef, intercept)
    b = exact.refine_intercept(w, b, intercept_size)
    objective = exact.objective(w, b)
    best = exact.polish(w, b, np.ones(len(w), bool))
    null = model(case, float(lambdas[0] if case.solver == "path" else lambdas[-1]))
    unpenalised = (null.l1 == 0) & (null.l2 == 0)
    if len(null.group_weights):
        unpenalised &= (null.group_weights == 0)[null.groups]
    intercept_loss = null.polish(*null.zeros(), np.zeros(len(w), bool))
    null_loss = null.polish(*null.zeros(), unpenalised)
    saturated = null.weight @ null.saturated()
    size = max(null_loss - saturated, np.finfo(case.X.dtype).eps * (intercept_loss - saturated))
    return float((objective - best) / size) if size > 0 else 0.0


def _solve(case: Any, lambdas: np.ndarray) -> Any:
    import jaxreg as jr

    problem = case.problem()
    if case.solver == "path":
        path = jr.path(problem, case.family, lambdas, max_steps=_MAX_STEPS)
        return path.at(float(lambdas[-1]))
    solver = jr.Newton() if case.solver == "Newton" else jr.ProximalGradient()
    penalty = case.family(lambdas[-1])
    return jr.solve(problem, penalty, solver=solver, throw=False, max_steps=_MAX_STEPS)


def run(dtype: str, first: int, count: int) -> None:
    """Check `count` problems and print one line of JSON for each."""
    import jax

    start = time.monotonic()
    for k, seed in enumerate(range(first, first + count)):
        row = check_certificate(seed, dtype)
        print(json.dumps(row), flush=True)
        if row["verdict"] == "false":
            print(json.dumps(row), file=sys.stderr, flush=True)
        if k % 100 == 99:
            print(
                f"{dtype}: {k + 1} of {count}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True
            )
        maps = Path("/proc/self/maps")
        if k % 20 == 19 and maps.exists() and maps.read_bytes().count(b"\n") > _MAX_MAPS:
            jax.clear_caches()


def table(rows: list[dict[str, Any]], key: str) -> list[str]:
    """Return a Markdown table of verdicts by dtype and `key`."""
    counts = collections.Counter((row["dtype"], row[key], row["verdict"]) for row in rows)
    lines = [f"| dtype | {key} | tried | certified | refused | false |", "|---|---|---|---|---|---|"]
    for dtype, name in sorted({(row["dtype"], row[key]) for row in rows}):
        of = [counts[dtype, name, verdict] for verdict in ("certified", "refused", "false")]
        lines.append(f"| {dtype} | {name} | {sum(of)} | {of[0]} | {of[1]} | {of[2]} |")
    return lines


def _run_workers(first: int, count: int) -> list[dict[str, Any]]:
    """Run both precisions at once, each in its own process, and return all rows."""
    command = [sys.executable, "-m", __spec__.name.removesuffix(".__main__")]
    command += ["--count", str(count), "--first", str(first)]
    workers = []
    for dtype in DTYPES:
        environment = {"XLA_FLAGS": _COMPILE_FAST} | os.environ | {"JAX_ENABLE_X64": str(dtype == "float64")}
        workers.append(
            subprocess.Popen(
                [*command, "--worker", dtype], env=environment, stdout=subprocess.PIPE, text=True
            )
        )
    outputs = [worker.communicate()[0] for worker in workers]
    return [json.loads(line) for output in outputs for line in output.splitlines()]


def main() -> None:
    """Run both precisions, print the tables, and save tables and failures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2065, help="problems for each dtype")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--out", type=Path, default=None, help="a JSON file for tables and failures")
    parser.add_argument("--worker", choices=DTYPES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        run(options.worker, options.first, options.count)
        return
    rows = _run_workers(options.first, options.count)
    tables = {key: table(rows, key) for key in ("loss", "design", "penalty", "solver", "lam")}
    for lines in tables.values():
        print("\n".join(lines), end="\n\n")
    if options.out:
        about = {
            "date": time.strftime("%Y-%m-%d"),
            "processor": processor(),
            "versions": {name: version(name) for name in ("jaxreg", "jax", "numpy")},
            "seeds": [options.first, options.first + options.count - 1],
        }
        false = [row for row in rows if row["verdict"] == "false"]
        options.out.write_text(
            json.dumps({"about": about, "tables": tables, "false": false}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
