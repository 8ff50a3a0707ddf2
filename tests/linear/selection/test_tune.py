"""Tuned hyperparameters are minima of their criterion; what has no derivative is refused."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg as jr
from jaxreg import losses as L

N, p = 60, 8
rng = np.random.default_rng(2)
X = rng.normal(size=(N, p))
Y = X @ np.array([1.0, -1, 0.5, 0.5, 0, 0, 0, 0]) + 3 * rng.normal(size=N)
TRAIN = jr.Problem(L.SquaredError(), X[:30], Y[:30])
HELD_OUT = jr.criteria.held_out(jr.Problem(L.SquaredError(), X[30:], Y[30:]))


def elastic_net(theta):
    """Return an elastic net with one factor for each half of the coordinates."""
    return jr.ElasticNet(1.0, theta["mix"], weights=jnp.repeat(theta["lam"], p // 2))


def ridge_error(lam):
    """Return the held-out loss of a ridge in closed form."""
    mean, centre = X[:30].mean(0), Y[:30].mean()
    Z = X - mean
    w = np.linalg.solve(Z[:30].T @ Z[:30] / 30 + lam * np.eye(p), Z[:30].T @ (Y[:30] - centre) / 30)
    return np.mean((Z[30:] @ w + centre - Y[30:]) ** 2) / 2


def test_a_tuned_ridge_is_the_minimum_of_a_grid_and_a_second_call_compiles_nothing(capsys, caplog):
    tuned = jr.tune(TRAIN, jr.SquaredL2, 5.0, HELD_OUT, progress=True, steps=60, tol=1e-14)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 60 and lines[0].startswith("step 1 of 60: criterion ") and "theta 5" in lines[0]
    grid = np.geomspace(0.1, 10, 20_000)
    best = grid[np.argmin([ridge_error(lam) for lam in grid])]
    np.testing.assert_allclose(tuned.theta, best, rtol=1e-3)
    np.testing.assert_allclose(tuned.criterion, ridge_error(best), rtol=1e-8)
    np.testing.assert_allclose(tuned.history.criterion[3], ridge_error(float(tuned.history.theta[3])))
    assert tuned.fit.converged and tuned.history.converged.all() and tuned.penalty.lam == tuned.theta
    first, theta, fit = str(tuned).splitlines()
    assert first.startswith("Tuned: criterion ") and theta.startswith("theta ") and fit.startswith("Solution")
    assert "fits did not meet their tolerance in 3 steps" in str(
        jr.tune(TRAIN, jr.SquaredL2, 5.0, HELD_OUT, steps=3, tol=1e-14, max_steps=1)
    )
    other = jr.Problem(L.SquaredError(), X[30:], Y[30:])
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        jr.tune(other, jr.SquaredL2, 0.5, jr.criteria.held_out(TRAIN), steps=3, tol=1e-14)
    assert not [record.message for record in caplog.records if "XLA compilation" in record.message]


@pytest.mark.slow
def test_a_pytree_of_hyperparameters_on_several_scales_ends_at_a_minimum():
    theta0, scale = {"lam": [0.1, 0.1], "mix": 0.5}, {"lam": "log", "mix": "logit"}
    theta0["lam"] = np.array(theta0["lam"])
    tuned = jr.tune(TRAIN, elastic_net, theta0, HELD_OUT, scale=scale, steps=30, optimizer=optax.adam(0.2))
    assert tuned.history.theta["lam"].shape == (30, 2) and 0 < tuned.theta["mix"] < 1
    assert tuned.criterion < tuned.history.criterion[0] and tuned.criterion == tuned.history.criterion.min()
    # The penalty of the zero coefficients rises, that of the others falls.
    assert tuned.theta["lam"][1] > 2 * tuned.theta["lam"][0]
    np.testing.assert_array_equal(tuned.penalty.lam, elastic_net(tuned.theta).lam)


@pytest.mark.parametrize(
    ("theta0", "scale", "error", "message"),
    [
        (1, "log", TypeError, "hyperparameters are floats, got int"),
        ({}, "log", TypeError, "no hyperparameter"),
        (-1.0, "log", ValueError, "between 0.0 and inf for the log scale, got -1.0"),
        (np.array([0.5, 1.0]), "logit", ValueError, "between 0.0 and 1.0 for the logit scale"),
        (np.nan, "linear", ValueError, "linear scale, got nan"),
        (1.0, "square", ValueError, "got 'square'"),
        ({"a": 1.0}, {"b": "log"}, ValueError, "prefix of it"),
    ],
)
def test_hyperparameters_are_refused(theta0, scale, error, message):
    with pytest.raises(error, match=message):
        jr.tune(TRAIN, jr.L1, theta0, HELD_OUT, scale=scale)


def test_families_are_refused():
    for family, message in (
        (jr.L1(0.1), "wanted a family"),
        (lambda lam: 2 * lam, "maps θ to a penalty"),
        (lambda lam: jr.L1(0.1), "ignores theta:"),
    ):
        with pytest.raises(TypeError, match=message):
            jr.tune(TRAIN, family, 0.1, HELD_OUT)
    with pytest.raises(TypeError, match=r"ignores theta\['b'\]"):
        jr.tune(TRAIN, lambda theta: jr.L1(theta["a"]), {"a": 0.1, "b": 0.1}, HELD_OUT)


@pytest.mark.slow
def test_criteria_without_a_derivative_are_refused():
    for criterion, error, message in (
        (lambda problem, penalty, solve: None, TypeError, "one float.*NoneType"),
        (lambda problem, penalty, solve: jnp.sum(penalty.lam > 0), TypeError, "one float.*int"),
        (lambda problem, penalty, solve: penalty.lam * jnp.ones(2), TypeError, r"shape \(2,\)"),
        (lambda problem, penalty, solve: jnp.log(-penalty.lam), ValueError, "criterion is nan at step 1"),
        (lambda problem, penalty, solve: jnp.sqrt(0.0 * penalty.lam), ValueError, "not finite at step 1"),
        (lambda problem, penalty, solve: problem.value(problem.y), ValueError, "is 0 at step 1"),
    ):
        with pytest.raises(error, match=message):
            jr.tune(TRAIN, jr.L1, 0.1, criterion)
    with pytest.raises(ValueError, match="above λ_max"):
        jr.tune(TRAIN, jr.L1, 2 * float(jr.lambda_max(TRAIN, jr.L1)), HELD_OUT)
