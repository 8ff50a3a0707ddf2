"""Classifiers against scikit-learn's own; labels, probabilities, and the choice of alpha."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_sample_weight

import jaxreg as jr
from jaxreg.estimators import PenalizedClassifier, PenalizedClassifierCV

N, P = 60, 8
rng = np.random.default_rng(6)
X = rng.normal(size=(N, P))
z = X[:, :3] + rng.normal(size=(N, 3))
two = np.where(z[:, 0] > 0, "yes", "no")
three = np.array([7, -1, 3])[np.argmax(z, axis=1)]
weight = rng.integers(1, 4, N).astype(float)
TIGHT = {"tol": 1e-12}


@pytest.mark.parametrize("labels", [two, three], ids=["two", "three"])
def test_the_same_as_scikit_learn(labels):
    total = weight.sum()
    ours = PenalizedClassifier(penalty="l2", alpha=1 / total, **TIGHT).fit(X, labels, weight)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(X, labels, weight)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    assert ours.coef_.shape == theirs.coef_.shape and ours.intercept_.shape == theirs.intercept_.shape
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-4)
    np.testing.assert_allclose(ours.decision_function(X).shape, theirs.decision_function(X).shape)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    np.testing.assert_allclose(np.exp(ours.predict_log_proba(X)), ours.predict_proba(X))
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours.score(X, labels, weight) == pytest.approx(theirs.score(X, labels, weight))


def test_probabilities_of_a_few_rows_are_those_of_all():
    fit = PenalizedClassifier(alpha=0.02).fit(X, three)
    np.testing.assert_allclose(fit.predict_proba(X[:5]), fit.predict_proba(X)[:5])
    np.testing.assert_allclose(fit.predict_proba(X).sum(axis=1), 1.0)


def test_a_multinomial_of_two_classes_decides_by_one_number():
    fit = PenalizedClassifier("multinomial", "rows", alpha=0.02).fit(X, two)
    assert fit.coef_.shape == (2, P) and fit.decision_function(X).shape == (N,)
    proba = fit.predict_proba(X)
    np.testing.assert_array_equal(fit.classes_[np.argmax(proba, axis=1)], fit.predict(X))
    np.testing.assert_allclose(np.log(proba[:, 1] / proba[:, 0]), fit.decision_function(X))


def test_intercepts_of_several_classes_are_centred():
    fit = PenalizedClassifier(alpha=0.02).fit(X + 1.0, three)
    assert abs(fit.intercept_.sum()) < 1e-12 < abs(fit.intercept_[0])
    solution = jr.solve(
        jr.Problem(jr.losses.Multinomial(3), X + 1.0, np.unique(three, return_inverse=True)[1]), jr.L1(0.02)
    )
    np.testing.assert_allclose(fit.predict_proba(X), np.asarray(solution.predict(X)), rtol=1e-12)


def test_refusals():
    with pytest.raises(ValueError, match="one class only"):
        PenalizedClassifier().fit(X, np.full(N, "yes"))
    with pytest.raises(ValueError, match="2 classes and y has 3 classes: take loss='multinomial'"):
        PenalizedClassifier("logistic").fit(X, three)
    with pytest.raises(ValueError, match="loss is 'hinge': wanted one of auto, logistic"):
        PenalizedClassifier("hinge").fit(X, two)


def test_the_choice_is_that_of_cross_validate_with_classes_in_equal_shares():
    estimator = PenalizedClassifierCV(cv=3, n_alphas=8, metric="auc", choose="1se").fit(X, two, weight)
    problem = jr.Problem(jr.losses.Logistic(), X, two == "yes", sample_weight=weight)
    cv = jr.cross_validate(problem, jr.L1, folds=3, num=8, metric="auc", stratify=True)
    assert estimator.alpha_ == cv.lambda_1se and estimator.coef_.shape == (1, P)
    np.testing.assert_array_equal(estimator.cv_result_.mean, cv.mean)
    np.testing.assert_array_equal(estimator.coef_[0], np.asarray(cv.solution_1se.coef))


@pytest.mark.parametrize("class_weight", ["balanced", {"yes": 3.0, "no": 0.5}, {"yes": 2.0}])
def test_class_weights_are_those_of_scikit_learn(class_weight):
    rare = np.where(z[:, 0] > 0.8, "yes", "no")
    theirs = LogisticRegression(C=1 / 6.0, class_weight=class_weight, tol=1e-10, max_iter=10_000).fit(X, rare)
    # scikit-learn sums the losses, so that λ depends on the sum of the weights.
    total = compute_sample_weight(class_weight, rare).sum()
    ours = PenalizedClassifier(penalty="l2", alpha=6 / total, class_weight=class_weight, **TIGHT).fit(X, rare)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-4)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=2e-4)
    plain = PenalizedClassifier(penalty="l2", alpha=6 / total, **TIGHT).fit(X, rare)
    assert not np.allclose(plain.intercept_, ours.intercept_, atol=1e-2)


def test_class_weights_multiply_sample_weights_and_count_in_scores():
    weights = weight * np.where(two == "yes", 3.0, 1.0)
    options = {"n_alphas": 4, "eps": 0.1, "cv": 3}
    by_class = PenalizedClassifierCV(class_weight={"yes": 3.0}, **options).fit(X, two, weight)
    by_row = PenalizedClassifierCV(**options).fit(X, two, weights)
    np.testing.assert_allclose(by_class.coef_, by_row.coef_)
    np.testing.assert_allclose(by_class.cv_result_.mean, by_row.cv_result_.mean)
    with pytest.raises(ValueError, match="balanced"):
        PenalizedClassifier(class_weight="even").fit(X, two)
