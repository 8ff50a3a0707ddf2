"""Unpenalised directions: their basis, the fit along them, the gradient along them in certificates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from jaxreg.linear.null_fit import fit_null_model
from jaxreg.linear.unpenalised import Capacity, count_unpenalised, orthonormal_basis

N = 60


def columns(kind, rng):
    """Five columns that are hard to orthogonalise."""
    X = rng.normal(size=(N, 5))
    if kind == "nearly equal":
        X[:, 1] = X[:, 0] + 0.003 * X[:, 1]
    if kind == "powers":
        X[:, :3] = rng.uniform(20, 90, size=(N, 1)) ** np.arange(1, 4)
    if kind == "scales":
        X *= [1e-9, 1e9, 1e-3, 1.0, 1e3]
    if kind == "dependent":
        X[:, 3] = X[:, 0] + X[:, 1]
    return X


KINDS = ("nearly equal", "powers", "scales", "dependent")


def least_squares(X, y):
    """Half the mean square of the residuals of y on columns and an intercept, in double precision."""
    A = np.c_[X.astype(float), np.ones(len(y))]
    A = A / np.abs(A).max(axis=0)
    residual = y - A @ np.linalg.lstsq(A, y.astype(float), rcond=20 * np.finfo(X.dtype).eps)[0]
    return np.mean(residual**2) / 2


@pytest.mark.parametrize("kind", KINDS)
def test_basis_is_orthonormal_and_spans_the_columns(kind, dtype):
    rng = np.random.default_rng(0)
    X = columns(kind, rng).astype(dtype)
    problem = jr.Problem(jr.losses.SquaredError(), X, X[:, 0], standardize=kind != "scales")
    zero = problem.working_penalty(jr.L1(0.0))
    assert count_unpenalised(problem, zero) == Capacity(5, 0)
    basis = jax.jit(orthonormal_basis, static_argnums=2)(problem, zero, Capacity(5, 0), problem.zeros()[0])
    q, weight = np.asarray(basis.q[0], float), np.asarray(problem.weight, float)
    independent = np.asarray(basis.error[0]) > 0
    assert independent.sum() == (5 if kind == "dependent" else 6)
    gram = (q * weight) @ q.T
    error = np.asarray(basis.error[0], float)
    loose = 50 * np.finfo(dtype).eps * np.maximum(error[:, None], error) + (
        ~independent[:, None] | ~independent
    )
    assert np.all(np.abs(gram - np.eye(6)) <= loose)
    # Every column of the problem lies in the span.
    Z = np.asarray(problem.design.dense(), float)
    rest = Z - q.T @ ((q * weight) @ Z)
    assert np.all(np.abs(rest).max(axis=0) <= 20 * np.finfo(dtype).eps * error.max() * np.abs(Z).max(axis=0))


def test_a_constant_column_has_coefficient_0_in_the_unpenalised_fit():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 6)) * 10.0 ** np.arange(-3, 3), rng.standard_normal(60)
    X[:, 2] = 7.0
    for options in ({}, {"standardize": True}):
        coef, intercept = jr.unpenalized(jr.Problem(jr.losses.SquaredError(), X, y, **options))
        exact = np.linalg.lstsq(np.column_stack([np.delete(X, 2, axis=1), np.ones(60)]), y, rcond=None)[0]
        assert coef[2] == 0
        np.testing.assert_allclose(np.delete(coef, 2), exact[:-1], rtol=1e-9)
        np.testing.assert_allclose(intercept, exact[-1], rtol=1e-9)
        family = functools.partial(jr.L1, weights=np.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0]))
        path = jr.path(jr.Problem(jr.losses.SquaredError(), X, y, **options), family, num=3)
        assert not np.asarray(path.coef[:, 2]).any() and np.asarray(path.coef[:, 4]).all()


@pytest.mark.parametrize("loss", [jr.losses.SquaredError(), jr.losses.Multinomial(3)])
def test_the_basis_of_the_intercept_alone_is_known_while_tracing(loss):
    """It agrees with the basis that is computed where there is room for columns, none of them unpenalised."""
    rng = np.random.default_rng(0)
    problem = jr.Problem(loss, rng.normal(size=(N, 3)), np.arange(N) % 3, sample_weight=rng.random(N))
    penalty, coef = problem.working_penalty(jr.L1(0.1)), problem.zeros()[0]
    known, computed = (orthonormal_basis(problem, penalty, Capacity(k, 0), coef) for k in (0, 1))
    u = jnp.asarray(rng.normal(size=known.error.shape))
    z = jnp.einsum("ck,ckn->nc", u, known.q)
    first = jnp.argmax(jnp.abs(computed.error), axis=1)
    q = jnp.take_along_axis(computed.q, first[:, None, None], axis=1)
    np.testing.assert_allclose(jnp.einsum("ck,ckn->nc", u, q * jnp.sign(q)), z, rtol=1e-14)
    np.testing.assert_allclose(known.change(u, problem)[1].ravel(), u.ravel())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lam", [0.0, 1e3])
def test_unpenalised_columns_are_fitted_to_rounding(kind, lam, dtype):
    """λ = 0, or two unpenalised columns: a converged fit costs at most tol more than least squares."""
    rng = np.random.default_rng(3)
    X = columns(kind, rng).astype(dtype)
    weights = np.where(np.arange(5) < 2, 0.0, 1.0)
    Z = X[:, :2].astype(float)
    z = (Z - Z.mean(axis=0)) / Z.std(axis=0)
    y = (z[:, 1] - z[:, 0]) / (z[:, 1] - z[:, 0]).std() + 0.5 * rng.normal(size=N)
    problem = jr.Problem(jr.losses.SquaredError(), X, y, standardize=True)
    fit = jr.solve(problem, jr.L1(lam, weights=weights), throw=False)
    used = X if lam == 0 else X[:, :2]
    coef, intercept = np.asarray(fit.coef, float), float(fit.intercept)
    cost = np.mean((y - X.astype(float) @ coef - intercept) ** 2) / 2
    best = least_squares(used, y)
    tol = 1e-4 if dtype == jnp.float32 else 1e-6
    true = (cost - best) / best
    if bool(fit.converged):
        assert true <= tol, (true, float(fit.gap))
    else:
        assert float(fit.gap) > tol
    # Only single precision may fail, where the columns are the same up to a few of its digits.
    assert bool(fit.converged) or (dtype == jnp.float32 and kind == "powers")


@pytest.mark.parametrize(
    ("shape", "intercept"),
    [
        ((80, 6), True),
        ((5, 12), False),
        pytest.param((80, 6), False, marks=pytest.mark.slow),
        pytest.param((5, 12), True, marks=pytest.mark.slow),
    ],
)
def test_exact_fits_converge_without_a_penalty(shape, intercept):
    """Noise-free targets leave only rounding errors as residuals, which are no unit for the gap."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape)
    y = X @ (np.arange(shape[1]) - 2.0) + 0.5 * intercept
    problem = jr.Problem(jr.losses.SquaredError(), X, y, intercept=intercept)
    fit = jr.solve(problem, jr.L1(0.0))
    np.testing.assert_allclose(fit.predict(X), y, atol=1e-9)


@pytest.mark.parametrize("loss", [jr.losses.Logistic(), jr.losses.Poisson()])
def test_targets_that_an_unpenalised_column_separates_are_refused(loss):
    """All targets are 0 in the half of the samples that an unpenalised indicator column marks."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 3))
    X[:, 0] = np.arange(N) % 2
    y = X[:, 0] * (np.arange(N) % 3 > 0)
    problem = jr.Problem(loss, X, y)
    penalty = jr.L1(0.1, weights=np.array([0.0, 1.0, 1.0]))
    for call in (jr.solve, lambda *a: jr.certify(*a, np.zeros(3), 0.0)):
        with pytest.raises(ValueError, match="no finite fit"):
            call(problem, penalty)


@pytest.mark.slow
def test_unpenalised_classes_that_all_features_separate_do_not_converge():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 3))
    problem = jr.Problem(jr.losses.Logistic(), X, (X[:, 0] > 0).astype(float))
    fits = jr.path(problem, jr.L1, [0.1, 0.0], max_steps=50)
    assert fits.converged.tolist() == [True, False]


@pytest.mark.slow_except("10000000.0")
@pytest.mark.parametrize("count", [1e6, 1e7])
def test_rounding_of_large_counts_is_part_of_the_gap(count):
    """In single precision the terms of the objective are as large as the counts, their range is not."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(N, 5)).astype("float32")
    y = rng.poisson(count * np.exp(1e-3 * X[:, 0].astype(float))).astype("float32")
    problem = jr.Problem(jr.losses.Poisson(), X, y, standardize=True)
    fits = jr.path(problem, jr.L1, num=5, ratio=0.1)
    exact = jr.Problem(jr.losses.Poisson(), X.astype(float), y.astype(float), standardize=True)
    best = jr.path(exact, jr.L1, fits.lambdas.astype(float), tol=1e-12)
    size = fit_null_model(exact, exact.working_penalty(jr.L1(float(fits.lambdas[0])))).loss_range
    sd = X.astype(float).std(axis=0)
    for k in range(5):
        coef, intercept = np.asarray(fits.coef[k], float), float(fits.intercept[k])
        z = X.astype(float) @ coef + intercept
        cost = np.mean(np.exp(z) - y * z) + float(fits.lambdas[k]) * np.sum(np.abs(coef * sd))
        assert (cost - float(best.objective[k])) / float(size) <= float(fits.gap[k]) + 1e-9


def test_poisson_gap_terms_do_not_cancel():
    rng = np.random.default_rng(0)
    y = rng.poisson(1e7, size=50).astype("float32")
    z = np.log(y + 3 * rng.normal(size=50)).astype("float32")
    v = (0.3 * rng.normal(size=50) * 1e3).astype("float32")
    gap = np.asarray(jr.losses.Poisson().fenchel_gap(jnp.asarray(z), jnp.asarray(y), jnp.asarray(v)))
    mu, m = np.exp(z.astype(np.longdouble)), y.astype(np.longdouble) + v.astype(np.longdouble)
    right = mu - m + m * np.log(m / mu)
    # The error is the rounding of eᶻ, some 10 in 1e7, in a difference that is squared.
    assert np.all(np.abs(gap - right) <= 1e-2 * (1 + right))
