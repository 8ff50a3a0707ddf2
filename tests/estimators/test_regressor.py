"""Regressors against scikit-learn's own and jaxreg's solve, their options and refusals."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, Lasso, MultiTaskLasso, PoissonRegressor, Ridge
from sklearn.model_selection import GroupKFold

import jaxreg as jr
from jaxreg.estimators import PenalizedRegressor, PenalizedRegressorCV

N, P = 60, 8
rng = np.random.default_rng(5)
X = rng.normal(size=(N, P)) * np.linspace(0.5, 2.0, P)
Y = X[:, :2] @ [[1.0, 0.5], [-2.0, 1.0]] + rng.normal(size=(N, 2)) + 3.0
y = Y[:, 0]
counts = rng.poisson(np.exp(0.3 * X[:, 0]))
weight = rng.integers(0, 4, N).astype(float)
TIGHT = {"tol": 1e-13}


def agrees(ours, theirs):
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=2e-6)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-5)


@pytest.mark.parametrize("sample_weight", [None, weight], ids=["alike", "weighted"])
def test_the_same_as_scikit_learn(sample_weight):
    options = {"sample_weight": sample_weight}
    pairs = [
        (PenalizedRegressor(alpha=0.2, **TIGHT), Lasso(0.2, tol=1e-14)),
        (
            PenalizedRegressor(penalty="elastic_net", alpha=0.3, l1_ratio=0.6, **TIGHT),
            ElasticNet(0.3, l1_ratio=0.6, tol=1e-14),
        ),
        (PenalizedRegressor(alpha=0.1, positive=True, **TIGHT), Lasso(0.1, positive=True, tol=1e-14)),
        (
            PenalizedRegressor(penalty="l2", alpha=0.1, **TIGHT),
            Ridge(0.1 * (N if sample_weight is None else weight.sum())),
        ),
    ]
    for ours, theirs in pairs:
        agrees(ours.fit(X, y, **options), theirs.fit(X, y, **options))
        assert ours.score(X, y, **options) == pytest.approx(theirs.score(X, y, **options))


def test_counts_are_scored_by_their_deviance():
    ours = PenalizedRegressor("poisson", "l2", 0.1, **TIGHT).fit(X, counts, weight)
    theirs = PoissonRegressor(alpha=0.1, tol=1e-12, max_iter=1000).fit(X, counts, weight)
    agrees(ours, theirs)
    assert ours.score(X, counts, weight) == pytest.approx(theirs.score(X, counts, weight))
    assert ours.score(X, counts) == pytest.approx(theirs.score(X, counts))
    assert ours.score(X, counts) != pytest.approx(ours.score(X, counts, weight))


def test_several_outputs_have_the_shapes_of_scikit_learn():
    ours = PenalizedRegressor(penalty="rows", alpha=0.5, **TIGHT).fit(X, Y)
    theirs = MultiTaskLasso(0.5, tol=1e-14).fit(X, Y)
    agrees(ours, theirs)
    assert ours.coef_.shape == (2, P) and ours.predict(X).shape == (N, 2)
    assert (ours.coef_ == 0).any(axis=0).sum() == (ours.coef_ == 0).all(axis=0).sum() > 0


def test_a_sparse_matrix_gives_the_fit_of_the_dense_one():
    dense = PenalizedRegressor(standardize=True, **TIGHT).fit(X, y)
    sparse = PenalizedRegressor(standardize=True, **TIGHT).fit(scipy.sparse.coo_array(X), y)
    np.testing.assert_allclose(sparse.coef_, dense.coef_, atol=2e-6)
    np.testing.assert_allclose(sparse.predict(scipy.sparse.csc_array(X)), dense.predict(X), atol=1e-5)


GROUPS = np.repeat(list("dcba"), 2)
FACTORS = np.array([0.0, 1, 1, 1, np.inf, 2, 1, 1])
LABELS = np.repeat([3, 2, 1, 0], 2)
PENALTIES = [
    ({"penalty": "l1", "penalty_factors": FACTORS}, lambda lam: jr.L1(lam, FACTORS)),
    ({"penalty": "group", "feature_groups": GROUPS}, lambda lam: jr.GroupL2(lam, LABELS)),
    (
        {"penalty": "sparse-group", "feature_groups": GROUPS, "l1_ratio": 0.3},
        lambda lam: jr.SparseGroup(lam, LABELS, 0.3),
    ),
    ({"penalty": "mcp", "gamma": 2.0}, lambda lam: jr.MCP(lam, 2.0)),
    ({"penalty": lambda lam: jr.L1(lam) + jr.Box(-1.0, 1.0)}, lambda lam: jr.L1(lam) + jr.Box(-1.0, 1.0)),
]


@pytest.mark.parametrize(
    "options, family", PENALTIES, ids=["factors", "group", "sparse group", "mcp", "family"]
)
def test_options_name_the_penalties_of_jaxreg(options, family):
    estimator = PenalizedRegressor(alpha=0.3, **options).fit(X, y)
    solution = jr.solve(jr.Problem(jr.losses.SquaredError(), X, y), family(0.3))
    np.testing.assert_array_equal(estimator.coef_, np.asarray(solution.coef))
    assert estimator.dual_gap_ == float(solution.gap) and estimator.n_iter_ == int(solution.steps)
    assert estimator.kkt_residual_ == float(solution.kkt)


def test_lambda_max_is_the_first_alpha_without_coefficients():
    estimator = PenalizedRegressor(standardize=True)
    top = estimator.lambda_max(X, y, weight)
    assert not hasattr(estimator, "n_features_in_")
    at, below = (clone(estimator).set_params(alpha=a).fit(X, y, weight) for a in (top, 0.99 * top))
    assert not at.coef_.any() and below.coef_.any()


REFUSED = [
    ({"alpha": -1.0}, ValueError, "alpha is -1.0: wanted a finite number"),
    ({"alpha": "small"}, ValueError, "alpha is 'small'"),
    ({"loss": "hinge"}, ValueError, "loss is 'hinge': wanted one of auto, squared_error"),
    ({"loss": jr.losses.Huber}, TypeError, "loss is the class Huber: wanted a name or an instance"),
    ({"loss": jr.losses.Multinomial(3)}, TypeError, "PenalizedClassifier"),
    ({"penalty": "lasso"}, ValueError, "penalty is 'lasso': wanted one of l1"),
    ({"penalty": jr.L1(0.1)}, TypeError, "wanted a family"),
    ({"penalty": "group"}, ValueError, "needs feature_groups"),
    ({"feature_groups": GROUPS}, ValueError, "penalty 'l1' takes no feature_groups"),
    ({"penalty": "mcp", "positive": True}, ValueError, "penalty 'mcp' takes no positive"),
    ({"penalty": "group", "feature_groups": GROUPS[:3]}, ValueError, "one entry for each feature, (8,)"),
    ({"penalty_factors": [1.0, 2.0]}, ValueError, "one entry for each feature, (8,)"),
    (
        {"penalty": "group", "feature_groups": GROUPS, "penalty_factors": FACTORS},
        ValueError,
        "one entry for each group, (4,)",
    ),
    ({"penalty": "elastic_net", "l1_ratio": 2.0}, ValueError, "l1_ratio must lie in [0, 1]"),
    ({"tol": -1.0}, ValueError, "tol must be > 0"),
]


@pytest.mark.parametrize("options, error, message", REFUSED, ids=lambda x: str(x)[:30])
def test_bad_options_are_refused_at_fit(options, error, message):
    with pytest.raises(error) as caught:
        PenalizedRegressor(**options).fit(X, y)
    assert message in str(caught.value)


def test_several_mixtures_are_a_choice_for_cross_validation_alone():
    with pytest.raises(ValueError, match="wanted one number; the CV form takes several"):
        PenalizedRegressor(penalty="elastic_net", l1_ratio=[0.5, 1.0]).fit(X, y)


def test_a_fit_that_stops_early_warns():
    with pytest.warns(ConvergenceWarning, match="stopped before its tolerance") as caught:
        PenalizedRegressor(alpha=0.01, max_iter=1, tol=1e-10).fit(X, y)
    assert caught[0].filename == __file__, "the line of the user"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PenalizedRegressor(alpha=0.01, tol=1e-10).fit(X, y)


CHOSEN = {"cv": 3, "n_alphas": 8}


def test_the_choice_is_that_of_cross_validate():
    estimator = PenalizedRegressorCV(standardize=True, choose="1se", random_state=4, cv=3, n_alphas=16)
    estimator.fit(X, y, weight)
    problem = jr.Problem(jr.losses.SquaredError(), X, y, standardize=True, sample_weight=weight)
    cv = jr.cross_validate(problem, jr.L1, folds=3, num=16, key=4)
    assert estimator.alpha_ == cv.lambda_1se and estimator.lambda_max_ == float(cv.lambdas[0])
    np.testing.assert_array_equal(estimator.coef_, np.asarray(cv.solution_1se.coef))
    np.testing.assert_array_equal(estimator.alphas_, np.asarray(cv.lambdas))
    np.testing.assert_array_equal(estimator.cv_result_.mean, cv.mean)
    other = clone(estimator).set_params(choose="min").fit(X, y, weight)
    assert other.alpha_ == cv.lambda_min < estimator.alpha_


def test_mixtures_splitters_and_groups_of_rows():
    rows = np.arange(N) // 5
    options = {"penalty": "elastic_net", "l1_ratio": [0.2, 1.0], "alphas": [0.01, 0.1, 1.0]}
    estimator = PenalizedRegressorCV(cv=GroupKFold(3), **options).fit(X, y, groups=rows)
    assert estimator.alphas_.tolist() == [1.0, 0.1, 0.01]
    assert estimator.l1_ratio_ == estimator.cv_result_.best_value in (0.2, 1.0)
    assert estimator.alpha_ == estimator.cv_result_.lambda_min
    refit = PenalizedRegressor(penalty="elastic_net", alpha=estimator.alpha_, l1_ratio=estimator.l1_ratio_)
    np.testing.assert_allclose(estimator.coef_, refit.fit(X, y).coef_, atol=1e-3)
    assert estimator.lambda_max_ == pytest.approx(refit.lambda_max(X, y))
    with pytest.raises(ValueError, match="groups"):
        PenalizedRegressorCV(cv=GroupKFold(3), **options).fit(X, y)


def test_the_seed_decides_the_folds():
    fits = [PenalizedRegressorCV(random_state=s, **CHOSEN).fit(X, y) for s in (None, 0, 1)]
    means = [fit.cv_result_.mean for fit in fits]
    assert np.array_equal(means[0], means[1]) and not np.array_equal(means[0], means[2])
    state = np.random.RandomState(3)
    drawn = [PenalizedRegressorCV(random_state=state, **CHOSEN).fit(X, y).cv_result_.mean for _ in range(2)]
    assert not np.array_equal(*drawn)


def test_a_penalty_without_a_mixture_takes_no_list_of_them():
    with pytest.raises(ValueError, match="penalty 'l1' takes no list of l1_ratio"):
        PenalizedRegressorCV(l1_ratio=[0.5, 1.0]).fit(X, y)


def test_an_unknown_choice_is_refused_before_the_fits():
    with pytest.raises(ValueError, match="choose is 'best': wanted 'min' or '1se'"):
        PenalizedRegressorCV(choose="best", cv=object()).fit(X, y)
