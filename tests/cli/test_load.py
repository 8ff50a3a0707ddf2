"""Tables: their contents, their notes, and the loss that follows from the target."""

import ast
import decimal
import gzip
import pathlib
import sys

import numpy as np
import pandas as pd
import pytest

import jaxreg.cli
from jaxreg.cli._messages import wanted_one_of
from jaxreg.cli.load import load

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
    said = "if they are classes, ask for multinomial, if counts, ask for poisson."
    assert load(write(rows(a=[1, 2, 5], y=[0, 2, 3])), target="y").notes[0].endswith(said)
    assert "poisson" not in load(write(rows(a=[1, 2, 5], y=[-1, 2, 3])), target="y").notes[0]
    many = load(write(rows(a=[i * i for i in range(30)], y=range(30))), target="y").notes[0]
    assert many.endswith("; if they are counts, ask for poisson.")


@pytest.mark.parametrize("dates", [["2020-01-31", "2020-02-01"] * 3, ["10:30", "11:00", "12:30"] * 2])
def test_a_date_is_no_target_unless_it_is_asked_for_as_a_class(write, rows, assert_refused, dates):
    file = write(rows(a=range(6), y=dates))
    for loss in (None, "squared", "poisson"):
        with assert_refused(f"target 'y' is a date or a time, such as '{dates[0]}'", "number", "multinomial"):
            load(file, target="y", loss=loss)
    assert load(file, target="y", loss="multinomial").classes == tuple(sorted(set(dates)))


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
