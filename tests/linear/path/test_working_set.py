"""Paths on working sets: the same as without, on every kind of design; what is certified is certified on
all columns.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxreg as jr
from jaxreg.linear.design import SparseDesign
from jaxreg.linear.path import kernels
from jaxreg.linear.path.matrix_columns import MatrixColumns
from jaxreg.linear.solvers import _active_inverse
from tests.members import compilations

P = jr.penalties
#: On an accelerator "auto" is not warm.
warm = functools.partial(jr.path, mode="warm")
N, COLUMNS = 92, 600  # of most tests, which then share their programs; N is a multiple of four devices
LABELS = np.arange(COLUMNS) // 4
NUM = 10  # λ of most grids: each number compiles its own programs
FAMILIES = {
    "L1": jr.L1,
    "ElasticNet": lambda lam: jr.ElasticNet(lam, 0.5),
    "factors": lambda lam: jr.L1(
        lam, weights=np.where(np.arange(COLUMNS) < 2, 0.0, 1 + np.arange(COLUMNS) % 3)
    ),
    "nonnegative": lambda lam: jr.L1(lam) + jr.NonNegative(),
    "GroupL2": lambda lam: jr.GroupL2(lam, LABELS),
    "SparseGroup": lambda lam: jr.SparseGroup(lam, LABELS, 0.5),
}


def wide(loss, n=N, p=COLUMNS, dtype=float, **options):
    rng = np.random.default_rng(5)
    X = np.sqrt(0.3) * rng.normal(size=(n, 1)) + np.sqrt(0.7) * rng.normal(size=(n, p)) + 0.5
    z = X[:, :8] @ np.array([2.0, -1.5, 1.0, -1.0, 0.7, 0.7, -0.5, 0.4])
    y = {
        "SquaredError": z + rng.normal(size=n),
        "Logistic": (z > np.median(z) + rng.normal(size=n)).astype(float),
    }
    return jr.Problem(getattr(jr.losses, loss)(), X.astype(dtype), y[loss], **options)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        ("SquaredError", "factors"),
        ("SquaredError", "nonnegative"),
        ("Logistic", "GroupL2"),
        pytest.param("SquaredError", "SparseGroup", marks=pytest.mark.slow),
        pytest.param("SquaredError", "L1", marks=pytest.mark.slow),
        pytest.param("SquaredError", "ElasticNet", marks=pytest.mark.slow),
        pytest.param("Logistic", "nonnegative", marks=pytest.mark.slow),
    ],
)
def test_certified_on_all_columns(loss, name):
    """A duality gap, recomputed from the data, leaves no room for a column that was left out."""
    here, family = wide(loss, standardize=True), FAMILIES[name]
    lams = jr.lambda_grid(jr.lambda_max(here, family), 25, 0.05)
    found = warm(here, family, lams, tol=1e-8)
    assert found.reason.startswith("Newton on working sets"), found.reason
    assert bool(found.converged.all()), found
    assert float(found.gap.max()) <= 1e-8
    for k in (3, 12, 24):
        again = jr.certify(here, family(lams[k]), found.coef[k], found.intercept[k])
        assert again.gap <= 2e-8


def test_as_without_working_sets():
    here = wide("SquaredError", standardize=True)
    lams = jr.lambda_grid(jr.lambda_max(here, jr.L1), NUM, 0.1)
    found = warm(here, jr.L1, lams, tol=1e-9)
    plain = warm(here, jr.L1, lams, tol=1e-9, solver=jr.ProximalGradient())
    np.testing.assert_allclose(found.coef, plain.coef, atol=1e-4)
    np.testing.assert_allclose(found.objective, plain.objective, rtol=1e-8)


def test_where_pivots_fail_newton_goes_on(monkeypatch):
    """With no round to take, pivots solve no λ; the path is the same."""
    fresh = wide("SquaredError", standardize=True, p=599)
    monkeypatch.setattr(
        _active_inverse, "_MAX_ROUNDS", 0
    )  # read while tracing: a shape that no other test has
    lams = jr.lambda_grid(jr.lambda_max(fresh, jr.L1), NUM, 0.1)
    found = warm(fresh, jr.L1, lams, tol=1e-9)
    assert bool(found.converged.all()) and found.reason.startswith("Newton on working sets")
    monkeypatch.undo()
    again = jr.certify(fresh, jr.L1(lams[-1]), found.coef[-1], found.intercept[-1])
    assert again.gap <= 2e-9


def test_not_convex_in_few_columns():
    here = wide("SquaredError")
    found = warm(here, P.MCP, num=20, ratio=0.2)
    assert bool(found.converged.all())
    assert float(found.kkt.max()) <= 1e-6
    assert 0 < int((found.coef[-1] != 0).sum()) < N


@pytest.mark.slow
def test_single_precision():
    here = wide("Logistic", dtype="float32")
    found = warm(here, jr.L1, num=15, ratio=0.1)
    assert found.coef.dtype == jnp.float32
    assert bool(found.converged.all()), found


@pytest.mark.slow
def test_several_outputs():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 150))
    here = jr.Problem(
        jr.losses.Multinomial(3), X, np.argmax(X[:, :3] + 0.5 * rng.normal(size=(80, 3)), axis=1)
    )
    found = warm(here, P.RowL2, num=10, ratio=0.2, tol=1e-8)
    assert found.reason.startswith("Newton on working sets")
    assert bool(found.converged.all())
    rows = np.any(np.asarray(found.coef[-1]) != 0, axis=1)
    assert np.array_equal(rows, np.all(np.asarray(found.coef[-1]) != 0, axis=1))


def test_the_null_fit_stays_exactly_null():
    for loss in ("SquaredError", "Logistic"):
        found = warm(wide(loss, standardize=loss == "SquaredError"), jr.L1, num=NUM, ratio=0.5)
        assert not np.any(found.coef[0]) and int(found.steps[0]) == 0


def test_another_path_of_the_same_size_compiles_nothing():
    first, second = wide("Logistic"), wide("Logistic", sample_weight=np.linspace(1.0, 2.0, N))
    warm(first, jr.L1, num=NUM, ratio=0.1)
    assert compilations(lambda: warm(second, jr.L1, num=NUM, ratio=0.12)) == 0


def test_few_shapes_are_compiled(monkeypatch):
    """Working sets grow from 15 to over 600 columns in at most three buffers."""
    made = []
    solve = MatrixColumns.solve
    monkeypatch.setattr(
        MatrixColumns, "solve", lambda self, *args: (made.append(self.capacity), solve(self, *args))[1]
    )
    rng = np.random.default_rng(3)
    X = rng.normal(size=(700, 1500))
    y = X[:, :400] @ rng.normal(size=400) + rng.normal(size=700)
    found = warm(jr.Problem(jr.losses.SquaredError(), X, y), jr.L1, num=30, ratio=0.02)
    assert bool(found.converged.all())
    assert 2 <= len(set(made)) <= 3, made


@pytest.mark.slow
def test_rounding_hides_no_step():
    """The loss falls to a millionth: what is left of its fall is less than the rounding of its terms."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(100, 200))
    y = X[:, :20] @ rng.normal(size=20) + 0.001 * rng.normal(size=100)
    groups = np.arange(200) // 4
    here = jr.Problem(jr.losses.SquaredError(), X, y)
    found = warm(here, lambda lam: P.GroupL2(lam, groups), num=60, ratio=1e-3, tol=1e-10)
    assert bool(found.converged.all())
    assert int(found.steps.max()) <= 5


def test_reasons():
    """Tracing tells the reason where it does not depend on the mode of a warm path."""
    here, lams = wide("SquaredError", p=20), jnp.array([0.2, 0.1])

    def reason(family, **options):
        return eqx.filter_eval_shape(lambda: jr.path(here, family, lams, **options)).reason

    assert "couples" in warm(here, P.TotalVariation, lams).reason
    assert "asked for" in reason(jr.L1, mode="warm", solver=jr.ProximalGradient())
    assert "one batch" in reason(jr.L1, mode="batched")
    traced = lambda y: warm(jr.Problem(jr.losses.SquaredError(), here.design.dense(), y), jr.L1, lams)  # noqa: E731
    assert eqx.filter_eval_shape(traced, here.y).kkt.shape == (2,)


# ---------------------------------------------------------------- designs


@pytest.mark.slow_except("SquaredError-True")
@pytest.mark.parametrize(
    ("loss", "standardize"),
    [
        ("SquaredError", True),
        ("Logistic", False),
        pytest.param("SquaredError", False, marks=pytest.mark.slow),
        pytest.param("Logistic", True, marks=pytest.mark.slow),
    ],
)
def test_sparse_is_dense(loss, standardize):
    rng = np.random.default_rng(1)
    X = scipy.sparse.random(N, COLUMNS, density=0.05, random_state=1, format="csc")
    X.data += 1.0
    y = np.asarray(X[:, :5].sum(axis=1)).ravel() + rng.normal(size=N)
    y = y if loss == "SquaredError" else (y > np.median(y)).astype(float)
    make = lambda X: jr.Problem(getattr(jr.losses, loss)(), X, y, standardize=standardize)  # noqa: E731
    there, here = make(X), make(X.toarray())
    assert isinstance(there.design.inner, SparseDesign)
    lams = jr.lambda_grid(jr.lambda_max(here, jr.L1), NUM, 0.05)
    sparse, dense = (warm(problem, jr.L1, lams, tol=1e-9) for problem in (there, here))
    np.testing.assert_allclose(sparse.coef, dense.coef, atol=1e-6)
    np.testing.assert_allclose(sparse.predict(X.tocsr()), dense.predict(X.toarray()), atol=1e-6)


@pytest.mark.slow
def test_rows_spread_over_devices():
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    here = wide("SquaredError")
    X = jax.device_put(here.design.inner.X, NamedSharding(mesh, PartitionSpec("rows")))
    y = jax.device_put(here.y, NamedSharding(mesh, PartitionSpec("rows")))
    lams = jr.lambda_grid(jr.lambda_max(here, jr.L1), NUM, 0.2)
    spread = warm(jr.Problem(jr.losses.SquaredError(), X, y), jr.L1, lams, tol=1e-9)
    np.testing.assert_allclose(spread.coef, warm(here, jr.L1, lams, tol=1e-9).coef, atol=1e-7)


def test_a_group_without_members_costs_nothing():
    """`take` keeps the labels: some groups have no column left, and others only a part of theirs."""
    w = np.array([1.0, -2.0, 0.5])
    evaluate = eqx.filter_jit(lambda penalty: (penalty.value(w), penalty.prox(w, 0.7)))
    for penalty in (P.GroupL2, P.GroupLInf, P.GroupMCP, P.SparseGroup):
        left = penalty(0.4, np.array([0, 1, 2, 2, 0, 3, 3]), weights=np.ones(4)).take(np.array([0, 4, 5]))
        same = penalty(0.4, np.array([0, 0, 1]), weights=np.ones(2))
        (value, prox), (wanted, same_prox) = evaluate(left), evaluate(same)
        assert float(value) == float(wanted)
        np.testing.assert_allclose(prox, same_prox, rtol=1e-12)


def test_groups_are_in_use_as_a_whole():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 600))
    here = jr.Problem(jr.losses.SquaredError(), X, X[:, :20] @ rng.normal(size=20) + rng.normal(size=200))
    found = warm(here, lambda lam: jr.GroupL2(lam, np.arange(600) // 10), num=20, ratio=0.1)
    assert bool(found.converged.all()) and "ProximalGradient" not in found.reason
    assert int(found.steps.max()) <= 10


@pytest.mark.slow_except("loss0")
@pytest.mark.parametrize(
    "loss",
    [
        jr.losses.Logistic(),
        jr.losses.Huber(0.5),
        pytest.param(jr.losses.Poisson(), marks=pytest.mark.slow),
    ],
)
def test_damped_steps_follow_where_undamped_ones_fail(loss, monkeypatch):
    """From the null fit straight to a small λ, undamped steps are lost on some of these problems."""
    fallbacks = []
    without_inverse = kernels.BlockProblem.without_inverse
    monkeypatch.setattr(
        kernels.BlockProblem, "without_inverse", lambda self: fallbacks.append(self) or without_inverse(self)
    )
    for seed in (0, 2):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(80, 12)) * np.exp(rng.normal(size=12))
        z = 3 * X @ rng.normal(size=12)
        targets = {
            jr.losses.Logistic: (z > 0).astype(float),
            jr.losses.Huber: z + rng.standard_t(1, 80),
            jr.losses.Poisson: rng.poisson(np.exp(np.clip(z / 10, -5, 5))).astype(float),
        }
        problem = jr.Problem(loss, X, targets[type(loss)])
        top = float(jr.lambda_max(problem, jr.L1))
        fits = jr.path(problem, jr.L1, lambdas=[top, 1e-3 * top])
        assert fits.converged.all() and "ProximalGradient" not in fits.reason
    assert fallbacks
