"""The command at a terminal, in pipes and under signals: nothing raw, no traceback, one line."""

import os
import pathlib
import subprocess
import sys
import unicodedata

import pytest

from jaxreg.cli import _screen
from jaxreg.cli import choose as choose_module
from jaxreg.cli import run as run_module
from jaxreg.cli.main import main
from jaxreg.cli.report import sentence
from tests.made_sweep import made_sweep

ROOT = pathlib.Path(__file__).parents[2]


def printed(text):
    """Whether a terminal would show every character of a text, instead of acting on it."""
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text if c != "\n")


ODD = "\x1b]0;owned\x07\x1b[31m \x9b2J\u202e\u2028\x7f\r\b"


def test_names_are_shown_without_their_control_characters(place, monkeypatch, capsys):
    """Those of the file, the columns, the classes and the folder, in the report and in an error."""
    name = f"own{ODD.replace('/', '')}.csv"
    head = ",".join(f'"{ODD}{word}"' for word in ("a", "b", "price"))
    rows = "".join(f'{k},"{ODD}{"xy"[k % 2]}",{k**2}\n' for k in range(6))
    (place / name).write_text(f"{head}\n{rows}", newline="")
    features = tuple(f"{ODD}{word}" for word in "abcd")
    made = made_sweep(features=features, classes=(ODD, "k"))
    monkeypatch.setattr(run_module, "run", lambda *given, **settings: made)
    monkeypatch.setattr(choose_module, "choose", lambda *given: None)
    assert main(["sweep", name, "--target", f"{ODD}price"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count(r"\x1b[31m") > 4 and printed(shown.out + shown.err)
    for words in (["sweep", name], ["sweep", name, "--target", ODD], ["sweep", ODD], [ODD], [f"--{ODD}"]):
        assert main(words) == 2
        shown = capsys.readouterr()
        assert r"\x1b" in shown.err and not shown.out and printed(shown.err)


@pytest.mark.parametrize("width", [24, 30, 50, 80, 120])
def test_lines_break_at_spaces_that_belong_to_no_number(monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    texts = [sentence(made_sweep().isel(penalty=k)) for k in (0, 1)]
    texts += ["Use L1 at λ = 0.0179: mean squared error 86,680 ± 19,653 on 30 held-out rows; R² 0.98."]
    for text in texts:
        _screen.lines([text])
        lines = capsys.readouterr().out.splitlines()
        assert " ".join(lines) == text and max(map(len, lines)) <= width
        assert not [line for line in lines if line[0] in "%=±" or line[-1] in "=±²"]


COMMAND = "import sys; from _jaxreg_cli import main; sys.exit(main())"
# The words alone, without JAX: what is tested is the same for all of them.
LIGHT = """
import sys, types
package = types.ModuleType("jaxreg"); package.__path__ = ["jaxreg"]; package.__version__ = "0"
sys.modules["jaxreg"] = package
"""


def command(words, code=LIGHT + COMMAND, streams="", **given):
    """The command in a process of its own, with redirections as a shell understands them."""
    line = ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-c", code, *words]
    return subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, **given)


@pytest.mark.parametrize("words", [["sweep", "--help"], ["--version"]], ids=" ".join)
def test_a_reader_that_leaves_ends_the_command_quietly(words):
    read, write = os.pipe()
    os.close(read)
    process = command(words, stdout=write)
    os.close(write)
    assert process.communicate(timeout=60)[1] == b"" and process.returncode == 141


def test_closed_and_full_streams():
    aside = (
        LIGHT
        + "import jaxreg.cli.main\njaxreg.cli.main._run = lambda words: sys.stdout.flush() or 0\n"
        + COMMAND
    )
    closed, flushed = command(["--version"], streams=">&- 2>&-"), command([], aside, ">&-")
    full = command(["--version"], streams=">/dev/full")
    for process, status, said in ((closed, 0, b""), (flushed, 0, b""), (full, 2, b"no space left on device")):
        error = process.communicate(timeout=60)[1]
        assert process.returncode == status and said in error and error.count(b"\n") == bool(said)


LOADING = """
import signal, sys
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "jaxreg":
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError("half loaded")
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Slow())
"""
WORKING = (
    LIGHT
    + """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from jaxreg.cli import commands, write
def work(*given):
    with write._interrupt_raises():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print("cleaned up", flush=True)
    signal.raise_signal(signal.SIGINT)
commands._sweep = work
"""
)


@pytest.mark.parametrize(
    ("code", "out"), [(LOADING, b""), (WORKING, b"cleaned up\n")], ids=["loading", "working"]
)
def test_an_interrupt_is_one_line_whenever_it_comes(code, out):
    """No exception, which might be caught or leave an import's lock held, but where files are written."""
    process = command(["sweep"], code=code + COMMAND, stdout=subprocess.PIPE)
    shown, error = process.communicate(timeout=60)
    assert process.returncode == 130 and shown == out
    assert error == b"error: interrupted; no file was left half written\n"
