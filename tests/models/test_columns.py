"""Codings: the same numbers in prediction as in training, and notes on cells that training did not know."""

import numpy as np
import pandas as pd
import pytest

from jaxreg.models.columns import MISSING_LEVEL, DateColumn, LevelColumn, NumberColumn, label


def test_numbers_and_their_gaps():
    coded = NumberColumn("a", mean=2.0).encode(np.array([1.0, np.nan]))
    assert coded.missing.tolist() == [False, True] and np.isnan(coded.values[1, 0])
    column = NumberColumn("a", mean=2.0, indicator=True)
    coded = column.encode(np.array(["1.5", None, "", 3], object))
    assert column.features == ("a", "a is missing") and not coded.missing.any()
    assert coded.values.tolist() == [[1.5, 0], [2, 1], [2, 1], [3, 0]]
    assert column.fill == (2.0, 1.0)


def test_text_is_no_number():
    with pytest.raises(ValueError, match=r"column 'a' has 'red' in row 2: wanted a number"):
        NumberColumn("a").encode(["1", "red"])


def test_levels_that_training_did_not_know():
    column = LevelColumn("c", levels=("blue", "red"))
    coded = column.encode(["red", "mauve", None, "blue", "pink"])
    assert coded.values.tolist() == [[0, 1], [0, 0], [0, 0], [1, 0], [0, 0]]
    assert coded.missing.tolist() == [False, False, True, False, False]
    assert "in 2 rows, coded as none of the known levels: 'mauve', 'pink'." in coded.notes[0]


def test_pooled_levels_take_in_unknown_ones():
    coded = LevelColumn("c", levels=("blue",), pooled=True).encode(["red", "blue", None])
    assert coded.values.tolist() == [[0, 1], [1, 0], [0, 0]]
    assert coded.notes == (
        "Column 'c' has levels without a column of their own in 1 row, coded as 'other': 'red'.",
    )
    assert coded.missing.tolist() == [False, False, True]


def test_a_baseline_has_no_column():
    coded = LevelColumn("s", levels=("yes",), baseline="no").encode(["no", "yes", "maybe"])
    assert coded.values.tolist() == [[0], [1], [0]]
    assert "in 1 row, coded as 'no': 'maybe'." in coded.notes[0]


def test_missing_cells_may_be_a_level():
    coded = LevelColumn("c", levels=(MISSING_LEVEL, "x")).encode([None, "x"])
    assert coded.values.tolist() == [[1, 0], [0, 1]] and not coded.missing.any()


def test_dates_are_days_since_the_origin():
    column = DateColumn("d", origin="2020-01-01T00:00:00", mean=7.0, indicator=True, day_first=True)
    cells = ["3/1/2020", None, pd.Timestamp("2020-01-01 06:00")]
    assert column.encode(cells).values.tolist() == [[2, 0], [7, 1], [0.25, 0]]
    with pytest.raises(ValueError, match="column 'd' has 'soon' in row 3: wanted a date"):
        column.encode(["3/1/2020", None, "soon"])


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (True, "True"),
        (2.0, "2"),
        (2, "2"),
        (0.5, "0.5"),
        (" a ", "a"),
        (None, None),
        (np.nan, None),
        (pd.NA, None),
    ],
)
def test_labels_do_not_depend_on_how_a_cell_was_read(cell, text):
    assert label(cell) == text
