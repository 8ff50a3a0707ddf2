"""Reading data: what a table holds, what is noted, and what every refusal says."""

import ast
import datetime
import decimal
import gzip
import os
import pathlib
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxreg.front import _files, _messages, data
from jaxreg.front.data import Table, load, nearest, split

ROWS = "a,b,y\n1,2,10\n3,5,20\n4,4,35.5\n"


@pytest.fixture
def write(tmp_path):
    """Writes text or bytes to a file and returns its path."""

    def to_file(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return to_file


@pytest.fixture
def parquet(tmp_path):
    """Writes columns to a Parquet file and returns its path."""

    def to_file(frame, name="table.parquet"):
        path = tmp_path / name
        pd.DataFrame(frame).to_parquet(path)
        return str(path)

    return to_file


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 900
    return text


def refused(source, *parts, target="y", loss=None):
    """`load` refuses, in one line that has all the parts."""
    with pytest.raises(ValueError) as error:
        load(source, target=target, loss=loss)
    text = one_line(error)
    for part in parts:
        assert part in text, text


def rows(**columns):
    """Columns as the text of a .csv file."""
    return pd.DataFrame(columns).to_csv(index=False)


def table(y, loss="squared"):
    y = np.asarray(y)
    classes = tuple(str(label) for label in np.unique(y)) if loss in ("logistic", "multinomial") else ()
    return Table("t", np.zeros((len(y), 1)), y, ("a",), "y", loss, classes, "", ())


# What comes with scikit-learn.


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


def test_bundled_with_another_target():
    got = load("diabetes", target="bmi", loss="huber")
    assert (got.target, got.loss, got.unit) == ("bmi", "huber", "") and "progression" in got.features
    refused("diabetes", "no column 'bim'", "did you mean 'bmi'?", target="bim")


# What comes in files.


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
    assert "Text or truth values in 'c', 's', 'k', 'b' became 6 columns of 0 and 1." in got.notes
    assert "The same value in every row, of no use to a fit: 'k=x'." in got.notes


def test_many_levels_are_fine_in_many_rows(write):
    levels = [f"level{i % 60}" for i in range(130)]
    assert load(write(rows(a=levels, y=range(130))), target="y").X.shape == (130, 60)


def test_notes_cut_long_lists(write):
    constant = {f"c{i}": [1, 1, 1] for i in range(20)}
    note = load(write(rows(**constant, a=[1, 2, 3], y=[1, 2, 4])), target="y").notes[-1]
    assert "'c7' … and 12 more" in note and "c8" not in note


# Which loss, and what it makes of the target.


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
def test_loss_and_target(write, y, loss, want, values, classes):
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


def test_numbers_that_may_be_classes_are_noted(write):
    assert "ask for logistic" in load(write(rows(a=[1, 2, 5], y=[1, 2, 1])), target="y").notes[0]
    assert "ask for multinomial" in load(write(rows(a=[1, 2, 5], y=[1, 2, 3])), target="y").notes[0]
    assert "ask for" not in load(write(rows(a=[1, 2, 5], y=[1, 2, 3.5])), target="y").notes[0]


def test_categorical_target(parquet):
    got = load(
        parquet({"a": [1, 2, 4], "y": pd.Categorical(["u", "t", "u"], categories=["u", "t"])}), target="y"
    )
    assert (got.loss, got.classes, got.y.tolist()) == ("logistic", ("t", "u"), [1, 0, 1])


def test_target_refused(write):
    def file(y):
        return write(rows(a=range(len(y)), y=y))

    refused(
        file([1, 2, 3]), "no loss 'sqared'", "'squared', 'huber'", "did you mean 'squared'", loss="sqared"
    )
    for y in (["x", "x"], [3, 3], [True, True]):
        refused(file(y), "target 'y'", "in every row", "at least two values", "choose another")
    for loss in ("squared", "huber", "poisson"):
        refused(file(["a", "b", "c"]), "'y' is text", "'a'", f"loss {loss}", "take multinomial", loss=loss)
    refused(file(["a", "b", "b"]), "'y' is text", "take logistic", loss="squared")
    refused(file(["a", "b", "c"]), "3 different values", "wanted two", "take multinomial", loss="logistic")
    refused(file([1, 2, 4]), "3 different values", "take multinomial or squared", loss="logistic")
    refused(file([1, -2, 0, -1]), "negative in 2 rows", "0 up", "squared", loss="poisson")
    refused(file(np.arange(30) / 7), "30 different values", "few classes", "squared", loss="multinomial")
    refused(file(range(60)), "60 different values in 60 rows", "squared", loss="multinomial")
    refused(file([f"n{i}" for i in range(60)]), "60 different values", "another target")
    assert load(file([0.5, 1.5, 2.5]), target="y", loss="multinomial").classes == ("0.5", "1.5", "2.5")


# What is refused: the source.


def test_source_not_found(write, tmp_path):
    refused(
        "diabetis",
        "no data set or file 'diabetis'",
        "'breast_cancer'",
        ".parquet",
        "did you mean 'diabetes'?",
    )
    path = write(ROWS, "houses.csv")
    refused(path.replace("houses", "house"), "no data set or file", f"did you mean {path!r}?")
    refused(str(tmp_path / "no" / "where.csv"), "no data set or file", "wanted one of", "correct")
    refused("", "no data set or file ''")
    refused("x" * 300, "cannot read")


def test_source_of_the_wrong_sort(write, tmp_path):
    refused(str(tmp_path), "is a directory", ".csv", "name a file")
    refused(write(ROWS, "t.xlsx"), "cannot tell", "t.xlsx", ".parquet", "convert")
    for name in ("t.csv", "t.parquet", "t.csv.gz"):
        refused(write(b"", name), "is empty", "header")
    for blank in ("\n \n\n", ",,\n , \n"):
        refused(write(blank), "is empty")
    refused(write(gzip.compress(b""), "t.csv.gz"), "is empty")
    refused(write(ROWS, "t.parquet"), "cannot be read as Parquet", "ending")
    refused(write(ROWS, "t.csv.gz"), "cannot be unpacked", "gzip")
    refused(
        write(gzip.compress(ROWS.encode() * 99)[:40], "t.csv.gz"), "cannot be unpacked", "whole gzip file"
    )
    refused(write(bytes(range(256)) * 40), "is binary", "UTF-8", "ending")
    refused(write(ROWS.encode("utf-16")), "UTF-8")
    refused(write("a,näme,y\n1,2,3\n".encode("latin-1")), "another encoding than UTF-8", "save it again")
    refused(write(ROWS.encode() * 3000 + b"\xe9,1,2\n"), "UTF-8")


def test_parquet_cut_short(parquet):
    path = pathlib.Path(parquet({"a": range(1000), "y": range(1000)}))
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + whole[900:])
    refused(str(path), "cannot be read as Parquet", "save it again")
    path.write_bytes(whole[:-30])
    refused(str(path), "cannot be read as Parquet")


def test_no_permission(write, monkeypatch):
    path = write(ROWS)

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(_files, "open", denied, raising=False)
        refused(path, "cannot read", "Permission denied", "check its name and permissions")
    if os.name == "posix" and os.geteuid():
        os.chmod(path, 0)
        refused(path, "cannot read", "Permission denied")


def test_missing_package(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pandas: pip install 'jaxreg\[cli\]'"):
        load(write(ROWS), target="y")


# What is refused: the table.


def test_rows_and_columns(write, parquet):
    refused(write("a,b,y\n"), "header but no rows", "two rows", target=None)
    refused(write("a,b,y\n1,2,3\n"), "has one row", "two rows")
    refused(write("y\n1\n2\n"), "has one column", "at least one feature")
    refused(parquet(pd.DataFrame(index=[0, 1])), "no columns", "at least one feature")
    refused(write("a;b;y\n1;2;3\n4;5;6\n"), "single column 'a;b;y'", "replace ';' by ','")
    refused(write("a,b,a,y,b\n1,2,3,4,5\n1,2,3,4,5\n"), "the same name, 'a', 'b'", "rename")
    refused(write("c,c=z,y\nx,1,1\nz,2,2\n"), "'c=z'", "rename")


def test_duplicate_parquet_columns(tmp_path):
    path = tmp_path / "t.parquet"
    columns = pa.Table.from_arrays([pa.array([1, 2])] * 3, names=["a", "a", "y"])
    pyarrow.parquet.write_table(columns, path)
    refused(str(path), "the same name, 'a'", "rename")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a,y\n1,2,3\n4,5,6\n", "too many values"),
        ("a,y\n0,2,3\n1,5,6\n", "too many values"),
        ('a,y\n"1,2\n3,4\n', "open quote"),
        ("a,y\n1,2\n3,4,5\n", "line 3 has 3 values"),
        ("\n\na,y\n1,2\n\n3,4,5,6\n", "line 6 has 4 values"),
    ],
)
def test_rows_that_do_not_fit_the_header(write, text, where):
    refused(write(text), "has 2 columns", "do not fit", where, "a value for each column", "quotes")


def test_target_names(write):
    columns = {f"c{i}": [1, 2, 3] for i in range(19)}
    path = write(rows(**columns, price=[1, 2, 4]))
    refused(path, "no target was named", "'c0', 'c1'", "'c7' … and 12 more", "--target", target=None)
    refused(path, "no column 'Prise'", "… and 12 more", "did you mean 'price'?", target="Prise")
    refused(path, "no column 'zzz'", "correct the name", target="zzz")


def test_missing_values(write):
    refused(write("a,b,y\n1,,3\n,,4\n5,6,7\n1,2,\n"), "3 of 4 rows", "'a', 'b', 'y'", "drop", "fill")
    many = {f"c{i}": [None, 1, 2] for i in range(20)}
    refused(write(rows(**many, y=[1, 2, 4])), "1 of 3 rows", "'c7' … and 12 more")
    refused(write("a,b,y\n1,2,3\n4\n"), "1 of 2 rows", "'b', 'y'")


@pytest.mark.parametrize("cell", ["inf", "-inf"])
def test_infinite_values(write, cell):
    refused(
        write(f"a,b,y\n1,{cell},3\n2,1,{cell}\n1,1,1\n"),
        "2 of 3 rows",
        "infinite",
        "'b', 'y'",
        "finite numbers",
    )


@pytest.mark.parametrize(
    "dates",
    [
        ["2020-01-31", "2020-02-01", "2021-03-05"],
        ["31/1/2020", "1/2/20", "5/3/2021"],
        ["2020-01-31T10:00:00Z", "2020-02-01 11:30", "2021-03-05"],
        ["3 Jan 2020", "14 February 2020", "1 May 2021"],
        ["12:30", "13:45:10", "9:00"],
    ],
)
def test_dates_in_text(write, dates):
    refused(
        write(rows(a=[1, 2, 3], when=dates, y=[1, 2, 4])), "dates or times", "'when'", "drop", "days since"
    )


def test_dates_and_strange_values_in_parquet(parquet):
    values = {
        "stamp": pd.to_datetime(["2020-01-01", "2020-01-02"]),
        "day": [datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)],
        "time": [datetime.time(1), datetime.time(2)],
        "span": pd.to_timedelta([1, 2]),
    }
    refused(
        parquet({**values, "y": [1, 2]}), "dates or times", "'stamp', 'day', 'time', 'span'", "days since"
    )
    strange = {"list": [[1], [2]], "bytes": [b"a", b"b"], "record": [{"a": 1}, {"a": 2}]}
    refused(parquet({**strange, "y": [1, 2]}), "'list', 'bytes', 'record'", "wanted numbers", "convert")


def test_identifiers(write):
    names = [f"name{i}" for i in range(60)]
    refused(write(rows(a=names, y=range(60))), "'a' has 60 different values in 60 rows", "drop the column")
    numbers = [*map(str, range(59)), "?"]
    refused(write(rows(a=numbers, y=range(60))), "60 different values", "wanted numbers", "such as '?'")
    many = [f"n{i % 1001}" for i in range(2500)]
    refused(write(rows(a=many, y=range(2500))), "1001 different values", "group")


def test_names_cannot_break_the_line(write):
    refused(write('"a\nb","c",y\n,1,2\n3,,5\n'), r"'a\nb'", "2 of 2 rows")
    refused(write(f"{'long' * 500},y\n,1\n2,3\n"), "longlong", "…")
    refused("no\nfile.csv", r"'no\nfile.csv'")


def test_nearest():
    assert nearest("l3", ["l1", "elastic-net"]) == "wanted one of 'l1', 'elastic-net'; did you mean 'l1'?"
    assert nearest("zzz", ["l1"]) == "wanted one of 'l1'; correct the name"


# Held-out rows.


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
        (range(9), "squared", 0.9, 0, ("leaves 1 of 9 rows", "at least 2", "fewer")),
        ([1.0, 2.0], "squared", 0.01, 0, ("leaves 1 of 2 rows",)),
        (range(9), "squared", 0.2, -1, ("seed is -1", "0 up")),
        (range(9), "multinomial", 0.2, 0, ("9 classes", "one row", "holdout 0")),
    ],
)
def test_split_refused(y, loss, holdout, seed, parts):
    with pytest.raises(ValueError) as error:
        split(table(list(y), loss), holdout, seed)
    assert all(part in one_line(error) for part in parts)


# The module itself.


@pytest.mark.parametrize("module", [data, _files, _messages])
def test_imports_nothing_heavy(module):
    tree = ast.parse(pathlib.Path(module.__file__).read_text())
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    found = {
        name.name if isinstance(node, ast.Import) else node.module for node in imports for name in node.names
    }
    own = {"jaxreg.front._files", "jaxreg.front._messages"}
    assert {name.split(".")[0] for name in found - own} <= set(sys.stdlib_module_names)


def test_table_is_frozen():
    with pytest.raises(AttributeError):
        table([1.0, 2.0]).name = "other"
