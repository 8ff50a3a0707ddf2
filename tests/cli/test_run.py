"""The numbers behind the command: one labelled dataset, read back as it was written."""

import dataclasses
import io

import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from rich.console import Console

import jaxreg as jr
from jaxreg.cli import _screen
from jaxreg.cli._settings import Reading, Settings
from jaxreg.cli.choose import choose, comparison
from jaxreg.cli.load import fill_missing, load
from jaxreg.cli.main import main
from jaxreg.cli.run import _errors, _Rows, _unpenalised, run
from jaxreg.cli.split import split
from jaxreg.linear.selection.folds import make_folds
from jaxreg.plots import best_step

DEFAULT = ["l1", "l2", "elastic-net:0.5"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder that the default sweep writes, on a short grid."""
    folder = tmp_path_factory.mktemp("sweep") / "out"
    assert main(["sweep", "--lambdas", "8", "--out", str(folder)]) == 0
    return folder


def test_default_numbers(written):
    with xarray.open_dataset(written / "sweep.nc") as data:
        assert data["coef"].dims == ("penalty", "step", "feature")
        assert data["penalty"].values.tolist() == ["L1", "L2", "elastic net 0.5"]
        assert data["feature"].values.tolist()[:3] == ["age", "sex", "bmi"]
        assert float(data["gap"].max()) <= 1e-6
        assert set(data["status"].values.ravel()) == {"converged"}
        assert int(data["zeros"].sel(penalty="L1")[0]) == 10
        assert int(data["zeros"].sel(penalty="L2").max()) == 0
        assert float(data["shrinkage"].sel(penalty="L2")[0]) > 0.99
        assert (np.diff(data["lam"].values, axis=1) < 0).all()
        assert np.allclose(data["zeros"], (data["coef"] == 0).sum("feature"))


def test_every_variable_has_a_meaning_and_a_unit(written):
    with xarray.open_dataset(written / "sweep.nc") as data:
        for name, variable in data.variables.items():
            assert variable.attrs["units"] and variable.attrs["long_name"], name
        assert data["error"].attrs["units"] == "(progression)²"
        assert data["error"].attrs["long_name"] == "mean squared error on the held-out rows"
        assert data["coef"].attrs["units"] == "progression per unit of the feature"
        assert data["zeros"].attrs["units"] == "1"


def test_settings_and_versions_are_kept(written):
    with xarray.open_dataset(written / "sweep.nc") as data:
        at = data.attrs
    want = {"data": "diabetes", "target": "progression", "loss": "squared", "lambdas": 8, "holdout": 0.25}
    want |= {"seed": 0, "tol": 1e-6, "dtype": "float64", "standardize": 1, "ratio": "default"}
    want |= {"rows_train": 332, "rows_held_out": 110, "reference": "the unpenalised fit"}
    assert {name: at[name] for name in want} == want
    for package in ("jaxreg", "jax", "equinox", "numpy", "xarray", "scikit-learn"):
        assert f"{package} " in at["versions"]
    assert at["python"] and at["platform"] and at["device"] and at["penalties"] == ", ".join(DEFAULT)


def test_numbers_are_those_of_the_library(written):
    table = load("diabetes")
    train, held = split(table, 0.25, 0)
    loss, options = jr.losses.SquaredError(), {"standardize": True, "scale_target": True}
    problem = jr.Problem(loss, table.X[train], table.y[train], **options)
    with xarray.open_dataset(written / "sweep.nc") as data:
        part = data.sel(penalty="L1").isel(step=4)
        fit = jr.solve(problem, jr.L1(float(part["lam"])), tol=1e-9)
        assert np.allclose(part["coef"], fit.coef, atol=1e-2)
        z = table.X[held] @ part["coef"].values + float(part["intercept"])
        assert np.isclose(part["error"], np.mean((z - table.y[held]) ** 2))
        assert np.allclose(part["standardized_coef"], part["coef"] * table.X[train].std(axis=0))
        free, _ = jr.unpenalized(problem)
        assert np.allclose(part["reference_coef"], free * table.X[train].std(axis=0), rtol=1e-5)


def test_unpenalised_fit_of_squared_error_is_that_of_the_library():
    table, rows = load("diabetes"), np.arange(300)
    X, y = table.X[rows] * 10.0 ** np.arange(-150, 150, 30), table.y[rows]
    X[:, 3] = 7.0
    for features in (X, np.column_stack([X, X[:, 0] + 1e-160 * X[:, 1]]), X[:8]):
        target = y[: len(features)]
        problem = jr.Problem(jr.losses.SquaredError(), features, target, standardize=True, scale_target=True)
        found = _unpenalised(problem, _Rows(features, target, features, target))
        expected = jr.unpenalized(problem)
        assert (found is None) == (expected is None) == (features is not X)
        if features is X:
            np.testing.assert_allclose(found, expected[0], rtol=1e-8)


def test_cross_validation_is_that_of_the_library():
    table, settings = load("diabetes"), Settings(lambdas=8, ratio=1e-3, holdout=0, cv=4, seed=3, choose="1se")
    data = run(table, ["l1"], settings)
    options = {"standardize": True, "scale_target": True}
    problem = jr.Problem(jr.losses.SquaredError(), table.X, table.y, **options)
    result = jr.cross_validate(problem, jr.L1, folds=4, key=3, num=8, ratio=1e-3, tol=1e-6)
    assert np.allclose(data["error"][0], result.mean) and np.allclose(data["error_se"][0], result.se)
    part = data.isel(penalty=0)
    assert int(part["best_step"]) == result.index_1se == best_step(part)
    assert np.allclose(part["coef"], result.path.coef) and data.attrs["error_rows"] == "rows of 4 folds"
    # Each row is predicted by a fit without it: the mean over rows is the mean over folds of equal weight.
    error = np.mean((part["prediction"].values - table.y) ** 2)
    assert error == pytest.approx(float(part["error"][part["best_step"]]), rel=0.01)
    chosen = choose(data, table, np.arange(0))
    assert chosen.scores["RMSE"] == pytest.approx(np.sqrt(error)) and chosen.at.step == result.index_1se
    assert "on 442 rows of 4 folds" in comparison(data, chosen.at)


def test_no_cell_of_a_fold_enters_the_means_that_predict_it(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 2)) + 5
    y = X @ [1.0, -2.0] + rng.standard_normal(40)
    cells = np.where(rng.random((40, 2)) < 0.3, "", X.astype(str))
    file = tmp_path / "gaps.csv"
    file.write_text("a,b,y\n" + "".join(f"{a},{b},{t}\n" for (a, b), t in zip(cells, y, strict=True)))
    table = fill_missing(load(str(file), target="y", reading=Reading(missing="mean")), np.arange(40), 4)
    data = run(table, ["l1"], Settings(lambdas=4, holdout=0, cv=4, tol=1e-10)).isel(penalty=0)
    step, prediction = int(data["best_step"]), data["prediction"].values
    folds = make_folds(40, 4, key=0)
    for train, test in zip(folds.train, folds.test, strict=True):
        known = [np.nanmean(table.unfilled[train, k]) for k in (0, 2)]
        filled = table.unfilled.copy()
        for k, mean in zip((0, 2), known, strict=True):
            filled[np.isnan(filled[:, k]), k] = mean
        options = {"standardize": True, "scale_target": True}
        problem = jr.Problem(jr.losses.SquaredError(), filled[train], y[train], **options)
        path = jr.path(problem, jr.L1, data["lam"].values, tol=1e-10)
        assert np.allclose(path.linear(filled[test])[step], prediction[test], rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "penalties"), [("squared", ["l1", "elastic-net:0.5", "mcp:3"]), ("huber", ["l1"])]
)
def test_the_unit_of_the_target_changes_nothing_but_units(loss, penalties):
    table, unit = load("diabetes", loss=loss), 1e3
    one, other = (
        run(dataclasses.replace(table, y=y), penalties, Settings(lambdas=6, ratio=0.01))
        for y in (table.y, unit * table.y)
    )
    for name in ("lam", "dof", "shrinkage", "deviance_explained"):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-5, atol=1e-9)
    for name in ("zeros", "status"):
        np.testing.assert_array_equal(other[name], one[name])
    for name, power in (("coef", 1), ("intercept", 1), ("standardized_coef", 1), ("error", 2)):
        atol = 1e-6 * float(np.abs(one[name]).max())
        np.testing.assert_allclose(other[name] / unit**power, one[name], rtol=1e-5, atol=atol)


@pytest.mark.slow
def test_several_classes_and_nothing_held_out():
    labels = []
    data = run(load("iris"), ["l1"], Settings(lambdas=3, ratio=0.1, holdout=0, tol=1e-3), labels.append)
    assert data["coef"].dims == ("penalty", "step", "feature", "class")
    assert data["class"].values.tolist() == ["setosa", "versicolor", "virginica"]
    assert labels == ["preparing the problem", "solving L1"]
    assert data.attrs["rows_held_out"] == 0 and data.attrs["error_rows"] == "training rows"
    assert data.attrs["reference"] == "the fit at the smallest λ"
    assert float(data["shrinkage"][0, -1]) == pytest.approx(0)


def test_unknown_penalty_is_refused_before_the_work():
    with pytest.raises(ValueError, match="no penalty 'l7'"):
        run(load("iris"), ["l1", "l7"])


def test_bar_of_steps(monkeypatch):
    seen = io.StringIO()
    monkeypatch.setattr(_screen, "Console", lambda **given: Console(file=seen, force_terminal=True, width=80))
    with _screen.Steps(2) as tick:
        tick("reading")
        tick("solving")
        tick.aside(lambda: None)
    assert "reading" in seen.getvalue() and "1/2" in seen.getvalue()


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_the_standard_error_of_large_targets_is_finite_in_single_precision(unit):
    z, y = np.zeros(6, np.float32), np.float32(unit) * np.array([1, 2, 3, 4, 5, 6], np.float32)
    found = _errors(jr.losses.SquaredError(), jnp.asarray(z), jnp.asarray(y))
    squares = y.astype(float) ** 2
    np.testing.assert_allclose(found["error_se"], squares.std() / np.sqrt(6), rtol=1e-5)
