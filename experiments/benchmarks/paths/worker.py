"""One solver in a process of its own: `PYTHON -m experiments.benchmarks.paths.worker SOLVER FOLDER`.

It answers in lines of JSON. First {"version", "start"} or {"error"}; then for every line {"tol", "out",
"least"} on its input it solves the task of the folder, again until `least` seconds have gone (so that short
times are medians of some), saves coefficients and intercepts to OUT.coef.npy and OUT.intercept.npy, and
answers {"seconds", "memory"} (median of the calls; MB, the process's peak) or {"error"}.
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
    """MB at most resident in this process since it began, or 0 where that is not known."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the parent held before this program was loaded
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    try:
        import resource
    except ImportError:
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)


def edition(package: str) -> str:
    """The package's version; for jaxreg, which changes between versions, with a digest of its source."""
    if package != "jaxreg":
        return version(package)
    spec = find_spec(package)
    digest = hashlib.sha256()
    for file in sorted(Path(spec.origin).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return f"{version(package)}+{digest.hexdigest()[:8]}"


def one_line(error: BaseException) -> str:
    """An exception as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def main(solver: str, folder: str) -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a solver prints must not stand among the answers
    warnings.simplefilter("ignore")

    def answer(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    begun = time.perf_counter()
    try:
        adapter, task = SOLVERS[solver], load(Path(folder))
        if adapter.build is None or not adapter.fits(task):
            answer(error=f"{solver} does not solve {task.loss} with {task.penalty} here")
            return
        solve = adapter.build(task)
        answer(version=edition(adapter.package), start=time.perf_counter() - begun)
    except Exception as error:
        answer(error=one_line(error))
        return
    for line in sys.stdin:
        request = json.loads(line)
        try:
            times: list[float] = []
            while not times or (sum(times) < request["least"] and len(times) < 20):
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
