"""Ridge paths by one eigendecomposition: closed forms, all shapes and dtypes, and what is not a ridge."""

import jax
import numpy as np
import pytest
import scipy.sparse

import jaxreg as jr
from jaxreg.linear.path import ridge

NUM = 5


def problem(n=30, p=8, outputs=(), dtype=float, **options):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, p)) * np.linspace(0.2, 3, p) + 1
    y = X[:, :2].sum(axis=1).reshape(n, *(1,) * len(outputs)) + rng.normal(size=(n, *outputs))
    return jr.Problem(jr.losses.SquaredError(), X.astype(dtype), y.astype(dtype), **options)


@pytest.mark.parametrize("outputs", [(), (3,)], ids=["one output", "three outputs"])
@pytest.mark.parametrize(("n", "p"), [(30, 8), (12, 40), (620, 530)], ids=["tall", "wide", "no Gram matrix"])
def test_the_normal_equations_hold(n, p, outputs):
    weight = 1.0 + np.arange(n) % 3
    weight[:2] = 0
    here = problem(n, p, outputs, standardize=True, sample_weight=weight)
    found = jr.path(here, jr.SquaredL2, num=NUM)
    assert found.reason.startswith("one eigendecomposition"), found.reason
    assert bool(found.converged.all()) and float(found.gap.max()) <= 1e-12
    # On standardised features: XᵀW(y − Xw − b) = λw.
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, p)) * np.linspace(0.2, 3, p) + 1
    y = X[:, :2].sum(axis=1).reshape(n, *(1,) * len(outputs)) + rng.normal(size=(n, *outputs))
    w = weight / weight.sum()
    scale = np.sqrt(w @ (X - w @ X) ** 2)
    for k in range(NUM):
        coef, intercept = np.asarray(found.coef[k]), np.asarray(found.intercept[k])
        residual = (w * (y - X @ coef - intercept).T).T
        np.testing.assert_allclose(residual.sum(axis=0), 0, atol=1e-13)
        left = (X.T @ residual).T / scale
        np.testing.assert_allclose(left, float(found.lambdas[k]) * coef.T * scale, atol=1e-10)


def test_single_precision():
    """The decomposition is in double precision whatever the dtype of X, and so reaches the smallest λ."""
    here = problem(outputs=(2,), dtype=np.float32)
    lams = jr.lambda_grid(jr.lambda_max(here, jr.SquaredL2), NUM, 1e-10)
    found, exact = jr.path(here, jr.SquaredL2, lams), jr.path(problem(outputs=(2,)), jr.SquaredL2, lams)
    assert found.coef.dtype == np.float32 and bool(found.converged.all())
    np.testing.assert_allclose(found.coef, exact.coef, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("outputs", [(), (3,)], ids=["one output", "three outputs"])
@pytest.mark.parametrize(("n", "p"), [(30, 8), (12, 40), (620, 530)], ids=["tall", "wide", "no Gram matrix"])
def test_constant_columns_have_a_weight_of_exactly_0(n, p, outputs, standardize):
    rng = np.random.default_rng(3)
    X, constant = rng.normal(size=(n, p)), [1, 4, p - 1]
    X[:, constant] = [0.0, 0.1, 1e6 / 3]
    y = X[:, 0].reshape(n, *(1,) * len(outputs)) + rng.normal(size=(n, *outputs))
    found = jr.path(
        jr.Problem(jr.losses.SquaredError(), X, y, standardize=standardize), jr.SquaredL2, num=NUM
    )
    assert found.reason.startswith("one eigendecomposition"), found.reason
    assert (np.asarray(found.coef)[:, constant] == 0).all()
    assert (np.asarray(found.coef)[:, [0, 2, 3]] != 0).all()


def test_dependent_columns_share_their_weight():
    X = np.sin(np.arange(60.0)).reshape(20, 3)
    here = jr.Problem(
        jr.losses.SquaredError(), np.column_stack([X, X[:, 0], np.ones(20)]), X @ [1.0, 2.0, 3.0]
    )
    found = jr.path(here, jr.SquaredL2, num=NUM)
    assert bool(found.converged.all())
    np.testing.assert_allclose(found.coef[:, 0], found.coef[:, 3], rtol=1e-9)
    assert not np.any(found.coef[:, 4])


OTHERS = {
    "a slope": lambda lam: jr.ElasticNet(lam, 0.5),
    "bounds": lambda lam: jr.SquaredL2(lam) + jr.NonNegative(),
    "factors": lambda lam: jr.SquaredL2(lam, weights=np.arange(1.0, 9.0)),
    "blocks": lambda lam: jr.GroupL2(lam, np.arange(8) // 2),
}


@pytest.mark.parametrize("family", OTHERS.values(), ids=OTHERS)
def test_other_penalties_are_not_ridges(family):
    here = problem()
    assert not ridge.is_ridge(here, here.working_grid(family, np.array([1.0, 0.1])))


def test_large_data_are_not_copied(monkeypatch):
    """Without a copy a path works on the Gram matrix of a tall X in float64, or by Newton's method."""
    monkeypatch.setattr(ridge, "_MAX_COPIED", 100)
    lams = np.array([1.0, 0.1])
    tall, wide, single = problem(), problem(12, 40), problem(dtype=np.float32)
    found = [ridge.is_ridge(here, here.working_grid(jr.SquaredL2, lams)) for here in (tall, wide, single)]
    assert found == [True, False, False]


def test_what_else_is_not_a_ridge():
    here, lams = problem(), np.array([1.0, 0.1])
    grid = here.working_grid(jr.SquaredL2, lams)
    assert ridge.is_ridge(here, grid)
    assert not ridge.is_ridge(here, here.working_grid(jr.SquaredL2, np.array([1.0, 0.0])))
    X = scipy.sparse.random(30, 8, 0.3, random_state=0, format="csr")
    assert not ridge.is_ridge(jr.Problem(jr.losses.SquaredError(), X, np.arange(30.0)), grid)
    assert not ridge.is_ridge(jr.Problem(jr.losses.Huber(), np.eye(8), np.arange(8.0)), grid)
    by_newton = jr.path(here, jr.SquaredL2, lams, solver=jr.Newton())
    assert by_newton.reason.startswith("Newton")
    np.testing.assert_allclose(by_newton.coef, jr.path(here, jr.SquaredL2, lams).coef, atol=1e-9)


def test_it_has_derivatives():
    """w = (G + λI)⁻¹b has the derivative −(G + λI)⁻¹w in λ."""
    here, lams = problem(intercept=False), np.array([1.0, 0.1])
    X = np.asarray(here.design.dense())
    gram = X.T @ X / len(X)
    _, slope = jax.jvp(lambda lams: jr.path(here, jr.SquaredL2, lams).coef, (lams,), (np.ones(2),))
    coef = jr.path(here, jr.SquaredL2, lams).coef
    for k, lam in enumerate(lams):
        np.testing.assert_allclose(slope[k], -np.linalg.solve(gram + lam * np.eye(8), coef[k]), atol=1e-9)
