"""Shrinkage factors, optimism and the calibrated λ against direct computations in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from jaxreg import losses as L
from jaxreg.linear.selection._optimism import _multiplicities

N, p = 50, 6
rng = np.random.default_rng(8)
X = 3 + 2 * rng.normal(size=(N, p)) * np.arange(1, p + 1)
Y = X @ (0.1 * rng.normal(size=p)) + rng.normal(size=N)
CLASS = (rng.uniform(size=N) < 1 / (1 + np.exp(-(X[:, 0] - 3)))).astype(float)


def lines(weight, y, lam=0.0):
    """Return the predictor of all samples by a ridge with centred features, in closed form."""
    w = weight / weight.sum()
    A = X - w @ X
    return w @ y + A @ np.linalg.solve(A.T * w @ A + lam * np.eye(p), A.T * w @ (y - w @ y))


def logistic(columns, y):
    """Return the log-likelihood of the unpenalised logistic model."""
    coef = np.zeros(columns.shape[1])
    for _ in range(50):
        mean = 1 / (1 + np.exp(-columns @ coef))
        coef += np.linalg.solve(columns.T * (mean * (1 - mean)) @ columns, columns.T @ (y - mean))
    z = columns @ coef
    return float(np.sum(y * z - np.logaddexp(0, z)))


# ---------------------------------------------------------------- the heuristic factor


def test_the_factor_of_least_squares_is_that_of_the_adjusted_r2():
    residual, total = np.sum((Y - lines(np.ones(N), Y)) ** 2), np.sum((Y - Y.mean()) ** 2)
    r2 = 1 - residual / total
    adjusted = 1 - (1 - r2) * (N - 1) / (N - p - 1)
    wanted = (N - p - 1) / (N - 1) * adjusted / r2
    for options in ({}, {"standardize": True, "scale_target": True}):
        got = jr.shrinkage.heuristic_factor(jr.Problem(L.SquaredError(), X, Y, **options))
        np.testing.assert_allclose(got, wanted, rtol=1e-9)


def test_the_factor_of_a_glm_is_that_of_the_likelihood_ratio():
    ones = np.ones((N, 1))
    ratio = 2 * (logistic(np.hstack([ones, X]), CLASS) - logistic(ones, CLASS))
    got = jr.shrinkage.heuristic_factor(jr.Problem(L.Logistic(), X, CLASS))
    np.testing.assert_allclose(got, (ratio - p) / ratio, rtol=1e-8)
    trials = np.full(N, 4.0)
    problem = jr.Problem(L.Logistic(), X, CLASS, sample_weight=trials)
    got = jr.shrinkage.heuristic_factor(problem, observations=trials.sum())
    np.testing.assert_allclose(got, (4 * ratio - p) / (4 * ratio), rtol=1e-8)


@pytest.mark.parametrize(
    ("problem", "error", "message"),
    [
        ((L.Huber(), X, Y), TypeError, "needs SquaredError"),
        ((L.SquaredError(), X[:5], Y[:5]), ValueError, "no unique finite"),
        ((L.Logistic(), X, (X[:, 0] > 3).astype(float)), ValueError, "no unique finite"),
        ((L.SquaredError(), X, np.stack([Y, Y], 1)), ValueError, "one output"),
    ],
)
def test_problems_without_a_factor_are_refused(problem, error, message):
    with pytest.raises(error, match=message):
        jr.shrinkage.heuristic_factor(jr.Problem(*problem))


# ---------------------------------------------------------------- optimism


def metrics_of(z, y, weight):
    """Return mean squared error, R², slope and intercept."""
    w = weight / weight.sum()
    mse, total = w @ (y - z) ** 2, w @ (y - w @ y) ** 2
    slope = (w @ ((z - w @ z) * (y - w @ y))) / (w @ (z - w @ z) ** 2)
    return [mse, 1 - mse / total, slope, w @ y - slope * (w @ z)]


@pytest.mark.parametrize("rule", [False, True], ids=["one penalty", "a rule"])
def test_optimism_is_that_of_a_loop_over_bootstrap_samples(rule):
    key = jax.random.key(4)
    problem = jr.Problem(L.SquaredError(), X, Y, scale_target=True)
    chosen = (lambda problem: jr.SquaredL2(float(problem.scale[0]) / 4)) if rule else jr.SquaredL2(0.5)
    found = jr.shrinkage.optimism(problem, chosen, replicates=7, batch_size=4, key=key, tol=1e-14)
    drawn = np.asarray(_multiplicities(key, 7, np.ones(N, bool))).astype(float)
    assert drawn.sum(axis=1).tolist() == [N] * 7

    def fit(weight):
        w = weight / weight.sum()
        return lines(weight, Y, 0.25 / np.sqrt(w @ (Y - w @ Y) ** 2) if rule else 0.5)

    everything = np.ones(N)
    np.testing.assert_allclose(found.apparent, metrics_of(fit(everything), Y, everything), rtol=1e-5)
    training = [metrics_of(fit(weight), Y, weight) for weight in drawn]
    test = [metrics_of(fit(weight), Y, everything) for weight in drawn]
    np.testing.assert_allclose(found.training, training, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.test, test, rtol=1e-5, atol=1e-6)
    wanted = np.mean(np.subtract(training, test), axis=0)
    np.testing.assert_allclose(found.corrected, np.asarray(found.apparent) - wanted, rtol=1e-5)
    assert found["R2"] < found.apparent[1]


@pytest.mark.slow
def test_optimism_of_classes():
    problem = jr.Problem(L.Logistic(), X, CLASS, standardize=True)
    found = jr.shrinkage.optimism(problem, jr.SquaredL2(1e-3), replicates=40)
    assert found.names == ("deviance", "R2", "Dxy", "slope", "intercept")
    apparent = dict(zip(found.names, found.apparent.tolist(), strict=True))
    assert found["deviance"] > apparent["deviance"] and found["Dxy"] < apparent["Dxy"]
    assert found["slope"] < 1 < apparent["slope"] < 1.1
    rows = str(found).splitlines()
    assert len(rows) == 6 and rows[3].split()[0] == "Dxy" and rows[3].split()[-1] == "40"


def test_a_metric_of_your_own():
    def largest(loss, z, y, weight):
        return jnp.max(jnp.abs(z - y))

    problem = jr.Problem(L.SquaredError(), X, Y, scale_target=True)
    options = {"replicates": 7, "batch_size": 4, "tol": 1e-14}
    found = jr.shrinkage.optimism(problem, jr.SquaredL2(0.5), {"largest error": largest}, **options)
    assert found.names == ("largest error",)
    np.testing.assert_allclose(found.apparent[0], np.abs(lines(np.ones(N), Y, 0.5) - Y).max(), rtol=1e-5)


def test_samples_of_weight_zero_are_not_drawn():
    drawn = _multiplicities(jax.random.key(0), 3, np.arange(9) >= 5)
    assert drawn.sum(axis=1).tolist() == [4] * 3 and not drawn[:, :5].any()


@pytest.mark.parametrize(
    ("penalty", "got"), [(jr.L1, "the class L1"), (0.5, "float"), (jr.losses.Huber, "the class Huber")]
)
def test_optimism_of_no_penalty_is_refused(penalty, got):
    with pytest.raises(TypeError, match=f"wanted a penalty such as .* got {got}"):
        jr.shrinkage.optimism(jr.Problem(L.SquaredError(), X, Y), penalty, replicates=2)


def test_too_few_fits_are_refused():
    problem = jr.Problem(L.SquaredError(), X, Y, scale_target=True)
    with pytest.raises(ValueError, match="at least 2"):
        jr.shrinkage.optimism(problem, jr.SquaredL2(0.5), replicates=1)
    with pytest.raises(ValueError, match="did not meet the tolerance"):
        jr.shrinkage.optimism(problem, jr.SquaredL2(0.5), replicates=7, batch_size=4, tol=1e-40)


# ---------------------------------------------------------------- λ by calibration


def test_the_calibrated_lambda_has_slope_one():
    problem = jr.Problem(L.SquaredError(), X[:25], Y[:25])
    path = jr.path(problem, jr.SquaredL2, jnp.geomspace(100.0, 1e-3, 12))
    z = path.linear(X[25:])
    found = jr.shrinkage.calibrated_lambda(L.SquaredError(), path.lambdas, z, Y[25:])
    assert found.slopes[0] > 1 > found.slopes[-1]
    fit = jr.path(problem, jr.SquaredL2, [found.lam])
    assert (
        abs(float(jr.metrics.calibration(L.SquaredError(), fit.linear(X[25:])[0], Y[25:]).slope) - 1) < 0.02
    )
    assert abs(np.log(path.lambdas[found.index] / found.lam)) < np.log(1e5) / 11


@pytest.mark.parametrize(
    ("factors", "message"), [([0, 2, 3], "below 1 at every"), ([0.1, 0.2, 0.9], "at least 1 at every")]
)
def test_slopes_that_do_not_cross_one_are_refused(factors, message):
    z = np.multiply.outer(factors, Y)
    with pytest.raises(ValueError, match=message):
        jr.shrinkage.calibrated_lambda(L.SquaredError(), [3.0, 2.0, 1.0], z, Y)
