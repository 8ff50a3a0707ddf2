"""Predictions of new files: columns by name, coded as in training, one sentence for what does not fit."""

import csv

import numpy as np
import pytest

import jaxreg as jr
from jaxreg.cli.main import main
from jaxreg.models import FittedModel, LevelColumn, NumberColumn
from jaxreg.models.columns import MISSING_LEVEL

COLUMNS = (NumberColumn("age", mean=40.0), LevelColumn("colour", levels=("blue", "red")))


@pytest.fixture
def model(place):
    """A model of a number in model.jaxreg."""
    made = FittedModel(
        jr.losses.SquaredError(), [2.0, 10.0, 20.0], 1.0, features=("age", "colour=blue", "colour=red"),
        columns=COLUMNS, target="price", penalty="L1", lam=0.1,
    )  # fmt: skip
    jr.save(made, place / "model.jaxreg")
    return made


def predicted(place, text, *words, name="new.csv"):
    (place / name).write_text(text)
    status = main(["predict", "model.jaxreg", name, "--overwrite", *words])
    assert status == 0
    return list(csv.DictReader((place / "predictions.csv").open(encoding="utf-8")))


def test_columns_are_found_by_name_and_coded_as_in_training(place, model, capsys):
    rows = predicted(place, "extra;colour;age\nx;red;1,5\ny;mauve;2,25\n")
    assert [(row["row"], float(row["prediction"])) for row in rows] == [("1", 24.0), ("2", 5.5)]
    out = capsys.readouterr().out
    joined = " ".join(out.split())
    assert (
        "left aside: 'extra'" in joined and "training did not know in 1 row" in joined and "'mauve'" in joined
    )
    assert "2 rows predicted by L1 at λ = 0.1, target price." in joined and "Written: predictions.csv" in out


def test_a_file_with_the_target_is_scored(place, model, capsys):
    predicted(place, "age,colour,price\n1,red,23\n2,blue,16\n3,blue,17\n")
    assert "on 3 rows: R² 0.9651, RMSE 0.5774." in " ".join(capsys.readouterr().out.split())


def test_classes(place, capsys):
    made = FittedModel(jr.losses.Logistic(), [1.0], 0.0, features=("a",), classes=("no", "=yes"), target="k")
    jr.save(made, place / "model.jaxreg")
    rows = predicted(place, "a,k\n0,no\n-2,no\n3,=yes\n")
    assert [row["prediction"] for row in rows] == ["no", "no", "'=yes"]
    assert float(rows[2]["probability of =yes"]) == pytest.approx(1 / (1 + np.exp(-3)))
    assert "misclassified 0" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("missing", "wanted"), [("drop", ["", 23.0, ""]), ("mean", [101.0, 23.0, 5.0])])
def test_missing_cells(place, model, missing, wanted, assert_fails):
    text = "age,colour\n,red\n1,red\n2,\n"
    rows = predicted(place, text, "--missing", missing)
    assert [row["prediction"] and float(row["prediction"]) for row in rows] == wanted
    assert_fails(
        ["predict", "model.jaxreg", "new.csv", "--out", "other.csv"],
        "2 of 3 rows", "'age', 'colour'", "--missing mean", "--missing drop",
    )  # fmt: skip


def test_only_the_cells_that_training_did_not_have_are_called_missing(place, assert_fails, capsys):
    columns = (
        NumberColumn("age", mean=40.0), NumberColumn("size", mean=1.0, indicator=True),
        LevelColumn("colour", levels=(MISSING_LEVEL, "red")), LevelColumn("shape", levels=("o", "x")),
    )  # fmt: skip
    names = [feature for column in columns for feature in column.features]
    made = FittedModel(
        jr.losses.SquaredError(), [1.0, 2, 3, 4, 5, 6, 7], 0.0, features=names, columns=columns
    )
    jr.save(made, place / "model.jaxreg")
    rows = predicted(place, "age,size,colour,shape\n1,,,o\n,1,red,x\n", "--missing", "mean")
    assert [float(row["prediction"]) for row in rows] == [1 + 2 + 3 + 4 + 6, 40 + 2 + 5 + 7]
    assert "note: Missing values in 'age' became the mean" in " ".join(capsys.readouterr().out.split())
    assert_fails(
        ["predict", "model.jaxreg", "new.csv", "--out", "other.csv"], "1 of 2 rows", "in columns 'age', where"
    )
    predicted(place, "age,size,colour,shape\n1,2,red,\n", "--missing", "mean")
    assert "Missing values in 'shape' became none of the levels." in " ".join(capsys.readouterr().out.split())


def test_predictions_on_stdout(place, model, capsys):
    (place / "new.csv").write_text("age,colour\n1,red\n")
    assert main(["predict", "model.jaxreg", "new.csv", "--out", "-"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["row,prediction", "1,23.0"] and "1 row predicted" in shown.err
    assert not (place / "predictions.csv").exists()


@pytest.mark.parametrize(
    ("text", "words", "parts"),
    [
        ("age,color\n1,red\n", [], ["lacks the columns 'colour'", "'color'"]),
        ("age,colour\nold,red\nx,red\n", [], ["column 'age' has 'old' in row 1", "wanted a number"]),
        ("age,colour\n$5,red\n", [], ["currency marks", "--numbers"]),
        ("age,colour\n", [], ["no rows"]),
        ("age,colour\ninf,red\n", [], ["infinite"]),
        ("age,colour\n1,red\n", ["--missing", "x"], ["--missing is 'x'"]),
        ("age,colour\n1,red\n", ["--out", "no/where.csv"], ["is no folder"]),
        ("age,colour\n1,red\n", ["--out", "new.csv"], ["is there already", "--overwrite"]),
        ("age,colour\n1e400,red\n2,blue\n", [], ["1 of 2 rows", "are infinite in 'age'", "finite numbers"]),
    ],
)
def test_files_that_do_not_fit(place, model, assert_fails, text, words, parts):
    (place / "new.csv").write_text(text)
    assert_fails(["predict", "model.jaxreg", "new.csv", *words], *parts)


def test_models_that_cannot_be_read(place, assert_fails):
    (place / "new.csv").write_text("a\n1\n")
    assert_fails(["predict", "new.csv", "new.csv"], "is no jaxreg model", "jaxreg.save")
    assert_fails(["predict", "gone.jaxreg", "new.csv"], "gone.jaxreg: no such file")
    assert_fails(["predict", "model.jaxreg"], "argument", "see jaxreg predict --help")


def test_a_sweep_and_its_predictions_agree(place, capsys):
    """The whole way: a file with text and gaps, the chosen model, the same file predicted."""
    rng = np.random.default_rng(0)
    lines = ["a,c,s,when,y"]
    for k in range(60):
        a, c = rng.normal(), "uvw"[k % 3]
        y = 3 * a + 2 * (c == "u") + 0.1 * rng.normal()
        lines.append(f"{'' if k % 10 == 3 else a},{c},{'yn'[k % 2]},2020-01-{1 + k % 28:02d},{y}")
    (place / "own.csv").write_text("\n".join(lines) + "\n")
    words = "sweep own.csv --target y --missing mean --penalty l1 --lambdas 8 --tol 1e-4"
    assert main(words.split()) == 0
    assert "L1 (whole factors) at λ" in capsys.readouterr().out
    assert main(["predict", "jaxreg-own/model.jaxreg", "own.csv"]) == 0
    assert "on 60 rows: R² 0." in " ".join(capsys.readouterr().out.split())
    model = jr.load("jaxreg-own/model.jaxreg")
    assert set(model.features) >= {"a", "a is missing", "c=u", "c=v", "c=w"}
    rows = list(csv.DictReader((place / "predictions.csv").open(encoding="utf-8")))
    assert len(rows) == 60 and all(row["prediction"] for row in rows)
    coefficients = (place / "jaxreg-own" / "coefficients.csv").open(encoding="utf-8")
    names = [row["feature"] for row in csv.DictReader(coefficients)]
    every = ("(intercept)", "a", "a is missing", "c=u", "c=v", "c=w", "s=y", "when")
    assert sorted(names) == sorted(every) and names[1] == "a"
