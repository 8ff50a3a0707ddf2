"""Files as they come: separators, decimals, headers, encodings, missing cells, marks, identifiers, dates."""

import datetime

import numpy as np
import pandas as pd
import pytest

from jaxreg.cli._settings import Reading
from jaxreg.cli.load import fill_missing, load

ROWS = "a,b,y\n1,2,10\n3,5,20\n4,4,35.5\n"


def test_separators_and_decimals_are_recognised(write):
    european = "a;b;y\n1,5;2;10\n3,25;5;20\n-4,0;4;35,5\n"
    got = load(write(european), target="y")
    assert got.X.tolist() == [[1.5, 2], [3.25, 5], [-4, 4]] and got.y.tolist() == [10, 20, 35.5]
    assert got.notes[:2] == (
        "The columns are separated by semicolons.",
        "Decimals are marked by commas (--decimal . reads them otherwise).",
    )
    for mark in "\t|":
        assert load(write(ROWS.replace(",", mark)), target="y").X.tolist() == [[1, 2], [3, 5], [4, 4]]
    grouped = "a;y\n1.234,5;1\n12,25;2\n1.000.000,75;4\n"
    assert load(write(grouped), target="y").X[:, 0].tolist() == [1234.5, 12.25, 1000000.75]
    last = "a;b;y\n1;2;3\n2;3,5;1,5"
    assert load(write(last), target="y").y.tolist() == [3, 1.5], "decimals on the last line alone"
    quoted = 'a,y\n"0,5",1\n"1,25",2\n"2,75",4\n'
    assert load(write(quoted), target="y").X[:, 0].tolist() == [0.5, 1.25, 2.75]


@pytest.mark.parametrize("line", ["sep=;\r\n", '"sep=;"\n', "SEP=;\n"])
@pytest.mark.parametrize("header", [True, False])
def test_a_first_line_that_names_the_separator_is_not_the_header(write, line, header):
    text = line + ("a;y\n" if header else "") + "1,5;2\n2,5;3\n3,5;5\n"
    target = "y" if header else "column_2"
    got = load(write(text), target=target, reading=Reading(header=header))
    assert got.X[:, 0].tolist() == [1.5, 2.5, 3.5] and got.y.tolist() == [2, 3, 5]


def test_names_over_several_lines_can_be_typed(write):
    got = load(write('"Area\n(m²)","Price\r\n(USD)"\n1,2\n2,3\n3,5\n'), target="Price (USD)")
    assert got.features == ("Area (m²)",) and got.target == "Price (USD)"
    assert load(write('a,"b\nc"\n1,2\n2,3\n3,5\n'), target="b\nc").target == "b c"


def test_separators_and_decimals_may_be_given(write):
    read = Reading(sep="space")
    assert load(write("a  y\n1 2\n3   4\n5 7\n"), target="y", reading=read).X[:, 0].tolist() == [1, 3, 5]
    read = Reading(sep=";", decimal=",")
    assert load(write("a;y\n1,234;2\n2,345;3\n"), target="y", reading=read).X[:, 0].tolist() == [1.234, 2.345]


def test_a_file_without_a_header(write, assert_refused):
    got = load(write("1,2,10\n3,5,20\n4,4,35.5\n"), target="column_3", reading=Reading(header=False))
    assert got.features == ("column_1", "column_2") and len(got.y) == 3
    with assert_refused("no column 'y'", "its first line is all numbers ('1', '2', '10')", "--no-header"):
        load(write("1,2,10\n3,5,20\n4,4,35.5\n"), target="y")
    got = load(write("1,2,10\n3,5,20\n4,4,35.5\n"), target="10")
    assert (
        "The names of all columns are numbers ('1', '2', '10'): if they are data, add --no-header."
        in got.notes
    )


@pytest.mark.parametrize(
    ("encoding", "note"), [("utf-8-sig", ""), ("utf-16", ""), ("latin-1", "read as Windows-1252")]
)
def test_encodings(write, encoding, note):
    got = load(write("a,größe,y\n1,2,3\n2,5,4\n5,5,9\n".encode(encoding)), target="y")
    assert got.features == ("a", "größe") and (note in "".join(got.notes))
    assert bool(note) == ("Windows-1252" in "".join(got.notes))


@pytest.mark.parametrize("cell", ["", "?", "NA", "N/A", "nan", "-"])
def test_words_for_missing_cells(write, cell, assert_refused):
    text = f"a,b,y\n1,x,1\n{cell},y,2\n3,x,3\n4,{cell},7\n"
    with assert_refused("2 of 4 rows", "'a' (1), 'b' (1)", "--missing drop", "--missing mean"):
        load(write(text), target="y")
    got = load(write(text), target="y", reading=Reading(missing="drop"))
    assert got.X.tolist() == [[1, 1], [3, 1]] and got.y.tolist() == [1, 3]
    assert "2 of 4 rows were left out for missing values in 'a' (1), 'b' (1)." in got.notes


def test_missing_cells_become_the_mean_of_the_training_rows(write):
    text = "a,b,c,y\n1,x,,1\n,y,,2\n3,x,,3\n8,,,7\n5,x,,\n"
    got = load(write(text), target="y", reading=Reading(missing="mean"))
    assert got.features == ("a", "a is missing", "b=(missing)", "b=x", "b=y") and len(got.y) == 4
    assert np.isnan(got.X[1, 0]) and got.X[:, 1].tolist() == [0, 1, 0, 0]
    note = "1 of 5 rows was left out for missing values in the target 'y'."
    assert note in got.notes, "gaps in the features cost no row"
    assert "Left out, without a value in any row: 'c'." in got.notes
    filled = fill_missing(got, np.array([0, 1, 2]))
    assert filled.X[:, 0].tolist() == [1, 2, 3, 8] and filled.columns[0].mean == 2.0
    assert np.isnan(got.X[1, 0]), "the table is not changed"
    assert filled.filled_by(np.array([True, False, True, True]))[:, 0].tolist() == [1, 4, 3, 8]
    of_folds = fill_missing(got, np.arange(4), folds=2)
    note = "In cross-validation a fold is predicted with the means of the rows outside of it."
    assert of_folds.notes == (*got.notes, note)
    whole = load(write("a,y\n1,1\n2,2\n"), target="y")
    assert fill_missing(whole, np.arange(2), folds=2).notes == whole.notes


@pytest.mark.parametrize("mark", ["_", " ", "'", "\u202f", ","])
def test_groups_of_digits_are_numbers_with_marks(write, assert_refused, mark):
    cells = [f'"{k}{mark}{k:03d}"' for k in range(10, 40)]
    text = "a;y\n" + "".join(f"{cell};{k}\n" for k, cell in enumerate(cells))
    with assert_refused("column 'a' is text: numbers with thousands marks, such as", "--numbers"):
        load(write(text), target="y")
    got = load(write(text), target="y", reading=Reading(numbers=True))
    assert got.X[:, 0].tolist() == [1001.0 * k for k in range(10, 40)]


def test_numbers_with_marks(write, assert_refused):
    text = 'share,price,y\n5%,"$1,200",1\n7.5%,$3,2\n9%,($4.50),4\n'
    with assert_refused(
        "column 'share' is text: numbers with percent marks, such as '5%'", "so do 'price'", "--numbers"
    ):
        load(write(text), target="y")
    with assert_refused("target 'price' is text", "currency and thousands marks, such as '$1,200'"):
        load(write(text), target="price")
    got = load(write(text), target="price", reading=Reading(numbers=True))
    assert got.y.tolist() == [1200, 3, -4.5] and got.X.tolist() == [[5, 1], [7.5, 2], [9, 4]]


def test_identifiers_are_left_out(write, rows):
    n = range(30)
    columns = {
        "name": [f"n{i}" for i in n],
        "cust_id": [7 * i for i in n],
        "shuffled": [*range(15, 30), *range(15)],
    }
    columns |= {"year": [1990 + i for i in n], "income": [13 * i + 5 for i in n], "half": [i / 2 for i in n]}
    got = load(write(rows(**columns, y=[i % 7 for i in n])), target="y")
    assert got.features == ("year", "income", "half")
    note = "Left out, identifiers, with as many different values as rows: 'name', 'cust_id', 'shuffled'."
    assert note in got.notes


@pytest.mark.parametrize("repeated", [1, 2])
def test_text_that_nearly_always_differs_is_left_out(write, rows, repeated):
    names = [f"n{max(i, repeated)}" for i in range(40)]
    gaps = [None if i < 10 else f"n{max(i, 11)}" for i in range(40)]
    few = [f"n{i // 2}" for i in range(40)]
    text = rows(name=names, ticket=gaps, pair=few, a=[i * i for i in range(40)], y=[i % 7 for i in range(40)])
    got = load(write(text), target="y", reading=Reading(missing="mean"))
    assert {name.partition("=")[0] for name in got.features} == {"pair", "a"}
    note = "Left out, text that differs in more than 90 % of the rows: 'name', 'ticket'."
    assert note in got.notes


def test_columns_may_be_dropped(write):
    text = "a,c,d,y\n1,x,7,1\n2,y,8,2\n3,z,6,4\n"
    assert load(write(text), target="y", reading=Reading(drop=("a", "d"))).features == ("c=x", "c=y", "c=z")
    got = load(write(text), target="y", reading=Reading(categorical="drop"))
    assert got.features == ("a", "d") and "Left out, text (--categorical drop): 'c'." in got.notes
    assert load(write(text), target="y", reading=Reading(categorical="dummy")).groups is None
    assert load(write(text), target="y").groups.tolist() == [0, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("dates", "days"),
    [
        (["2020-01-31", "2020-02-01", "2021-03-05"], [0, 1, 399]),
        (["31/1/2020", "1/2/2020", "5/3/2021"], [0, 1, 399]),
        (["2020-01-31T12:00:00Z", "2020-02-01 06:00", "2021-03-05"], [0.5, 1.25, 399]),
        (["3 Jan 2020", "14 February 2020", "1 May 2021"], [0, 42, 484]),
        (["01.02.2020", "02.02.2020", "03.04.2020"], [0, 1, 62]),
    ],
)
def test_dates_become_days(write, dates, days, rows):
    got = load(write(rows(a=[1, 2, 5], when=dates, y=[1, 2, 4])), target="y")
    assert got.features == ("a", "when") and got.X[:, 1].tolist() == days
    order = ", read with the day first," if dates[0].startswith(("31/", "01.02")) else ""
    assert any(note.startswith(f"The dates in 'when'{order} became days since 2020-0") for note in got.notes)


@pytest.mark.parametrize("dates", [["12:30", "13:45:10", "9:00"], ["1/2/2020", "3/4/2020", "5/6/2020"]])
def test_times_and_dates_of_two_meanings_are_left_out(write, dates, rows):
    got = load(write(rows(a=[1, 2, 5], when=dates, y=[1, 2, 4])), target="y")
    assert got.features == ("a",) and any("times of day or dates whose order" in note for note in got.notes)


def test_dates_in_parquet(parquet):
    frame = {
        "stamp": pd.to_datetime(["2020-01-01", "2020-01-02", None]),
        "day": [datetime.date(2020, 1, 1), datetime.date(2020, 1, 3), datetime.date(2020, 1, 2)],
        "span": pd.to_timedelta([1, 2, 3]),
    }
    got = load(parquet({**frame, "y": [1, 2, 4]}), target="y", reading=Reading(missing="mean"))
    assert got.features == ("stamp", "stamp is missing", "day") and got.X[:2].tolist() == [
        [0, 0, 0],
        [1, 0, 2],
    ]
