"""The command: its words, its errors in one line with status 2, and that nothing is lost or half written."""

import importlib.metadata
import os
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from jaxreg import plots
from jaxreg.cli import run as work
from jaxreg.cli import write
from jaxreg.cli.main import main

ROOT = pathlib.Path(__file__).parents[2]
FILES = ["map.png", "paths.png", "sweep.nc"]
ROWS = "a,b,price\n1,2,10\n3,5,20\n4,4,35.5\n2,2,8\n"


@pytest.fixture
def assert_fails(place, capsys):
    """`assert_fails(words, "part", ...)`: status 2, one line on stderr with the parts, no file written."""

    def call(words, *parts, status=2):
        before = sorted(place.rglob("*"))
        assert main([str(word) for word in words]) == status
        shown = capsys.readouterr()
        lines = shown.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), shown.err
        for part in parts:
            assert part in lines[0], lines[0]
        assert sorted(place.rglob("*")) == before
        return shown

    return call


@pytest.fixture
def solved(swept, monkeypatch):
    """The solver replaced by a made-up result, for what comes after it."""
    monkeypatch.setattr(work, "run", lambda *given, **settings: swept())


# What can be asked.


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
    for option in options.split():
        assert f"--{option}" in text


# Words that do not fit.


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
        (["--penalty", "elastic"], ["no penalty 'elastic'", "did you mean 'elastic-net:0.5'?"]),
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


# Data that does not fit.


@pytest.mark.parametrize(
    ("text", "words", "parts"),
    [
        ("", [], ["is empty"]),
        ("a,price\n", [], ["header but no rows"]),
        ("a,price\n1,2\n", [], ["one row", "at least two rows"]),
        ("a,price\n1,2\n,3\n4,\n", [], ["2 of 3 rows", "'a', 'price'", "drop", "fill"]),
        ("a,price\n1,inf\n2,3\n4,5\n", [], ["1 of 3 rows", "infinite", "'price'"]),
        ("a,price\n1,nan\n2,3\n4,5\n", [], ["1 of 3 rows", "miss values", "'price'"]),
        ("a;price\n1;2\n2;3\n", [], ["single column 'a;price'", "replace ';' by ','"]),
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


# Where results go.


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

    monkeypatch.setattr(work, "run", run)
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
    assert [(place / "old" / name).read_text() for name in FILES] == ["mine"] * 3


def test_results_go_into_a_folder_named_for_the_data(place, solved):
    (place / "own.table.csv").write_text(ROWS)
    assert main(["sweep", "own.table.csv", "--target", "price"]) == 0
    assert sorted(os.listdir("jaxreg-own.table")) == FILES
    assert main(["sweep", "own.table.csv", "--target", "price", "--out", "new/deep"]) == 0
    assert sorted(os.listdir("new/deep")) == FILES


# What goes wrong in the work.


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

    monkeypatch.setattr(work, "run", run)
    assert_fails(["sweep"], *parts, status=status)


def test_a_traceback_can_be_asked_for(place, monkeypatch):
    def run(*given, **settings):
        raise KeyError("lost")

    monkeypatch.setattr(work, "run", run)
    monkeypatch.setenv("JAXREG_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["sweep"])


@pytest.mark.parametrize("package", ["typer", "rich", "matplotlib", "scipy", "pandas", "sklearn"])
def test_a_package_that_is_missing_is_named(assert_fails, monkeypatch, package):
    for module in (package, "rich.progress", "sklearn.datasets"):
        if module.startswith(package):
            monkeypatch.setitem(sys.modules, module, None)
    assert_fails(["sweep"], f"this needs {package}: pip install 'jaxreg[cli]'")


# The cache of compiled programs.


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


# The whole command.


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
