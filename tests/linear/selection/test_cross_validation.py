"""Cross-validation against glmnet's numbers, and against a loop of paths over the rows of each fold."""

import csv
import pathlib
import warnings
from itertools import groupby

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from sklearn.model_selection import TimeSeriesSplit

import jaxreg as jr
from jaxreg import losses as L
from tests.members import compilations

N, P = 80, 10
#: The data of tests/references/cv_glmnet.R.
_i, _j = np.arange(1.0, N + 1)[:, None], np.arange(1.0, P + 1)
X = np.sin(_i * _j * 0.37 + _j**2) + 0.3 * np.cos(1.7 * _i) + _j / 10
NOISE = np.cos(_i[:, 0] ** 2 * 0.71)
Z = X[:, 0] - 0.8 * X[:, 1] + 0.5 * X[:, 3]
WEIGHT = 1 + np.arange(1.0, N + 1) % 3
FOLD_OF = (np.arange(1, N + 1) * 7) % 5
TARGETS = {
    "gaussian": (L.SquaredError(), 3 * Z + 2 * NOISE),
    "binomial": (L.Logistic(), (Z - Z.mean() + 0.8 * NOISE > 0).astype(float)),
    "poisson": (L.Poisson(), np.round(np.exp(0.8 * (Z - Z.mean()) + 0.5 * NOISE))),
    "multinomial": (L.Multinomial(), np.digitize(Z + 0.8 * NOISE, [-0.2, 0.9], right=True)),
    "mgaussian": (L.SquaredError(), np.column_stack([3 * Z + 2 * NOISE, X[:, 2] - Z + NOISE])),
}
METRICS = {"mae": "absolute_error", "class": "misclassification", "auc": "auc"}

with (pathlib.Path(__file__).parents[2] / "references" / "cv_glmnet.csv").open() as file:
    _rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
CASES = {case: list(rows) for case, rows in groupby(_rows, key=lambda row: row["case"])}


def problem(name="gaussian", rows=slice(None), **options):  # noqa: B008
    loss, y = TARGETS[name]
    return jr.Problem(loss, X[rows], y[rows], **options)


@pytest.mark.parametrize("case", CASES)
def test_glmnet_agrees(case):
    rows, (name, *extra) = CASES[case], case.split()
    lambdas, cvm, cvsd = (np.array([float(row[key]) for row in rows]) for key in ("lambda", "cvm", "cvsd"))
    metric = next((METRICS[word] for word in extra if word in METRICS), "deviance")
    weighted = "weights" in extra or metric == "auc"
    data = problem(name, standardize="raw" not in extra, sample_weight=WEIGHT if weighted else None)
    family = jr.RowL2 if name == "mgaussian" else jr.L1
    cv = jr.cross_validate(data, family, lambdas, folds=FOLD_OF, metric=metric, tol=1e-13)
    # glmnet clips probabilities to [1e-5, 1 − 1e-5] in its scores, which changes a deviance by 1.1e-6.
    np.testing.assert_allclose(cv.mean, cvm, rtol=2e-6 if name == "binomial" else 1e-6)
    np.testing.assert_allclose(cv.se, cvsd, rtol=2e-6 if name == "binomial" else 1e-6)
    assert (cv.index_min, cv.index_1se) == (int(rows[0]["index_min"]), int(rows[0]["index_1se"]))
