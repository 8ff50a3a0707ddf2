"""Refusals of data: each is one line that says what to do."""

import gzip
import os
import pathlib
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxreg.cli import _text
from jaxreg.cli._settings import Reading
from jaxreg.cli.load import load

ROWS = "a,b,y\n1,2,10\n3,5,20\n4,4,35.5\n"


# ---------------------------------------------------------------- the source


def test_features_that_are_all_constant(write, assert_refused):
    with assert_refused("every feature has the same value in all rows: 'a', 'b'", "that varies"):
        load(write("a,b,y\n1,2,10\n1,2,20\n1,2,35.5\n"), target="y")


def test_rows_that_do_not_fit_are_shown_with_what_was_taken_for_the_header(write, assert_refused):
    with assert_refused("has 1 column, '# exported', and rows that do not fit it"):
        load(write("# exported\n" + ROWS), target="y")
    with assert_refused("has 3 columns, 'a', 'b', 'y', and rows that do not fit them", "line 5 has 4 values"):
        load(write(ROWS + "1,2,3,4\n"), target="y")


def test_source_not_found(write, tmp_path, assert_refused):
    with assert_refused(
        "no data set or file 'diabetis'", "'breast_cancer'", ".parquet", "did you mean 'diabetes'?"
    ):
        load("diabetis", target="y")
    path = write(ROWS, "houses.csv")
    with assert_refused("no data set or file", f"did you mean {path!r}?"):
        load(path.replace("houses", "house"), target="y")
    with assert_refused("no data set or file", "wanted one of", "correct"):
        load(str(tmp_path / "no" / "where.csv"), target="y")
    with assert_refused("no data set or file ''"):
        load("", target="y")
    with assert_refused("cannot read"):
        load("x" * 300, target="y")


def test_source_of_the_wrong_sort(write, tmp_path, assert_refused):
    with assert_refused("is a directory", ".csv", "name a file"):
        load(str(tmp_path), target="y")
    with assert_refused("cannot tell", "t.xlsx", ".parquet", "convert"):
        load(write(ROWS, "t.xlsx"), target="y")
    for name in ("t.csv", "t.parquet", "t.csv.gz"):
        with assert_refused("is empty", "header"):
            load(write(b"", name), target="y")
    for blank in ("\n \n\n", ",,\n , \n"):
        with assert_refused("is empty"):
            load(write(blank), target="y")
    with assert_refused("is empty"):
        load(write(gzip.compress(b""), "t.csv.gz"), target="y")
    with assert_refused("cannot be read as Parquet", "ending"):
        load(write(ROWS, "t.parquet"), target="y")
    with assert_refused("cannot be unpacked", "gzip"):
        load(write(ROWS, "t.csv.gz"), target="y")
    with assert_refused("cannot be unpacked", "whole gzip file"):
        load(write(gzip.compress(ROWS.encode() * 99)[:40], "t.csv.gz"), target="y")
    with assert_refused("is binary", "UTF-8", "ending"):
        load(write(bytes(range(256)) * 40), target="y")
    with assert_refused("another encoding than UTF-8", "save it again"):
        load(write(ROWS.encode("utf-16-le")), target="y")
    with assert_refused("UTF-8"):
        load(write(ROWS.encode() * 3000 + b"\x81,1,2\n"), target="y")


def test_parquet_cut_short(parquet, assert_refused):
    path = pathlib.Path(parquet({"a": range(1000), "y": range(1000)}))
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + whole[900:])
    with assert_refused("cannot be read as Parquet", "save it again"):
        load(str(path), target="y")
    path.write_bytes(whole[:-30])
    with assert_refused("cannot be read as Parquet"):
        load(str(path), target="y")


def test_no_permission(write, monkeypatch, assert_refused):
    path = write(ROWS)

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(_text, "open", denied, raising=False)
        with assert_refused("cannot read", "Permission denied", "check its name and permissions"):
            load(path, target="y")
    if os.name == "posix" and os.geteuid():
        os.chmod(path, 0)
        with assert_refused("cannot read", "Permission denied"):
            load(path, target="y")


def test_missing_package(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pandas: pip install 'jaxreg\[cli\]'"):
        load(write(ROWS), target="y")


# ---------------------------------------------------------------- the table


def test_parquet_needs_its_own_extra(parquet, monkeypatch):
    path = parquet({"a": [1, 2], "y": [1, 2]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pyarrow: pip install 'jaxreg\[parquet\]'"):
        load(path, target="y")


def test_commas_of_two_meanings(write, assert_refused):
    with assert_refused("thousands marks, such as '1,234'", "--numbers", "--decimal ,"):
        load(write("a;y\n1,234;2\n2,345;3\n"), target="y")


def test_rows_and_columns(write, parquet, assert_refused):
    with assert_refused("header but no rows", "two rows"):
        load(write("a,b,y\n"))
    with assert_refused("has one row", "two rows"):
        load(write("a,b,y\n1,2,3\n"), target="y")
    with assert_refused("has one column", "at least one feature"):
        load(write("y\n1\n2\n"), target="y")
    with assert_refused("no columns", "at least one feature"):
        load(parquet(pd.DataFrame(index=[0, 1])), target="y")
    with assert_refused("the same name, 'a', 'b'", "rename"):
        load(write("a,b,a,y,b\n1,2,3,4,5\n1,2,3,4,5\n"), target="y")
    with assert_refused("'c=z'", "rename"):
        load(write("c,c=z,y\nx,1,1\nz,2,2\n"), target="y")


def test_duplicate_parquet_columns(tmp_path, assert_refused):
    path = tmp_path / "t.parquet"
    columns = pa.Table.from_arrays([pa.array([1, 2])] * 3, names=["a", "a", "y"])
    pyarrow.parquet.write_table(columns, path)
    with assert_refused("the same name, 'a'", "rename"):
        load(str(path), target="y")


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
def test_rows_that_do_not_fit_the_header(write, text, where, assert_refused):
    with assert_refused("has 2 columns", "do not fit", where, "a value for each column", "quotes"):
        load(write(text), target="y")


def test_target_names(write, assert_refused, rows):
    columns = {f"c{i}": [1, 2, 3] for i in range(19)}
    path = write(rows(**columns, price=[1, 2, 4]))
    with assert_refused("no target was named", "'c0', 'c1'", "'c7' … and 12 more", "--target"):
        load(path)
    with assert_refused("no column 'Prise'", "… and 12 more", "did you mean 'price'?"):
        load(path, target="Prise")
    with assert_refused("no column 'zzz'", "correct the name"):
        load(path, target="zzz")


def test_missing_values(write, assert_refused, rows):
    with assert_refused("3 of 4 rows", "'b' (2), 'a' (1), 'y' (1)", "drop", "fill"):
        load(write("a,b,y\n1,,3\n,,4\n5,6,7\n1,2,\n"), target="y")
    many = {f"c{i}": [None, 1, 2] for i in range(20)}
    with assert_refused("1 of 3 rows", "'c7' (1) … and 12 more"):
        load(write(rows(**many, y=[1, 2, 4])), target="y")
    with assert_refused("1 of 2 rows", "'b' (1), 'y' (1)"):
        load(write("a,b,y\n1,2,3\n4\n"), target="y")
    for missing in ("error", "drop", "mean"):
        with assert_refused("target 'y' has no value in any row", "choose another target"):
            load(write("a,y\n1,\n2,\n3,\n"), target="y", reading=Reading(missing=missing))


@pytest.mark.parametrize("cell", ["inf", "-inf"])
def test_infinite_values(write, cell, assert_refused):
    with assert_refused("2 of 3 rows", "infinite", "'b', 'y'", "finite numbers"):
        load(write(f"a,b,y\n1,{cell},3\n2,1,{cell}\n1,1,1\n"), target="y")


def test_strange_values_in_parquet(parquet, assert_refused):
    strange = {"list": [[1], [2]], "bytes": [b"a", b"b"], "record": [{"a": 1}, {"a": 2}]}
    with assert_refused("'list', 'bytes', 'record'", "wanted numbers", "convert"):
        load(parquet({**strange, "y": [1, 2]}), target="y")


def test_a_file_that_leaves_no_feature(write, assert_refused, rows):
    names = [f"name{i}" for i in range(60)]
    with assert_refused(
        "no feature is left: 'a' (identifiers, with as many different values as rows)", "add"
    ):
        load(write(rows(a=names, y=range(60))), target="y")
    with assert_refused("no feature is left: --drop names all of them: wanted at least one column"):
        load(write(ROWS), target="y", reading=Reading(drop=("a", "b")))


def test_numbers_with_a_few_bad_cells(write, assert_refused, rows):
    numbers = [*map(str, range(59)), "x7"]
    with assert_refused("60 different values", "wanted numbers", "such as 'x7'"):
        load(write(rows(a=numbers, y=range(60))), target="y")


def test_names_cannot_break_the_line(write, parquet, assert_refused):
    with assert_refused("'a b'", "2 of 2 rows"):
        load(write('"a\nb","c",y\n,1,2\n3,,5\n'), target="y")
    with assert_refused(r"'a\nb'", "2 of 2 rows"):
        load(parquet({"a\nb": [None, 3.0], "c": [1.0, None], "y": [2.0, 5.0]}), target="y")
    with assert_refused("longlong", "…"):
        load(write(f"{'long' * 500},y\n,1\n2,3\n"), target="y")
    with assert_refused(r"'no\nfile.csv'"):
        load("no\nfile.csv", target="y")
