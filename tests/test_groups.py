"""Labels of groups from the names of columns."""

import numpy as np
import pytest

import jaxreg as jr
from jaxreg.groups import from_columns


def test_the_stem_is_what_stands_before_the_last_separator():
    assert from_columns(["a", "b=1", "b=2", "c=x=1", "c=x=2", "c=y"]).tolist() == [0, 1, 1, 2, 2, 3]
    assert from_columns(["c_x", "c_y", "d"], separator="_").tolist() == [0, 0, 1]
    assert from_columns([3, 4.5]).tolist() == [0, 1]


def test_a_column_named_as_a_stem_is_another_group():
    assert from_columns(["b", "b=1", "b", "b=2"]).tolist() == [0, 1, 2, 1]


def test_factors_take_the_longest_name_that_fits():
    names = ["income_low", "income_class_a", "income", "income_class_b"]
    assert from_columns(names, factors=["income", "income_class"]).tolist() == [0, 1, 0, 1]


def test_labels_suit_the_penalties():
    labels = from_columns(["a", "b=1", "b=2"])
    shrunk = jr.GroupL2(1.0, labels).prox(np.array([3.0, 0.9, 0.9]), 1.0)
    assert shrunk.tolist() == [2.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"columns": []}, "columns is empty"),
        ({"pattern": "(a)", "factors": ["a"]}, "both pattern and factors"),
        ({"pattern": "(a"}, "no regular expression"),
        ({"pattern": "a.*"}, "no parenthesis"),
        ({"separator": ""}, "separator is empty"),
        ({"factors": ["a", "zz"]}, "no column starts with 'zz'"),
    ],
)
def test_refusals(options, part):
    with pytest.raises(ValueError, match=part):
        from_columns(**({"columns": ["a", "b"]} | options))
