"""scikit-learn's own checks of estimators."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxreg.estimators import (
    PenalizedClassifier,
    PenalizedClassifierCV,
    PenalizedRegressor,
    PenalizedRegressorCV,
)

# Fits with weights and with repeated rows must agree to seven digits, small probabilities too.
CHOSEN = {"cv": 3, "n_alphas": 4, "tol": 1e-13}


@parametrize_with_checks([PenalizedRegressor(), PenalizedClassifier()])
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([PenalizedRegressorCV(**CHOSEN), PenalizedClassifierCV(**CHOSEN)])
def test_sklearn_checks_of_cross_validation(estimator, check):
    check(estimator)
