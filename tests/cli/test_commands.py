"""Options of the command: what is accepted, what is refused in one line before any work, whole runs."""

import importlib.metadata
import os
import pathlib

import numpy as np
import pandas as pd
import pytest

from jaxreg.cli.main import main

FILES = ["coefficients.csv", "error.png", "map.png", "model.jaxreg", "paths.png", "sweep.nc"]
ROWS = "a,b,price\n1,2,10\n3,5,20\n4,4,35.5\n2,2,8\n"


# ---------------------------------------------------------------- help and version


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxreg {importlib.metadata.version('jaxreg')}\n"


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help(words, capsys):
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "Usage: jaxreg" in shown.out and "sweep" in shown.out and not shown.err


def test_help_names_every_option(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["sweep", "--help"]) == 0
    text = capsys.readouterr().out
    options = "target loss penalty lambdas ratio holdout no-standardize seed dtype tol out overwrite no-cache"
    options += " cv choose missing categorical drop sep decimal no-header numbers"
    for option in options.split():
        assert f"--{option}" in text


# ---------------------------------------------------------------- words that do not fit


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["sweeep"], ["no command 'sweeep': did you mean 'sweep'? see jaxreg --help"]),
        (["--verion"], ["no option '--verion': did you mean '--version'? see jaxreg --help"]),
        (["sweep", "--lambda", "3"], ["no option '--lambda'", "'--lambdas'? see jaxreg sweep --help"]),
        (["sweep", "--no-chache"], ["no option '--no-chache'", "did you mean '--no-cache'?"]),
        (["sweep", "-x"], ["no option '-x': correct the name, see jaxreg sweep --help"]),
        (["sweep", "--lambdas"], ["--lambdas", "requires an argument"]),
        (["sweep", "--lambdas", "abc"], ["--lambdas is 'abc'", "wanted a whole number"]),
        (["sweep", "--lambdas=1.5"], ["--lambdas is '1.5'", "wanted a whole number"]),
        (["sweep", "--holdout", "3%"], ["--holdout is '3%'", "wanted a number"]),
        (["sweep", "--ratio", "x"], ["--ratio is 'x'", "wanted a number"]),
        (["sweep", "iris", "wine"], ["wine", "unexpected"]),
    ],
)
def test_words_that_cannot_be_parsed(assert_fails, words, parts):
    assert not assert_fails(words, *parts).out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--lambdas", 1], ["--lambdas is 1", "at least 2"]),
        (["--lambdas", -5], ["--lambdas is -5", "at least 2"]),
        (["--ratio", 2], ["--ratio is 2.0", "between 0 and 1"]),
        (["--ratio", "nan"], ["--ratio is nan", "between 0 and 1"]),
        (["--holdout", 1.5], ["--holdout is 1.5", "a fraction from 0 to below 1"]),
        (["--seed", -1], ["--seed is -1", "from 0 up"]),
        (["--tol", -1], ["--tol is -1.0", "above 0"]),
        (["--tol", "nan"], ["--tol is nan", "above 0"]),
        (["--dtype", "float16"], ["no dtype 'float16'", "'float64', 'float32'"]),
        (["--penalty", "l3"], ["no penalty 'l3'", "'l1', 'l2'", "did you mean"]),
        (["--penalty", "elastic"], ["no penalty 'elastic'", "did you mean 'elastic-net:R'?"]),
        (["--penalty", "lasso"], ["no penalty 'lasso': its name here is l1", "jaxreg penalties"]),
        (["--penalty", "ridge"], ["its name here is l2"]),
        (["--penalty", "group"], ["needs groups, and the data have none", "--categorical group"]),
        (["--penalty", "rows"], ["needs several classes", "take l1"]),
        (["--cv", 1], ["--cv is 1", "at least 2 folds"]),
        (["--cv", 5, "--holdout", 0.2], ["--cv 5 and --holdout 0.2 are both given"]),
        (["--cv", 5, "--choose", "best"], ["--choose is 'best'", "'min', '1se'"]),
        (["--choose", "1se"], ["--choose is 1se without --cv", "add --cv 10"]),
        (["--missing", "fill"], ["--missing is 'fill'", "'error', 'drop', 'mean'"]),
        (["--categorical", "onehot"], ["--categorical is 'onehot'", "'group', 'dummy', 'drop'"]),
        (["--sep", "ab"], ["--sep is 'ab'", "tab"]),
        (["--decimal", ";"], ["--decimal is ';'", "'.' or ','"]),
        (["--drop", "bim"], ["no column 'bim' to drop", "did you mean 'bmi'?"]),
        (["--drop", "progression"], ["--drop names the target"]),
        (["--penalty", "elastic-net:2"], ["ratio '2'", "between 0 and 1"]),
        (["--penalty", "elastic-net:x"], ["ratio 'x'", "between 0 and 1"]),
        (["--loss", "squard"], ["no loss 'squard'", "did you mean 'squared'?"]),
        (["--loss", "logistic"], ["different values for loss logistic", "wanted two"]),
        (["--target", "prog"], ["no column 'prog'", "did you mean 'progression'?"]),
        (["diabets"], ["no data set or file 'diabets'", "did you mean 'diabetes'?"]),
        (["--holdout", 0.999], ["leaves 0 of 442 rows", "at least 2"]),
    ],
)
def test_values_that_are_refused(assert_fails, words, parts):
    assert_fails(["sweep", *words], *parts)


# ---------------------------------------------------------------- data that does not fit


@pytest.mark.parametrize(
    ("text", "words", "parts"),
    [
        ("", [], ["is empty"]),
        ("a,price\n", [], ["header but no rows"]),
        ("a,price\n1,2\n", [], ["one row", "at least two rows"]),
        ("a,price\n1,2\n,3\n4,\n", [], ["2 of 3 rows", "'a' (1), 'price' (1)", "drop", "fill"]),
        ("a,price\n1,inf\n2,3\n4,5\n", [], ["1 of 3 rows", "infinite", "'price'"]),
        ("a,price\n1,nan\n2,3\n4,5\n", [], ["1 of 3 rows", "misses values", "'price'"]),
        ("a;price\n1;2\n2;3\n", ["--sep", "|"], ["one column", "--sep"]),
        ("a,price\n1,2,3\n4,5,6\n", [], ["do not fit"]),
        ("a,price\n1,x\n2,x\n", [], ["'x' in every row", "at least two values"]),
        ("a,price\n1,0\n2,0\n3,0\n", ["--loss", "logistic"], ["in every row"]),
        ("a,price\n1,-1\n2,3\n3,2\n", ["--loss", "poisson"], ["negative in 1 rows", "from 0 up"]),
        ("a,price\n1,x\n2,y\n3,z\n", ["--loss", "squared"], ["is text", "wanted numbers"]),
    ],
)
def test_files_that_are_refused(assert_fails, place, text, words, parts):
    (place / "own.csv").write_text(text)
    assert_fails(["sweep", "own.csv", "--target", "price", "--holdout", 0, *words], *parts)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("own.parquet", ROWS.encode(), "cannot be read as Parquet"),
        ("own.csv", bytes(range(256)), "is binary"),
        ("own.csv.gz", ROWS.encode(), "cannot be unpacked"),
        ("own.xlsx", ROWS.encode(), "cannot tell what"),
    ],
)
def test_a_file_that_is_not_what_its_ending_says(assert_fails, place, name, content, part):
    (place / name).write_bytes(content)
    assert_fails(["sweep", name, "--target", "price"], part, "wanted")


def test_a_file_needs_a_target(assert_fails, place):
    (place / "own.csv").write_text(ROWS)
    assert_fails(["sweep", "own.csv"], "no target was named", "'price'", "--target NAME")
    assert_fails(["sweep", "own.csv", "--target", "prise"], "did you mean 'price'?")


# ---------------------------------------------------------------- whole runs


@pytest.mark.slow
def test_results_go_into_a_folder_named_for_the_data(place, solved):
    (place / "own.table.csv").write_text(ROWS)
    assert main(["sweep", "own.table.csv", "--target", "price"]) == 0
    assert sorted(os.listdir("jaxreg-own.table")) == FILES
    assert main(["sweep", "own.table.csv", "--target", "price", "--out", "new/deep"]) == 0
    assert sorted(os.listdir("new/deep")) == FILES


def test_a_file_of_ones_own(place, capsys):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=40), "b": rng.normal(size=40), "c": ["x", "y"] * 20})
    frame["kind"] = np.where(2 * frame["a"] + rng.normal(size=40) > 0, "high", "low")
    frame.to_csv("own.csv", index=False)
    words = "sweep own.csv --target kind --penalty l1 --lambdas 5 --dtype float32 --tol 1e-3"
    assert main(words.split()) == 0
    shown = capsys.readouterr()
    assert not shown.err, "no bar where stderr is not a terminal"
    first, *_, last = shown.out.splitlines()
    assert first == "own.csv: 40 rows, 3 features, target kind, loss logistic"
    assert last.startswith("Written: jaxreg-own/map.png, ")
    for words in ("note: Class 1 is 'low', class 0 is 'high'.", "L1 kept ", "smallest error", "5 λ"):
        assert words in shown.out
    assert sorted(path.name for path in pathlib.Path("jaxreg-own").iterdir()) == FILES
