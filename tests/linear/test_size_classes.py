"""Size classes: the classes, equal results with and without added rows, and programs that are shared."""

import jax
import numpy as np
import pytest
import scipy.sparse

import jaxreg as jr
from jaxreg.linear import size_classes
from jaxreg.linear.path import path as path_module
from jaxreg.linear.size_classes import grid_size_class, in_size_class, size_class
from tests.members import LOSSES, compilations, problem, targets


def test_size_classes_are_few_and_close():
    classes = np.array([size_class(n) for n in range(1, 5000)])
    assert np.all(classes >= np.arange(1, 5000)) and np.all(np.diff(classes) >= 0)
    assert np.all(classes[128:] <= 1.25 * np.arange(129, 5000)) and np.all(classes < 2 * np.arange(1, 5000))
    assert len(set(classes)) < 40 and all(size_class(n) == n for n in classes)


def test_grids_have_few_lengths_too():
    classes = np.array([grid_size_class(length) for length in range(1, 1001)])
    assert np.all(classes >= np.arange(1, 1001)) and np.all(classes[10:] <= 2 * np.arange(11, 1001))
    assert set(classes) == {10, 20, 30, 50, 100, 200, 300, 500, 1000}


def test_grids_of_a_size_class_share_their_programs():
    """Lengths 12 and 17 compile as 20, whose last λ are repeated and not returned."""
    here = problem("Logistic", n=60, p=6)
    fits = {num: jr.path(here, jr.L1, num=num, tol=1e-9) for num in (20, 12)}
    assert compilations(lambda: jr.path(here, jr.L1, fits[20].lambdas[:17]).coef) <= 1  # The slice itself.
    assert fits[12].coef.shape == (12, 6) and fits[12].converged.shape == (12,)
    first = jr.path(here, jr.L1, np.asarray(fits[20].lambdas)[:12], tol=1e-9)
    np.testing.assert_allclose(first.coef, fits[20].coef[:12], atol=1e-5)


@pytest.mark.slow_except("SquaredError", "Poisson")
@pytest.mark.parametrize("name", list(LOSSES))
def test_added_rows_change_nothing(name, monkeypatch):
    """Weights, offset, and a first row so far off that its loss overflows, of weight 0 as its copies."""
    rng = np.random.default_rng(1)
    n, p = 53, 8
    X = rng.normal(size=(n, p)) + 5.0
    y = targets(name, X[:, 0] - X[:, 1], rng)
    X[0] *= 1e3
    offset = 0.1 * rng.normal(size=(n, 3) if name == "Multinomial" else n)
    weight = np.r_[0.0, rng.uniform(0.5, 2, n - 1)]
    here = jr.Problem(LOSSES[name], X, y, sample_weight=weight, offset=offset)
    padded = in_size_class(here)
    assert padded.y.shape[0] == padded.design.shape[0] == 64 and float(padded.weight.sum()) == pytest.approx(
        1
    )

    fits = jr.path(here, jr.L1, num=8, ratio=1e-2, tol=1e-9)
    certified = jr.certify(here, jr.L1(fits.lambdas[-1]), fits.coef[-1], fits.intercept[-1])
    monkeypatch.setattr(path_module, "in_size_class", lambda problem: problem)
    plain = jr.path(here, jr.L1, num=8, ratio=1e-2, tol=1e-9)
    assert fits.converged.all() and plain.converged.all()
    for field in ("lambdas", "coef", "intercept", "objective"):
        np.testing.assert_allclose(getattr(fits, field), getattr(plain, field), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(fits.coef == 0, plain.coef == 0)
    assert certified.gap <= 2e-9


@pytest.mark.slow_except("Logistic")
@pytest.mark.parametrize("loss", ["SquaredError", "Logistic"])
def test_data_of_the_same_size_class_compile_nothing(loss):
    def fit(n):
        here = problem(loss, n=n, p=6)
        fits, one = jr.path(here, jr.L1, num=20), jr.solve(here, jr.L1(0.1))
        certificate = jr.certify(here, jr.L1(0.1), one.coef, one.intercept)
        return [x for x in jax.tree.leaves((fits, one, certificate)) if isinstance(x, jax.Array)]

    fit(125)
    assert compilations(lambda: fit(115)) == 0


def test_large_sparse_and_traced_problems_stay(monkeypatch):
    X = np.random.default_rng(0).normal(size=(50, 4))
    sparse = jr.Problem(LOSSES["SquaredError"], scipy.sparse.csr_matrix(X * (X > 0)), X[:, 0])
    assert in_size_class(sparse) is sparse
    dense = jr.Problem(LOSSES["SquaredError"], X, X[:, 0])
    assert in_size_class(dense).shape[0] == 64
    shapes = []
    jax.make_jaxpr(lambda y: shapes.append(in_size_class(jr.Problem(LOSSES["SquaredError"], X, y)).shape))(
        X[:, 0]
    )
    assert shapes == [(50, 4)]
    monkeypatch.setattr(size_classes, "_MAX_ENTRIES", 199)
    assert in_size_class(dense) is dense


def test_rows_that_are_a_class_are_not_copied():
    here = problem("SquaredError", n=64)
    assert in_size_class(here) is here
