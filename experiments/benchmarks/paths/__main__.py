"""Time of jaxreg and its peers to solve a whole λ-path to a duality gap, with one gap function for all.

    python -m experiments.benchmarks.paths [--quick] [--peer-python PATH] [--out X.json] [--figure X.png]

Every solver gets the same arrays and λ. Each solver runs in one process per workload, and solvers take turns.

- Times are from NumPy arrays to coefficients (glmnet: to R's own object), warm, that is from the second call
  on. `cold` is the first call of a fresh process, for jaxreg with an empty compilation cache; a second cold
  call of jaxreg uses the filled cache.
- The tolerance of each peer is divided by 10 until its gap is at most 1e-8, its gap stops improving, or its
  time exceeds ten times jaxreg's. `--quick` also ends a workload after 75 s.
- Memory is the peak of the process, interpreter and data included.
- Peers that cannot be imported are listed and left out; `--peer-python` is another interpreter that has them.
- Measurements are kept in the work folder, and the same command resumes an interrupted run.
- Dense arrays are in Fortran order for the peers and in C order for jaxreg.
"""

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.benchmarks._hardware import processor
from experiments.benchmarks.paths import measure as measuring
from experiments.benchmarks.paths import report
from experiments.benchmarks.paths.adapters import SOLVERS
from experiments.benchmarks.paths.workloads import QUICK, WORKLOADS, prepare

# Solvers of the workloads that measure how time grows with the number of λ and of columns.
GROWTH_SOLVERS = ("jaxreg", "glmnet", "adelie")
# Seconds: longest call, without --quick and with it.
CAP = 120.0
QUICK_CAP = 5.0
# Seconds: total time of the turns of one workload, with --quick.
QUICK_BUDGET = 75.0


def arguments(given: list[str] | None) -> argparse.Namespace:
    """Parse and check the options; bad options end in SystemExit with one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.paths",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--work", type=Path, default=Path("jaxreg-paths"), help="folder of arrays and measurements"
    )
    parser.add_argument("--out", type=Path, help="JSON file for machine, rows and ratios")
    parser.add_argument("--figure", type=Path, help="PNG file for time against gap")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--solvers", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--cap", type=float, help="longest call in seconds (default: 120, or 5 with --quick)")
    parser.add_argument("--quick", action="store_true", help="six workloads, in under 10 minutes")
    parser.add_argument("--tiny", action="store_true", help="sizes divided by 20, to test the command")
    parser.add_argument("--list", action="store_true", help="list workloads and solvers")
    options = parser.parse_args(given)
    options.workloads = _known(
        "workload", options.workloads or list(QUICK if options.quick else WORKLOADS), WORKLOADS
    )
    options.solvers = _known("solver", options.solvers or list(SOLVERS), SOLVERS)
    if options.cap is None:
        options.cap = QUICK_CAP if options.quick else CAP
    if not options.cap > 0:
        raise SystemExit(f"--cap must be above 0 seconds, got {options.cap}")
    for file in (options.out, options.figure):
        if file is not None and not file.parent.is_dir():
            raise SystemExit(f"there is no folder {file.parent} to write {file.name} in: make it first")
    if options.figure is not None and find_spec("matplotlib") is None:
        raise SystemExit('--figure needs matplotlib: pip install "jaxreg[cli]"')
    if not (Path(options.peer_python).is_file() and os.access(options.peer_python, os.X_OK)):
        raise SystemExit(f"--peer-python {options.peer_python} is no program that can be run")
    return options


def _known(what: str, names: list[str], all_names: dict[str, Any]) -> list[str]:
    for name in names:
        if name not in all_names:
            raise SystemExit(f"there is no {what} {name!r}: --list shows them")
    return list(dict.fromkeys(names))


def machine() -> dict[str, Any]:
    """Describe the machine and the versions."""
    packages = {}
    for package in ("jax", "jaxlib", "numpy", "scipy"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": processor(),
        "cores": cores,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": packages,
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def main(given: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, save, and return the results."""
    options = arguments(given)
    if options.list:
        print("workloads:", *WORKLOADS, sep="\n  ")
        print("solvers:", *SOLVERS, sep="\n  ")
        return {}
    about = machine()
    try:
        options.work.mkdir(parents=True, exist_ok=True)
        journal = measuring.Journal(options.work / "measurements.jsonl")
    except OSError as error:
        raise SystemExit(f"--work {options.work} cannot be used: {error.strerror}") from None
    budget = QUICK_BUDGET if options.quick else float("inf")
    settings = measuring.Settings(options.work.resolve(), options.peer_python, options.cap, budget)
    rows: list[dict[str, Any]] = []
    absent: dict[str, str] = {}
    for k, name in enumerate(options.workloads, 1):
        print(f"[{k}/{len(options.workloads)}] {name}", file=sys.stderr, flush=True)
        solvers = [s for s in options.solvers if not WORKLOADS[name].growth or s in GROWTH_SOLVERS]
        workload_rows, missing = measuring.measure(
            prepare(name, settings.work, options.tiny), solvers, journal, settings
        )
        rows += workload_rows
        absent |= missing
    entries = report.entries(rows)
    totals = report.summary(entries)
    about["versions"] |= {row["solver"]: row["version"] for row in rows}
    print(report.table(entries, totals))
    for solver, why in absent.items():
        print(f"{solver} is left out: {why}")
    result = {"about": about, "left out": absent, "summary": totals, "rows": rows}
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.figure is not None and entries:
        report.figure(entries, options.figure)
    return result


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("stopped: measurements are kept; run the same command to resume") from None
