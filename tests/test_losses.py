"""Laws of every loss, found by walking `__all__`."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import losses

NAMES = [n for n in losses.__all__ if not inspect.isabstract(getattr(losses, n))]
NAMES += ["Logistic of proportions"]
rng = np.random.default_rng(0)


def make(name, dtype, n=200):
    """An instance, predictors and targets in its domain."""
    loss = losses.Multinomial(3) if name == "Multinomial" else getattr(losses, name.split()[0])()
    z = jnp.asarray(2 * rng.normal(size=(n, 3) if name == "Multinomial" else n), dtype)
    y = {
        "Logistic": rng.integers(0, 2, n).astype(float),
        "Logistic of proportions": np.r_[0.0, 1.0, 0.5, rng.random(n - 3)],
        "Multinomial": rng.integers(0, 3, n),
        "Poisson": rng.poisson(2.0, n).astype(float),
    }.get(name, rng.normal(size=n) * 2)
    return loss, z, loss.encode(y, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_the_difference_quotient(name):
    loss, z, y = make(name, jnp.float64)
    h = 1e-6
    basis = jnp.eye(z.shape[1]) if z.ndim == 2 else [1.0]
    for k, e in enumerate(basis):
        quotient = (loss.value(z + h * e, y) - loss.value(z - h * e, y)) / (2 * h)
        gradient = loss.gradient(z, y)
        np.testing.assert_allclose(gradient if z.ndim == 1 else gradient[:, k], quotient, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_smoothness_bounds_the_curvature(name):
    loss, z, y = make(name, jnp.float64)

    def gradient(z, y):
        return loss.gradient(z[None], y[None])[0]

    hessian = np.asarray(jax.jit(jax.vmap(jax.jacfwd(gradient)))(z, y))
    largest = np.max(np.abs(hessian)) if hessian.ndim == 1 else np.max(np.linalg.eigvalsh(hessian))
    assert largest <= loss.smoothness() * (1 + 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_fenchel_young(name, dtype):
    loss, z, y = make(name, dtype)
    eps = jnp.finfo(dtype).eps

    @jax.jit
    def evaluate(z, y):
        v, other = loss.gradient(z, y), loss.gradient(jnp.roll(z, 1, axis=0), y)
        product = v * z if z.ndim == 1 else jnp.sum(v * z, axis=1)
        gaps = loss.fenchel_gap(z, y, v), loss.fenchel_gap(z, y, 0.7 * other)
        return *gaps, loss.value(z, y), loss.conjugate(v, y), product

    tight, loose, value, conjugate, product = map(np.asarray, evaluate(z, y))
    z, y = np.asarray(z), np.asarray(y)
    assert np.max(np.abs(tight)) <= 300 * eps * np.max(np.abs(z)) ** 2 * (1 + np.max(np.abs(y)))
    assert np.all(loose >= -300 * eps * (1 + np.abs(value)))
    assert np.max(loose) > 0.1
    atol = float(1e3 * eps * (1 + np.max(np.abs(product))))
    np.testing.assert_allclose(tight, value + conjugate - product, atol=atol)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("far", [-1e4, 1e4])
def test_far_predictors_are_never_nan(name, far, dtype):
    loss, z, y = make(name, dtype)
    away = jnp.full_like(z, far) if z.ndim == 1 else jnp.zeros_like(z).at[:, 0].set(far)
    value = loss.value(away, y)
    assert not jnp.any(jnp.isnan(value))
    assert not jnp.any(jnp.isnan(loss.gradient(away, y))) or name == "Poisson"
    assert value.dtype == dtype


def test_known_values():
    z, y = jnp.array([1e4, -1e4]), jnp.array([0.0, 0.0])
    np.testing.assert_allclose(losses.Logistic().value(z, y), [1e4, 0.0])
    np.testing.assert_allclose(losses.Huber(1.0).value(z, y), [1e4 - 0.5, 1e4 - 0.5])
    np.testing.assert_allclose(losses.Poisson().value(jnp.array([0.0]), jnp.array([3.0])), [1.0])


def test_a_proportion_is_a_mixture_of_the_classes(dtype):
    """(1 − y)·value(z, 0) + y·value(z, 1), of which every digit is there at any z; gradients likewise."""
    loss = losses.Logistic()
    z, y = np.meshgrid([-1e4, -30.0, -1.0, 0.0, 1e-3, 2.0, 40.0, 1e4], [0.0, 1e-3, 0.3, 0.5, 0.7, 1.0])
    z, y = (x.ravel().astype(dtype) for x in (z, y))
    exact = (1.0 - y) * np.logaddexp(0, z.astype(float)) + y * np.logaddexp(0, -z.astype(float))
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(loss.value(jnp.asarray(z), jnp.asarray(y)), exact, rtol=8 * eps)
    probability = np.exp(-np.logaddexp(0, -z.astype(float)))
    np.testing.assert_allclose(loss.gradient(jnp.asarray(z), jnp.asarray(y)), probability - y, atol=4 * eps)
    trials = loss.value(jnp.asarray(z), jnp.zeros_like(y)), loss.value(jnp.asarray(z), jnp.ones_like(y))
    np.testing.assert_allclose(trials[0] * (1 - y) + trials[1] * y, exact, rtol=8 * eps)


@pytest.mark.parametrize("name", NAMES)
def test_saturated_is_the_infimum(name):
    loss, z, y = make(name, jnp.float64)
    assert jnp.all(loss.saturated(y) <= loss.value(z, y) + 1e-12)
    grid = jnp.linspace(-40, 40, 8001)
    if z.ndim == 1:
        best = jnp.min(jax.vmap(lambda g: loss.value(jnp.full_like(z, g), y))(grid), axis=0)
        np.testing.assert_allclose(loss.saturated(y), best, atol=2e-4)


def test_optimal_shift_is_where_the_gradient_is_0(dtype):
    """Closed forms, also for predictors that are far from the targets."""
    exact = []
    for name in NAMES:
        loss, z, y = make(name, dtype)
        weight = jnp.asarray(rng.random(len(z)), dtype)
        weight = weight / weight.sum()
        for far in (0.0, 17.0):
            shift = loss.optimal_shift(z + far, y, weight)
            if shift is None:
                continue
            exact.append(name)
            at = z + far + shift
            terms = weight @ (jnp.abs(loss.mean(at)) + jnp.abs(y))
            # Rounding of a predictor as large as `far`.
            slack = 8 * (1 + far) * jnp.finfo(dtype).eps
            assert jnp.abs(weight @ loss.gradient(at, y)) <= slack * terms, name
    assert set(exact) >= {"Poisson", "SquaredError"}


def test_optimal_shift_of_predictors_far_apart(dtype):
    """Sums of eᶻ that overflow, and terms that vanish beside the largest."""
    z, y = jnp.asarray([-800.0, 0.0, 800.0], dtype), jnp.asarray([1.0, 2.0, 3.0], dtype)
    shift = losses.Poisson().optimal_shift(z, y, jnp.full(3, 1 / 3, dtype))
    np.testing.assert_allclose(shift, np.log(2.0) - 800 - np.log(1 / 3), rtol=1e-6)


def test_target_scale_is_the_deviation_of_targets_with_a_unit(dtype):
    y = np.random.default_rng(2).normal(size=50) * 3 + 1
    weight = np.full(50, 0.02)
    for loss in (losses.SquaredError(), losses.Huber(1.0)):
        for c in (1.0, 1e30):  # whose square overflows in single precision
            found = loss.target_scale(jnp.asarray(c * y, dtype), jnp.asarray(weight, dtype))
            np.testing.assert_allclose(found, c * y.std(), rtol=1e-5)
    for loss in (losses.Logistic(), losses.Poisson()):
        assert loss.target_scale(jnp.ones(50, dtype), jnp.asarray(weight, dtype)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_closed_form_gradient_is_that_of_the_value(name, dtype):
    loss, z, y = make(name, dtype)
    wanted = jax.grad(lambda z: jnp.sum(loss.value(z, y)))(z)
    eps = jnp.finfo(dtype).eps
    np.testing.assert_allclose(loss.gradient(z, y), wanted, rtol=8 * eps, atol=4 * eps)


@pytest.mark.parametrize("name", NAMES)
def test_an_exact_null_predictor_minimises_the_loss_over_constants(name):
    loss, z, y = make(name, jnp.float64)
    weight = jnp.asarray(rng.random(z.shape[0]))
    weight = weight / jnp.sum(weight)
    null = loss.null_predictor(y, weight, z.shape[1:])
    slope = weight @ loss.gradient(jnp.broadcast_to(null, z.shape), y)
    assert not loss.null_predictor_is_exact or np.max(np.abs(slope)) < 1e-14
    assert losses.Logistic.null_predictor_is_exact and losses.Multinomial.null_predictor_is_exact


def test_null_predictor_and_prediction_error():
    """The mean at the null predictor is the weighted mean of the targets, finite where that is 0."""
    weight = jnp.array([0.5, 0.25, 0.25])
    for loss, y in (
        (losses.SquaredError(), [1.0, 2.0, 4.0]),
        (losses.Huber(), [1.0, 2.0, 4.0]),
        (losses.Logistic(), [0.0, 1.0, 0.5]),
        (losses.Poisson(), [0.0, 3.0, 1.0]),
    ):
        y = jnp.array(y)
        np.testing.assert_allclose(loss.mean(loss.null_predictor(y, weight)), weight @ y)
    null = losses.Multinomial(3).null_predictor(jnp.array([0, 1, 1]), weight, (3,))
    np.testing.assert_allclose(jax.nn.softmax(null), [0.5, 0.5, 0.0], atol=1e-12)
    assert jnp.all(jnp.isfinite(null)) and jnp.isfinite(losses.Poisson().link(jnp.zeros(())))
    z, y = jnp.array([0.0, 1.0, -2.0]), jnp.array([1.0, 0.0, 3.0])
    np.testing.assert_allclose(losses.SquaredError().prediction_error(z, y), [1.0, 1.0, 25.0])
    np.testing.assert_array_equal(losses.Logistic().prediction_error(z, y > 0), [True, True, True])
    deviance = 2 * (np.exp(z) - y + np.where(y > 0, y * np.log(np.maximum(y, 1e-9) / np.exp(z)), 0.0))
    np.testing.assert_allclose(losses.Poisson().prediction_error(z, y), deviance, rtol=1e-12)
    classes = losses.Multinomial(3).prediction_error(jnp.eye(3), jnp.array([0, 2, 2]))
    np.testing.assert_array_equal(classes, [False, True, False])


@pytest.mark.parametrize("name", NAMES)
def test_link_inverts_mean(name):
    loss, z, _ = make(name, jnp.float64)
    mean = loss.mean(z)
    np.testing.assert_allclose(loss.mean(loss.link(mean)), mean, rtol=1e-9)


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        (losses.SquaredError(), [1.0, np.nan], "NaN"),
        (losses.Logistic(), [0.0, 2.0], "y in {0, 1}"),
        (losses.Logistic(), [1.0, 1.0], "one class only"),
        (losses.Multinomial(), [0.5, 1.0], "integer labels"),
        (losses.Multinomial(), [1, 1], "one class only"),
        (losses.Multinomial(2), [0, 2], "num_classes"),
        (losses.Logistic(), [0.5, -0.1], "proportions"),
        (losses.Logistic(), [[0, 1], [1, 1]], "column 1 of y holds one class only"),
        (losses.Multinomial(), [1, 2, 3], "class 0 has no sample: relabel by np.unique"),
        (losses.Multinomial(), [0, 1, 70000], "class 2 has no sample: relabel by np.unique"),
        (losses.Multinomial(), [[1], [2]], r"take y\[:, 0\]"),
        (losses.Multinomial(), [[0.4, 0.6], [1.0, 0.0]], "not one-hot"),
        (losses.Multinomial(), [[1, 0, 0], [0, 1, 0]], "class 2 has no sample"),
        (losses.Multinomial(2), [[1, 0, 0], [0, 1, 0]], "num_classes is 2"),
        (losses.Poisson(), [-1.0, 2.0], "counts"),
        (losses.Poisson(), [0.0, 0.0], "positive count"),
    ],
)
def test_bad_targets(loss, y, message):
    with pytest.raises(ValueError, match=message) as caught:
        loss.check(np.asarray(y))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_samples_without_weight_decide_nothing(name):
    """Targets that a loss refuses are refused too where other samples, of weight 0, would make them good."""
    loss = losses.Multinomial() if name == "Multinomial" else getattr(losses, name.split()[0])()
    good = {"Logistic": [0, 1], "Multinomial": [0, 1, 2], "Poisson": [0, 3]}.get(name.split()[0])
    if good is None:
        loss.check(np.ones(4), np.array([1.0, 0.0, 0.0, 0.0]))
        return
    y = np.repeat(good, 3)
    loss.check(y, np.ones(len(y)))
    for lost in good[1:] if name == "Poisson" else good:
        with pytest.raises(ValueError, match="among the samples of positive weight"):
            loss.check(y, 1.0 * (y != lost))


def test_one_hot_rows_are_labels():
    labels = np.array([0, 2, 1, 2])
    loss, onehot = losses.Multinomial(), np.eye(3)[labels]
    loss.check(onehot)
    assert loss.outputs(onehot) == (3,)
    np.testing.assert_array_equal(loss.encode(onehot, jnp.float32), labels)
    losses.Multinomial(4).check(labels)
    with pytest.raises(ValueError, match="class 0 has no sample"):
        loss.check(labels + 1)


def test_bad_delta():
    with pytest.raises(ValueError, match="delta must be > 0"):
        losses.Huber(0.0)
