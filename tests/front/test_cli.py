"""The command: what it prints and writes, and that bad input is one line with status 2."""

import numpy as np
import pandas as pd
import pytest
import xarray
from typer.testing import CliRunner

from jaxreg.front.cli import app

FILES = ("map.png", "paths.png", "sweep.nc")


def call(*words):
    """Run the command in this process."""
    return CliRunner().invoke(app, ["sweep", "--no-cache", *map(str, words)])


@pytest.fixture
def table(tmp_path):
    """A small CSV file with a text column."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=40), "b": rng.normal(size=40), "c": ["x", "y"] * 20})
    frame["price"] = frame["a"] * 2 + rng.normal(size=40)
    frame["kind"] = np.where(frame["price"] > 0, "high", "low")
    frame.to_csv(tmp_path / "own.csv", index=False)
    return tmp_path / "own.csv"


def test_default_data(tmp_path):
    out = tmp_path / "out"
    result = call("--lambdas", 8, "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in out.iterdir()) == sorted(FILES)
    assert not list(tmp_path.glob(".jaxreg-*"))
    with xarray.open_dataset(out / "sweep.nc") as data:
        assert data["coef"].dims == ("penalty", "step", "feature")
        assert data["penalty"].values.tolist() == ["L1", "L2", "elastic net 0.5"]
        assert float(data["gap"].max()) <= 1e-6
        assert set(data["status"].values.ravel()) == {"converged"}
        assert int(data["zeros"].sel(penalty="L1")[0]) == 10
        assert int(data["zeros"].sel(penalty="L2").max()) == 0
        assert float(data["shrinkage"].sel(penalty="L2")[0]) > 0.99
        assert "unpenalised" in data.attrs["reference"]
    for words in ("L1 kept", "L2 kept all 10", "elastic net 0.5 kept", "wrote"):
        assert words in result.output
    again = call("--lambdas", 8, "--out", out)
    assert again.exit_code == 2
    assert "--overwrite" in again.output


def test_own_file_with_classes(table, tmp_path):
    result = call(
        table, "--target", "kind", "--penalty", "l1", "--lambdas", 5, "--out", tmp_path / "o",
        "--dtype", "float32", "--tol", 1e-3,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "logistic" in result.output


def test_several_classes(tmp_path):
    result = call("iris", "--penalty", "l1", "--lambdas", 4, "--ratio", 0.1, "--out", tmp_path / "o")
    assert result.exit_code == 0, result.output
    with xarray.open_dataset(tmp_path / "o" / "sweep.nc") as data:
        assert data["coef"].dims == ("penalty", "step", "feature", "class")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["diabets"], "diabetes"),
        (["--penalty", "l3"], "l1"),
        (["--penalty", "elastic-net:2"], "between 0 and 1"),
        (["--loss", "squard"], "squared"),
        (["--holdout", "1.5"], "1.5"),
        (["--dtype", "float16"], "float64 or float32"),
        (["--lambdas", "1"], "at least 2"),
        (["--ratio", "2"], "between 0 and 1"),
        (["--tol", "-1"], "tol must be > 0"),
        (["--out", "/proc/nothing"], "cannot"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(*words)
    assert result.exit_code == 2
    line = result.output.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_unknown_target(table):
    result = call(table, "--target", "prise")
    assert result.exit_code == 2
    assert "price" in result.output
