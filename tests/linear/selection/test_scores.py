"""Metrics against scikit-learn's, and metrics that do not fit the targets."""

import numpy as np
import pytest
from sklearn import metrics

from jaxreg import losses as L
from jaxreg.linear.selection.scores import METRICS, metric_of

rng = np.random.default_rng(3)
N = 60
WEIGHT, CLASS, LABEL = rng.uniform(0.2, 2, size=N), (rng.random(N) < 0.4).astype(float), rng.integers(0, 3, N)
#: Rounded, so that there are ties.
PROBABILITY = np.round(rng.random(N), 1)
SOFTMAX = rng.dirichlet(np.ones(3), size=N)


@pytest.mark.parametrize(
    ("name", "y", "prediction", "expected"),
    [
        ("squared_error", PROBABILITY, CLASS, metrics.mean_squared_error),
        ("absolute_error", PROBABILITY, CLASS, metrics.mean_absolute_error),
        ("auc", CLASS, PROBABILITY, metrics.roc_auc_score),
    ],
)
def test_scikit_learn_agrees(name, y, prediction, expected):
    np.testing.assert_allclose(
        METRICS[name].score(y, prediction, WEIGHT), expected(y, prediction, sample_weight=WEIGHT), rtol=1e-12
    )


def test_misclassification():
    expected = 1 - metrics.accuracy_score(CLASS, PROBABILITY > 0.5, sample_weight=WEIGHT)
    score = METRICS["misclassification"].score
    np.testing.assert_allclose(score(CLASS, PROBABILITY, WEIGHT), expected)
    expected = 1 - metrics.accuracy_score(LABEL, SOFTMAX.argmax(axis=1), sample_weight=WEIGHT)
    np.testing.assert_allclose(score(LABEL, SOFTMAX, WEIGHT), expected)
    assert score(np.array([0.3]), np.array([0.2]), np.ones(1)) == 0.3


def test_a_proportion_is_a_sample_of_both_classes():
    y, p, w = np.array([0.25, 1.0, 0.0]), np.array([0.3, 0.9, 0.3]), np.array([4.0, 1.0, 2.0])
    split = metrics.roc_auc_score([1, 0, 1, 0], [0.3, 0.3, 0.9, 0.3], sample_weight=[1.0, 3.0, 1.0, 2.0])
    np.testing.assert_allclose(METRICS["auc"].score(y, p, w), split)


def test_several_outputs_and_classes_are_summed():
    y, z = rng.normal(size=(N, 2)), rng.normal(size=(N, 2))
    expected = np.average(((y - z) ** 2).sum(axis=1), weights=WEIGHT)
    np.testing.assert_allclose(METRICS["squared_error"].score(y, z, WEIGHT), expected)
    onehot = np.eye(3)[LABEL]
    expected = np.average(np.abs(onehot - SOFTMAX).sum(axis=1), weights=WEIGHT)
    np.testing.assert_allclose(METRICS["absolute_error"].score(LABEL, SOFTMAX, WEIGHT), expected)


def test_auc_of_one_class_is_nan():
    assert np.isnan(METRICS["auc"].score(np.ones(3), np.arange(3.0), np.ones(3)))


@pytest.mark.parametrize(
    ("metric", "loss", "error", "message"),
    [
        ("mse", L.SquaredError(), ValueError, "metric must be one of deviance, squared_error"),
        (3, L.SquaredError(), TypeError, "metric must be a name or a function, got int"),
        (
            "auc",
            L.Multinomial(3),
            ValueError,
            "'auc' needs targets that are classes, not those of Multinomial",
        ),
        ("misclassification", L.Poisson(), ValueError, "not those of Poisson"),
    ],
)
def test_metrics_that_do_not_fit(metric, loss, error, message):
    with pytest.raises(error, match=message):
        metric_of(metric, loss)


def test_the_direction_of_a_name_is_known():
    with pytest.raises(ValueError, match="higher_is_better is for a metric that is a function"):
        metric_of("auc", L.Logistic(), higher_is_better=True)
    assert metric_of(max, L.Logistic(), higher_is_better=True).higher_is_better
