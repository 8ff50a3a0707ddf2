"""Shrinkage and calibration against the numbers of F. E. Harrell's package rms (tests/references/rms.R)."""

import csv
import pathlib

import numpy as np
import pytest

import jaxreg as jr

P, TRAIN = 5, 60
i, j = np.arange(1, 121)[:, None], np.arange(1, P + 1)
X = np.sin(i * j * 0.37 + j**2) + 0.3 * np.cos(1.7 * i) + j / 10
NOISE = np.cos(i[:, 0] ** 2 * 0.71)
Z = X[:, 0] - 0.8 * X[:, 1] + 0.5 * X[:, 3]
MODELS = {
    "ols": (jr.losses.SquaredError(), 3 * Z + 4 * NOISE),
    "lrm": (jr.losses.Logistic(), (Z - Z.mean() + 1.6 * NOISE > 0).astype(float)),
}
with (pathlib.Path(__file__).parents[2] / "references" / "rms.csv").open() as file:
    RMS = {
        (row["model"], row["quantity"]): float(row["value"]) for row in csv.DictReader(file.readlines()[1:])
    }


def problem(model: str) -> jr.Problem:
    loss, y = MODELS[model]
    return jr.Problem(loss, X[:TRAIN], y[:TRAIN])


@pytest.mark.parametrize("model", MODELS)
def test_calibration_on_new_rows(model):
    loss, y = MODELS[model]
    coef, intercept = jr.unpenalized(problem(model))
    z = X[TRAIN:] @ np.asarray(coef) + float(intercept)
    found = jr.metrics.calibration(loss, z, y[TRAIN:])
    wanted = [RMS[model, f"{name} on new rows"] for name in ("intercept", "slope")]
    # The fits of rms on new rows stop at six digits.
    np.testing.assert_allclose([found.intercept, found.slope], wanted, rtol=2e-5)
    if model == "lrm":
        np.testing.assert_allclose(jr.metrics.auc(z, y[TRAIN:]), RMS["lrm", "AUC on new rows"], rtol=1e-10)


def test_the_heuristic_factors():
    ratio, r2 = RMS["lrm", "likelihood ratio"], RMS["ols", "R2"]
    np.testing.assert_allclose(jr.shrinkage.heuristic_factor(problem("lrm")), (ratio - P) / ratio, rtol=1e-6)
    adjusted = 1 - (1 - r2) * (TRAIN - 1) / (TRAIN - P - 1)
    wanted = (TRAIN - P - 1) / (TRAIN - 1) * adjusted / r2
    np.testing.assert_allclose(jr.shrinkage.heuristic_factor(problem("ols")), wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("model", "quantities"),
    [("ols", {"R2": "R-square", "slope": "Slope"}), ("lrm", {"Dxy": "Dxy", "slope": "Slope"})],
    ids=["ols", "lrm"],
)
@pytest.mark.slow_except("ols")
def test_optimism_by_the_bootstrap(model, quantities):
    """A tiny ridge stands for no penalty; rms draws 20,000 samples, so that the error is ours."""
    found = jr.shrinkage.optimism(problem(model), jr.SquaredL2(1e-6), replicates=400, solver=jr.Newton())
    error = dict(zip(found.names, 4 * found.standard_error, strict=True))
    optimism = dict(zip(found.names, found.optimism, strict=True))
    for ours, theirs in quantities.items():
        wanted = RMS[model, f"{theirs} training"] - RMS[model, f"{theirs} test"]
        assert abs(optimism[ours] - wanted) < error[ours] < abs(wanted), ours
