"""Fitted models: predictions from arrays and tables in the model's own precision."""

import jax
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import jaxreg as jr
from jaxreg.models import FittedModel, LevelColumn, NumberColumn

SQUARED = jr.losses.SquaredError()


def test_double_precision_whatever_that_of_jax():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    try:
        model = FittedModel(jr.losses.Logistic(), np.array([1.0 + 1e-12]), 0.0)
        assert model.predict([[1.0]]).dtype == np.float64
        assert model.predict([[1.0]])[0] == pytest.approx(1 / (1 + np.exp(-1 - 1e-12)), rel=1e-15)
        single = FittedModel(SQUARED, np.array([1.5], np.float32), 0.0)
        assert single.predict([[1.0]]).dtype == np.float32
    finally:
        jax.config.update("jax_enable_x64", before)


def test_means_are_those_of_the_loss():
    z = np.array([[0.3, -1.0], [2.0, 0.1]])
    model = FittedModel(jr.losses.Multinomial(2), np.eye(2), np.zeros(2), classes=("u", "v"))
    assert np.allclose(model.predict(z), np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))
    assert model.classify(z).tolist() == ["u", "u"]
    assert np.allclose(FittedModel(jr.losses.Poisson(), [1.0], 0.5).predict([[2.0]]), np.exp(2.5))
    logistic = FittedModel(jr.losses.Logistic(), [1.0], 0.0)
    assert np.allclose(logistic.probabilities([[0.0]]), 0.5) and logistic.classify([[3.0]]).tolist() == [1]
    with pytest.raises(TypeError, match="SquaredError has no classes"):
        FittedModel(SQUARED, [1.0], 0.0).classify([[1.0]])


def test_tables_are_read_by_name():
    columns = (NumberColumn("a"), LevelColumn("c", levels=("r", "s")))
    model = FittedModel(SQUARED, [1.0, 10.0, 20.0], 0.5, features=("a", "c=r", "c=s"), columns=columns)
    table = pd.DataFrame({"z": ["?", "?"], "c": ["s", "t"], "a": [1, 2]})
    assert model.predict(table).tolist() == [21.5, 2.5]
    assert model.encode(table).notes and not model.encode(table).missing.any()
    with pytest.raises(ValueError, match=r"lacks columns 'c': wanted those of training; it has 'a'"):
        model.predict(pd.DataFrame({"a": [1]}))
    plain = FittedModel(SQUARED, [1.0, 2.0], 0.0, features=("a", "b"))
    assert plain.predict({"b": [1.0], "a": [5.0]}).tolist() == [7.0]


def test_columns_that_are_not_used_are_pruned():
    columns = (NumberColumn("a"), LevelColumn("c", levels=("r", "s")), NumberColumn("b", indicator=True))
    names = ("a", "c=r", "c=s", "b", "b is missing")
    model = FittedModel(SQUARED, [0.0, 0.0, 2.0, 0.0, 0.0], 0.5, features=names, columns=columns)
    small = model.pruned()
    assert small.features == ("c=r", "c=s") and small.columns == columns[1:2]
    table = {"a": [1.0, 2.0], "c": ["r", "s"], "b": [1.0, None]}
    assert small.predict({"c": ["r", "s"]}).tolist() == model.predict(table).tolist() == [0.5, 2.5]
    null = FittedModel(SQUARED, [0.0], 0.5)
    assert null.pruned() is null


def test_sparse_rows():
    X = scipy.sparse.csr_matrix([[0.0, 2.0]])
    assert FittedModel(SQUARED, [1.0, 2.0], 1.0).predict(X).tolist() == [5.0]


def test_the_model_of_a_solution():
    X, y = np.eye(4)[:, :2], np.arange(4.0)
    fit = jr.solve(jr.Problem(SQUARED, X, y), jr.L1(0.1))
    model = FittedModel.of(fit, features=("a", "b"), penalty="L1", lam=0.1)
    assert np.allclose(model.predict(X), fit.predict(X)) and model.gap == float(fit.gap)
    assert "penalty L1 at λ = 0.1" in str(model) and "'a'" in str(model)
    with pytest.raises(TypeError, match="wanted the solution"):
        FittedModel.of(jr.path(jr.Problem(SQUARED, X, y), jr.L1, num=2))
    offset = jr.solve(jr.Problem(SQUARED, X, y, offset=np.ones(4)), jr.L1(0.1))
    with pytest.raises(TypeError, match="had an offset"):
        FittedModel.of(offset)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"loss": "squared"}, "loss is str"),
        ({"intercept": [0.0]}, "shapes"),
        ({"coef": [np.nan, 1.0]}, "not finite"),
        ({"features": ("a",)}, "1 names"),
        ({"columns": (NumberColumn("a"),)}, "codings of 1 features"),
        ({"classes": ("a", "b", "c")}, "3 classes do not fit"),
    ],
)
def test_parts_that_do_not_fit(given, part):
    whole = {"loss": SQUARED, "coef": [1.0, 2.0], "intercept": 0.0, "features": ("a", "b")}
    with pytest.raises(ValueError, match=part):
        FittedModel(**(whole | given))


@pytest.mark.parametrize(
    ("X", "part"), [([[1.0]], r"shape \(1, 1\)"), ([[1.0, np.nan]], "1 missing or infinite")]
)
def test_rows_that_do_not_fit(X, part):
    with pytest.raises(ValueError, match=part):
        FittedModel(SQUARED, [1.0, 2.0], 0.0).predict(X)
