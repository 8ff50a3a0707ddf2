"""Degrees of freedom against closed forms and against derivatives of the fit by differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from jaxreg import losses as L
from jaxreg.linear import divergence as module

N, p = 24, 6
rng = np.random.default_rng(2)
X = rng.normal(size=(N, p)) + rng.normal(size=(N, 1))
Y = X @ np.array([1.0, -1, 0.5, 0, 0, 0]) + 0.5 * rng.normal(size=N)
GROUP = np.array([0, 0, 0, 1, 1, 2])
LAMS = np.array([0.3, 0.05, 0.01])


def degrees(problem, family, lams=LAMS):
    path = jr.path(problem, family, lams, tol=1e-13)
    grid = problem.working_grid(family, path.lambdas)
    return path, np.asarray(module.divergence(problem, grid, path.coef, path.intercept))


def by_differences(family, lam, h=1e-5, **options):
    """Return Σ ∂ŷᵢ/∂yᵢ by differences of refits, less 1 for the intercept."""
    X_ = jnp.asarray(X)

    @jax.jit
    def predictions(Y):
        def fit(y):
            solution = jr.solve(
                jr.Problem(L.SquaredError(), X_, y, **options), family(lam), tol=1e-20, throw=False
            )
            return solution.linear(X_)

        return jax.vmap(fit)(Y)

    moved = predictions(jnp.concatenate([Y + h * np.eye(N), Y - h * np.eye(N)]))
    return np.trace(moved[:N] - moved[N:]) / (2 * h) - 1


def test_lasso_ridge_and_elastic_net_have_their_closed_forms():
    problem = jr.Problem(L.SquaredError(), X, Y)
    A = X - X.mean(axis=0)
    path, got = degrees(problem, jr.L1)
    np.testing.assert_allclose(got, np.count_nonzero(path.coef, axis=1), atol=1e-8)
    s2 = np.linalg.eigvalsh(A.T @ A / N)
    np.testing.assert_allclose(degrees(problem, jr.SquaredL2)[1], [np.sum(s2 / (s2 + lam)) for lam in LAMS])
    path, got = degrees(problem, lambda lam: jr.ElasticNet(lam, 0.5))
    for coef, lam, df in zip(np.asarray(path.coef), LAMS, got, strict=True):
        S = A[:, coef != 0]
        wanted = np.trace(S @ np.linalg.solve(S.T @ S + N * lam / 2 * np.eye(S.shape[1]), S.T))
        np.testing.assert_allclose(df, wanted, atol=1e-7)


def test_the_orthonormal_group_lasso_has_the_formula_of_yuan_and_lin():
    Q = np.sqrt(N) * np.linalg.qr(X - X.mean(axis=0))[0]
    problem = jr.Problem(L.SquaredError(), Q, Y)
    path, got = degrees(problem, lambda lam: jr.GroupL2(lam, GROUP))
    least_squares = Q.T @ (Y - Y.mean()) / N
    for coef, df in zip(np.asarray(path.coef), got, strict=True):
        wanted = 0.0
        for g in range(3):
            norm, size = np.linalg.norm(coef[g == GROUP]), np.sum(g == GROUP)
            wanted += (norm > 0) + norm / np.linalg.norm(least_squares[g == GROUP]) * (size - 1)
        np.testing.assert_allclose(df, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("family", "lam"),
    [
        pytest.param(
            lambda lam: jr.GroupL2(lam, GROUP), 0.05, id="correlated groups", marks=pytest.mark.slow
        ),
        pytest.param(jr.penalties.TotalVariation, 0.05, id="total variation"),
    ],
)
def test_the_divergence_is_the_derivative_of_the_predictions(family, lam):
    options = {"standardize": True}
    _, got = degrees(jr.Problem(L.SquaredError(), X, Y, **options), family, [lam])
    np.testing.assert_allclose(got[0], by_differences(family, lam, **options), atol=2e-4)


def test_the_intercept_of_a_glm_is_profiled_out():
    y = (Y > 0).astype(float)
    path, got = degrees(jr.Problem(L.Logistic(), X, y), jr.SquaredL2)
    A = np.column_stack([X, np.ones(N)])
    for k, lam in enumerate(LAMS):
        mean = np.asarray(path.predict(X)[k])
        H = A.T * (mean * (1 - mean) / N) @ A
        wanted = np.trace(np.linalg.solve(H + lam * np.diag([1.0] * p + [0]), H)) - 1
        np.testing.assert_allclose(got[k], wanted, atol=1e-6)


@pytest.mark.slow
def test_classes_and_columns_that_change_nothing_have_no_degrees_of_freedom():
    labels = np.digitize(Y, [-0.7, 0.7])
    problem = jr.Problem(L.Multinomial(), np.column_stack([X[:, :2], np.ones(N)]), labels)
    _, got = degrees(problem, jr.SquaredL2, [1e3, 1e-7])
    np.testing.assert_allclose(got, [0, 4], atol=0.05)  # 2 features × (3 − 1) classes


@pytest.mark.slow
def test_more_features_than_samples():
    wide = np.tile(X[:8], (1, 5)) + 0.1 * rng.normal(size=(8, 30))
    path, got = degrees(jr.Problem(L.SquaredError(), wide, Y[:8]), jr.L1, [0.5, 0.05])
    np.testing.assert_allclose(got, np.count_nonzero(path.coef, axis=1), atol=1e-6)


@pytest.mark.slow
def test_hutchinson_estimates_the_exact_trace(monkeypatch):
    problem = jr.Problem(L.SquaredError(), X, Y)
    _, exact = degrees(problem, jr.SquaredL2, [0.05])
    monkeypatch.setattr(module, "_MAX_EXACT", 2)
    _, estimate = degrees(problem, jr.SquaredL2, [0.05])
    assert 0 < abs(exact[0] - estimate[0]) < 0.3
