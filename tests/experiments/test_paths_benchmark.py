"""The benchmark of paths: its gaps agree with jaxreg's, every peer solves the same problem, runs resume."""

import json
import shutil
import sys
import time

import numpy as np
import pytest
from scipy.optimize import minimize

import jaxreg as jr
from experiments.benchmarks.paths import __main__ as command
from experiments.benchmarks.paths import adapters, measure, report, workloads
from experiments.benchmarks.paths import gaps as measures
from experiments.benchmarks.paths.gaps import gaps, lambda_max
from experiments.benchmarks.paths.tasks import Task, load, save
from experiments.benchmarks.paths.worker import one_line, peak

rng = np.random.default_rng(0)
X = np.asfortranarray(rng.standard_normal((60, 20)))
SIGNAL = X[:, :4] @ np.array([1.0, -1.0, 0.5, 2.0])
TARGETS = {
    "squared": SIGNAL + rng.standard_normal(60) + 0.3,
    "logistic": (SIGNAL + rng.standard_normal(60) > 0).astype(float),
    "poisson": rng.poisson(np.exp(0.4 * SIGNAL + 0.5)).astype(float),
    "multinomial": np.digitize(SIGNAL, [-1.5, 1.5]).astype(float),
}


def small(name, loss="squared", **about):
    """Return a task of 60 × 20 with four λ."""
    task = Task(name, X, TARGETS[loss], np.zeros(0), loss, **about)
    return task._replace(lambdas=np.geomspace(0.9, 0.05, 4) * lambda_max(task))


TASKS = [
    small("lasso"),
    small("elastic", l1_ratio=0.5),
    small("ridge", l1_ratio=0.0),
    small("lasso with intercept", intercept=True),
    small("group", penalty="group", group=5),
    small("mcp", penalty="mcp"),
    small("logistic", "logistic"),
    small("logistic with intercept", "logistic", intercept=True),
    small("logistic ridge", "logistic", intercept=True, l1_ratio=0.0),
    small("poisson", "poisson", intercept=True),
    small("multinomial", "multinomial", intercept=True),
]
CERTIFIED = [task for task in TASKS if task.name != "logistic"]  # differs by the intercept alone
# Solved by a solver of this file, since compiling jaxreg's takes seconds for each.
COMPILED_LONG = ("lasso with intercept", "group", "poisson", "multinomial")


def certified(task, coef, intercept):
    """Return the gaps of `jr.certify`, for MCP its KKT residuals."""
    losses = {
        "squared": jr.losses.SquaredError,
        "logistic": jr.losses.Logistic,
        "poisson": jr.losses.Poisson,
        "multinomial": jr.losses.Multinomial,
    }
    y = task.y.astype(int) if task.classes else task.y
    problem = jr.Problem(losses[task.loss](), task.X, y, intercept=task.intercept)
    groups = np.arange(20) // task.group
    families = {
        "elastic": lambda lam: jr.ElasticNet(lam, task.l1_ratio),
        "group": lambda lam: jr.penalties.GroupL2(lam, groups),
        "mcp": lambda lam: jr.penalties.MCP(lam, task.gamma),
    }
    found = [
        jr.certify(problem, families[task.penalty](lam), w, b)
        for lam, w, b in zip(task.lambdas, coef, intercept, strict=True)
    ]
    return np.array([float(c.kkt if task.penalty == "mcp" else c.gap) for c in found])


def lasso_by_lbfgs(task):
    """Return lasso solutions (L, p, …), (L, …) by L-BFGS-B on positive and negative parts."""
    width = max(task.classes, 1)

    def parts(v):
        up, down, b = np.split(v.reshape(-1, width), [20, 40])
        w, b = up - down, b[0]
        return (w, b) if task.classes else (w[:, 0], b[0])

    def cost(v, lam):
        w, b = parts(v)
        z = task.X @ w + b
        dz = (measures._derivative(task, z) / 60).reshape(60, -1)
        g = task.X.T @ dz
        value = np.mean(measures._value(task, z)) + lam * v[: 40 * width].sum()
        return value, np.concatenate([g + lam, lam - g, dz.sum(axis=0, keepdims=True)]).ravel()

    bounds = [(0, None)] * 40 * width + [(None, None)] * width
    options = {"maxiter": 500, "ftol": 1e-13, "gtol": 1e-6}
    start = np.zeros(41 * width)
    found = [
        parts(minimize(cost, start, (lam,), "L-BFGS-B", jac=True, bounds=bounds, options=options).x)
        for lam in task.lambdas
    ]
    return tuple(np.array(part) for part in zip(*found, strict=True))


def group_lasso_by_proximal_gradient(task):
    """Return group lasso solutions by proximal gradient."""
    coef, step = np.zeros((4, 20)), 60 / np.linalg.norm(task.X, 2) ** 2
    for k, lam in enumerate(task.lambdas):
        w = coef[max(k - 1, 0)]
        for _ in range(1000):
            v = (w - step * task.X.T @ (task.X @ w - task.y) / 60).reshape(-1, task.group)
            size = np.linalg.norm(v, axis=1, keepdims=True)
            w = (v * np.maximum(1 - step * lam * task.group**0.5 / size, 0.0)).ravel()
        coef[k] = w
    return coef, np.zeros(4)


def solved(task):
    """Return solutions near the optimum."""
    if task.name not in COMPILED_LONG:
        return adapters.jaxreg(task)(1e-6)
    return group_lasso_by_proximal_gradient(task) if task.penalty == "group" else lasso_by_lbfgs(task)


# Tasks that resemble another one in `CERTIFIED`.
SLOW = ("elastic", "lasso with intercept", "logistic ridge", "poisson")


@pytest.mark.slow_except("lasso", "mcp")
@pytest.mark.parametrize(
    "task",
    [pytest.param(t, id=t.name, marks=pytest.mark.slow if t.name in SLOW else ()) for t in CERTIFIED],
)
def test_the_gap_is_that_of_certify(task):
    coef, intercept = solved(task)
    ours = gaps(task, coef, intercept)
    rtol = (
        0.05 if task.penalty == "mcp" else 1e-5
    )  # the step of `certify` comes from an estimate of the curvature
    np.testing.assert_allclose(ours, certified(task, coef, intercept), rtol=rtol, atol=1e-12)
    assert ours.max() <= (1e-4 if task.name in COMPILED_LONG else 1.05e-6)
    moved = coef + 0.01 * np.random.default_rng(1).standard_normal(coef.shape)
    worse = gaps(task, moved, intercept)
    np.testing.assert_allclose(worse, certified(task, moved, intercept), rtol=rtol)
    assert (worse > 2 * ours).all()


def test_a_wrong_intercept_is_seen():
    task = small("lasso with intercept", intercept=True)
    coef, intercept = adapters.sklearn_path(task)(1e-12)
    assert gaps(task, coef, intercept).max() < 1e-9 < 1e-5 < gaps(task, coef, intercept + 0.1).min()


def test_what_is_not_finite_has_no_gap():
    task = small("lasso")
    coef, intercept = np.zeros((4, 20)), np.zeros(4)
    coef[1, 3], intercept[2] = np.nan, np.inf
    assert np.isinf(gaps(task, coef, intercept)).tolist() == [False, True, True, False]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_at_lambda_max_zero_is_the_solution(task):
    if task.l1_ratio == 0:
        return
    at = task._replace(lambdas=np.array([1.0001, 0.98]) * lambda_max(task))
    zero = np.zeros((2, 20, 3) if task.classes else (2, 20))
    level = np.zeros((2, 3) if task.classes else 2)
    if task.intercept:
        level += {"squared": task.y.mean(), "poisson": np.log(task.y.mean())}.get(task.loss, 0.0)
        if task.loss == "logistic":
            level += np.log(task.y.mean() / (1 - task.y.mean()))
        if task.classes:
            level += np.log(np.bincount(task.y.astype(int)) / 60)
    found = gaps(at, zero, level)
    assert found[0] < 1e-12 < 1e-6 < found[1]


PAIRS = [(solver, task) for solver in adapters.SOLVERS for task in TASKS if solver != "jaxreg"]
PAIRS = [(solver, task) for solver, task in PAIRS if adapters.SOLVERS[solver].fits(task)]


@pytest.mark.parametrize(("solver", "task"), PAIRS, ids=[f"{s}-{t.name}" for s, t in PAIRS])
def test_every_peer_solves_the_same_problem(solver, task, tmp_path):
    adapter = adapters.SOLVERS[solver]
    if adapter.build is None:
        if shutil.which("Rscript") is None:
            pytest.skip("no Rscript")
        save(task, tmp_path / "task")
        worker = measure.Worker(solver, tmp_path / "task", measure.Settings(tmp_path))
        if "error" in worker.hello:
            pytest.skip(worker.hello["error"])
        assert "seconds" in worker.solve(1e-16, str(tmp_path / "out"), 20.0)
        worker.close()
        found = tuple(np.load(tmp_path / f"out.{part}.npy") for part in ("coef", "intercept"))
    else:
        pytest.importorskip("sklearn" if adapter.package == "scikit-learn" else adapter.package)
        found = adapter.build(task)(1e-14 if adapter.package == "adelie" else 1e-9)
    assert gaps(task, *found).max() <= 1e-6


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_every_workload_is_made_and_read_again(name, tmp_path):
    if "20000x50000" in name or "100x20000" in name:
        return
    folder, digest = workloads.prepare(name, tmp_path, tiny=True)
    task = load(folder)
    assert workloads.prepare(name, tmp_path, tiny=True) == (folder, digest)
    assert np.isfinite(task.y).all() and (np.diff(task.lambdas) < 0).all()
    assert task.X.flags.f_contiguous
    level = np.zeros((len(task.lambdas), task.classes) if task.classes else len(task.lambdas))
    zero = np.zeros((len(task.lambdas), task.X.shape[1], *level.shape[1:]))
    assert gaps(task, zero, level)[-1] > 1e-3


def test_sparse_workloads_are_solved_as_they_are(tmp_path):
    folder, _ = workloads.prepare("sparse-20000x50000", tmp_path, tiny=True)
    task = load(folder)
    task = task._replace(lambdas=task.lambdas[:5])
    assert task.sparse and not adapters.SOLVERS["lars_path"].fits(task)
    coef, intercept = adapters.sklearn_path(task)(1e-10)
    dense = task._replace(X=np.asfortranarray(task.X.toarray()))
    assert gaps(task, coef, intercept).max() < 1e-8
    np.testing.assert_allclose(gaps(task, coef, intercept), gaps(dense, coef, intercept), atol=1e-14)


# ---------------------------------------------------------------- the command

TINY = ["--tiny", "--workloads", "diabetes", "--solvers", "lasso_path", "lars_path"]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The folder and the result of a tiny run."""
    work = tmp_path_factory.mktemp("paths")
    out, figure = work / "out.json", work / "figure.png"
    found = command.main([*TINY, "--work", str(work), "--out", str(out), "--figure", str(figure)])
    return work, found


def test_a_tiny_run_ends_with_a_table(first, capsys):
    work, found = first
    saved = json.loads((work / "out.json").read_text())
    assert saved["rows"] == found["rows"] and saved["about"]["cores"] >= 1
    assert {row["solver"] for row in found["rows"]} == {"lasso_path", "lars_path"}
    assert saved["about"]["versions"]["lasso_path"]
    assert (work / "figure.png").read_bytes()[:4] == b"\x89PNG"
    entries = report.entries(found["rows"])
    assert entries["diabetes"]["lars_path"]["to"][1e-8] > 0
    assert entries["diabetes"]["lasso_path"]["to"][1e-8] >= entries["diabetes"]["lasso_path"]["to"][1e-2] > 0
    text = report.table(entries, report.summary(entries))
    assert "diabetes" in text and "lars_path" in text


@pytest.mark.slow
def test_a_resumed_run_measures_nothing_again(first, monkeypatch, capsys):
    work, found = first
    journal = work / "measurements.jsonl"
    before = journal.read_text()
    monkeypatch.setattr(measure.Worker, "solve", lambda *given: pytest.fail("measured again"))
    assert command.main([*TINY, "--work", str(work)])["rows"] == found["rows"]
    assert journal.read_text() == before
    assert "diabetes" in capsys.readouterr().out


def test_a_line_cut_off_by_a_kill_is_measured_again(first, tmp_path):
    text = (first[0] / "measurements.jsonl").read_text()
    (tmp_path / "j").write_text(text + '{"host": "half a li')
    journal = measure.Journal(tmp_path / "j")
    assert len(journal.rows) == len(text.splitlines())
    row = dict(next(iter(journal.rows.values())), call=17)
    journal.add(row)
    assert measure.Journal(tmp_path / "j").get(row) == row


def test_a_call_over_the_limit_is_ended(first):
    folder, _ = workloads.prepare("diabetes", first[0], tiny=True)
    worker = measure.Worker("lasso_path", folder, measure.Settings(first[0]))
    begun = time.perf_counter()
    assert worker.solve(1e-2, str(first[0] / "out"), 0.0) == {"over": 0.0}
    assert time.perf_counter() - begun < 5 and worker.process is None
    assert "error" in worker.solve(1e-2, str(first[0] / "out"), 1.0)


def test_a_peer_that_is_not_there_is_left_out(first, tmp_path, capsys):
    empty = tmp_path / "python"
    empty.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    empty.chmod(0o755)
    given = ["--tiny", "--workloads", "diabetes", "--solvers", "celer", "--peer-python", str(empty)]
    found = command.main([*given, "--work", str(first[0])])
    assert found["rows"] == [] and list(found["left out"]) == ["celer"]
    assert "celer is left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--workloads", "nonsense"], "no workload 'nonsense'"),
        (["--solvers", "nonsense"], "no solver 'nonsense'"),
        (["--peer-python", "/nowhere/python"], "no program"),
        (["--out", "/nowhere/out.json"], "no folder"),
        (["--cap", "0"], "--cap must be above 0"),
        (["--work", "/dev/null/work"], "cannot be used"),
    ],
)
def test_bad_input_ends_in_one_sentence(given, said):
    with pytest.raises(SystemExit) as stopped:
        command.main(given)
    assert said in str(stopped.value) and "\n" not in str(stopped.value)


def test_the_list_names_all(capsys):
    command.main(["--list"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in [*workloads.WORKLOADS, *adapters.SOLVERS])


# ---------------------------------------------------------------- ratios


def row(workload, solver, tolerance, gap, seconds, call=1, cache="empty", **more):
    found = {"gap": gap, "seconds": seconds, "memory": 100.0} if seconds is not None else {}
    return {
        "workload": workload, "solver": solver, "tolerance": tolerance, "call": call, "cache": cache,
    } | found | more  # fmt: skip


def test_ratios_bounds_and_means():
    base, twice = "gaussian-1000x5000-0.5", "growth-200-lambdas"
    rows = [
        row(base, "jaxreg", 1e-6, 1e-7, 9.0, call=0),
        row(base, "jaxreg", 1e-6, 1e-7, 1.0),
        row(base, "jaxreg", 1e-6, 1e-7, 3.0, call=2),
        row(base, "jaxreg", 1e-4, 1e-5, 0.5),
        row(base, "jaxreg", 1e-6, 1e-7, 4.0, call=0, cache="filled"),
        row(base, "glmnet", 1e-7, 1e-3, 1.0),
        row(base, "glmnet", 1e-8, 1e-7, 8.0),
        row(base, "skglm", 1e-2, 1e-5, 5.0),
        row(base, "skglm", 1e-3, None, None, over=32.0),
        row(base, "lars_path", 0.0, 1e-14, 6.0),
        row(twice, "jaxreg", 1e-6, 1e-7, 4.0),
        row("diabetes", "jaxreg", 1e-6, 1e-7, 1.0),
        row("diabetes", "glmnet", 1e-7, 1e-7, 1e-3),
    ]
    entries = report.entries(rows)
    found = report.summary(entries)
    assert found["at 1e-6"][base] == {
        "glmnet": {"ratio": 4.0, "bound": False},
        "skglm": {"ratio": 16.0, "bound": True},
    }
    assert found["at 1e-6, exact homotopy"][base] == {"lars_path": {"ratio": 3.0, "bound": False}}
    mean = found["at 1e-6, geometric mean over descent"]
    assert mean == {"ratio": pytest.approx(8.0), "of": 2, "bounds": 1}  # diabetes is not counted
    assert found["at 1e-4, the best peer"][base]["peer"] == "skglm"
    assert found["glmnet at its default"][base] == {"ratio": 0.5, "ratio at its gap": 2.0, "gap": 1e-3}
    assert found["growth"]["lambdas"] == {"jaxreg": pytest.approx(1.0)}
    assert found["cold"][base]["cold - warm"] == 7.0 and found["cold"][base]["cached - warm"] == 2.0
    text = report.table(entries, found)
    assert ">32" in text and "at least, 1 are bounds" in text


def test_a_first_call_that_compiles_is_not_warm():
    calls = [row("diabetes", "skglm", 1e-2, 1e-3, 30.0, call=0)]
    assert measure.warm_seconds(calls, compiles=True) == np.inf
    assert measure.warm_seconds(calls, compiles=False) == 30.0
    calls += [row("diabetes", "skglm", 1e-2, 1e-3, 2.0), row("diabetes", "skglm", 1e-2, 1e-3, 4.0, call=2)]
    assert measure.warm_seconds(calls, compiles=False) == measure.warm_seconds(calls, compiles=True) == 3.0
    found = report.entries(calls[:1])
    assert "no warm call ended" in report.table(found, report.summary(found))


def test_errors_are_rows_too():
    found = report.entries([row("diabetes", "jaxreg", 1e-6, None, None, error="TypeError: X is sparse")])
    assert "TypeError: X is sparse" in report.table(found, report.summary(found))


def test_what_a_worker_says_of_itself():
    assert peak() > 10
    assert one_line(ValueError("two\nlines")) == "ValueError: two lines"
