"""Estimators among the tools of scikit-learn: searches, pipelines, data frames, routing, files, threads."""

import pickle
import subprocess
import sys
from functools import partial

import joblib
import numpy as np
import pandas
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.feature_selection import SelectFromModel
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import jaxreg as jr
from jaxreg.estimators import (
    PenalizedClassifier,
    PenalizedClassifierCV,
    PenalizedRegressor,
    PenalizedRegressorCV,
)
from tests.members import compilations

N, P = 60, 8
rng = np.random.default_rng(7)
X = rng.normal(size=(N, P))
y = X[:, 0] - 2 * X[:, 1] + rng.normal(size=N)
labels = np.where(y > 0, "high", "low")
weight = rng.integers(0, 3, N).astype(float)
CHOSEN = {"cv": 3, "n_alphas": 4}
ALL = [
    PenalizedRegressor("huber"),
    PenalizedClassifier(alpha=0.02),
    PenalizedRegressorCV(**CHOSEN),
    PenalizedClassifierCV(penalty="elastic_net", l1_ratio=[0.5, 1.0], **CHOSEN),
]
named = pytest.mark.parametrize("estimator", ALL, ids=lambda e: type(e).__name__)


def fitted(estimator):
    return clone(estimator).fit(X, labels if "Classifier" in type(estimator).__name__ else y)


def test_a_grid_search_compiles_no_more_than_one_fit():
    X, y = rng.normal(size=(110, 7)), rng.normal(size=110)
    estimator = PenalizedRegressor(standardize=True)
    # Folds of 88 rows have the size class 96, all rows have 112.
    first = compilations(lambda: [clone(estimator).fit(X[:n], y[:n]).coef_ for n in (88, 110)])
    search = GridSearchCV(estimator, {"alpha": np.geomspace(1e-3, 1, 20)}, cv=5)
    assert first > 0
    assert compilations(lambda: search.fit(X, y).best_estimator_.predict(X)) == 0


def test_predicting_another_number_of_rows_compiles_nothing():
    fit = fitted(PenalizedClassifier(alpha=0.02))
    fit.predict_proba(X)
    assert compilations(lambda: fit.predict_proba(X[:57])) == 0


def test_columns_of_a_data_frame_keep_their_names():
    frame = pandas.DataFrame(X[:, :2], columns=["age", "bmi"])
    frame["colour"] = np.where(X[:, 2] > 0, "red", "blue")
    encode = make_column_transformer(
        (StandardScaler(), ["age", "bmi"]), (OneHotEncoder(sparse_output=False), ["colour"])
    )
    pipeline = make_pipeline(encode, PenalizedRegressor(alpha=0.02)).set_output(transform="pandas")
    final = pipeline.fit(frame, y)[-1]
    assert final.feature_names_in_[1] == "standardscaler__bmi" and len(final.feature_names_in_) == 4
    assert final.to_model().features == tuple(final.feature_names_in_)
    with pytest.raises(ValueError, match="feature names"):
        final.predict(pandas.DataFrame(X[:, :4], columns=list("abcd")))


def test_dummies_of_a_factor_enter_together():
    colour = rng.choice(["red", "green", "blue"], N)
    frame = pandas.DataFrame({"age": X[:, 0], "colour": colour, "bmi": X[:, 1]})
    encode = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["colour"]),
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    model = PenalizedRegressor(
        penalty="group", alpha=0.05, feature_groups=partial(jr.groups.from_columns, factors=["colour"])
    )
    target = y + 2.0 * (colour == "red")
    final = make_pipeline(encode, model).set_output(transform="pandas").fit(frame, target)[-1]
    assert final.feature_names_in_.tolist()[:3] == ["colour_blue", "colour_green", "colour_red"]
    by_hand = PenalizedRegressor(penalty="group", alpha=0.05, feature_groups=[0, 0, 0, 1, 2])
    by_hand.fit(encode.fit_transform(frame), target)
    np.testing.assert_array_equal(final.coef_, by_hand.coef_)
    assert (final.coef_[:3] != 0).all()
    with pytest.raises(ValueError, match="function of the names of features, and X has none"):
        clone(model).fit(X, y)


def test_polars_frames():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"age": X[:, 0], "bmi": X[:, 1]})
    fit = PenalizedRegressor().fit(frame, y)
    assert fit.feature_names_in_.tolist() == ["age", "bmi"]
    np.testing.assert_array_equal(fit.predict(frame), fit.predict(frame.to_pandas()))


def test_features_are_selected_by_their_coefficients():
    selected = SelectFromModel(PenalizedRegressor(alpha=0.5), threshold=1e-12).fit(X, y)
    np.testing.assert_array_equal(selected.get_support(), selected.estimator_.coef_ != 0)
    assert 0 < selected.get_support().sum() < P


def test_weights_and_groups_are_routed():
    rows = np.arange(N) // 5
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = PenalizedRegressorCV(cv=GroupKFold(3), n_alphas=4)
        estimator.set_fit_request(sample_weight=True, groups=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), estimator)
        options = {"sample_weight": weight, "groups": rows}
        direct = clone(estimator).fit(StandardScaler().fit_transform(X), y, **options)
        np.testing.assert_array_equal(pipeline.fit(X, y, **options)[-1].coef_, direct.coef_)
        scores = cross_validate(
            PenalizedRegressor().set_fit_request(sample_weight=True).set_score_request(sample_weight=True),
            X, y, cv=KFold(2), params={"sample_weight": weight},
        )  # fmt: skip
    train, test = next(KFold(2).split(X))
    by_hand = PenalizedRegressor().fit(X[train], y[train], weight[train])
    assert scores["test_score"][0] == by_hand.score(X[test], y[test], weight[test])


@named
def test_pickle_and_joblib(estimator, tmp_path):
    fit = fitted(estimator)
    joblib.dump(fit, tmp_path / "fit.joblib")
    for copy in (pickle.loads(pickle.dumps(fit)), joblib.load(tmp_path / "fit.joblib")):
        np.testing.assert_array_equal(copy.predict(X), fit.predict(X))
        assert repr(copy) == repr(fit)
        if hasattr(fit, "cv_result_"):
            assert str(copy.cv_result_) == str(fit.cv_result_)


@named
def test_saved_models_predict_the_same(estimator, tmp_path):
    fit = fitted(estimator)
    jr.save(fit, tmp_path / "model.jaxreg")
    model = jr.load(tmp_path / "model.jaxreg")
    if hasattr(fit, "classes_"):
        np.testing.assert_array_equal(model.classify(X), fit.predict(X))
        np.testing.assert_allclose(model.probabilities(X), fit.predict_proba(X), rtol=1e-12)
    else:
        np.testing.assert_array_equal(model.predict(X), fit.predict(X))
    assert model.lam == getattr(fit, "alpha_", estimator.get_params().get("alpha"))
    assert model.gap == fit.dual_gap_ and model.penalty == estimator.penalty


def test_a_model_takes_further_facts(tmp_path):
    model = fitted(ALL[0]).to_model(target="price", settings={"rows": N})
    assert model.target == "price" and model.settings == {"rows": N} and model.features[0] == "x0"
    with pytest.raises(sklearn.exceptions.NotFittedError):
        jr.save(PenalizedRegressor(), tmp_path / "none.jaxreg")


def in_a_fresh_interpreter(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_without_scikit_learn_the_error_names_the_extra():
    code = """
import sys, jaxreg as jr
assert "sklearn" not in sys.modules
sys.modules["sklearn"] = None
try:
    jr.estimators
except ImportError as error:
    print(error)
"""
    wanted = "jaxreg.estimators needs scikit-learn 1.6 or later: pip install 'jaxreg[sklearn]'"
    assert in_a_fresh_interpreter(code) == [wanted]


@pytest.mark.slow
def test_single_precision_fits():
    code = """
import numpy as np, jaxreg as jr
X = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
fit = jr.estimators.PenalizedRegressor(alpha=0.01).fit(X, X[:, 0])
print(fit.coef_.dtype, fit.predict(X).dtype, fit.dual_gap_ <= 1e-4, (np.abs(fit.coef_) > 0.5).tolist())
"""
    assert in_a_fresh_interpreter(code) == ["float32 float32 True [True, False, False]"]
