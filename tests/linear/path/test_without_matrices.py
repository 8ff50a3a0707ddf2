"""Newton's method without matrices: by products with the data and conjugate gradients, where many columns are
in use; the same solutions as with them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import jaxreg as jr
from jaxreg._krylov import conjugate_gradients
from jaxreg.linear.path import buffer_sizes
from jaxreg.linear.path.matrix_free_columns import MatrixFreeColumns
from tests.members import compilations

P = jr.penalties
N, COLUMNS = 90, 300
LABELS = np.arange(COLUMNS) // 4
FAMILIES = {
    "L1": jr.L1,
    "ElasticNet": lambda lam: jr.ElasticNet(lam, 0.5),
    "nonnegative": lambda lam: jr.L1(lam) + jr.NonNegative(),
    "GroupL2": lambda lam: jr.GroupL2(lam, LABELS),
    "SparseGroup": lambda lam: jr.SparseGroup(lam, LABELS, 0.5),
}


@pytest.fixture
def limited(monkeypatch):
    """`jr.path` with matrices of so many columns at most."""

    def path(limit, *args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(buffer_sizes, "_MAX_DENSE_COLUMNS", limit)
            patch.setattr(buffer_sizes, "_MAX_SPARSE_COLUMNS", limit)
            return jr.path(*args, mode="warm", **options)

    return path


def problem(loss, sparse=False, p=COLUMNS, dtype=float, **options):
    rng = np.random.default_rng(2)
    X = np.sqrt(0.3) * rng.normal(size=(N, 1)) + np.sqrt(0.7) * rng.normal(size=(N, p))
    X = np.where(rng.random((N, p)) < 0.2, X, 0.0) if sparse else X
    z = X[:, :6] @ np.array([2.0, -1.5, 1.0, -1.0, 0.7, 0.7])
    y = {
        "SquaredError": z + rng.normal(size=N),
        "Logistic": (z > rng.normal(size=N)).astype(float),
        "Poisson": rng.poisson(np.exp(np.clip(0.4 * z, -2, 2))).astype(float),
        "Multinomial": np.argmax(np.c_[z, -z, rng.normal(size=N)], axis=1),
    }[loss]
    member = jr.losses.Multinomial(3) if loss == "Multinomial" else getattr(jr.losses, loss)()
    X = X.astype(dtype)
    return jr.Problem(member, scipy.sparse.csc_matrix(X) if sparse else X, y, **options)


@pytest.mark.slow_except("Logistic-L1-True-False")
@pytest.mark.parametrize(
    ("loss", "name", "sparse", "intercept"),
    [
        ("SquaredError", "GroupL2", True, False),
        ("Logistic", "L1", True, False),
        pytest.param("Poisson", "ElasticNet", False, True, marks=pytest.mark.slow),
        pytest.param("SquaredError", "L1", True, True, marks=pytest.mark.slow),
        pytest.param("SquaredError", "nonnegative", False, False, marks=pytest.mark.slow),
        pytest.param("Logistic", "SparseGroup", True, True, marks=pytest.mark.slow),
        pytest.param("Poisson", "L1", False, True, marks=pytest.mark.slow),
    ],
)
def test_certified_without_matrices(limited, loss, name, sparse, intercept):
    here, family = problem(loss, sparse, intercept=intercept, standardize=True), FAMILIES[name]
    lams = jr.lambda_grid(jr.lambda_max(here, family), 10, 0.1)
    found = limited(8, here, family, lams, tol=1e-9)
    assert bool(found.converged.all()) and "ProximalGradient" not in found.reason, found.reason
    assert float(found.gap.max()) <= 1e-9
    again = jr.certify(here, family(lams[-1]), found.coef[-1], found.intercept[-1])
    assert again.gap <= 2e-9


def test_as_with_matrices(limited):
    here = problem("Logistic", True, intercept=False, standardize=True)
    lams = jr.lambda_grid(jr.lambda_max(here, jr.L1), 10, 0.1)
    found, wanted = (limited(limit, here, jr.L1, lams, tol=1e-9) for limit in (8, COLUMNS))
    np.testing.assert_allclose(found.coef, wanted.coef, atol=1e-5)
    np.testing.assert_allclose(found.objective, wanted.objective, rtol=1e-7)


@pytest.mark.slow
def test_one_solution_of_a_sparse_problem():
    """`jaxreg.solve` makes no dense matrix of it either, nor does a batch of them."""
    here = problem("Logistic", sparse=True)
    lams = jnp.array([0.05, 0.03])
    solve = lambda lam, solver: jr.solve(here, jr.L1(lam), solver=solver, tol=1e-10)  # noqa: E731
    found = jax.vmap(lambda lam: solve(lam, jr.Newton()))(lams)
    assert bool(found.gap.max() <= 1e-10)
    assert jr.certify(here, jr.L1(lams[1]), found.coef[1], found.intercept[1]).gap <= 2e-10


@pytest.mark.slow
def test_several_outputs(limited):
    here = problem("Multinomial", sparse=True)
    lams = jr.lambda_grid(jr.lambda_max(here, P.RowL2), 6, 0.3)
    found = limited(4, here, P.RowL2, lams, tol=1e-8)
    assert bool(found.converged.all()) and "ProximalGradient" not in found.reason
    again = jr.certify(here, P.RowL2(lams[-1]), found.coef[-1], found.intercept[-1])
    assert again.gap <= 2e-8


@pytest.mark.slow
def test_single_precision(limited):
    found = limited(8, problem("Logistic", dtype="float32"), jr.L1, num=8, ratio=0.2)
    assert found.coef.dtype == jnp.float32
    assert bool(found.converged.all()), found


@pytest.mark.slow
def test_not_convex(limited):
    found = limited(4, problem("SquaredError", sparse=True, standardize=True), P.MCP, num=10, ratio=0.3)
    assert bool(found.converged.all())
    assert float(found.kkt.max()) <= 1e-6


@pytest.mark.slow
def test_dependent_columns(limited):
    """Each column twice, and more of them than samples."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(40, 60)), 2, axis=1)
    here = jr.Problem(jr.losses.SquaredError(), X, X[:, 0] - X[:, 4] + rng.normal(size=40))
    found = limited(8, here, jr.L1, num=12, ratio=0.02, tol=1e-8)
    assert bool(found.converged.all()) and float(found.gap.max()) <= 1e-8


@pytest.mark.slow
def test_columns_come_and_go(limited, monkeypatch):
    """Room for a third of the columns: what is missing joins, what is not needed leaves."""
    monkeypatch.setattr(buffer_sizes, "_MIN_MATRIX_FREE", 64)
    rooms = []
    solve = MatrixFreeColumns.solve
    monkeypatch.setattr(
        MatrixFreeColumns, "solve", lambda self, *args: (rooms.append(self.capacity), solve(self, *args))[1]
    )
    here = problem("SquaredError", sparse=True, standardize=True)
    lams = jr.lambda_grid(jr.lambda_max(here, jr.L1), 20, 0.01)
    found = limited(8, here, jr.L1, lams, tol=1e-8)
    assert bool(found.converged.all()) and float(found.gap.max()) <= 1e-8
    assert rooms[-1] == 128 and 64 in rooms
    np.testing.assert_allclose(found.coef, limited(COLUMNS, here, jr.L1, lams, tol=1e-8).coef, atol=1e-5)


def test_a_sparse_path_makes_few_columns_dense(monkeypatch):
    """Beyond some hundreds, columns of a sparse design are never made dense."""
    monkeypatch.setattr(buffer_sizes, "_MAX_SPARSE_COLUMNS", 16)
    monkeypatch.setattr(buffer_sizes, "_FIRST_WITH_INVERSE", 64)
    here = problem("SquaredError", sparse=True, standardize=True)
    found = jr.path(here, jr.L1, num=20, ratio=0.1, mode="warm")
    assert int((found.coef[-1] != 0).sum()) > 32 and "matrix-free for" in found.reason
    assert bool(found.converged.all()) and "ProximalGradient" not in found.reason


def test_without_room_another_solver_goes_on(limited, monkeypatch):
    here = problem("SquaredError", standardize=True)
    monkeypatch.setattr(buffer_sizes, "_MAX_COPIED", 20 * N)
    found = limited(8, here, jr.L1, num=15, ratio=0.01)
    assert bool(found.converged.all())
    assert "ProximalGradient for the" in found.reason


def test_another_path_compiles_nothing(limited):
    options = {"intercept": False, "standardize": True}
    first, second = (
        problem("Logistic", True, **options),
        problem("Logistic", True, sample_weight=np.linspace(1.0, 2.0, N), **options),
    )
    limited(8, first, jr.L1, num=10, ratio=0.2)
    assert compilations(lambda: limited(8, second, jr.L1, num=10, ratio=0.25)) == 0


def test_conjugate_gradients():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(30, 60))
    A, right = jnp.asarray(A @ A.T), jnp.asarray(rng.normal(size=30))
    inverse = 1 / jnp.diagonal(A)
    call = (lambda x: A @ x, lambda r: inverse * r, right)
    found = conjugate_gradients(*call, jnp.array(1e-10), 200)
    np.testing.assert_allclose(A @ found, right, atol=1e-9)
    assert not np.any(conjugate_gradients(*call, jnp.array(1e9), 200))
    # Where the matrix is not positive it ends, with numbers.
    odd = conjugate_gradients(lambda x: -x, lambda r: r, right, jnp.array(1e-10), 200)
    assert not np.any(odd)
