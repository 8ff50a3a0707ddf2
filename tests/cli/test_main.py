"""Errors during the work: each is one line on stderr, with its exit status."""

import sys

import pytest

from jaxreg.cli import run as run_module
from jaxreg.cli.main import main


@pytest.mark.parametrize(
    ("problem", "status", "parts"),
    [
        (ValueError("one\ntwo"), 2, ["one two"]),
        (RuntimeError("solver fell over"), 2, ["solver fell over"]),
        (MemoryError("Unable to allocate 9 TiB"), 2, ["memory", "9 TiB", "fewer rows", "float32"]),
        (RuntimeError("RESOURCE_EXHAUSTED: out of memory"), 2, ["memory", "fewer rows"]),
        (ModuleNotFoundError("No module named 'xarray'", name="xarray"), 2, ["pip install 'jaxreg[cli]'"]),
        (ImportError("libfoo.so is broken"), 2, ["libfoo.so is broken"]),
        (FileNotFoundError(2, "No such file or directory", "gone.csv"), 2, ["gone.csv: no such file"]),
        (KeyError("lost"), 2, ["KeyError", "fault of jaxreg", "JAXREG_TRACEBACK=1"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
    ],
)
def test_every_problem_is_one_line(assert_fails, monkeypatch, problem, status, parts):
    def run(*given, **settings):
        raise problem

    monkeypatch.setattr(run_module, "run", run)
    assert_fails(["sweep"], *parts, status=status)


def test_a_traceback_can_be_asked_for(place, monkeypatch):
    def run(*given, **settings):
        raise KeyError("lost")

    monkeypatch.setattr(run_module, "run", run)
    monkeypatch.setenv("JAXREG_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["sweep"])


@pytest.mark.parametrize("package", ["typer", "rich", "matplotlib", "scipy", "pandas", "sklearn"])
def test_a_package_that_is_missing_is_named(assert_fails, monkeypatch, package):
    for module in (package, "rich.progress", "sklearn.datasets"):
        if module.startswith(package):
            monkeypatch.setitem(sys.modules, module, None)
    # scikit-learn brings the data sets other than the default.
    words = ["sweep", "iris"] if package == "sklearn" else ["sweep"]
    assert_fails(words, f"this needs {package}: pip install 'jaxreg[cli]'")
