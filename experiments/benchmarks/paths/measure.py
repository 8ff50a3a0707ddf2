"""Time and gap of each solver at each tolerance: one process per solver, in turns.

jaxreg runs first at each of its tolerances, and its times limit the calls of the peers. Then the tolerance of
each peer is divided by 10 until its gap meets the last target, its gap stops improving, or its time exceeds
ten times jaxreg's; the repeats of jaxreg take turns with the peers. Every measurement is appended to a
journal at once, and measurements in the journal are not repeated.
"""

import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks._hardware import processor
from experiments.benchmarks.paths.adapters import SOLVERS
from experiments.benchmarks.paths.gaps import gaps
from experiments.benchmarks.paths.tasks import Task, load
from experiments.benchmarks.paths.workloads import Prepared

__all__ = ["OURS", "TARGETS", "Journal", "Run", "Settings", "Worker", "measure", "warm_seconds"]

# Repository root, for the import path of the workers.
ROOT = Path(__file__).parents[3]
# Relative gaps of the table.
TARGETS = (1e-2, 1e-4, 1e-6, 1e-8)
# Tolerances of jaxreg.
OURS = (1e-4, 1e-6, 1e-8)
# Tolerance of jaxreg's cold calls: its default in float64.
COLD = 1e-6
# Smallest tolerance of a peer: glmnet and adelie compare it with squared quantities.
TIGHTEST = 1e-19
# Fraction of the longest call allowed above which a call is not repeated.
LONG = 1 / 12
# Seconds that a call which compiles may take, whatever the cap.
COMPILING = 60.0
# Seconds that every call of jaxreg may take, whatever the cap.
OURS_CAP = 20.0
# Seconds that every call may take, however fast jaxreg is.
FLOOR = 1.0
# Seconds for which shorter warm calls are repeated; the median counts.
SHORT = 0.1
# Warm calls for each tolerance.
REPEATS = 3


class Settings(NamedTuple):
    """Work folder, interpreter of the peers, and most seconds of a call (`cap`) and a workload (`budget`)."""

    work: Path
    peer_python: str = sys.executable
    cap: float = 120.0
    budget: float = np.inf


class Journal:
    """Append-only file with one JSON row per measurement; the last row of a key counts."""

    KEY = ("host", "workload", "data", "solver", "version", "tolerance", "call", "cache")

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if text and not text.endswith("\n"):  # cut off while it was written
            file.write_text(text + "\n", encoding="utf-8")
        for line in text.splitlines():
            try:
                row = json.loads(line)
                self.rows[tuple(row[k] for k in self.KEY)] = row
            except (ValueError, KeyError):
                continue

    def get(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Return the row of a key, or None."""
        return self.rows.get(tuple(key[k] for k in self.KEY))

    def add(self, row: dict[str, Any]) -> dict[str, Any]:
        """Append a row and return it."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows[tuple(row[k] for k in self.KEY)] = row
        return row


class Worker:
    """Process of a solver. `hello` is its first answer: the version, or an error."""

    def __init__(self, solver: str, folder: Path, settings: Settings, cache: Path | None = None) -> None:
        command = _worker_command(solver, folder, settings)
        env = _worker_environment(cache)
        self.process: subprocess.Popen[bytes] | None = None
        self.hello: dict[str, Any] = {"error": "Rscript is not installed"}
        if command[0]:
            try:
                self.process = subprocess.Popen(
                    command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL, bufsize=0,
                )  # fmt: skip
                self.hello = self._read_answer(300.0)
            except OSError as error:
                self.hello = {"error": f"{command[0]} does not start: {error}"}

    def _read_answer(self, limit: float) -> dict[str, Any]:
        process = self.process
        if process is None:
            return {"error": "the process has ended"}
        if not select.select([process.stdout], [], [], limit)[0]:
            self.close(kill=True)
            return {"over": limit}
        line = process.stdout.readline()
        if not line:
            self.close(kill=True)
            return {"error": f"the process ended with code {process.returncode}"}
        return json.loads(line)

    def solve(self, tolerance: float, out: str, limit: float, min_seconds: float = 0.0) -> dict[str, Any]:
        """Solve repeatedly for at least `min_seconds`; after `limit` seconds return {"over": limit}.

        A process that exceeds its limit is killed.
        """
        if self.process is None:
            return {"error": "the process has ended"}
        try:
            request = {"tol": tolerance, "out": out, "min_seconds": min_seconds}
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
        except OSError:
            self.close(kill=True)
            return {"error": "the process has ended"}
        return self._read_answer(limit)

    def close(self, kill: bool = False) -> None:
        """End the process."""
        if self.process is not None:
            if kill:
                self.process.kill()
            self.process.stdin.close()
            try:
                self.process.wait(5.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
        self.process = None


def _worker_command(solver: str, folder: Path, settings: Settings) -> list[str]:
    """Return the command of a worker; its first word is empty where Rscript is not installed."""
    if SOLVERS[solver].package == "glmnet":
        return [shutil.which("Rscript") or "", str(Path(__file__).with_name("glmnet.R")), str(folder)]
    python = sys.executable if SOLVERS[solver].kind == "ours" else settings.peer_python
    return [python, "-m", "experiments.benchmarks.paths.worker", solver, str(folder)]


def _worker_environment(cache: Path | None) -> dict[str, str]:
    """Return the environment of a worker, with a compilation cache if a folder is given."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "JAX_ENABLE_X64": "1"}
    env.setdefault("JAX_PLATFORMS", "cpu")
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        env |= {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    return env


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warm_seconds(rows: list[dict[str, Any]], compiles: bool) -> float:
    """Return the median of the calls after the first, or a lone first call if the solver does not compile."""
    done = [r for r in rows if "seconds" in r and r["cache"] == "empty"]
    warm = [r["seconds"] for r in done if r["call"] or (not compiles and len(done) == 1)]
    return float(np.median(warm)) if warm else np.inf


class Run:
    """One solver on one workload; the generator `steps` measures once per `next`, so that runs take turns."""

    def __init__(
        self, solver: str, prepared: Prepared, task: Task, journal: Journal, settings: Settings
    ) -> None:
        self.solver, self.adapter = solver, SOLVERS[solver]
        self.folder, self.digest = prepared
        self.task, self.journal, self.settings = task, journal, settings
        self.pace: Run | None = None
        self.rows: list[dict[str, Any]] = []
        self.gap_of: dict[bytes, float | None] = {}  # by digest of the solution
        self.caches = settings.work / "caches"
        self.caches.mkdir(exist_ok=True)
        self.cache = None
        if self.adapter.kind == "ours":
            self.cache = Path(tempfile.mkdtemp(prefix="jax-", dir=self.caches))
        self.worker = Worker(solver, self.folder, settings, self.cache)
        self.fresh = True
        self.version = self.worker.hello.get("version", "")
        self.missing = "" if self.version else self.worker.hello.get("error", "it does not start")

    def seconds(self, tolerance: float) -> float:
        """Return the warm time at a tolerance, or inf."""
        rows = [r for r in self.rows if r["tolerance"] == tolerance]
        return warm_seconds(rows, self.adapter.compiles)

    def slowest(self) -> float:
        """Return the longest warm time over tolerances, or inf."""
        times = [self.seconds(t) for t in {r["tolerance"] for r in self.rows}]
        return max((t for t in times if np.isfinite(t)), default=np.inf)

    def limit(self) -> float:
        """Return the seconds after which a call is stopped."""
        cap = self.settings.cap
        if self.pace is None:
            return max(cap, OURS_CAP) if self.adapter.kind == "ours" else cap
        return min(cap, max(10 * self.pace.slowest(), FLOOR))

    def measure(self, tolerance: float, call: int, cache: str = "empty") -> dict[str, Any]:
        """Measure one call, or return its row from the journal."""
        compiling = self.adapter.compiles and call == 0
        limit = max(self.settings.cap, COMPILING) if compiling else self.limit()
        key = self.key(tolerance, call, cache)
        row = self.journal.get(key)
        if row is None or row.get("over", np.inf) < 0.9 * limit:
            row = self.journal.add(key | self._call(tolerance, call, limit))
        self.rows.append(row)
        return row

    def key(self, tolerance: float, call: int, cache: str) -> dict[str, Any]:
        """Return the key of a row of the journal."""
        return {
            "host": f"{processor()} x {_cores()}",
            "workload": self.folder.name,
            "data": self.digest,
            "solver": self.solver,
            "version": self.version,
            "tolerance": tolerance,
            "call": call,
            "cache": cache,
        }

    def _call(self, tolerance: float, call: int, limit: float) -> dict[str, Any]:
        """Measure one call and its gap."""
        out = str(self.folder / f"{self.solver}-solution")
        if self.worker.process is None:  # stopped at its limit before
            self.worker = Worker(self.solver, self.folder, self.settings, self.cache)
            self.fresh = True
        if call and self.fresh:  # a resumed run: the first call of this process is not warm
            self.worker.solve(tolerance, out, max(limit, COMPILING))
        self.fresh = False
        row = self.worker.solve(tolerance, out, limit, SHORT if call else 0.0)
        row["date"] = time.strftime("%Y-%m-%d")
        if "seconds" in row:
            row["gap"] = self._gap([Path(f"{out}.{part}.npy") for part in ("coef", "intercept")])
        return row

    def _gap(self, parts: list[Path]) -> float | None:
        """Return the largest gap of the saved solution (None for inf, which JSON lacks); delete the files."""
        digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).digest()
        if digest not in self.gap_of:  # most solvers repeat their solution exactly
            measured = gaps(self.task, *(np.load(part) for part in parts))
            self.gap_of[digest] = float(measured.max()) if np.isfinite(measured).all() else None
        for part in parts:
            part.unlink()
        return self.gap_of[digest]

    def set_pace(self) -> None:
        """Measure jaxreg's cold call and a warm call of each tolerance, which limit the peers."""
        if "seconds" in self.measure(COLD, 0):
            for tolerance in OURS:
                if "seconds" not in self.measure(tolerance, 1):
                    return

    def steps(self) -> Iterator[None]:
        """Measure, one call at a time."""
        if self.adapter.kind == "ours":
            yield from self._repeats()
            return
        tolerance, best = self.adapter.start, []
        call = 0
        while tolerance == 0 or tolerance >= TIGHTEST:
            while call < REPEATS:
                row = self.measure(tolerance, call)
                yield
                if "seconds" not in row:
                    return
                call += 1
                if row["seconds"] > LONG * self.settings.cap and np.isfinite(self.seconds(tolerance)):
                    break
            gap = row["gap"] if row["gap"] is not None else np.inf
            best.append(gap)
            slow = self.pace is not None and self.seconds(tolerance) > 10 * self.pace.slowest()
            stuck = len(best) > 4 and min(best[-4:]) >= best[-5]
            if tolerance == 0 or gap <= TARGETS[-1] or slow or stuck:
                return
            tolerance, call = tolerance / 10, 1

    def _repeats(self) -> Iterator[None]:
        for call in range(2, REPEATS + 1):
            for tolerance in OURS:
                if self.seconds(tolerance) <= LONG * self.settings.cap:
                    self.measure(tolerance, call)
                    yield
        if np.isfinite(self.seconds(COLD)):
            if self.journal.get(self.key(COLD, 0, "filled")) is None:
                if self.fresh:  # a resumed run: the cache of this process is still empty
                    self._call(COLD, 1, self.settings.cap)
                self.worker.close()
            self.measure(COLD, 0, "filled")
            yield

    def close(self) -> None:
        """End the process and delete its cache."""
        self.worker.close()
        if self.cache is not None:
            shutil.rmtree(self.cache, ignore_errors=True)


def measure(
    prepared: Prepared, solvers: list[str], journal: Journal, settings: Settings
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return all rows of one workload, and the reason for each solver that could not run."""
    task = load(prepared.folder)
    runs = [Run(s, prepared, task, journal, settings) for s in solvers if SOLVERS[s].fits(task)]
    absent = {run.solver: run.missing for run in runs if run.missing}
    present = [run for run in runs if not run.missing]
    try:
        ours = next((run for run in present if run.adapter.kind == "ours"), None)
        if ours is not None:
            ours.set_pace()
            for run in present:
                run.pace = None if run is ours or not np.isfinite(ours.slowest()) else ours
        turns = [run.steps() for run in present]
        end = time.monotonic() + settings.budget
        while turns and time.monotonic() < end:
            turns = [turn for turn in turns if next(turn, turn) is not turn]
    finally:
        for run in runs:
            run.close()
    return [row for run in present for row in run.rows], absent
