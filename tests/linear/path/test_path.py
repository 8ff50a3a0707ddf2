"""Paths and grids: modes agree, λ_max is the edge, metrics fit their closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_wine

import jaxreg as jr
from jaxreg.linear.null_fit import fit_null_model
from jaxreg.linear.path import grid
from jaxreg.linear.path import path as path_module
from tests import members
from tests.members import LOSSES, devices

rng = np.random.default_rng(5)
X = rng.normal(size=(60, 8))
Z = X[:, 0] - 0.5 * X[:, 1]
PROBLEMS = {
    "squared": jr.Problem(jr.losses.SquaredError(), X, Z + rng.normal(size=60), standardize=True),
    "logistic": jr.Problem(jr.losses.Logistic(), X, (Z + rng.normal(size=60) > 0).astype(float)),
    "poisson": jr.Problem(jr.losses.Poisson(), X, rng.poisson(np.exp(0.5 * Z)).astype(float)),
    "multinomial": jr.Problem(jr.losses.Multinomial(3), X, np.digitize(Z + rng.normal(size=60), [-1, 1])),
}
w = np.array([0.0, 1, 2, np.inf, 0.5, 1, 1, 1])
FAMILIES = {
    "l1": jr.L1,
    "elastic net": lambda lam: jr.ElasticNet(lam, 0.5),
    "weights": lambda lam: jr.L1(lam, weights=w),
    "nonnegative": lambda lam: jr.L1(lam) + jr.NonNegative(),
    "bounded and unpenalised": lambda lam: jr.L1(lam, weights=w) + jr.Box(-0.1, 0.1),
}


#: Length of most grids: each length compiles its own programs.
NUM = 5


def slow_unless(fast):
    return () if fast else pytest.mark.slow


@pytest.mark.parametrize(
    ("problem", "family"),
    [
        pytest.param(p, f, marks=slow_unless(p == "squared" or f == "bounded and unpenalised"))
        for p in PROBLEMS
        for f in FAMILIES
    ],
)
def test_lambda_max_is_the_edge(problem, family):
    problem, family = PROBLEMS[problem], FAMILIES[family]
    top = float(jr.lambda_max(problem, family))
    above, below = (jr.solve(problem, family(top * f), tol=1e-10, throw=False) for f in (1.001, 0.99))
    held = np.arange(8) if family is not FAMILIES["weights"] else np.arange(1, 8)
    held = held if family is not FAMILIES["bounded and unpenalised"] else np.arange(1, 8)
    assert not np.any(np.asarray(above.coef)[held])
    assert np.any(np.asarray(below.coef)[held])


@pytest.mark.parametrize("problem", [pytest.param(p, marks=slow_unless(p == "logistic")) for p in PROBLEMS])
def test_modes_agree(problem):
    problem = PROBLEMS[problem]
    lams = jr.lambda_grid(jr.lambda_max(problem, jr.L1), NUM, 1e-2)
    warm, batched = (jr.path(problem, jr.L1, lams, tol=1e-10, mode=m) for m in ("warm", "batched"))
    assert np.all(warm.converged) and np.all(batched.converged)
    np.testing.assert_allclose(warm.coef, batched.coef, atol=1e-4)
    np.testing.assert_allclose(warm.objective, batched.objective, rtol=1e-9)
    assert warm.mode == "warm"
    one = jr.solve(problem, jr.L1(lams[3]), tol=1e-10)
    np.testing.assert_allclose(warm.at(float(lams[3])).coef, one.coef, atol=1e-4)
    np.testing.assert_allclose(warm.predict(X)[3], warm.at(float(lams[3])).predict(X), atol=1e-12)


def test_default_ratio_and_ridge():
    path = jr.path(PROBLEMS["squared"], jr.L1, num=NUM)
    np.testing.assert_allclose(path.lambdas[-1] / path.lambdas[0], 1e-4)
    assert not np.any(path.coef[0])
    y, centred = np.asarray(PROBLEMS["squared"].y), X - X.mean(axis=0)
    gradient = (centred / X.std(axis=0)).T @ (y - y.mean()) / len(y)
    expected = 1000 * np.abs(gradient).max() / y.std()
    np.testing.assert_allclose(jr.lambda_max(PROBLEMS["squared"], jr.SquaredL2), expected, rtol=1e-9)


@pytest.mark.parametrize("loss", [jr.losses.SquaredError(), jr.losses.Huber(2.0)])
def test_the_grid_of_a_ridge_does_not_depend_on_the_units_of_y(loss):
    y = np.asarray(PROBLEMS["squared"].y)

    def top(c):
        scaled = jax.tree.map(lambda delta: c * delta, loss)
        return float(jr.lambda_max(jr.Problem(scaled, X, c * y, standardize=True), jr.SquaredL2))

    np.testing.assert_allclose([top(c) for c in (1e-6, 1e6)], top(1.0), rtol=1e-9)


def test_lambda_max_with_offsets_of_a_population():
    """Expected counts of millions in single precision: deaths in counties of up to 4e7 people."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(100, 6)).astype("float32")
    population = np.exp(rng.uniform(np.log(1e5), np.log(4e7), 100))
    deaths = rng.poisson(population * 1e-6 * np.exp(0.6 * features[:, 0] - 0.3 * features[:, 1]))
    offset = np.log(population).astype("float32")
    here = jr.Problem(jr.losses.Poisson(), features, deaths, offset=offset)
    null = population * deaths.sum() / population.sum()
    expected = np.abs((features.astype(float) - features.mean(0)).T @ (deaths - null) / 100).max()
    np.testing.assert_allclose(jr.lambda_max(here, jr.L1), expected, rtol=1e-4)


@pytest.mark.parametrize("size", [1e3, 1e6])
@pytest.mark.parametrize("name", ["Huber", "Logistic"])
def test_lambda_max_with_extreme_offsets_is_right_or_refused(name, size):
    """The intercept of the null fit is the root of a monotone function, found here by bisection."""
    rng = np.random.default_rng(0)
    offset, y = size * rng.normal(size=60), (X[:, 0] > 0).astype(float)
    here = jr.Problem(LOSSES[name], X, y, offset=offset)
    mean = np.tanh if name == "Logistic" else lambda z: np.clip(z, -1.0, 1.0)
    residual = (lambda z: (1 + mean(z / 2)) / 2 - y) if name == "Logistic" else (lambda z: mean(z - y))
    low, high = -10 * size - 10, 10 * size + 10
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if residual(offset + middle).sum() < 0 else (low, middle)
    expected = np.abs((X - X.mean(axis=0)).T @ residual(offset + high)).max() / 60
    try:
        found = float(jr.lambda_max(here, jr.L1))
    except ValueError as error:
        assert "null fit did not converge" in str(error)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-2)


def test_a_null_fit_that_did_not_converge_is_refused(monkeypatch):
    """Whatever the solvers leave: the check is of the gradient, not of their word."""
    here, penalty = PROBLEMS["logistic"], jr.L1(1e6)
    right = fit_null_model(here, here.working_penalty(penalty))
    wrong = eqx.tree_at(lambda fit: fit.intercept, right, right.intercept + 1.0)
    monkeypatch.setattr(grid, "fit_null_model", lambda *_: wrong)
    monkeypatch.setattr(grid, "_constrained_fit", lambda *_: wrong)
    with pytest.raises(ValueError, match=r"null fit did not converge.*give lambdas") as caught:
        jr.path(here, jr.L1, num=3)
    assert "\n" not in str(caught.value)


def test_the_null_fit_of_lambda_max_serves_the_path(monkeypatch):
    """Unless the penalty leaves directions unpenalised, which may depend on λ."""
    fits = []
    fit = lambda *args: fits.append(args) or fit_null_model(*args)  # noqa: E731
    for module in (grid, path_module):
        monkeypatch.setattr(module, "fit_null_model", fit)
    jr.path(PROBLEMS["squared"], jr.L1, num=NUM, mode="warm")
    assert len(fits) == 1
    jr.path(PROBLEMS["squared"], FAMILIES["weights"], num=NUM, mode="warm")
    assert len(fits) == 3


def test_degrees_of_freedom_have_their_closed_forms():
    problem = PROBLEMS["squared"]
    lams = jr.lambda_grid(jr.lambda_max(problem, jr.L1), NUM, 1e-2)
    lasso = jr.path(problem, jr.L1, lams, tol=1e-10)
    np.testing.assert_allclose(
        lasso.degrees_of_freedom(problem, jr.L1), jnp.sum(lasso.coef != 0, 1), atol=1e-4
    )
    ridge = jr.path(problem, jr.SquaredL2, lams, tol=1e-10)
    s2 = np.linalg.eigvalsh(np.corrcoef(X.T))
    expected = [(s2 / (s2 + lam)).sum() for lam in np.asarray(lams)]
    np.testing.assert_allclose(ridge.degrees_of_freedom(problem, jr.SquaredL2), expected, atol=1e-5)
    wide = jr.Problem(jr.losses.SquaredError(), X[:6], Z[:6])
    found = jr.path(wide, jr.SquaredL2, lams, tol=1e-10)
    s2 = np.linalg.eigvalsh(np.cov(X[:6].T, bias=True))
    expected = [(s2 / (s2 + lam)).sum() for lam in np.asarray(lams)]
    np.testing.assert_allclose(found.degrees_of_freedom(wide, jr.SquaredL2), expected, atol=1e-5)


def test_str_and_xarray():
    path = jr.path(PROBLEMS["squared"], jr.L1, num=NUM)
    assert "5 of 5 converged" in str(path)
    frame = path.to_xarray(list("abcdefgh"))
    np.testing.assert_array_equal(frame.coef.sel(feature="b"), path.coef[:, 1])
    assert "of 8 weights nonzero" in str(path.at(float(path.lambdas[1])))
    with pytest.raises(ValueError, match="outside the grid"):
        path.at(1e9)
    with pytest.raises(ValueError, match="wanted"):
        path.predict(np.ones((3, 5)))


@pytest.mark.slow
def test_float32_says_what_it_reached():
    problem = jr.Problem(jr.losses.SquaredError(), X.astype("float32"), Z.astype("float32"))
    path = jr.path(problem, jr.L1, num=5, ratio=1e-2, tol=1e-12)
    assert path.coef.dtype == jnp.float32
    assert set(path.messages()) <= {"stalled", "converged", "max_steps"}
    assert bool(jnp.all(path.gap < 1e-4))


def test_a_mesh_gives_the_same_path():
    """Ten lanes on four devices: padded, run apart, cut; and only in a batch."""
    problem, mesh = PROBLEMS["logistic"], devices(4)
    lams = jr.lambda_grid(jr.lambda_max(problem, jr.L1), 10, 1e-2)
    alone, spread = jr.path(problem, jr.L1, lams, mode="batched"), jr.path(problem, jr.L1, lams, mesh=mesh)
    assert spread.mode == "batched"
    assert spread.coef.shape == (10, 8)
    assert bool(spread.converged.all())
    np.testing.assert_array_equal(spread.coef == 0, alone.coef == 0)
    np.testing.assert_allclose(spread.coef, alone.coef, atol=1e-6)
    with pytest.raises(ValueError, match="batched"):
        jr.path(problem, jr.L1, lams, mode="warm", mesh=mesh)


@pytest.mark.slow
def test_near_separable_classes_have_a_gap_everywhere():
    """Curvatures near 0 make the refit of the intercepts singular; the dual point is closed all the same."""
    data = load_wine()
    problem = jr.Problem(jr.losses.Multinomial(3), data.data, data.target, standardize=True)
    path = jr.path(problem, jr.L1)
    assert bool(jnp.all(path.converged))
    assert bool(jnp.all(path.gap <= 1e-6))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_loss_has_a_null_fit_without_a_conjugate(problem):
    here = PROBLEMS[problem]
    wanted = fit_null_model(here, here.working_penalty(jr.L1(1.0)))
    for penalty in (jr.MCP(1.0), jr.penalties.GroupMCP(1.0, np.arange(here.zeros()[0].size) // 2)):
        found = fit_null_model(here, here.working_penalty(penalty))
        np.testing.assert_allclose(found.intercept, wanted.intercept, rtol=1e-10, atol=1e-12)


def test_a_logistic_path_without_a_conjugate():
    found = jr.path(PROBLEMS["logistic"], jr.MCP, num=5, ratio=0.3)
    assert bool(np.all(found.converged)) and np.any(np.asarray(found.coef[-1]))


@pytest.mark.slow_except("warm")
@pytest.mark.parametrize("mode", ["warm", "batched"])
def test_the_loss_of_a_path_is_that_of_one_problem(mode):
    """Its numbers have no axis of λ, also where solutions come from one program over λ."""
    here = jr.Problem(jr.losses.Huber(0.7), X, Z, scale_target=True)
    family = jr.penalties.TotalVariation if mode == "warm" else jr.L1
    found = jr.path(here, family, [0.2, 0.1], mode=mode)
    np.testing.assert_allclose(found.loss.delta, 0.7, rtol=1e-12)
    np.testing.assert_allclose(found.at(0.1).loss.delta, 0.7, rtol=1e-12)


@pytest.mark.parametrize(
    "family",
    [
        jr.penalties.L0,
        pytest.param(jr.penalties.LHalf, marks=pytest.mark.slow),
        pytest.param(lambda lam: jr.MCP(lam, 3.0), marks=pytest.mark.slow, id="MCP"),
    ],
)
def test_a_penalty_that_is_not_convex_starts_at_the_null_fit_of_wide_data(family):
    """The curvature of all columns is many times that of one: short steps hold L0's null fit for ever."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(45, 300))
    here = jr.Problem(jr.losses.SquaredError(), X, X[:, :3] @ [2.0, -2.0, 1.5] + 0.3 * rng.normal(size=45))
    fits = jr.path(here, family, num=12, ratio=0.05)
    counts = np.sum(np.asarray(fits.coef) != 0, axis=1)
    assert counts[0] == 0 and 1 <= counts[2] <= 3 and fits.converged.all()


@pytest.mark.parametrize("lam", ["min", None, [0.1]])
def test_a_solution_is_asked_for_by_one_number(lam):
    fits = jr.path(members.problem("SquaredError"), jr.L1, num=NUM)
    with pytest.raises(TypeError, match="lam must be one number"):
        fits.at(lam)
