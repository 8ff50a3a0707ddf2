"""scikit-learn's own checks of estimators."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from jaxreg.estimators import (
    PenalizedClassifier,
    PenalizedClassifierCV,
    PenalizedRegressor,
    PenalizedRegressorCV,
)

# Fits with weights and with repeated rows must agree to seven digits, small probabilities too.
CHOSEN = {"cv": 3, "n_alphas": 4, "tol": 1e-13}


def name(check):
    return check.func.__name__


OF_REGRESSORS = {name(check) for _, check in estimator_checks_generator(PenalizedRegressor())}


def checks_of_classifiers():
    """Return the checks of a classifier as parameters; those that a regressor meets too are slow.

    Both estimators share the code that these concern: parameters, validation of features, fit, attributes.
    """
    checks = [check for _, check in estimator_checks_generator(PenalizedClassifier())]
    return [
        pytest.param(c, marks=pytest.mark.slow if name(c) in OF_REGRESSORS else (), id=name(c))
        for c in checks
    ]


@parametrize_with_checks([PenalizedRegressor()])
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", checks_of_classifiers())
def test_sklearn_checks_of_classifiers(check):
    check(PenalizedClassifier())


@pytest.mark.slow
@parametrize_with_checks([PenalizedRegressorCV(**CHOSEN), PenalizedClassifierCV(**CHOSEN)])
def test_sklearn_checks_of_cross_validation(estimator, check):
    check(estimator)
