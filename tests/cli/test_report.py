"""Reports: tables that fit a terminal, sentences that are true."""

import io

import numpy as np
import pytest
from rich.console import Console

from jaxreg.cli.report import legend, remarks, sentence, table
from jaxreg.plots import best_step
from tests.made_sweep import made_sweep


def shown(part, width=80):
    """The table as a terminal of this width shows it."""
    console = Console(file=io.StringIO(), width=width)
    console.print(table(part, width=width))
    return console.file.getvalue()


def test_no_best_where_nothing_is_held_out():
    part = made_sweep(held=0).isel(penalty=0)
    assert best_step(part) is None
    text = shown(part)
    assert "★" not in text and "held-out" not in text
    assert text.count("training") == 2, "both columns were measured there"


def test_table_shows_twelve_rows_and_the_best():
    lines = shown(made_sweep().isel(penalty=0)).splitlines()
    rows = [line for line in lines if line.endswith("ok    ")]
    assert len(rows) in (12, 13)
    assert [line.strip().startswith("★") for line in rows].count(True) == 1
    assert lines[0].strip() == "L1"
    assert rows[0].split()[:3] == ["8", "4", "100"] and rows[-1].split()[0] == "0.5"


def test_table_is_readable_in_80_columns():
    part = made_sweep(features=[f"x{i}" for i in range(20_000)]).isel(penalty=0)
    part["status"] = part["status"].astype("U10")
    part["status"][{"step": [0, 20, 39]}] = ["max_steps", "nonfinite", "stalled"]
    part["lam"] = part["lam"] * 1.2345e-5
    text = shown(part)
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    for word in ("max steps", "non-finite", "stalled", "shrinkage", "explained", "of 20000", "held-out"):
        assert word in text


def test_table_falls_back_on_kkt():
    data = made_sweep()
    data["gap"][{"penalty": 0}] = np.inf
    text = shown(data.isel(penalty=0))
    assert "kkt" in text and "inf" not in text
    assert any("kkt" in line for line in legend(data))
    assert "gap" in shown(data.isel(penalty=1))


def test_misclassified_rows_are_shown_in_percent_beside_the_deviance():
    data = made_sweep(loss="logistic")
    data["misclassified"][{"step": 20}] = 0.125
    text = shown(data.isel(penalty=0))
    assert "12.5 %" in text and "wrong" in text and max(map(len, text.splitlines())) <= 80
    assert any("wrong" in line and "held-out" in line for line in legend(data))
    assert any("mean deviance on the 10 held-out rows" in line for line in legend(data))


@pytest.mark.parametrize("width", [20, 30, 40, 50, 57, 60, 66, 70])
def test_a_narrow_terminal_breaks_no_number(width):
    part = made_sweep(loss="logistic").isel(penalty=0)
    lines = shown(part, width).splitlines()
    assert max(map(len, lines)) <= width and "…" not in "".join(lines)
    assert "λ" in lines[2] and any("★" in line for line in lines), "λ and the best are never left out"
    assert len(lines) == len(shown(part, 80).splitlines()), "no cell takes two lines"


def test_degrees_of_freedom_that_are_not_known_are_not_shown():
    data = made_sweep()
    data["dof"][{"penalty": 0}] = np.nan
    assert "df" not in shown(data.isel(penalty=0)) and "nan" not in shown(data.isel(penalty=0))
    assert any(" df " in line for line in legend(data))
    data["dof"][:] = np.nan
    assert not any(" df " in line for line in legend(data))


def test_sentence_says_what_happened():
    data = made_sweep()
    lam = f"{float(data['lam'][0, 20]):.3g}"
    assert sentence(data.isel(penalty=0)) == (
        f"L1 kept 3 of 4 weights at λ = {lam}, where the error on the held-out rows is smallest; the largest"
        " weight of the unpenalised fit (a) is shrunk to 52 % of its size, the norm of all to 43 %."
    )
    assert sentence(data.isel(penalty=1)).startswith(f"L2 kept all 4 weights at λ = {lam}, where")


def test_sentence_of_a_weight_that_did_not_shrink():
    part = made_sweep().isel(penalty=0)
    part["standardized_coef"][{"step": 20, "feature": 0}] = 1.04 * part["reference_coef"].values[0]
    assert "(a) has 104 % of its size, the norm of all " in sentence(part)


def test_sentence_at_the_ends_of_the_grid():
    part = made_sweep().isel(penalty=0)
    part["error"][{"step": 0}] = 0.0
    assert sentence(part).startswith("L1 kept none of 4 weights at λ = 8, where")
    other = made_sweep().isel(penalty=1)
    other["error"][{"step": 0}] = 0.0
    assert "is smallest (the start of the grid)" in sentence(other)
    part["error"][{"step": 39}] = -1.0
    assert "the end of the grid: a smaller --ratio may do better" in sentence(part)
    part["shrinkage"][{"step": 39}] = 0.004
    assert "(the end of the grid, nearly the unpenalised fit)" in sentence(part)
    part.attrs["reference"] = "the fit at the smallest λ"
    part["reference_coef"] = part["standardized_coef"][39]
    assert sentence(part).endswith("may do better)."), "nothing to compare with itself"


def test_sentence_where_nothing_is_held_out():
    data = made_sweep(held=0)
    l1, l2 = (sentence(data.isel(penalty=k)) for k in (0, 1))
    assert l1.startswith("L1 kept 0 of 4 weights at λ = 8 and all 4 weights at λ = 0.5; as λ falls, at λ = ")
    assert l2.startswith("L2 kept all 4 weights at every λ; ")
    for text in (l1, l2):
        assert "smallest" not in text and text.endswith("passes half of that of the unpenalised fit.")
    assert "No rows were held out, so no λ is called best and no model is written." in remarks(data)
    assert not any("★" in line for line in legend(data))


def test_sentence_names_the_class():
    part = made_sweep(classes=("red", "blue"), loss="multinomial").isel(penalty=1)
    assert "kept all 8 weights" in sentence(part) and "(a, class red)" in sentence(part)


def test_features_that_never_vary_are_not_counted():
    data = made_sweep()
    data["coef"][{"feature": 3}] = 0.0
    data["constant"][{"feature": 3}] = 1
    assert sentence(data.isel(penalty=1)).startswith("L2 kept all 3 weights")
    assert any(line.startswith("1 feature never varies") for line in remarks(data))


@pytest.mark.parametrize(
    ("left", "said"),
    [(0, "All 80 λ reached the tolerance of 1e-06."), (5, "10 of 80 λ did not reach the tolerance of 1e-06")],
)
def test_remarks_say_what_is_not_certified(left, said):
    line = remarks(made_sweep(left=left))[-1]
    assert line.startswith(said) and ("(10 max steps)" in line) == bool(left)


@pytest.mark.parametrize("held", [0, 10])
def test_legend_says_which_rows(held):
    text = "\n".join(legend(made_sweep(held=held)))
    assert f"deviance explained on the {30 - held} training rows" in text
    assert ("on the 10 held-out rows" if held else "on the 30 training rows, (price)²") in text
    assert max(map(len, text.splitlines())) <= 80
