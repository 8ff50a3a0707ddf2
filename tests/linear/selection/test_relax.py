"""Relaxed fits against unpenalised fits on the columns of each support."""

import pathlib

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression

import jaxreg as jr
from jaxreg import losses as L

N, p = 40, 8
rng = np.random.default_rng(4)
X = 2 + rng.normal(size=(N, p))
Y = X @ np.array([1.5, -1, 0.5, 0, 0, 0, 0, 0]) + rng.normal(size=N)
WEIGHT, OFFSET = rng.uniform(0.5, 2, size=N), 0.3 * rng.normal(size=N)
CLASS = (Y + 2 * rng.normal(size=N) > 2).astype(float)
COUNT = rng.poisson(np.exp(np.clip(0.5 * Y, -2, 2))).astype(float)
OPTIONS = {"sample_weight": WEIGHT, "offset": OFFSET}


def huber(residual):
    """Return the derivative of the Huber loss, and the weight of iteratively reweighted least squares."""
    gradient = np.clip(residual, -1.0, 1.0)
    return gradient, gradient / residual


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


#: First and second derivative of each loss in the predictor z.
DERIVATIVES = {
    L.SquaredError: lambda z, y: (z - y, np.ones_like(z)),
    L.Logistic: lambda z, y: (sigmoid(z) - y, sigmoid(z) * sigmoid(-z)),
    L.Poisson: lambda z, y: (np.exp(z) - y, np.exp(z)),
    L.Huber: lambda z, y: huber(z - y),
}


def unpenalised(loss, features, y):
    """Return coefficients and intercept of the unpenalised fit with WEIGHT and OFFSET, by Newton's method."""
    A = np.column_stack([features, np.ones(N)])
    w = np.zeros(A.shape[1])
    w[-1] = np.log(y.mean()) if isinstance(loss, L.Poisson) else 0.0
    for _ in range(100):
        gradient, curvature = DERIVATIVES[type(loss)](A @ w + OFFSET, y)
        w -= np.linalg.solve(A.T * (WEIGHT * curvature) @ A, A.T @ (WEIGHT * gradient))
    return w[:-1], w[-1]


@pytest.mark.slow_except("squared error", "logistic")
@pytest.mark.parametrize(
    ("loss", "y"),
    [(L.SquaredError(), Y), (L.Logistic(), CLASS), (L.Poisson(), COUNT), (L.Huber(1.0), Y)],
    ids=["squared error", "logistic", "poisson", "huber"],
)
def test_relaxed_fits_are_unpenalised_fits_on_the_supports(loss, y):
    problem = jr.Problem(loss, X, y, standardize=True, **OPTIONS)
    path = jr.path(problem, jr.L1, num=6, ratio=0.05)
    relaxed = jr.relax(path, problem)
    coefs, intercepts, supports = (np.asarray(x) for x in (relaxed.coef, relaxed.intercept, path.coef != 0))
    assert np.all(relaxed.relaxed) and np.array_equal(coefs != 0, supports)
    for coef, intercept, chosen in zip(coefs, intercepts, supports, strict=True):
        if np.any(chosen):
            wanted, wanted_intercept = unpenalised(loss, X[:, chosen], y)
            np.testing.assert_allclose(coef[chosen], wanted, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(intercept, wanted_intercept, rtol=1e-5, atol=1e-6)


def test_glmnet_agrees():
    diabetes, cancer = load_diabetes(), load_breast_cancer()
    data = {
        "gaussian": (L.SquaredError(), diabetes.data * 20, diabetes.target, 3.0),
        "binomial": (L.Logistic(), cancer.data[:, :10], cancer.target.astype(float), 0.02),
    }
    file = pathlib.Path(__file__).parents[2] / "references" / "glmnet_relaxed.csv"
    rows = [line.split(",") for line in file.read_text().splitlines()[4:]]
    for kind in data:
        loss, features, y, lam = data[kind]
        problem = jr.Problem(loss, features, y, standardize=True)
        relaxed = jr.relax(jr.path(problem, jr.L1, [lam], tol=1e-12), problem)
        for row in (row for row in rows if row[0] == kind):
            wanted, found = np.array(row[2:], float), relaxed.at_gamma(float(row[1]))
            got = [*found.intercept, *found.coef[0]]
            np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


def test_gamma_mixes_both_fits():
    problem = jr.Problem(L.SquaredError(), X, Y)
    path = jr.path(problem, jr.L1, num=6, ratio=0.05)
    relaxed = jr.relax(path, problem, gamma=0.25)
    ends = relaxed.at_gamma(1.0), relaxed.at_gamma(0.0)
    np.testing.assert_array_equal(ends[0].coef, path.coef)
    np.testing.assert_array_equal(ends[1].coef, jr.relax(path, problem).coef)
    mixed = 0.25 * ends[0].linear(X) + 0.75 * ends[1].linear(X)
    np.testing.assert_allclose(relaxed.linear(X), mixed, rtol=1e-12)
    assert relaxed.gamma == 0.25 and relaxed.predict(X).shape == (6, N)


def test_each_support_is_fitted_once(monkeypatch):
    from jaxreg.linear.selection import relax as module

    problem = jr.Problem(L.SquaredError(), X, Y)
    path = jr.path(problem, jr.L1, num=40)
    fitted, fit = [], module._unpenalised_fits
    monkeypatch.setattr(module, "_unpenalised_fits", lambda *args: fitted.append(args[2]) or fit(*args))
    jr.relax(path, problem)
    different = {row.tobytes() for row in np.asarray(path.coef != 0)}
    assert len(fitted) == 1 and len(fitted[0]) == len(different) < 40


@pytest.mark.slow
def test_supports_without_a_unique_finite_fit_stay_penalised():
    twin = np.column_stack([X, X[:, 0]])
    problem = jr.Problem(L.SquaredError(), twin, Y)
    path = jr.path(problem, lambda lam: jr.ElasticNet(lam, 0.5), [1.0, 0.1])
    relaxed = jr.relax(path, problem)
    coef = np.asarray(path.coef)
    both = (coef[:, 0] != 0) & (coef[:, -1] != 0)
    assert both.any() and relaxed.relaxed.tolist() == (~both).tolist()
    np.testing.assert_array_equal(np.asarray(relaxed.coef)[both], coef[both])

    few = jr.Problem(L.SquaredError(), X[:6], Y[:6])
    path = jr.path(few, jr.SquaredL2, [0.1])
    assert not np.any(jr.relax(path, few).relaxed), "8 coefficients of 6 samples"

    separated = jr.Problem(L.Logistic(), X, (X[:, 0] > 2).astype(float))
    path = jr.path(separated, jr.L1, [0.1])
    assert np.asarray(path.coef)[0, 0] != 0 and not np.any(jr.relax(path, separated).relaxed)


@pytest.mark.slow
def test_several_outputs_and_classes():
    targets = np.stack([Y, -2 * X[:, 3] + Y / 2], axis=1)
    both = jr.Problem(L.SquaredError(), X, targets)
    path = jr.path(both, jr.L1, [0.4])
    coef, found = np.asarray(path.coef), np.asarray(jr.relax(path, both).coef)
    for k in range(2):
        chosen = coef[0, :, k] != 0
        wanted = np.linalg.lstsq(np.column_stack([X[:, chosen], np.ones(N)]), targets[:, k], rcond=None)[0]
        np.testing.assert_allclose(found[0, chosen, k], wanted[:-1], atol=1e-7)
        assert not found[0, ~chosen, k].any()

    labels = np.digitize(Y + 3 * rng.normal(size=N), [1.0, 3.0])
    classes = jr.Problem(L.Multinomial(), X, labels)
    path = jr.path(classes, jr.L1, [0.08])
    relaxed = jr.relax(path, classes)
    chosen = np.any(np.asarray(path.coef)[0], axis=1)
    assert np.all(relaxed.relaxed) and 0 < chosen.sum() < p
    peer = LogisticRegression(C=1e9, tol=1e-10, max_iter=10_000).fit(X[:, chosen], labels)
    np.testing.assert_allclose(relaxed.predict(X)[0], peer.predict_proba(X[:, chosen]), atol=1e-5)


@pytest.mark.slow
def test_sparse_features_in_single_precision():
    features = scipy.sparse.csr_matrix(np.where(rng.uniform(size=X.shape) < 0.5, X, 0.0).astype(np.float32))
    problem = jr.Problem(L.SquaredError(), features, Y.astype(np.float32), standardize=True)
    path = jr.path(problem, jr.L1, [0.3])
    found, chosen = np.asarray(jr.relax(path, problem).coef), np.asarray(path.coef)[0] != 0
    A = np.column_stack([features.toarray()[:, chosen], np.ones(N)])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, chosen], np.linalg.lstsq(A, Y)[0][:-1], rtol=1e-3, atol=1e-4)


def test_bad_input():
    problem = jr.Problem(L.SquaredError(), X, Y)
    path = jr.path(problem, jr.L1, num=6, ratio=0.05)
    with pytest.raises(ValueError, match="gamma must be one number"):
        jr.relax(path, problem, gamma=1.5)
    with pytest.raises(TypeError, match="relax takes no family"):
        jr.relax(path, problem, jr.L1)
    with pytest.raises(TypeError, match="must be a Path"):
        jr.relax(problem, path)
    with pytest.raises(ValueError, match="coefficients of shape"):
        jr.relax(path, jr.Problem(L.SquaredError(), X[:, :3], Y))


def test_str_is_one_line():
    problem = jr.Problem(jr.losses.SquaredError(), X, X[:, 0] + 0.1 * X[:, 1])
    path = jr.path(problem, jr.L1, num=4)
    text = str(jr.relax(path, problem, gamma=0.5))
    nonzero = np.sum(np.asarray(path.coef) != 0, axis=1)
    p = X.shape[1]
    assert text.startswith("RelaxedPath: γ = 0.5, 4 λ from ") and "\n" not in text
    assert f"{nonzero[0]} to {nonzero[-1]} of {p} weights nonzero, 4 of 4 supports refitted" in text
