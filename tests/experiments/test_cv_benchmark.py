"""The benchmark of cross-validation: its data, its summary, and peers that are stopped."""

import sys

import numpy as np
import pytest

from experiments.benchmarks import cv


def test_data_are_standardised_and_start_at_the_largest_lambda():
    data = cv.make(cv.Workload(600, 100), quick=True)
    assert data.X.shape == (60, 10) and np.bincount(data.fold).tolist() == [6] * 10
    np.testing.assert_allclose(data.X.std(axis=0), 1)
    top = np.abs(data.X.T @ (data.y - data.y.mean())).max() / 60
    np.testing.assert_allclose(data.lambdas[[0, -1]], [top, 0.01 * top])


def test_the_fastest_peer_counts_and_stopped_ones_give_bounds():
    def row(workload, solver, seconds, stopped=False):
        return {"workload": workload, "solver": solver, "seconds": seconds, "stopped": stopped}

    rows = [row("a", "jaxreg", 2.0), row("a", "glmnet", 3.0), row("a", "scikit-learn", 9.0, True)]
    rows += [row("b", "jaxreg", 2.0), row("b", "scikit-learn", 9.0, True), {"workload": "b", "solver": "x"}]
    assert cv.ratios(rows) == {
        "a": {"fastest peer": "glmnet", "ratio": 1.5, "is a bound": False},
        "b": {"fastest peer": "scikit-learn", "ratio": 4.5, "is a bound": True},
    }


@pytest.mark.parametrize("script", ["import time; time.sleep(60)", "raise ValueError('no convergence')"])
def test_a_solver_that_is_stopped_or_fails_has_a_row(script, monkeypatch):
    run = cv.subprocess.run
    monkeypatch.setattr(
        cv.subprocess, "run", lambda _, **options: run([sys.executable, "-c", script], **options)
    )
    row = cv.measure("lasso 5000×200", "glmnet", quick=True, limit=2.0)
    expected = (
        {"seconds": 2.0, "stopped": True} if "sleep" in script else {"fault": "ValueError: no convergence"}
    )
    assert row == {"workload": "lasso 5000×200", "solver": "glmnet"} | expected


def test_peers_and_jaxreg_choose_the_same_lambda():
    workload = cv.Workload(600, 100, num=10)
    data = cv.make(workload, quick=True)
    ours, theirs = (cv.SOLVERS[name](workload, data) for name in ("jaxreg", "scikit-learn"))
    assert ours["gap"] <= cv.TOL and ours["seconds"] > 0
    np.testing.assert_allclose(ours["lambda_min"], theirs["lambda_min"])
