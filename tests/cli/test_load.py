"""Tables: their contents, their notes, and the loss that follows from the target."""

import ast
import datetime
import decimal
import gzip
import pathlib
import sys

import numpy as np
import pandas as pd
import pytest

import jaxreg.cli
from jaxreg.cli._messages import wanted_one_of
from jaxreg.cli._settings import Reading
from jaxreg.cli.load import fill_missing, load

CLI = pathlib.Path(jaxreg.cli.__file__).parent
ROWS = "a,b,y\n1,2,10\n3,5,20\n4,4,35.5\n"


# ---------------------------------------------------------------- bundled data sets


@pytest.mark.parametrize(
    ("name", "shape", "loss", "classes"),
    [
        ("diabetes", (442, 10), "squared", 0),
        ("breast_cancer", (569, 30), "logistic", 2),
        ("digits", (1797, 64), "multinomial", 10),
        ("wine", (178, 13), "multinomial", 3),
        ("iris", (150, 4), "multinomial", 3),
    ],
)
def test_bundled(name, shape, loss, classes):
    got = load(name)
    assert (got.name, got.X.shape, got.loss, len(got.classes)) == (name, shape, loss, classes)
    assert got.X.dtype == np.float64 and np.isfinite(got.X).all() and got.y.shape == shape[:1]
    assert got.y.dtype == (np.int64 if loss == "multinomial" else np.float64)
    assert len(set(got.features)) == shape[1] and got.target not in got.features
    assert got.unit and all(note.endswith(".") and "\n" not in note for note in got.notes)
    if classes:
        assert np.unique(got.y).tolist() == list(range(classes))


def test_bundled_details():
    diabetes = load("diabetes")
    assert diabetes.unit == "disease progression after one year"
    assert diabetes.features[:3] == ("age", "sex", "bmi") and diabetes.X[:, 0].max() == 79
    digits = load("digits")
    assert digits.features[3] == "pixel_0_3" and digits.classes == tuple("0123456789")
    assert any("'pixel_0_0'" in note and "same value" in note for note in digits.notes)
    cancer = load("Breast-Cancer")
    assert cancer.classes == ("benign", "malignant") and cancer.y.sum() == 212
    assert "Class 1 is 'malignant', class 0 is 'benign'." in cancer.notes


def test_bundled_with_another_target(assert_refused):
    got = load("diabetes", target="bmi", loss="huber")
    assert (got.target, got.loss, got.unit) == ("bmi", "huber", "") and "progression" in got.features
    with assert_refused("no column 'bim'", "did you mean 'bmi'?"):
        load("diabetes", target="bim")


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["t.csv", "T.CSV", "t.tsv", "t.csv.gz", "t.tsv.gz"])
def test_text_files(write, name):
    text = ROWS.replace(",", "\t") if ".tsv" in name else ROWS
    got = load(write(gzip.compress(text.encode()) if name.endswith("gz") else text, name), target="y")
    assert (got.name, got.features, got.target, got.loss, got.unit) == (name, ("a", "b"), "y", "squared", "")
    assert got.X.tolist() == [[1, 2], [3, 5], [4, 4]] and got.y.tolist() == [10, 20, 35.5]
    assert got.X.dtype == got.y.dtype == np.float64


def test_text_is_read_as_written(write):
    text = '\ufeff\n a b ,"b, c", y\r\n\n1, "2",10\r\n3,5,20\r\n'
    got = load(write(text), target="y")
    assert got.features == ("a b", "b, c") and got.X.tolist() == [[1, 2], [3, 5]]


@pytest.mark.parametrize("start", [0, 1])
def test_saved_row_numbers_are_left_out(write, start):
    numbered = f",a,y\n{start},5,1\n{start + 1},6,2\n{start + 2},8,3\n"
    got = load(write(numbered), target="y")
    assert got.features == ("a",) and "left out" in got.notes[0]
    got = load(write(numbered.replace(f"\n{start},", "\n7,")), target="y")
    assert got.features == ("column_1", "a") and "left out" not in got.notes[0]


def test_parquet_kinds(parquet):
    frame = {
        "small": np.array([1, 2, 3, 4], np.float32),
        "whole": pd.array([1, 2, 3, 4], dtype="Int64"),
        "exact": [decimal.Decimal("0.5")] * 3 + [decimal.Decimal(2)],
        "truth": pd.array([True, False, False, True], dtype="boolean"),
        "kind": pd.Categorical(["u", "v", "w", "u"], categories=["w", "v", "u", "unused"]),
        "y": [0.5, 1, 2, 3],
    }
    got = load(parquet(frame), target="y")
    assert got.features == ("small", "whole", "exact", "truth=True", "kind=u", "kind=v", "kind=w")
    assert got.X[0].tolist() == [1, 1, 0.5, 1, 1, 0, 0] and got.X[2].tolist() == [3, 3, 0.5, 0, 0, 0, 1]
    assert any("'truth', 'kind' became 4 columns" in note for note in got.notes)
    assert got.groups.tolist() == [0, 1, 2, 3, 4, 4, 4]


def test_parquet_index(parquet):
    frame = pd.DataFrame({"a": [1.0, 3.0], "y": [1.0, 2.5]}, index=[5, 6])
    assert load(parquet(frame), target="y").features == ("a",)
    assert load(parquet(frame.rename_axis("day")), target="y").features == ("day", "a")


def test_text_features_become_columns(write):
    got = load(
        write("c,s,k,b,y\nred,m,x,True,1\nblue,f,x,False,2\ngreen,m,x,True,3.5\nblue,m,x,True,4\n"),
        target="y",
    )
    assert got.features == ("c=blue", "c=green", "c=red", "s=m", "k=x", "b=True")
    assert got.X.tolist() == [[0, 0, 1, 1, 1, 1], [1, 0, 0, 0, 1, 0], [0, 1, 0, 1, 1, 1], [1, 0, 0, 1, 1, 1]]
    note = "Text or truth values in 'c', 's', 'k', 'b' became 6 columns of 0 and 1; those of a factor enter"
    assert any(said.startswith(note) for said in got.notes)
    assert got.groups.tolist() == [0, 0, 0, 1, 2, 3]
    assert "The same value in every row, of no use to a fit: 'k=x'." in got.notes


def test_many_levels_are_fine_in_many_rows(write, rows):
    levels = [f"level{i % 60}" for i in range(130)]
    got = load(write(rows(a=levels, y=range(130))), target="y")
    assert got.X.shape == (130, 51) and got.features[-1] == "a=other" and (got.X.sum(axis=1) == 1).all()
    assert any("The 10 rarest of 60 levels of 'a' (20 rows) count as 'other'." in note for note in got.notes)


def test_notes_cut_long_lists(write, rows):
    constant = {f"c{i}": [1, 1, 1] for i in range(20)}
    note = load(write(rows(**constant, a=[1, 2, 3], y=[1, 2, 4])), target="y").notes[-1]
    assert "'c7' … and 12 more" in note and "c8" not in note


# ---------------------------------------------------------------- files as they come


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
    assert any("1 of 5 rows were left out" in note for note in got.notes), "without a target"
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


# ---------------------------------------------------------------- loss and target


@pytest.mark.parametrize(
    ("y", "loss", "want", "values", "classes"),
    [
        (["no", "yes", "no"], None, "logistic", [0, 1, 0], ("no", "yes")),
        ([True, False, True], None, "logistic", [1, 0, 1], ("False", "True")),
        ([0, 1, 1], None, "logistic", [0, 1, 1], ("0", "1")),
        ([1.0, 0.0, 1.0], None, "logistic", [1, 0, 1], ("0", "1")),
        (["b", "c", "a"], None, "multinomial", [1, 2, 0], ("a", "b", "c")),
        ([1, 2, 1], None, "squared", [1, 2, 1], ()),
        ([3, 1, 2], None, "squared", [3, 1, 2], ()),
        ([1, 2, 1], "logistic", "logistic", [0, 1, 0], ("1", "2")),
        ([0.5, -1.0, 0.5], "logistic", "logistic", [1, 0, 1], ("-1", "0.5")),
        ([10, 9, 100], "multinomial", "multinomial", [1, 0, 2], ("9", "10", "100")),
        (["x", "y", "x"], "multinomial", "multinomial", [0, 1, 0], ("x", "y")),
        ([0, 1, 1], "squared", "squared", [0, 1, 1], ()),
        ([True, False, True], "squared", "squared", [1, 0, 1], ()),
        ([0, 7, 2], "poisson", "poisson", [0, 7, 2], ()),
        ([0.5, 7, 2], "poisson", "poisson", [0.5, 7, 2], ()),
        ([0.5, -7, 2], "huber", "huber", [0.5, -7, 2], ()),
    ],
)
def test_loss_and_target(write, y, loss, want, values, classes, rows):
    got = load(write(rows(a=[1, 2, 5], y=y)), target="y", loss=loss)
    assert (got.loss, got.y.tolist(), got.classes) == (want, values, classes)
    assert got.y.dtype == (np.int64 if want == "multinomial" else np.float64)
    assert (loss is None) == any(note.startswith(f"The loss is {want}") for note in got.notes)
    if want == "logistic":
        assert f"Class 1 is {classes[1]!r}, class 0 is {classes[0]!r}." in got.notes
    if want == "multinomial":
        assert any(
            note.startswith(f"Classes 0 to {len(classes) - 1} are {classes[0]!r}") for note in got.notes
        )


def test_numbers_that_may_be_classes_are_noted(write, rows):
    assert "ask for logistic" in load(write(rows(a=[1, 2, 5], y=[1, 2, 1])), target="y").notes[0]
    assert "ask for multinomial" in load(write(rows(a=[1, 2, 5], y=[1, 2, 3])), target="y").notes[0]
    assert "ask for" not in load(write(rows(a=[1, 2, 5], y=[1, 2, 3.5])), target="y").notes[0]


def test_categorical_target(parquet):
    got = load(
        parquet({"a": [1, 2, 4], "y": pd.Categorical(["u", "t", "u"], categories=["u", "t"])}), target="y"
    )
    assert (got.loss, got.classes, got.y.tolist()) == ("logistic", ("t", "u"), [1, 0, 1])


def test_target_refused(write, assert_refused, rows):
    def file(y):
        return write(rows(a=range(len(y)), y=y))

    with assert_refused("no loss 'sqared'", "'squared', 'huber'", "did you mean 'squared'"):
        load(file([1, 2, 3]), loss="sqared", target="y")
    with assert_refused("loss 'squared:2' has the number '2'", "squared, which takes none", "leave it out"):
        load(file([1, 2, 3]), loss="squared:2", target="y")
    for number in ("", "x", "0", "-1", "inf"):
        with assert_refused(f"has the delta '{number}'", "a residual above 0, in the unit of the target"):
            load(file([1, 2, 3]), loss=f"huber:{number}", target="y")
    for y in (["x", "x"], [3, 3], [True, True]):
        with assert_refused("target 'y'", "in every row", "at least two values", "choose another"):
            load(file(y), target="y")
    for loss in ("squared", "huber", "poisson"):
        with assert_refused("'y' is text", "'a'", f"loss {loss}", "take multinomial"):
            load(file(["a", "b", "c"]), loss=loss, target="y")
    with assert_refused("'y' is text", "take logistic"):
        load(file(["a", "b", "b"]), loss="squared", target="y")
    with assert_refused("is text of 3 different values", "wanted two", "take multinomial"):
        load(file(["a", "b", "c"]), loss="logistic", target="y")
    with assert_refused("3 different values", "take multinomial or squared"):
        load(file([1, 2, 4]), loss="logistic", target="y")
    with assert_refused("negative in 2 rows", "0 up", "squared"):
        load(file([1, -2, 0, -1]), loss="poisson", target="y")
    with assert_refused("30 different values", "few classes", "squared"):
        load(file(np.arange(30) / 7), loss="multinomial", target="y")
    with assert_refused("60 different values in 60 rows", "squared"):
        load(file(range(60)), loss="multinomial", target="y")
    with assert_refused("'y' is text of 60 different values, such as 'n0'", "another target"):
        load(file([f"n{i}" for i in range(60)]), target="y")
    assert load(file([0.5, 1.5, 2.5]), target="y", loss="multinomial").classes == ("0.5", "1.5", "2.5")


# ---------------------------------------------------------------- messages and imports


def test_wanted_one_of():
    options = ["l1", "elastic-net"]
    assert wanted_one_of(options, "l3") == "wanted one of 'l1', 'elastic-net'; did you mean 'l1'?"
    assert wanted_one_of(["l1"], "zzz") == "wanted one of 'l1'; correct the name"


@pytest.mark.parametrize(
    "name", ["main", "split", "write", "_coding", "_files", "_messages", "_numbers", "_settings", "_text"]
)
def test_imports_nothing_heavy(name):
    tree = ast.parse((CLI / f"{name}.py").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    found = {
        name.name if isinstance(node, ast.Import) else node.module for node in imports for name in node.names
    }
    modules = ("load", "_coding", "_files", "_messages", "_numbers", "_settings", "_text")
    own = {f"jaxreg.cli.{module}" for module in modules} | {"jaxreg._extras"}
    assert {name.split(".")[0] for name in found - own} <= set(sys.stdlib_module_names)
