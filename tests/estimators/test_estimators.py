"""scikit-learn's own checks of estimators."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxreg.estimators import PenalizedClassifier, PenalizedRegressor


@parametrize_with_checks([PenalizedRegressor(), PenalizedClassifier()])
def test_sklearn_checks(estimator, check):
    check(estimator)
