"""The bar of a sweep: on a terminal, and nowhere else."""

import io
import os
import pty
import re
import subprocess
import sys

import jaxreg as jr
from tests.sweeps.functions import AXES, number


def test_silent_where_there_is_no_terminal(capfd):
    jr.sweep(number, **AXES)
    assert capfd.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    jr.sweep(number, **AXES, max_lanes=2)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.getvalue())
    assert "lanes" in shown and "15/15" in shown


def test_no_bar_where_none_is_wanted(monkeypatch):
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    jr.sweep(number, **AXES, progress=False)
    assert seen.getvalue() == ""


def test_a_bar_on_a_real_terminal():
    ours, theirs = pty.openpty()
    code = "import jaxreg as jr; jr.sweep(lambda lam: lam, lam=[0.1] * 9, max_lanes=2)"
    subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True, timeout=120)
    assert b"9/9" in os.read(ours, 100_000)
