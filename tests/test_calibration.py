"""Calibration and rank statistics against direct computations in NumPy, and the answer to unusable input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from jaxreg.losses import Huber, Logistic, Multinomial, Poisson, SquaredError

N = 60
rng = np.random.default_rng(3)
Z = 2.0 + 3.0 * rng.normal(size=(2, N))
WEIGHT = rng.integers(0, 4, size=N).astype(float)
COUNT = rng.poisson(np.exp(0.3 * Z[0] - 0.5)).astype(float)
CLASS = (rng.uniform(size=N) < 1 / (1 + np.exp(1 - 0.5 * Z[0]))).astype(float)
REAL = 1 + 0.6 * Z[0] + rng.normal(size=N)
TARGETS = [(SquaredError(), REAL), (Logistic(), CLASS), (Logistic(), 0.9 * CLASS), (Poisson(), COUNT)]
IDS = ["squared error", "classes", "proportions", "counts"]


def glm(loss, columns, offset, y, weight):
    """Fit by Fisher scoring; return coefficients and standard errors."""
    means = {SquaredError: lambda z: z, Logistic: lambda z: 1 / (1 + np.exp(-z)), Poisson: np.exp}
    variances = {SquaredError: np.ones_like, Logistic: lambda m: m * (1 - m), Poisson: lambda m: m}
    mean_of, variance_of = means[type(loss)], variances[type(loss)]
    coef = np.zeros(columns.shape[1])
    for _ in range(200):
        mean = mean_of(offset + columns @ coef)
        information = columns.T * (weight * variance_of(mean)) @ columns
        step = np.linalg.solve(information, columns.T @ (weight * (y - mean)))
        coef = coef + step / max(1.0, np.abs(step).max())
    noise = 1.0
    if isinstance(loss, SquaredError):
        noise = weight @ (y - columns @ coef - offset) ** 2 / (weight.sum() - columns.shape[1])
    return coef, np.sqrt(noise * np.diag(np.linalg.inv(information)))


@pytest.mark.parametrize(("loss", "y"), TARGETS, ids=IDS)
def test_calibration_is_the_glm_on_the_linear_predictor(loss, y):
    found = jr.metrics.calibration(loss, Z, y, sample_weight=WEIGHT)
    for row, z in enumerate(Z):
        coef, se = glm(loss, np.column_stack([np.ones(N), z]), 0.0, y, WEIGHT)
        shift, shift_se = glm(loss, np.ones((N, 1)), z, y, WEIGHT)
        got = [found.intercept[row], found.slope[row], found.in_the_large[row]]
        np.testing.assert_allclose(got, [*coef, *shift], rtol=1e-7, atol=1e-9)
        got = [found.intercept_se[row], found.slope_se[row], found.in_the_large_se[row]]
        np.testing.assert_allclose(got, [*se, *shift_se], rtol=1e-6)


@pytest.mark.parametrize(("loss", "y"), TARGETS, ids=IDS)
def test_the_unpenalised_fit_is_calibrated_on_its_own_samples(loss, y):
    X = np.column_stack([Z[0], Z[1] ** 2])
    coef, intercept = jr.unpenalized(jr.Problem(loss, X, y))
    found = jr.metrics.calibration(loss, X @ np.asarray(coef) + float(intercept), y)
    np.testing.assert_allclose([found.slope, found.intercept, found.in_the_large], [1, 0, 0], atol=1e-6)


def test_calibration_does_not_depend_on_units_and_holds_in_single_precision():
    exact = jr.metrics.calibration(SquaredError(), Z[0], REAL)
    scaled = jr.metrics.calibration(SquaredError(), 1e6 + 1e-3 * Z[0], 1e-8 * REAL)
    np.testing.assert_allclose(scaled.slope, 1e-5 * exact.slope, rtol=1e-5)
    np.testing.assert_allclose(scaled.slope_se, 1e-5 * exact.slope_se, rtol=1e-5)
    single = jr.metrics.calibration(Logistic(), Z[0].astype(np.float32), CLASS.astype(np.float32))
    double = jr.metrics.calibration(Logistic(), Z[0], CLASS)
    assert single.slope.dtype == jnp.float32
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-4)


def test_predictions_that_do_not_determine_the_slope():
    constant, separated = np.full(N, 0.1), np.where(CLASS > 0, 1.0, -1.0)
    rows = jr.metrics.calibration(Logistic(), np.stack([constant, separated, -separated, Z[0]]), CLASS)
    assert np.isnan(rows.slope).tolist() == [True, True, True, False]
    assert not np.isnan(rows.in_the_large).any()
    with pytest.raises(ValueError, match="all predictions are equal"):
        jr.metrics.calibration(Logistic(), constant, CLASS)
    with pytest.raises(ValueError, match="separate the targets exactly"):
        jr.metrics.calibration(Logistic(), separated, CLASS)
    with pytest.raises(ValueError, match="separate the targets exactly"):
        jr.metrics.calibration(Poisson(), np.arange(5.0), np.array([0.0, 0, 0, 0, 2]))
    inner = jr.metrics.calibration(Poisson(), np.arange(5.0), np.array([0.0, 0, 2, 0, 0]))
    assert np.isfinite(inner.slope)


@pytest.mark.parametrize("loss", [Huber(), Multinomial()])
def test_losses_without_a_likelihood_of_single_targets_are_refused(loss):
    with pytest.raises(TypeError, match="calibration needs SquaredError"):
        jr.metrics.calibration(loss, Z[0], CLASS)


@pytest.mark.parametrize(
    ("z", "y", "options", "message"),
    [
        (Z[0, :5], REAL, {}, "got shapes"),
        (Z[0, :2], REAL[:2], {}, "at least 3 samples"),
        (np.where(Z[0, 0] == Z, np.nan, Z), REAL, {}, "NaN or infinite"),
        (Z[0], REAL, {"sample_weight": -np.ones(N)}, "finite and ≥ 0"),
        (Z[0], REAL, {"sample_weight": np.zeros(N)}, "0 for every sample"),
        (Z[0], REAL, {"sample_weight": np.ones(3)}, "must be"),
    ],
)
def test_bad_input(z, y, options, message):
    with pytest.raises(ValueError, match=message):
        jr.metrics.calibration(SquaredError(), z, y, **options)


def test_auc_counts_pairs():
    z, success, failure = np.round(Z[0]), WEIGHT * CLASS, WEIGHT * (1 - CLASS)
    pairs = (z[:, None] > z) + 0.5 * (z[:, None] == z)
    wanted = success @ pairs @ failure / (success.sum() * failure.sum())
    np.testing.assert_allclose(
        jr.metrics.auc(jnp.asarray(z), jnp.asarray(CLASS), jnp.asarray(WEIGHT)), wanted
    )


def test_explained_deviance_counts_samples_by_their_weight():
    repeated = np.repeat(np.arange(N), WEIGHT.astype(int))
    explained = jax.jit(jr.metrics.explained_deviance)
    for loss, y in TARGETS:
        weighted = explained(loss, 0.3 * Z[0], y, WEIGHT)
        each = explained(loss, 0.3 * Z[0][repeated], np.asarray(y)[repeated])
        np.testing.assert_allclose(weighted, each, rtol=1e-10)
