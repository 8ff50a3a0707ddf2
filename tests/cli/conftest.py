"""Fixtures for tests of the command: files to read, refusals in one line, JAX's settings restored."""

import contextlib

import jax
import pandas as pd
import pytest

from jaxreg.cli import run as run_module
from jaxreg.cli import write as write_module
from jaxreg.cli.main import main
from tests.made_sweep import made_sweep


@pytest.fixture
def write(tmp_path):
    """Writes text or bytes to a file and returns its path."""

    def to_file(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return to_file


@pytest.fixture
def parquet(tmp_path):
    """Writes columns to a Parquet file and returns its path."""

    def to_file(frame, name="table.parquet"):
        path = tmp_path / name
        pd.DataFrame(frame).to_parquet(path)
        return str(path)

    return to_file


@pytest.fixture
def rows():
    """Columns as the text of a .csv file."""
    return lambda **columns: pd.DataFrame(columns).to_csv(index=False)


@pytest.fixture
def assert_refused():
    """`with assert_refused("part", ...)`: the block raises a ValueError of one line with all the parts."""

    @contextlib.contextmanager
    def block(*parts):
        with pytest.raises(ValueError) as error:
            yield
        text = str(error.value)
        assert "\n" not in text and len(text) < 900
        for part in parts:
            assert part in text, text

    return block


@pytest.fixture(autouse=True)
def _settings(monkeypatch):
    """Restore JAX's precision, which the command sets.

    The command's cache of compiled programs is tested in processes of its own: once a cache is open JAX goes
    on to use it, whatever its settings are later.
    """
    monkeypatch.setattr(write_module, "use_cache", lambda on: None)
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


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
def solved(monkeypatch):
    """The solver replaced by a made-up result, for what comes after it."""
    monkeypatch.setattr(
        run_module, "run", lambda table, *given, **settings: made_sweep(features=table.features)
    )
