"""Coefficients of the chosen model: sorted, whole numbers, no formulas."""

import csv
import io

import numpy as np
import pytest
from rich.console import Console

import jaxreg as jr
from jaxreg.cli.choose import Best, Chosen
from jaxreg.cli.coefficients import guarded, order, table, write_csv
from jaxreg.models import FittedModel

NAMES = ("small", "=1+1", "zero", "long " * 20)


def chosen(several=False):
    coef = np.array([0.1, -300.0, 0.0, 2.0])
    coef = np.column_stack([coef, -coef]) if several else coef
    loss = jr.losses.Multinomial(2) if several else jr.losses.SquaredError()
    classes = ("@u", "v") if several else ()
    model = FittedModel(loss, coef, np.zeros(coef.shape[1:]), features=NAMES, classes=classes)
    scale = np.array([1.0, 0.01, 1.0, 2.0])
    return Chosen(Best(0, 0), model, (coef.T * scale).T, {})


def shown(found, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(table(found, True))
    return console.file.getvalue()


def test_the_largest_standardised_coefficient_is_first():
    assert order(chosen()).tolist() == [3, 1, 0, 2]
    lines = [line for line in shown(chosen()).splitlines() if line.strip()]
    assert [line.split()[0] for line in lines[2:]] == ["(intercept)", "long", "=1+1", "small"]
    assert "per s.d." in lines[0] and lines[4].split()[1:] == ["-300", "-3"]


@pytest.mark.parametrize("several", [False, True])
def test_csv(tmp_path, several):
    write_csv(chosen(several), tmp_path / "c.csv")
    rows = list(csv.reader((tmp_path / "c.csv").open(encoding="utf-8")))
    assert [row[0] for row in rows] == ["feature", "(intercept)", NAMES[3], "'=1+1", "small", "zero"]
    if several:
        assert rows[0][1:] == ["coefficient[@u]", "coefficient[v]", "standardized[@u]", "standardized[v]"]
        assert [float(cell) for cell in rows[3][1:]] == [-300, 300, -3, 3]
    else:
        assert [float(cell) for cell in rows[3][1:]] == [-300, -3]


@pytest.mark.parametrize("width", [30, 50, 80])
def test_narrow_terminals(width):
    text = shown(chosen(True), width)
    assert max(map(len, text.splitlines())) <= width and "-300" in text


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a", "a"),
        ("=A1", "'=A1"),
        ("+x", "'+x"),
        ("-x", "'-x"),
        ("@x", "'@x"),
        ("-1.5", "-1.5"),
        ("a\x1b[1m", r"a\x1b[1m"),
    ],
)
def test_guarded(name, safe):
    assert guarded(name) == safe


def test_the_table_counts_the_coefficients_that_it_leaves_out():
    coef, names = np.arange(20.0), tuple(f"x{j}" for j in range(20))
    model = FittedModel(jr.losses.SquaredError(), coef, np.zeros(()), features=names)
    text = shown(Chosen(Best(0, 0), model, coef, {}))
    assert "x5 " in text and "x4 " not in text
    assert "… and 4 more in coefficients.csv" in text
    assert "more in" not in shown(chosen())
