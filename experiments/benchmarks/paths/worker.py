"""One solver in its own process: `PYTHON -m experiments.benchmarks.paths.worker SOLVER FOLDER`.

The worker speaks JSON, one object per line:

- At the start it writes {"version", "start"} or {"error"}.
- For every request {"tol", "out", "min_seconds"} on its input it solves the task of the folder, repeatedly
  until `min_seconds` have passed (so that short times are medians), saves the solution to OUT.coef.npy and
  OUT.intercept.npy, and writes {"seconds", "memory"} (median of the calls; peak of the process in MB) or
  {"error"}.
"""

import hashlib
import json
import os
import sys
import time
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.paths.adapters import SOLVERS
from experiments.benchmarks.paths.tasks import load


def peak() -> float:
    """Return the peak resident memory of this process in MB, or 0 where it is unknown."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would include the memory of the parent before exec
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    try:
        import resource
    except ImportError:
        return 0.0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (1e6 if sys.platform == "darwin" else 1e3)


def package_version(package: str) -> str:
    """Return the version of a package; for jaxreg, with a digest of its source."""
    if package != "jaxreg":
        return version(package)
    spec = find_spec(package)
    digest = hashlib.sha256()
    for file in sorted(Path(spec.origin).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return f"{version(package)}+{digest.hexdigest()[:8]}"


def one_line(error: BaseException) -> str:
    """Format an exception as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def main(solver: str, folder: str) -> None:
    """Serve requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # solvers may print; only answers go to the original stdout
    warnings.simplefilter("ignore")

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    begun = time.perf_counter()
    try:
        adapter, task = SOLVERS[solver], load(Path(folder))
        if adapter.build is None or not adapter.fits(task):
            answer(error=f"{solver} does not solve {task.loss} with {task.penalty} here")
            return
        solve = adapter.build(task)
        answer(version=package_version(adapter.package), start=time.perf_counter() - begun)
    except Exception as error:
        answer(error=one_line(error))
        return
    for line in sys.stdin:
        request = json.loads(line)
        try:
            times: list[float] = []
            while not times or (sum(times) < request["min_seconds"] and len(times) < 20):
                begun = time.perf_counter()
                coef, intercept = solve(request["tol"])
                times.append(time.perf_counter() - begun)
            np.save(request["out"] + ".coef.npy", coef)
            np.save(request["out"] + ".intercept.npy", intercept)
            answer(seconds=float(np.median(times)), memory=peak())
        except Exception as error:
            answer(error=one_line(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
