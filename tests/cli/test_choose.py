"""The chosen model: by the deviance, with scores that scikit-learn confirms."""

import numpy as np
import pytest
from sklearn import metrics

import jaxreg as jr
from jaxreg.cli.choose import Best, best, choose, comparison, scores, warnings
from jaxreg.cli.load import Table
from jaxreg.models import FittedModel
from tests.made_sweep import made_sweep


def table(n=12, classes=(), loss="squared"):
    rng = np.random.default_rng(0)
    y = np.arange(n) % len(classes) if classes else rng.normal(size=n)
    X = rng.normal(size=(n, 4))
    return Table("t.csv", X, y, tuple("abcd"), "price", loss, tuple(classes), "", ())


def test_the_smallest_error_and_among_equals_the_sparsest():
    data = made_sweep()
    assert best(data) == Best(0, 20), "L1 has zeros there, L2 has none"
    data["error"][{"penalty": 1, "step": 30}] = 0.5
    assert best(data) == Best(1, 30)
    assert best(made_sweep(held=0)) is None and choose(made_sweep(held=0), table(), np.arange(0)) is None


def test_classes_are_chosen_by_deviance_not_by_the_misclassified_fraction():
    data = made_sweep(loss="logistic")
    data["misclassified"][{"penalty": 1, "step": 39}] = 0.0
    assert best(data) == Best(0, 20)


def test_the_model_is_that_of_the_sweep():
    data, given = made_sweep(), table()
    found = choose(data, given, np.arange(8, 12))
    assert found.model.coef.tolist() == data["coef"].values[0, 20].tolist()
    assert found.model.lam == float(data["lam"][0, 20]) and found.model.penalty == "L1"
    assert found.model.settings["error"] == 1.0 and found.model.settings["numbers"] is False
    assert found.scores["RMSE"] == pytest.approx(
        np.sqrt(np.mean((given.X[8:] @ found.model.coef - given.y[8:]) ** 2))
    )


def test_scores():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(40, 2)), (rng.random(40) < 0.4).astype(float)
    X[:20] = X[20:].round()  # ties
    two = FittedModel(jr.losses.Logistic(), [1.0, 0.0], 0.2)
    found, z = scores(two, two.predict(X), y), two.linear(X)
    assert found["AUC"] == pytest.approx(metrics.roc_auc_score(y, z))
    assert found["misclassified"] == pytest.approx(np.mean((z > 0) != y))
    assert set(scores(two, two.predict(X), np.ones(40))) == {"misclassified"}, "one class has no AUC"
    number = FittedModel(jr.losses.Poisson(), [0.3, 0.1], 0.0)
    found = scores(number, number.predict(X), y)
    assert found["R²"] == pytest.approx(metrics.r2_score(y, number.predict(X)))
    assert found["RMSE"] == pytest.approx(metrics.root_mean_squared_error(y, number.predict(X)))


def test_comparison():
    data = made_sweep()
    data["error"].values[:] = data["error"].values + 2870
    data["error"][{"penalty": 1}] += 3
    assert comparison(data, best(data)) == (
        "Use L1 at λ = 1.93: mean squared error 2,871 ± 0.1 on 10 held-out rows; L2 2,874."
    )


@pytest.mark.parametrize(
    ("held", "classes", "part"),
    [
        (12, (), "12 held-out rows"),
        (40, ("u", "v", "w", "x", "rare"), "class 'u' has 8"),
        (40, ("u", "v"), ""),
        (0, (), ""),
    ],
)
def test_few_rows_are_warned_of(held, classes, part):
    given = table(40, classes, "multinomial" if classes else "squared")
    found = warnings(given, np.arange(held))
    assert (part in found[0]) if part else not found
