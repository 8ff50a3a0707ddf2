"""Cross-validation with one λ for each target: the same choices as target by target."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV

import jaxreg as jr
from tests.linear.selection.test_cross_validation import FOLD_OF, WEIGHT, N, X

K = 3
rng = np.random.default_rng(2)
#: Targets of a common scale whose noise differs.
Y = X[:, :2] @ rng.normal(size=(2, K)) + rng.normal(size=(N, K)) * [0.1, 1.0, 5.0]
Y = Y / Y.std(axis=0)
LAMBDAS = np.geomspace(1.0, 1e-4, 10)


def problem(y=Y, **options):
    return jr.Problem(jr.losses.SquaredError(), X, y, standardize=True, **options)


@pytest.mark.slow_except("L1-None", "SquaredL2-absolute_error")
@pytest.mark.parametrize("metric", [None, "absolute_error"])
@pytest.mark.parametrize("family", [jr.L1, jr.SquaredL2], ids=["L1", "SquaredL2"])
def test_the_choices_are_those_of_each_target(family, metric):
    options = {"folds": FOLD_OF, "metric": metric, "tol": 1e-12}
    cv = jr.cross_validate(problem(sample_weight=WEIGHT), family, LAMBDAS, per_target=True, **options)
    assert bool(cv.converged.all()) and cv.fold_scores.shape == (5, 10, K)
    for k in range(K):
        alone = jr.cross_validate(problem(Y[:, k], sample_weight=WEIGHT), family, LAMBDAS, **options)
        np.testing.assert_allclose(cv.fold_scores[:, :, k], alone.fold_scores, rtol=1e-8)
        np.testing.assert_allclose(cv.mean[:, k], alone.mean, rtol=1e-8)
        np.testing.assert_allclose(cv.se[:, k], alone.se, rtol=1e-8)
        assert (cv.lambda_min[k], cv.lambda_1se[k]) == (alone.lambda_min, alone.lambda_1se)
        np.testing.assert_allclose(cv.score("1se")[k], alone.mean[alone.index_1se], rtol=1e-8)
        for choose in ("min", "1se"):
            np.testing.assert_allclose(cv.solution(choose).coef[:, k], alone.solution(choose).coef, atol=1e-7)
            np.testing.assert_allclose(
                cv.predict(X, choose=choose)[:, k], alone.predict(X, choose=choose), atol=1e-6
            )
    assert np.unique(cv.lambda_min).size > 1
    np.testing.assert_array_equal(cv.solution_min.lambdas, cv.lambda_min)
    np.testing.assert_array_equal(cv.solution_1se.gap, cv.path.gap[cv.index("1se")])


def test_sklearn_agrees_on_ridges():
    """`RidgeCV(alpha_per_target=True)` chooses by leave-one-out; its alpha is n·λ."""
    lambdas = np.geomspace(10.0, 1e-3, 15)
    here = jr.Problem(jr.losses.SquaredError(), X, Y)
    cv = jr.cross_validate(here, jr.SquaredL2, lambdas, folds=np.arange(N), per_target=True)
    peer = RidgeCV(alphas=N * lambdas, alpha_per_target=True).fit(X, Y)
    np.testing.assert_allclose(N * cv.lambda_min, peer.alpha_, rtol=1e-9)
    np.testing.assert_allclose(cv.solution_min.coef, peer.coef_.T, atol=1e-6)


def test_what_it_holds():
    cv = jr.cross_validate(problem(), jr.L1, LAMBDAS, folds=FOLD_OF, per_target=True, keep_predictions=True)
    residuals = Y[:, None] - cv.predictions
    fold_mean = np.stack([np.mean(residuals[k == FOLD_OF] ** 2, axis=0) for k in range(5)])
    np.testing.assert_allclose(cv.fold_scores, fold_mean, rtol=1e-9)
    data = cv.to_xarray()
    assert data["score_mean"].dims == ("lam", "output") and data["lambda_min"].dims == ("output",)
    np.testing.assert_array_equal(data["fold_scores"], cv.fold_scores)
    lines = str(cv).splitlines()
    assert lines[0] == "TargetCrossValidation: deviance on 5 folds, 10 λ, 3 targets"
    assert lines[2].split() == ["min", *(f"{x:.4g}" for x in np.sort(cv.lambda_min))]
    with pytest.raises(ValueError, match="'min' or '1se'"):
        cv.index("best")


REFUSED = {
    "rows": (dict(family=jr.RowL2), "couples"),
    "one target": (dict(y=Y[:, 0]), "several targets"),
    "two families": (dict(family={"a": jr.L1, "b": jr.SquaredL2}), "one family"),
    "training scores": (dict(train_scores=True), "train_scores"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(options, message):
    here, family = problem(options.pop("y", Y)), options.pop("family", jr.L1)
    with pytest.raises(ValueError, match=message):
        jr.cross_validate(here, family, LAMBDAS, per_target=True, **options)
