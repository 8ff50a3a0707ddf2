"""The split into training and held-out rows."""

import numpy as np
import pytest

from jaxreg.cli.load import Table, load
from jaxreg.cli.split import split


def table(y, loss="squared"):
    y = np.asarray(y)
    classes = tuple(str(label) for label in np.unique(y)) if loss in ("logistic", "multinomial") else ()
    return Table("t", np.zeros((len(y), 1)), y, ("a",), "y", loss, classes, "", ())


@pytest.mark.parametrize("holdout", [0, 0.001, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("name", ["diabetes", "breast_cancer", "iris"])
def test_split(name, holdout):
    got = load(name)
    train, held = split(got, holdout, seed=3)
    n = len(got.y)
    assert np.array_equal(np.sort(np.concatenate([train, held])), np.arange(n))
    assert (np.diff(train) > 0).all() and (np.diff(held) > 0).all()
    assert len(held) == (max(1, round(holdout * n)) if holdout else 0)
    if got.classes:
        wanted = holdout * np.bincount(got.y.astype(int))
        assert np.abs(np.bincount(got.y[held].astype(int), minlength=len(wanted)) - wanted).max() <= 1
    again, other = split(got, holdout, seed=3), split(got, holdout, seed=4)
    assert np.array_equal(held, again[1]) and train.dtype == held.dtype == np.int64
    assert holdout < 0.1 or not np.array_equal(held, other[1])


def test_split_keeps_a_row_of_every_class():
    got = table([0, 0, 0, 0, 0, 0, 1, 2, 2], "multinomial")
    for seed in range(20):
        train, held = split(got, 0.75, seed)
        assert set(got.y[train]) == {0, 1, 2} and len(held) == 6
    train, held = split(table([0, 0, 1, 2, 3], "multinomial"), 0.5, 0)
    assert len(held) == 1 and set(train) >= {2, 3, 4}


@pytest.mark.parametrize(
    ("y", "loss", "holdout", "seed", "parts"),
    [
        (range(9), "squared", 1.0, 0, ("holdout is 1.0", "0.2")),
        (range(9), "squared", -0.1, 0, ("holdout is -0.1", "fraction")),
        (range(9), "squared", float("nan"), 0, ("holdout is nan",)),
        (range(9), "squared", 0.9, 0, ("leaves 1 of 9 rows", "at least 2", "smaller --holdout")),
        ([1.0, 2.0], "squared", 0.01, 0, ("leaves 1 of 2 rows",)),
        (range(9), "squared", 0.2, -1, ("seed is -1", "0 up")),
        (range(9), "multinomial", 0.2, 0, ("9 classes", "one row", "holdout 0")),
    ],
)
def test_split_refused(y, loss, holdout, seed, parts, assert_refused):
    with assert_refused(*parts):
        split(table(list(y), loss), holdout, seed)
