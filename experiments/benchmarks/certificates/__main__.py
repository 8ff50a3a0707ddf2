"""How many certificates are false: hostile random problems in both precisions, judged in extended precision.

    python -m experiments.benchmarks.certificates [--count 2065] [--first 0] [--out FILE.json]

Problems are ill-conditioned, badly scaled, partly unpenalised, of all losses (`problems`). Each is solved to
jaxreg's default tolerance, and the point that comes back is improved in extended precision (`extended`): what
its objective falls by is a lower bound of its distance from the optimum; the intercept's own rounding, and
what only the last digits of X explain, are not counted. A certificate is *false* where a
solution is called converged and that distance, relative as the gap is, exceeds the tolerance. *Refused* are
solutions that say they did not converge, and problems refused by an error. float32 runs in a process without
double precision, as JAX does by default; `--count` is the number of problems for each dtype.
"""

import argparse
import collections
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

DTYPES = ("float32", "float64")
#: Solver steps for a problem: enough for most, and a bound on the time of the others.
_STEPS = 3000


def judge(seed: int, dtype: str) -> dict[str, Any]:
    """Solve the problem of a seed and judge the result."""
    import jaxreg as jr
    from experiments.benchmarks.certificates.extended import model, working
    from experiments.benchmarks.certificates.problems import draw

    case = draw(seed, dtype)
    row = {"seed": seed, "dtype": dtype, "loss": case.loss, "penalty": case.kind, "design": case.design}
    row |= {"solver": case.solver, "lam": case.lam, "unpenalised": int((case.factors == 0).sum())}
    # λ is relative to the largest gradient of the model without features.
    unit = model(case, 1.0)
    zero = np.zeros((unit.Z.shape[1], unit.outputs), np.longdouble), np.zeros(unit.outputs, np.longdouble)
    gradient = unit.Z.T @ (unit.weight[:, None] * unit.slopes(unit.predictor(*zero))[0])
    top = np.array(np.abs(gradient).max(), dtype)
    lambdas = top * np.array([2.0, 1.0, case.lam], dtype)
    try:
        found = _solve(case, lambdas, jr)
    except (ValueError, RuntimeError) as error:
        return row | {"verdict": "refused", "error": str(error)[:200]}
    coef, intercept, gap, converged = found
    tol = 1e-4 if dtype == "float32" else 1e-6
    row |= {"claimed": float(gap)}
    if not (np.isfinite(coef).all() and np.isfinite(intercept).all()):
        return row | {"verdict": "false" if converged else "refused"}
    judged = model(case, float(lambdas[-1]))
    w, b, size = working(case, coef, intercept)
    b = judged.recentred(w, b, size)
    objective = judged.objective(w, b)
    best = judged.polish(w, b, np.ones(len(w), bool))
    null = model(case, float(lambdas[0] if case.solver == "path" else lambdas[-1]))
    free = (null.slope == 0) & (null.curve == 0)
    if len(null.group):
        free &= (null.group == 0)[null.groups]
    start = null.polish(*zero, np.zeros(len(w), bool)), null.polish(*zero, free)
    least = null.weight @ null.saturated()
    size = max(start[1] - least, np.finfo(dtype).eps * (start[0] - least))
    true = float((objective - best) / size) if size > 0 else 0.0
    verdict = ("false" if true > tol else "certified") if converged else "refused"
    return row | {"true": true, "verdict": verdict}


def _solve(case: Any, lambdas: np.ndarray, jr: Any) -> tuple[np.ndarray, np.ndarray, float, bool]:
    problem = case.problem()
    if case.solver == "path":
        fits = jr.path(problem, case.family, lambdas, max_steps=_STEPS)
        last = fits.at(float(lambdas[-1]))
    else:
        solver = jr.Newton() if case.solver == "Newton" else jr.ProximalGradient()
        penalty = case.family(lambdas[-1])
        last = jr.solve(problem, penalty, solver=solver, throw=False, max_steps=_STEPS)
    return np.asarray(last.coef), np.asarray(last.intercept), float(last.gap), bool(last.converged)


def run(dtype: str, first: int, count: int) -> None:
    """Judge `count` problems, one line of JSON each; programs are dropped now and then, for their memory."""
    import jax

    start = time.monotonic()
    for k, seed in enumerate(range(first, first + count)):
        row = judge(seed, dtype)
        print(json.dumps(row), flush=True)
        if row["verdict"] == "false":
            print(json.dumps(row), file=sys.stderr, flush=True)
        if k % 100 == 99:
            print(
                f"{dtype}: {k + 1} of {count}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True
            )
        maps = Path("/proc/self/maps")
        if k % 20 == 19 and maps.exists() and maps.read_bytes().count(b"\n") > 40_000:
            jax.clear_caches()


def table(rows: list[dict[str, Any]], key: str) -> list[str]:
    """Counts of tried, certified, refused and false by dtype and `key`."""
    counts = collections.Counter((row["dtype"], row[key], row["verdict"]) for row in rows)
    lines = [f"| dtype | {key} | tried | certified | refused | false |", "|---|---|---|---|---|---|"]
    for dtype, name in sorted({(row["dtype"], row[key]) for row in rows}):
        of = [counts[dtype, name, verdict] for verdict in ("certified", "refused", "false")]
        lines.append(f"| {dtype} | {name} | {sum(of)} | {of[0]} | {of[1]} | {of[2]} |")
    return lines


def main() -> None:
    """Run both precisions, print the tables, save the rows."""
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
    command = [sys.executable, "-m", __spec__.name.removesuffix(".__main__"), "--count", str(options.count)]
    command += ["--first", str(options.first)]
    workers = []
    for dtype in DTYPES:
        environment = os.environ | {"JAX_ENABLE_X64": str(dtype == "float64")}
        workers.append(
            subprocess.Popen(
                [*command, "--worker", dtype], env=environment, stdout=subprocess.PIPE, text=True
            )
        )
    outputs = [worker.communicate()[0] for worker in workers]
    rows = [json.loads(line) for output in outputs for line in output.splitlines()]
    tables = {key: table(rows, key) for key in ("loss", "design", "penalty", "solver", "lam")}
    for lines in tables.values():
        print("\n".join(lines), end="\n\n")
    if options.out:
        about = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": platform.machine(),
            "versions": {name: version(name) for name in ("jaxreg", "jax", "numpy")},
            "seeds": [options.first, options.first + options.count - 1],
        }
        false = [row for row in rows if row["verdict"] == "false"]
        options.out.write_text(
            json.dumps({"about": about, "tables": tables, "false": false}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
