"""The neural network at small sizes, and the command that runs the experiments."""

import json
import pathlib

import numpy as np
import pytest

from experiments import __main__ as runner
from experiments import neural_net


@pytest.fixture(scope="module")
def small():
    """A sweep of small networks."""
    config = neural_net.Config(images=100, lams=4, largest=20.0, seeds=2, epochs=4)
    return config, neural_net.sweep(config, neural_net.load_split(config))


def test_l1_empties_and_l2_shrinks(small):
    _, found = small
    zeros, size = (
        found[name].mean("seed").transpose("kind", "lam").values for name in ("zeros", "mean_size")
    )
    assert (zeros[0, 1:] > 0).all() and (np.diff(zeros[0]) > 0).all()
    assert (zeros[1] == 0).all()
    assert (np.diff(size, axis=1) < 0).all()


def test_without_a_penalty_both_kinds_are_one(small):
    _, found = small
    unpenalised = found.isel(lam=0)
    assert (unpenalised["accuracy"].isel(kind=0) == unpenalised["accuracy"].isel(kind=1)).all()


def test_the_command_leaves_figures_and_numbers(tmp_path, capsys):
    small = ["--images", "100", "--lams", "4", "--seeds", "2", "--epochs", "4"]  # the programs of `small`
    assert runner.main(["neural_net", *small, "--out", str(tmp_path)]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {
        "curves.png", "histogram.png", "first_layer.png", "numbers.json",
    }  # fmt: skip
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["settings"]["images"] == 100
    assert [row["penalty"] for row in numbers["table"]] == ["none", "L1", "L2"]
    assert "accuracy" in capsys.readouterr().out


def test_every_experiment_has_settings_and_a_first_line(capsys):
    assert runner.main(["--list"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(runner.names())


def test_all_writes_an_index_and_one_failure_loses_nothing(tmp_path, monkeypatch, capsys):
    def launch(name, out):
        if name == "geometry":
            return 3
        out.mkdir()
        (out / "numbers.json").write_text(json.dumps({"number": f"{name} < 1.", "figures": ["a.png"]}))
        return 0

    monkeypatch.setattr(runner, "names", lambda: ["geometry", "orthonormal"])
    monkeypatch.setattr(runner, "launch", launch)
    (tmp_path / "geometry").mkdir()
    (tmp_path / "geometry" / "numbers.json").write_text("of an earlier run")
    assert runner.main(["all", "--out", str(tmp_path)]) == 1
    page = (tmp_path / "index.html").read_text()
    assert "exit code 3" in page and "of an earlier run" not in page
    assert "orthonormal &lt; 1." in page and 'src="orthonormal/a.png"' in page
    assert "failed: geometry" in capsys.readouterr().err
    monkeypatch.setattr(runner, "names", lambda: ["orthonormal"])
    assert runner.main(["all", "--out", str(tmp_path / "again")]) == 0


@pytest.mark.slow
def test_each_experiment_runs_in_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(pathlib.Path(__file__).parents[2])
    assert runner.launch("gradient_pull", tmp_path) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["settings"]["seed"] == 0 and set(numbers["versions"]) >= {"jaxreg", "jax"}
    assert all((tmp_path / name).exists() for name in numbers["figures"])


@pytest.mark.parametrize(
    "argv, message",
    [
        (["neural_nets"], "NAME one of"),
        ([], "NAME one of"),
        (["neural_net", "--images", "5"], "images must be"),
    ],
)
def test_refusals_are_one_line(argv, message, capsys):
    assert runner.main(argv) != 0
    shown = capsys.readouterr()
    assert message in shown.err and len(shown.err.splitlines()) == 1 and not shown.out
