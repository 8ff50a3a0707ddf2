"""Results: refused before the work, never half written; the cache of compiled programs."""

import os
import subprocess
import sys

import numpy as np
import pytest
import xarray

from jaxreg import plots
from jaxreg.cli import run as run_module
from jaxreg.cli import write
from jaxreg.cli.main import main
from tests.made_sweep import made_sweep

FILES = ["coefficients.csv", "error.png", "map.png", "model.jaxreg", "paths.png", "sweep.nc"]


def test_results_are_not_replaced_unasked(assert_fails, place, solved, capsys):
    (place / "out").mkdir()
    (place / "out" / "sweep.nc").write_text("mine")
    assert_fails(["sweep", "--out", "out"], "holds results already (sweep.nc)", "--overwrite")
    assert main(["sweep", "--out", "out", "--overwrite"]) == 0
    assert sorted(os.listdir("out")) == FILES and (place / "out" / "sweep.nc").stat().st_size > 1000


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/nothing", "/proc/nothing/below", "x" * 300])
def test_a_folder_that_cannot_be_written_to_is_seen_before_the_work(assert_fails, place, monkeypatch, out):
    (place / "file").write_text("mine")

    def run(*given, **settings):
        raise AssertionError("the work began")

    monkeypatch.setattr(run_module, "run", run)
    words = ["sweep", "--out", out]
    said = assert_fails(words).err
    assert "--out" in said or "too long" in said
    assert "the work began" not in said


def test_no_permission_is_seen_before_the_work(assert_fails, monkeypatch):
    def denied(*given, **settings):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(write.tempfile, "TemporaryDirectory", denied)
    assert_fails(["sweep", "--out", "new/out"], "cannot be written to (permission denied)", "--out")


@pytest.mark.parametrize(
    ("problem", "status", "part"),
    [
        (OSError(28, "No space left on device"), 2, "no space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("odd"), 2, "odd"),
    ],
)
def test_nothing_is_left_half_written(assert_fails, place, solved, monkeypatch, problem, status, part):
    def save(*given):
        raise problem

    monkeypatch.setattr(plots, "save", save)
    (place / "old").mkdir()
    for name in FILES:
        (place / "old" / name).write_text("mine")
    assert_fails(["sweep", "--out", "new/out"], part, status=status)
    assert_fails(["sweep", "--out", "old", "--overwrite"], part, status=status)
    assert [(place / "old" / name).read_text() for name in FILES] == ["mine"] * 6


def test_without_a_choice_the_model_of_an_earlier_sweep_is_removed(place, monkeypatch, capsys):
    monkeypatch.setattr(run_module, "run", lambda table, *given: made_sweep(features=table.features, held=0))
    (place / "own.csv").write_text("a,b,price\n1,2,10\n3,5,20\n4,4,35.5\n2,2,8\n")
    (place / "out").mkdir()
    for name in FILES:
        (place / "out" / name).write_text("old")
    assert (
        main(["sweep", "own.csv", "--target", "price", "--holdout", "0", "--out", "out", "--overwrite"]) == 0
    )
    assert sorted(os.listdir("out")) == ["error.png", "map.png", "paths.png", "sweep.nc"]
    assert "no model is written" in " ".join(capsys.readouterr().out.split())


def test_a_large_sweep_is_written_in_single_precision(tmp_path):
    data = made_sweep(features=[f"x{i}" for i in range(20_000)])
    data["standardized_coef"] = data["standardized_coef"] * 3.0
    write.write(data, tmp_path / "out", lambda data, folder: None)
    with xarray.open_dataset(tmp_path / "out" / "sweep.nc") as small:
        assert small["coef"].dtype == np.float32 and "standardized_coef" not in small
        assert np.allclose(small["coef"] * small["scale"], data["standardized_coef"], rtol=1e-5)
        assert np.allclose(small["coef"], data["coef"], rtol=1e-6)
        assert all(
            variable.attrs["units"] and variable.attrs["long_name"] for variable in small.variables.values()
        )
        assert plots.paths(small.isel(step=[0, 20, 39]))[0].get_title() == "L1"
    assert (tmp_path / "out" / "sweep.nc").stat().st_size < 9e6


# ---------------------------------------------------------------- the cache of compiled programs


@pytest.mark.parametrize(("on", "kept"), [("True", True), ("False", False)])
def test_cache(tmp_path, on, kept):
    program = "import jax; from jaxreg.cli import write; write.use_cache(%s); jax.jit(lambda x: x + 1)(1.0)"
    given = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own")}
    subprocess.run([sys.executable, "-c", program % on], env=given, check=True, timeout=120)
    assert (tmp_path / "own").exists() == kept
    assert not kept or list((tmp_path / "own").iterdir())


@pytest.mark.parametrize(("place", "kept"), [("here", True), ("/proc/nothing", False)])
def test_cache_has_a_place_of_its_own(tmp_path, place, kept):
    """In the user's cache folder; where that cannot be written to, there is none. Of a process of its own."""
    root = place if place.startswith("/") else str(tmp_path / place)
    given = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    program = (
        "import jax; from jaxreg.cli import write; write.use_cache(True);"
        "print(jax.config.jax_enable_compilation_cache, jax.config.jax_compilation_cache_dir)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=given | {"XDG_CACHE_HOME": root},
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
    )
    enabled, folder = done.stdout.split()
    assert (enabled == "True") == kept
    assert not kept or folder == f"{root}/jaxreg"
