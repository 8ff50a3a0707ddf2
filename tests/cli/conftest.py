"""What the tests of the front share: files to read, refusals in one line, JAX's settings put back."""

import contextlib

import jax
import numpy as np
import pandas as pd
import pytest

from jaxreg.cli import write as output
from jaxreg.cli._dataset import labelled
from jaxreg.cli.load import Table


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
    """The command sets JAX's precision; the next test finds it as it was.

    The cache of compiled programs stays as the tests have it: once it is open JAX goes on to use it, whatever
    its settings are later. That of the command is tested in processes of its own.
    """
    monkeypatch.setattr(output, "use_cache", lambda on: None)
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def swept():
    """Makes the dataset of a sweep of L1 and L2 with no solver: weights thresholded, or scaled."""
    return _swept


def _swept(*, features=("a", "b", "c", "d"), classes=(), held=10, steps=40, loss="squared", left=0):
    n = 30
    X, y = np.zeros((n, len(features))), np.zeros(n)
    table = Table("made.csv", X, y, tuple(features), "price", loss, tuple(classes), "", ("A note.",))
    shape = (len(features), len(classes)) if classes else (len(features),)
    base = np.linspace(4, 1, int(np.prod(shape))).reshape(shape)
    lam = np.geomspace(8, 0.5, steps)
    column = lam.reshape(-1, *(1 for _ in shape))
    parts = []
    for coef in (np.maximum(base - column, 0), base / (1 + column)):
        flat = coef.reshape(steps, -1)
        numbers = {
            "lam": lam,
            "coef": coef,
            "standardized_coef": coef,
            "reference_coef": base,
            "intercept": np.zeros((steps, *shape[1:])),
            "zeros": (flat == 0).sum(axis=1),
            "zero_fraction": (flat == 0).mean(axis=1),
            "shrinkage": 1 - np.linalg.norm(flat, axis=1) / np.linalg.norm(base),
            "deviance_explained": 1 - lam / 8,
            "error": 1 + (np.arange(steps) - 20) ** 2 / 400,
            "dof": (flat != 0).sum(axis=1).astype(float),
            "gap": np.full(steps, 1e-7),
            "kkt": np.full(steps, 1e-7),
            "steps": np.full(steps, 9),
            "status": np.array(["max_steps"] * left + ["converged"] * (steps - left)),
        }
        parts.append(numbers)
    settings = {"reference": "the unpenalised fit", "rows_train": n - held, "rows_held_out": held}
    settings |= {"standardize": 1, "tol": 1e-6}
    return labelled(table, ["L1", "L2"], parts, np.zeros(len(features), bool), settings)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
