"""Cross-validation against glmnet's numbers, and against a loop of paths over the rows of each fold."""

import csv
import pathlib
import warnings
from itertools import groupby

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from sklearn.model_selection import TimeSeriesSplit

import jaxreg as jr
from jaxreg import losses as L
from jaxreg.linear.selection import _fold_fits
from tests.members import compilations

N, P = 80, 10
#: The data of tests/references/cv_glmnet.R.
_i, _j = np.arange(1.0, N + 1)[:, None], np.arange(1.0, P + 1)
X = np.sin(_i * _j * 0.37 + _j**2) + 0.3 * np.cos(1.7 * _i) + _j / 10
NOISE = np.cos(_i[:, 0] ** 2 * 0.71)
Z = X[:, 0] - 0.8 * X[:, 1] + 0.5 * X[:, 3]
WEIGHT = 1 + np.arange(1.0, N + 1) % 3
FOLD_OF = (np.arange(1, N + 1) * 7) % 5
TARGETS = {
    "gaussian": (L.SquaredError(), 3 * Z + 2 * NOISE),
    "binomial": (L.Logistic(), (Z - Z.mean() + 0.8 * NOISE > 0).astype(float)),
    "poisson": (L.Poisson(), np.round(np.exp(0.8 * (Z - Z.mean()) + 0.5 * NOISE))),
    "multinomial": (L.Multinomial(), np.digitize(Z + 0.8 * NOISE, [-0.2, 0.9], right=True)),
    "mgaussian": (L.SquaredError(), np.column_stack([3 * Z + 2 * NOISE, X[:, 2] - Z + NOISE])),
}
METRICS = {"mae": "absolute_error", "class": "misclassification", "auc": "auc"}

with (pathlib.Path(__file__).parents[2] / "references" / "cv_glmnet.csv").open() as file:
    _rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
CASES = {case: list(rows) for case, rows in groupby(_rows, key=lambda row: row["case"])}


def problem(name="gaussian", rows=slice(None), **options):
    loss, y = TARGETS[name]
    return jr.Problem(loss, X[rows], y[rows], **options)


@pytest.mark.slow_except(
    "gaussian", "gaussian weights", "binomial", "binomial class", "binomial auc", "poisson", "mgaussian"
)
@pytest.mark.parametrize("case", CASES)
def test_glmnet_agrees(case):
    rows, (name, *extra) = CASES[case], case.split()
    lambdas, cvm, cvsd = (np.array([float(row[key]) for row in rows]) for key in ("lambda", "cvm", "cvsd"))
    metric = next((METRICS[word] for word in extra if word in METRICS), "deviance")
    weighted = "weights" in extra or metric == "auc"
    data = problem(name, standardize="raw" not in extra, sample_weight=WEIGHT if weighted else None)
    family = jr.RowL2 if name == "mgaussian" else jr.L1
    cv = jr.cross_validate(data, family, lambdas, folds=FOLD_OF, metric=metric, tol=1e-13)
    # glmnet clips probabilities to [1e-5, 1 − 1e-5] in its scores, which changes a deviance by 1.1e-6.
    np.testing.assert_allclose(cv.mean, cvm, rtol=2e-6 if name == "binomial" else 1e-6)
    np.testing.assert_allclose(cv.se, cvsd, rtol=2e-6 if name == "binomial" else 1e-6)
    assert (cv.index_min, cv.index_1se) == (int(rows[0]["index_min"]), int(rows[0]["index_1se"]))


# ---------------------------------------------------------------- folds against fits on their rows alone


@jax.jit
def deviances(loss, z, y):
    """Return the deviance of each row, for each predictor of a path."""
    return 2 * (jax.vmap(lambda z: loss.value(z, y))(z) - loss.saturated(y))


def brute_force(X, y, loss, cv, weight, labels, family=jr.L1, offset=None, tol=1e-11, **options):
    """Return the fold scores of paths over the rows of each fold, built from these rows alone."""
    scores = []
    for k in range(int(labels.max()) + 1):
        train, test = labels != k, labels == k
        train, test = train & (weight > 0), test & (weight > 0)
        some = lambda rows: None if offset is None else offset[rows]  # noqa: E731
        data = jr.Problem(
            loss, X[train], y[train], sample_weight=weight[train], offset=some(train), **options
        )
        z = jr.path(data, family, cv.lambdas, tol=tol).linear(X[test], offset=some(test))
        scores.append(np.asarray(deviances(loss, z, y[test])) @ weight[test] / weight[test].sum())
    return np.stack(scores)


def hard_data():
    """Return X with columns that a fold alone tells apart from 0 or from a constant, and far-off rows."""
    data, weight = X.copy(), WEIGHT.copy()
    data[:, 2] = np.where(FOLD_OF == 1, X[:, 2], 0.0)
    data[:, 4] = np.where(FOLD_OF == 3, X[:, 4], 7.0)
    data[:, 5] += 50.0
    data[FOLD_OF == 2, 6] *= 100.0
    weight[:6] = 0.0
    data[:6] = 1e3
    return data, weight


@pytest.mark.slow_except("gaussian-options0", "gaussian-options2", "poisson-options5")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gaussian", {"standardize": True}),
        ("gaussian", {"standardize": True, "scale_target": True}),
        ("gaussian", {"intercept": False}),
        ("gaussian", {"intercept": False, "standardize": True}),
        ("binomial", {}),
        ("poisson", {"standardize": True}),
    ],
)
def test_a_fold_is_a_problem_built_without_its_rows(name, options):
    (loss, y), (data, weight) = TARGETS[name], hard_data()
    y, offset = y.copy(), 0.3 * NOISE[::-1]
    whole = jr.Problem(loss, data, y, sample_weight=weight, offset=offset, **options)
    cv = jr.cross_validate(whole, jr.L1, folds=FOLD_OF, num=12, ratio=0.01, tol=1e-11)
    expected = brute_force(data, y, loss, cv, weight, FOLD_OF, offset=offset, **options)
    np.testing.assert_allclose(cv.fold_scores, expected, rtol=1e-6)
    assert cv.converged.all()


@pytest.mark.slow
def test_sparse_features():
    data = np.where(np.abs(X) > 0.8, X, 0.0)
    loss, y = TARGETS["gaussian"]
    whole = jr.Problem(loss, scipy.sparse.csr_matrix(data), y, standardize=True)
    cv = jr.cross_validate(whole, jr.L1, folds=FOLD_OF, num=12, ratio=0.01, tol=1e-11)
    expected = brute_force(data, y, loss, cv, np.ones(N), FOLD_OF, standardize=True)
    np.testing.assert_allclose(cv.fold_scores, expected, rtol=1e-6)


def test_wide_features():
    data = np.column_stack([X, np.cos(_i * np.arange(1.0, 191.0) * 0.13 + np.arange(190.0) ** 2)])
    loss, y = TARGETS["gaussian"]
    cv = jr.cross_validate(jr.Problem(loss, data, y), jr.L1, folds=FOLD_OF, num=12, ratio=0.1, tol=1e-11)
    expected = brute_force(data, y, loss, cv, np.ones(N), FOLD_OF)
    np.testing.assert_allclose(cv.fold_scores, expected, rtol=1e-6)


@pytest.mark.slow
def test_single_precision():
    data, y = X.astype(np.float32) + np.float32(30), TARGETS["gaussian"][1].astype(np.float32)
    whole = jr.Problem(L.SquaredError(), data, y, standardize=True)
    cv = jr.cross_validate(whole, jr.L1, folds=FOLD_OF, num=12, ratio=0.01)
    double = jr.Problem(L.SquaredError(), data.astype(float), y.astype(float), standardize=True)
    exact = jr.cross_validate(double, jr.L1, np.asarray(cv.lambdas, float), folds=FOLD_OF, tol=1e-10)
    assert cv.converged.all() and cv.path.coef.dtype == jnp.float32
    np.testing.assert_allclose(cv.fold_scores, exact.fold_scores, rtol=5e-3)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_poisson_scores_survive_rows_that_overflow():
    data, y = X.copy(), TARGETS["poisson"][1]
    data[7] *= 1e4
    whole, fold = jr.Problem(L.Poisson(), data, y, standardize=True), FOLD_OF[7]
    cv = jr.cross_validate(whole, jr.L1, folds=FOLD_OF, num=12, ratio=0.1)
    assert cv.converged[fold].all() and np.isfinite(cv.fold_gap[fold]).all()


def test_no_scale_leaks_across_folds():
    """Features and targets of a fold's rows change nothing of its fit."""
    loss, y = TARGETS["gaussian"]
    fold, lambdas = FOLD_OF == 0, np.geomspace(1.0, 0.01, 12)
    other, shifted = X.copy(), y.copy()
    other[fold], shifted[fold] = 100 * X[fold] - 7, 1e3 * y[fold] + 50
    fits = []
    for features, target in ((X, y), (other, shifted)):
        data = jr.Problem(loss, features, target, standardize=True)
        fits.append(
            jr.cross_validate(data, jr.L1, lambdas, folds=FOLD_OF, tol=1e-12, train_scores=True).train_scores[
                0
            ]
        )
    np.testing.assert_allclose(fits[1], fits[0], rtol=1e-7)


def test_folds_run_the_programs_of_a_path():
    options = {"num": 7, "ratio": 0.01}
    jr.path(problem(standardize=True), jr.L1, **options)
    own = compilations(
        lambda: jr.cross_validate(problem(standardize=True), jr.L1, folds=FOLD_OF, **options).path.coef
    )
    assert own <= 8, "moments, Gram matrices and scores"
    loss, y = TARGETS["gaussian"]
    other = jr.Problem(loss, X[::-1].copy(), y + 1, standardize=True)
    assert compilations(lambda: jr.cross_validate(other, jr.L1, folds=FOLD_OF, **options).path.coef) == 0


@pytest.mark.slow
def test_features_spread_over_devices():
    mesh = jax.make_mesh((4,), ("rows",))
    spread = jax.device_put(X, NamedSharding(mesh, PartitionSpec("rows")))
    loss, y = TARGETS["gaussian"]
    options = {"folds": FOLD_OF, "mode": "warm", "tol": 1e-10}
    lambdas = np.geomspace(1.0, 0.05, 12)
    cv = jr.cross_validate(jr.Problem(loss, spread, y), jr.L1, lambdas, **options)
    same = jr.cross_validate(problem(), jr.L1, lambdas, **options)
    np.testing.assert_allclose(cv.mean, same.mean, rtol=1e-7)


# ---------------------------------------------------------------- results


def test_the_path_is_that_of_all_rows():
    data = problem(standardize=True)
    cv = jr.cross_validate(data, jr.L1, num=12, ratio=0.01, folds=5)
    path = jr.path(data, jr.L1, num=12, ratio=0.01)
    np.testing.assert_array_equal(cv.path.coef, path.coef)
    np.testing.assert_array_equal(cv.solution_1se.coef, path.coef[cv.index_1se])
    np.testing.assert_allclose(cv.predict(X, choose="1se"), path.predict(X)[cv.index_1se], rtol=1e-12)
    np.testing.assert_array_equal(cv.at(cv.lambda_min).coef, cv.solution_min.coef)
    assert cv.lambda_1se >= cv.lambda_min


def test_predictions_and_training_curves():
    cv = jr.cross_validate(
        problem(), jr.L1, num=12, ratio=0.01, folds=FOLD_OF, keep_predictions=True, train_scores=True
    )
    y = TARGETS["gaussian"][1]
    errors = [np.mean((cv.predictions[k == FOLD_OF] - y[k == FOLD_OF, None]) ** 2, axis=0) for k in range(5)]
    np.testing.assert_allclose(errors, cv.fold_scores, rtol=1e-10)
    assert cv.train_scores[:, -1].mean() < cv.mean[-1]
    assert np.all(np.diff(cv.train_scores, axis=1) <= 1e-9), "a smaller λ fits its own rows better"


def test_ten_folds_are_the_default():
    cv = jr.cross_validate(problem(), jr.L1, num=12, ratio=0.01)
    assert cv.fold_scores.shape == (10, 12) and "10 folds" in str(cv)


def test_repeats_average_over_partitions():
    cv = jr.cross_validate(problem(), jr.L1, num=12, ratio=0.01, folds=4, repeats=3, key=jax.random.key(1))
    assert cv.fold_scores.shape == (12, 12) and cv.repeat.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    np.testing.assert_allclose(cv.mean, cv.fold_scores.mean(axis=0))
    naive = cv.fold_scores.std(axis=0) / np.sqrt(11)
    assert np.all(cv.se > 1.2 * naive), "repetition adds no data"
    assert "3 × 4 folds" in str(cv)


def test_higher_is_better():
    def negative_error(y, prediction, weight):
        return -np.average((y - prediction) ** 2, weights=weight)

    cv = jr.cross_validate(problem(), jr.L1, num=12, ratio=0.01, folds=FOLD_OF)
    same = jr.cross_validate(
        problem(), jr.L1, num=12, ratio=0.01, folds=FOLD_OF, metric=negative_error, higher_is_better=True
    )
    np.testing.assert_allclose(same.mean, -cv.mean)
    assert (same.index_min, same.index_1se) == (cv.index_min, cv.index_1se)
    assert "negative_error" in str(same)


def test_second_axis():
    ratios = [0.5, 1.0]
    options = {"num": 12, "ratio": 0.01, "folds": FOLD_OF}
    both = jr.cross_validate(problem(), jr.ElasticNet, second={"l1_ratio": ratios}, **options)
    alone = [jr.cross_validate(problem(), lambda lam, r=r: jr.ElasticNet(lam, r), **options) for r in ratios]
    for one, cv in zip(alone, both.results, strict=True):
        np.testing.assert_allclose(one.mean, cv.mean, rtol=1e-9)
    best = int(np.argmin([cv.mean.min() for cv in alone]))
    assert both.best_value == ratios[best] and both.lambda_1se == alone[best].lambda_1se
    assert both.at(1.0) is both.results[1] and f"{ratios[best]} (best)" in str(both)
    data = both.to_xarray()
    assert data.score_mean.dims == ("l1_ratio", "lam") and data.sizes["l1_ratio"] == 2
    named = jr.cross_validate(problem(), {"lasso": jr.L1, "ridge": jr.SquaredL2}, **options)
    np.testing.assert_allclose(named.at("lasso").mean, alone[1].mean, rtol=1e-9)
    assert named.name == "family"


def test_to_xarray_and_table():
    cv = jr.cross_validate(problem(), jr.L1, num=12, ratio=0.01, folds=FOLD_OF)
    data = cv.to_xarray(features=[f"x{j}" for j in range(P)])
    assert data.fold_scores.dims == ("fold", "lam") and data.attrs["lambda_min"] == cv.lambda_min
    lines = str(cv).splitlines()
    assert lines[0] == "CrossValidation: deviance on 5 folds, 12 λ" and len(lines) == 4
    assert lines[2].split()[:3] == ["min", f"{cv.lambda_min:.4g}", str(cv.index_min)]


def test_fits_without_a_certificate_are_named():
    cv = jr.cross_validate(
        problem(),
        jr.L1,
        num=12,
        ratio=0.01,
        folds=FOLD_OF,
        max_steps=2,
        solver=jr.ProximalGradient(),
        tol=1e-12,
    )
    n_missed = int(np.sum(~cv.converged))
    assert 0 < n_missed <= cv.converged.size
    assert f"{n_missed} of 60 fits of folds did not meet the tolerance" in str(cv)


def test_a_best_lambda_at_the_end_of_the_grid_is_named():
    cv = jr.cross_validate(problem(), jr.L1, num=12, ratio=0.9, folds=FOLD_OF)
    assert cv.index_min == 11 and "the best λ is the smallest one of the grid" in str(cv)


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_folds_and_lambdas_as_one_batch_agree(devices):
    options = {"num": 6, "ratio": 0.1, "folds": FOLD_OF, "tol": 1e-9}
    data = problem(standardize=True, sample_weight=WEIGHT)
    family = lambda lam: jr.L1(lam) + jr.Box(-0.5, 3.0)  # noqa: E731, bounds depend on the scales of a fold
    mesh = None if devices == 1 else Mesh(np.array(jax.devices()[:devices]), ("d",))
    warm = jr.cross_validate(data, family, mode="warm", **options)
    batched = jr.cross_validate(data, family, mode="batched", mesh=mesh, **options)
    np.testing.assert_allclose(batched.fold_scores, warm.fold_scores, rtol=1e-5)
    assert batched.converged.all()
    free = jr.cross_validate(data, jr.L1, warm.lambdas, **options)
    assert not np.allclose(warm.fold_scores, free.fold_scores), "the bounds hold coefficients back"


def test_folds_of_a_penalty_on_blocks_leave_cores_free(monkeypatch):
    asked = []

    def in_turn(function, count, *, factorises):
        asked.append(factorises)
        return [function(k) for k in range(count)]

    monkeypatch.setattr(_fold_fits, "map_in_threads", in_turn)
    groups = np.arange(problem().shape[1]) // 2
    for family in (jr.L1, lambda lam: jr.GroupL2(lam, groups)):
        jr.cross_validate(problem(), family, folds=FOLD_OF, num=12, ratio=0.3)
    assert asked == [False, True]


# ---------------------------------------------------------------- refusals and warnings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 81}, "81 folds need at least as many rows, got 80"),
        ({"metric": "accuracy"}, "metric must be one of deviance"),
        ({"metric": "auc"}, "needs targets that are classes"),
        ({"metric": lambda y, z, w: np.nan}, "of fold 0 is NaN at 12 of 12 λ"),
        ({"lambdas": [0.1]}, "the grid has one"),
        ({"num": 1}, "the grid has one"),
        ({"folds": 5, "stratify": True}, "takes the targets as classes"),
        ({"second": {"a": [1], "b": [2]}}, "second names one argument"),
        ({"second": {"l1_ratio": []}}, "no value of 'l1_ratio'"),
        ({"second": {"l1_ratio": 0.5}}, r"a list of values of 'l1_ratio', got 0.5: write \[0.5\]"),
        ({"groups": np.arange(N) // 4, "folds": FOLD_OF}, "straddle fold 0"),
        ({"folds": [(np.arange(50), np.arange(40, 80)), (np.arange(40), np.arange(40, 80))]}, "its fit uses"),
    ],
)
def test_bad_input(options, message):
    lambdas = options.pop("lambdas", None)
    with pytest.raises(ValueError, match=message):
        jr.cross_validate(problem(), jr.L1, lambdas, **{"folds": FOLD_OF, "num": 12, "ratio": 0.01} | options)


@pytest.mark.parametrize(
    ("family", "name"), [(jr.ElasticNet, "ElasticNet"), (lambda lam: jr.L1(lam), "<lambda>")]
)
def test_a_second_axis_that_the_family_does_not_take(family, name):
    with pytest.raises(TypeError, match=f"second names 'ratio', which {name} does not take"):
        jr.cross_validate(problem(), family, second={"ratio": [0.5]})


@pytest.mark.slow
def test_a_fold_without_which_a_class_is_missing():
    loss, y = TARGETS["binomial"]
    with pytest.raises(ValueError, match=r"without fold 0: y holds one class only .* stratify="):
        jr.cross_validate(jr.Problem(loss, X, y), jr.L1, folds=y.astype(int))


def test_a_fold_without_weight_is_left_out_with_a_warning():
    weight = np.where(FOLD_OF == 2, 0.0, 1.0)
    data = problem(sample_weight=weight)
    with pytest.warns(UserWarning, match="folds without weight are left out of the mean score: 2"):
        cv = jr.cross_validate(data, jr.L1, folds=FOLD_OF, num=12, ratio=0.01)
    assert np.isnan(cv.fold_scores[2]).all() and np.isfinite(cv.mean).all()
    np.testing.assert_allclose(cv.mean, np.mean(np.delete(cv.fold_scores, 2, 0), axis=0), rtol=0.05)


def test_a_traced_problem_is_refused():
    with pytest.raises(ValueError, match=r"needs a concrete problem.*criteria\.k_fold"):
        jax.jit(lambda X: jr.cross_validate(jr.Problem(L.SquaredError(), X, X[:, 0]), jr.L1).mean)(X)


def test_splitters():
    loss, y = TARGETS["gaussian"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cv = jr.cross_validate(jr.Problem(loss, X, y), jr.L1, folds=TimeSeriesSplit(3), num=12, ratio=0.01)
    assert any("20 of 80 rows are in no test fold" in str(w.message) for w in caught)
    train = np.arange(20)
    path = jr.path(jr.Problem(loss, X[train], y[train]), jr.L1, cv.lambdas)
    expected = np.mean((np.asarray(path.predict(X[20:40])) - y[20:40]) ** 2, axis=1)
    np.testing.assert_allclose(cv.fold_scores[0], expected, rtol=1e-4)
