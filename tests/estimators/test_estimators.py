"""scikit-learn's own checks of estimators."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxreg.estimators import (
    PenalizedClassifier,
    PenalizedClassifierCV,
    PenalizedRegressor,
    PenalizedRegressorCV,
)

CHOSEN = {"cv": 3, "n_alphas": 4}


@parametrize_with_checks([PenalizedRegressor(), PenalizedClassifier()])
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([PenalizedRegressorCV(**CHOSEN), PenalizedClassifierCV(**CHOSEN)])
def test_sklearn_checks_of_cross_validation(estimator, check):
    check(estimator)
