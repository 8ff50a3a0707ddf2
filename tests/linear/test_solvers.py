"""Laws of every solver, found by walking `__all__`: certified, in both precisions, without recompilation."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from jaxreg import losses
from jaxreg.linear import solvers
from tests.members import LOSSES, compilations, problem, targets
from tests.pairwise import product_params

SOLVERS = [
    getattr(solvers, name)
    for name in solvers.__all__
    if inspect.isclass(getattr(solvers, name)) and issubclass(getattr(solvers, name), solvers.Solver)
]
SOLVERS = [solver for solver in SOLVERS if not inspect.isabstract(solver)]
BY_NAME = {solver.__name__: solver for solver in SOLVERS}
DTYPES = ("float32", "float64")
W = jnp.array([0.0, 1, 2, jnp.inf, 0.5, 1, 1, 1])
FAMILIES = {
    "L1": jr.L1,
    "SquaredL2": jr.SquaredL2,
    "ElasticNet": lambda lam: jr.ElasticNet(lam, 0.5),
    "factors": lambda lam: jr.L1(lam, weights=W),
    "nonnegative": lambda lam: jr.L1(lam) + jr.NonNegative(),
    "box": lambda lam: jr.ElasticNet(lam, 0.5) + jr.Box(-0.3, 0.2),
    "masked": lambda lam: jr.Masked(jr.L1(lam), jnp.arange(8) > 1),
    "indicator": lambda lam: lam * jr.Box(-0.1, 0.4),
}


def test_every_member_is_here():
    assert jr.ProximalGradient in SOLVERS
    assert set(LOSSES) == {n for n in losses.__all__ if not inspect.isabstract(getattr(losses, n))}


@pytest.mark.parametrize(
    ("family", "loss", "solver", "dtype"),
    product_params(FAMILIES, LOSSES, BY_NAME, DTYPES, apart=[(0, 1)]),
)
def test_every_pair_is_certified(family, loss, solver, dtype):
    tol = 1e-5 if dtype == "float32" else 1e-9
    here, better, family = problem(loss, dtype), problem(loss), FAMILIES[family]
    for lam in (0.02, 0.2):
        fit = jr.solve(here, family(lam), solver=BY_NAME[solver](), tol=tol, throw=False)
        assert bool(fit.converged), (lam, str(fit))
        assert fit.coef.dtype == dtype
        assert max(fit.gap, 0) <= tol
        # The certificate in double precision, of the very same point but for the rounding of a bound.
        coef = family(lam).prox(fit.coef.astype(float), 0.0)
        found = jr.certify(better, family(lam), coef, fit.intercept)
        assert found.gap <= tol + 1e3 * jnp.finfo(dtype).eps, (lam, found)
        assert found.kkt <= 0.1


# Pairs of loss with solver and with dtype are those of the test above, with an intercept.
@pytest.mark.parametrize(
    ("loss", "solver", "dtype"), product_params(LOSSES, BY_NAME, DTYPES, apart=[(0, 1), (0, 2)])
)
def test_without_an_intercept(loss, solver, dtype):
    """There is none in the solution either, of features and targets that ask for one."""
    tol = 1e-4 if dtype == "float32" else 1e-9
    rng = np.random.default_rng(5)
    X = rng.normal(size=(60, 8)) + 1.0
    y = targets(loss, X[:, 0] - 0.5 * X[:, 1] + 1.0, rng)
    here = jr.Problem(LOSSES[loss], X.astype(dtype), y, intercept=False)
    fit = jr.solve(here, jr.L1(0.02), solver=BY_NAME[solver](), tol=tol)
    assert np.all(fit.intercept == 0)
    better = jr.Problem(LOSSES[loss], X, y, intercept=False)
    found = jr.certify(better, jr.L1(0.02), fit.coef, fit.intercept)
    assert found.gap <= tol + 1e3 * jnp.finfo(dtype).eps


def test_an_intercept_where_there_is_none_is_refused_and_not_certified():
    X = np.random.default_rng(0).normal(size=(20, 3))
    here = jr.Problem(jr.losses.SquaredError(), X, X[:, 0], intercept=False)
    with pytest.raises(ValueError, match="the intercept must be 0"):
        jr.solve(here, jr.L1(0.1), init=(np.zeros(3), 1.0))
    with pytest.raises(ValueError, match="the intercept must be 0"):
        jr.certify(here, jr.L1(0.1), np.zeros(3), 1.0)
    traced = jax.jit(lambda b: jr.certify(here, jr.L1(0.1), jnp.zeros(3), b))(1.0)
    assert np.isinf(traced.gap) and np.isinf(traced.kkt)


@pytest.mark.parametrize("solver", SOLVERS)
def test_second_call_compiles_nothing(solver):
    here = problem("Logistic")
    path = jr.path(here, lambda lam: jr.ElasticNet(lam, 0.5), num=5, ratio=0.1, solver=solver())
    assert bool(path.converged.all())

    def again():
        first = jr.solve(here, jr.L1(0.03), solver=solver(), throw=False)
        return first, jr.path(
            here, lambda lam: jr.L1(lam) + jr.NonNegative(), num=5, ratio=0.2, solver=solver()
        )

    again()
    assert compilations(again) == 0
    assert compilations(lambda: jax.jit(lambda x: x + 1)(jnp.ones(3))) > 0  # the counter counts


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_objective_never_rises(solver):
    """Also from a bad start, without a global curvature, and for a point far outside of the bounds."""
    here = problem("Poisson")
    penalty = jr.L1(0.05) + jr.Box(-2.0, 2.0)
    start = (np.full(8, 3.0), 1.0)
    objectives = [
        float(jr.solve(here, penalty, solver=solver(), init=start, max_steps=k, throw=False).objective)
        for k in range(1, 12)
    ]
    assert np.all(np.diff(objectives) <= 1e-12 * np.abs(objectives[:-1]))
    assert objectives[-1] < objectives[0]


@pytest.mark.slow_except("ProximalGradient")
@pytest.mark.parametrize("solver", SOLVERS)
def test_no_finite_solution_is_said_and_spoils_no_neighbour(solver):
    """Separable classes: without a penalty the weights grow without end; with one there is a solution."""
    X = np.linspace(-1, 1, 20)[:, None]
    here = jr.Problem(jr.losses.Logistic(), X, (X[:, 0] > 0).astype(float))
    path = jr.path(here, jr.L1, [0.1, 0.01, 0.0], mode="batched", solver=solver(), max_steps=2000)
    assert path.messages()[:2] == ["converged", "converged"]
    # Its infimum is 0: the loss is shown to be that near, or the status says that it is not.
    assert bool(path.converged[2]) == (path.gap[2] <= 1e-6)
    assert path.objective[2] <= path.gap[2] * np.log(2) * 1.01  # what rounding leaves of the orthogonality
    assert abs(path.coef[2, 0]) > 10 * abs(path.coef[1, 0])
    assert bool(jnp.all(jnp.isfinite(path.coef)))


# ---------------------------------------------------------------- single precision


def correlated(dtype: str, standardize: bool) -> jr.Problem:
    """Columns of correlation ½: a curvature that is hundreds of times that of most directions."""
    rng = np.random.default_rng(0)
    X = np.sqrt(0.5) * (rng.standard_normal((100, 200)) + rng.standard_normal((100, 1)))
    y = X[:, :20] @ (-1.0) ** np.arange(20) + rng.standard_normal(100)
    return jr.Problem(jr.losses.SquaredError(), X.astype(dtype), y, standardize=standardize)


@pytest.mark.slow_except("False")
@pytest.mark.parametrize("standardize", [False, True])
def test_single_precision_certifies_correlated_columns(standardize):
    """To 1e-5, and what it certifies holds in double precision."""
    here, exact = correlated("float32", standardize), correlated("float64", standardize)
    lams = jr.lambda_grid(jr.lambda_max(exact, jr.L1), 10, 0.05)
    path = jr.path(here, jr.L1, lams, mode="batched", tol=1e-5)
    assert bool(path.converged.all()), str(path)
    double = jr.path(exact, jr.L1, lams, mode="batched", tol=1e-5)
    # Rounding costs hardly a step.
    assert path.steps.sum() < 1.3 * double.steps.sum()
    for lam, coef, intercept in zip(lams, path.coef, path.intercept, strict=True):
        found = jr.certify(exact, jr.L1(lam), coef.astype(float), intercept.astype(float))
        assert found.gap <= 1.1e-5


@pytest.mark.slow
def test_what_single_precision_cannot_reach_is_said():
    here = correlated("float32", False)
    fit = jr.solve(here, jr.L1(0.05), tol=1e-12, throw=False)
    assert not bool(fit.converged) and 1e-12 < fit.gap < 1e-4
    assert "no further progress in this dtype" in str(fit)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", [jr.ProximalGradient(), jr.Newton()], ids=["ProximalGradient", "Newton"])
def test_units_of_the_targets_change_no_digit_and_no_step(solver, dtype):
    """A unit of 2ᵏ only shifts exponents: any rule of a solver that is not free of units is off."""
    rng = np.random.default_rng(4)
    X = (rng.normal(size=(50, 8)) + 3 * rng.normal(size=(50, 1))).astype(dtype)
    y = (X @ [1, -2, 0.5, 0, 0, 0, 0, 0] + rng.normal(size=50)).astype(dtype)
    tol = 1e-5 if dtype == "float32" else 1e-14

    def fit(unit: float) -> jr.Solution:
        problem = jr.Problem(jr.losses.SquaredError(), X, y * y.dtype.type(unit))
        return jr.solve(problem, jr.L1(y.dtype.type(0.05 * unit)), solver=solver, tol=tol)

    ours = fit(1.0)
    assert ours.converged
    for unit in (2.0**-30, 2.0**30):
        found = fit(unit)
        assert found.steps == ours.steps and found.gap == ours.gap
        np.testing.assert_array_equal(np.asarray(found.coef) / unit, ours.coef)
        np.testing.assert_array_equal(np.asarray(found.intercept) / unit, ours.intercept)
