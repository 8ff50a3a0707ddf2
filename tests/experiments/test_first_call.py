"""What a first call compiles may only fall: counts of programs and StableHLO instructions, not seconds."""

import json

import pytest

from experiments.benchmarks import first_call

#: Largest numbers of programs and instructions.
LIMITS = {
    "certify logistic": (5, 1150),
    "path lasso 442x10": (11, 2400),
    "path logistic 1000x100": (12, 3700),
}


@pytest.mark.parametrize("name", list(LIMITS))
def test_a_first_call_compiles_little(name):
    found = first_call.count(name)
    programs, instructions = LIMITS[name]
    assert 2 < found["programs"] <= programs
    assert 500 < found["instructions"] <= instructions


def test_the_table_has_all_columns(tmp_path, capsys):
    out = tmp_path / "table.json"
    first_call.main(["--calls", "certify lasso", "--counts", "--out", str(out)])
    (row,) = json.loads(out.read_text())["rows"]
    assert row["call"] == "certify lasso" and row["instructions"] < 800
    assert "certify lasso" in capsys.readouterr().out
    result = first_call.measure("certify lasso")
    assert result["second"]["programs"] == 0 and result["first"]["wall"] > 0
