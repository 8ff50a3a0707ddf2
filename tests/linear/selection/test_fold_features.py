"""Features that each fit of a cross-validation makes from its own rows, against fits made by hand."""

import jax
import numpy as np
import pytest
import scipy.sparse

import jaxreg as jr
from jaxreg import losses as L

N, P = 80, 10
_i, _j = np.arange(1.0, N + 1)[:, None], np.arange(1.0, P + 1)
X = np.sin(_i * _j * 0.37 + _j**2) + 0.3 * np.cos(1.7 * _i) + _j / 10
Z = X[:, 0] - 0.8 * X[:, 1] + 0.5 * X[:, 3] + np.cos(_i[:, 0] ** 2 * 0.71)
TARGETS = {"gaussian": (L.SquaredError(), 3 * Z), "binomial": (L.Logistic(), (Z.mean() < Z).astype(float))}
FOLD_OF = (np.arange(1, N + 1) * 7) % 5
GAPS = np.cos(7 * _i + 3 * _j**2) > 0.95
CHOICE = {"folds": FOLD_OF, "num": 12, "ratio": 0.01, "tol": 1e-11}


def filled(train):
    """Return X with a tenth of the cells replaced by the means of some rows."""
    return np.where(GAPS, np.nanmean(np.where(GAPS, np.nan, X)[train], axis=0), X)


@jax.jit
def deviances(loss, z, y):
    """Return the deviance of each row, for each predictor of a path."""
    return 2 * (jax.vmap(lambda z: loss.value(z, y))(z) - loss.saturated(y))


@pytest.mark.slow_except("gaussian-warm-options0")
@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("gaussian", "warm", {"standardize": True, "scale_target": True}),
        ("gaussian", "warm", {"intercept": False}),
        ("gaussian", "batched", {"standardize": True}),
        ("binomial", "warm", {"standardize": True}),
    ],
)
def test_each_fit_takes_the_features_of_its_rows(name, mode, options):
    loss, y = TARGETS[name]
    whole = jr.Problem(loss, filled(np.ones(N, bool)), y, **options)
    keep = {"keep_predictions": True, "mode": mode}
    cv = jr.cross_validate(whole, jr.L1, fold_features=filled, **keep, **CHOICE)
    for k, score in enumerate(cv.fold_scores):
        test = k == FOLD_OF
        data = filled(~test)
        path = jr.path(jr.Problem(loss, data[~test], y[~test], **options), jr.L1, cv.lambdas, tol=1e-11)
        z = path.linear(data[test])
        np.testing.assert_allclose(score, np.mean(deviances(loss, z, y[test]), axis=1), rtol=1e-6)
        np.testing.assert_allclose(cv.predictions[test].T, jax.vmap(loss.mean)(z), rtol=1e-5, atol=1e-6)
    shared = jr.cross_validate(whole, jr.L1, mode=mode, **CHOICE)
    assert np.abs(cv.fold_scores / shared.fold_scores - 1).max() > 1e-4, "the means of the folds differ"


def test_features_of_all_rows_change_nothing():
    """Also with a column that is constant, and one so far from 0 that the problem stores it centred."""
    data = X.copy()
    data[:, 3], data[:, 4] = 7.0, 1e6 + data[:, 4]
    whole = jr.Problem(*_replaced(data), standardize=True)
    options = CHOICE | {"metric": "absolute_error", "train_scores": True}
    one = jr.cross_validate(whole, jr.L1, **options)
    other = jr.cross_validate(whole, jr.L1, fold_features=lambda train: data, **options)
    np.testing.assert_allclose(other.fold_scores, one.fold_scores, rtol=1e-6)
    np.testing.assert_allclose(other.train_scores, one.train_scores, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (X, TypeError, "must be a function from rows of a fit to features, got ndarray"),
        (lambda train: X[train], ValueError, r"fold_features returned ndarray of shape \(64, 10\), wanted"),
        (lambda train: np.where(GAPS, np.nan, X), ValueError, "NaN or infinite entries"),
    ],
)
def test_refused(make, error, message):
    with pytest.raises(error, match=message):
        jr.cross_validate(jr.Problem(*_replaced(X)), jr.L1, folds=FOLD_OF, num=3, fold_features=make)


def test_sparse_features_are_refused():
    sparse = jr.Problem(*_replaced(scipy.sparse.csr_matrix(np.maximum(X, 0))))
    with pytest.raises(TypeError, match="but X is sparse"):
        jr.cross_validate(sparse, jr.L1, folds=FOLD_OF, num=3, fold_features=filled)


def _replaced(data):
    loss, y = TARGETS["gaussian"]
    return loss, data, y
