"""Refusals that leave a folder as it is: another sweep, a folder of others, a damaged store."""

import json
import shutil
import sys
import tomllib

import jax
import numpy as np
import pytest
import xarray
import zarr

import jaxreg as jr
from jaxreg.sweeps import open_store
from tests.sweeps import stores
from tests.sweeps.stores import LAMS, PLAIN, ROOT, digest, results, scaled, swept

# ---------------------------------------------------------------- another sweep


OTHERS = {
    "values": ({"lam": LAMS * 1.5}, r"its axis lam is \[0\.01.*\(7 of float64\), here it is \[0\.015"),
    "one more value": ({"seed": range(4)}, r"its axis seed is \[0, 1, 2\] .*3 of int64\), here it is .*4 of"),
    "dtype of an axis": ({"seed": np.arange(3, dtype=np.int32)}, r"3 of int64\), here it is .*3 of int32"),
    "both axes": ({"lam": LAMS[:6], "seed": range(2)}, "its axis lam is .*; its axis seed is"),
    "more axes": (
        {"fold": [0, 1], "fn": lambda lam, seed, fold: {"w": lam}},
        "its axes are lam, seed, here they are lam, seed, fold",
    ),
    "names of axes": (
        {"fn": lambda **lane: results(lane["rate"], lane["seed"]), "rate": LAMS},
        "its axes are lam, seed, here they are",
    ),
    "function": ({"fn": lambda lam, seed: PLAIN(lam + 0.0 * seed, seed)}, "function computes something else"),
    "data": ({"fn": scaled(np.full((2, 3), 3.0))}, "or closes over other data"),
    "one number of the data": (
        {"fn": scaled(np.where(np.arange(6).reshape(2, 3) == 5, np.nextafter(2.0, 3.0), 2.0))},
        "or closes over other data",
    ),
    "results": ({"fn": lambda lam, seed: {"w": lam}}, r"results are .*w \(2, 3\) <f8.*here they are w \(\)"),
    "max_lanes": ({"max_lanes": 5}, "its max lanes is 4, here it is 5"),
    "no max_lanes": ({"max_lanes": None}, "its max lanes is 4, here it is None"),
}  # fmt: skip


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A store that is there already."""
    path = tmp_path_factory.mktemp("theirs") / "run.zarr"
    swept(path, fn=PLAIN)
    return path, digest(path.parent)


@pytest.mark.parametrize("kind", list(OTHERS))
def test_another_sweep_is_refused(theirs, kind):
    """It says what differs, and leaves everything as it was."""
    (path, before), (given, match) = theirs, OTHERS[kind]
    given = {"fn": PLAIN, **given}
    if kind == "names of axes":
        call = lambda: jr.sweep(given["fn"], rate=LAMS, seed=range(3), store=path, max_lanes=4)  # noqa: E731
    else:
        call = lambda: swept(path, **given)  # noqa: E731
    with pytest.raises(
        ValueError, match=rf"run\.zarr holds another sweep: .*{match}.*another store, or remove"
    ):
        call()
    assert digest(path.parent) == before


def test_other_settings_are_refused(theirs, monkeypatch):
    path, before = theirs
    match = "its matmul precision is None, here it is highest"
    with jax.default_matmul_precision("highest"), pytest.raises(ValueError, match=match):
        swept(path, fn=PLAIN)
    with jax.threefry_partitionable(not jax.config.jax_threefry_partitionable), pytest.raises(ValueError):
        swept(path, fn=PLAIN)
    monkeypatch.setattr(jax, "__version__", "99.0")
    with pytest.raises(ValueError, match=r"its jax version is .*, here it is 99\.0"):
        swept(path, fn=PLAIN)
    monkeypatch.undo()
    with jax.enable_x64(False), pytest.raises(ValueError, match="holds another sweep: its results are"):
        swept(path, fn=PLAIN)
    assert digest(path.parent) == before


def test_the_same_sweep_written_anew_is_not_refused(theirs):
    """Arrays of the same numbers, a function made again, labels in another container."""
    path, before = theirs
    fn = scaled(np.full((2, 3), 2.0))
    swept(path, fn=fn, lam=LAMS.tolist(), seed=np.arange(3))
    assert digest(path.parent) == before


def test_a_function_that_now_sees_other_data_is_refused(path, monkeypatch):
    """The same function, but a global that it reads has changed."""
    swept(path)
    before = digest(path.parent)
    monkeypatch.setattr(stores, "MATRIX", stores.MATRIX + 1e-9 * (np.arange(12).reshape(4, 3) == 0))
    with pytest.raises(ValueError, match="closes over other data"):
        swept(path)
    assert digest(path.parent) == before


# ---------------------------------------------------------------- folders of others


def edit(path, change):
    meta = json.loads((path / "zarr.json").read_text())
    kept = json.loads(meta["attributes"]["jaxreg_sweep"])
    change(kept)
    meta["attributes"]["jaxreg_sweep"] = json.dumps(kept)
    (path / "zarr.json").write_text(json.dumps(meta))


def cut_short(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


NOT_OURS = {
    "a file": (
        lambda path: (shutil.rmtree(path), path.write_text("mine")),
        "is there and is not the store of a sweep",
    ),
    "other things": (
        lambda path: (shutil.rmtree(path), path.mkdir(), (path / "notes.txt").write_text("mine")),
        "is there and is not the store of a sweep: give a folder that does not exist yet",
    ),
    "a hidden folder": (
        lambda path: (shutil.rmtree(path), path.mkdir(), (path / ".git").mkdir()),
        "is not the store",
    ),
    "a group of others": (
        lambda path: (
            shutil.rmtree(path),
            xarray.Dataset({"w": ("lam", [1.0])}, {"lam": [2.0]}).to_zarr(path, consolidated=False),
        ),
        "is there and is not the store of a sweep",
    ),
    "an array": (lambda path: (shutil.rmtree(path), zarr.save_array(path, np.ones(3))), "is not the store"),
    "a newer format": (
        lambda path: edit(path, lambda kept: kept.update(format=3)),
        r"written by a newer jaxreg \(format 3, this one reads up to 2\): upgrade jaxreg",
    ),
    "no format": (lambda path: edit(path, lambda kept: kept.pop("format")), "is not the store"),
    "a format in words": (lambda path: edit(path, lambda kept: kept.update(format="new")), "run.zarr"),
    "cut short": (lambda path: cut_short(path / "zarr.json"), "is not the store"),
    "empty zarr.json": (lambda path: (path / "zarr.json").write_text(""), "is not the store"),
    "no zarr.json": (lambda path: (path / "zarr.json").unlink(), "is not the store"),
    "no block": (lambda path: edit(path, lambda kept: kept.pop("block")), "run.zarr"),
    "no axes": (lambda path: edit(path, lambda kept: kept.pop("axes")), "run.zarr"),
    "an axis cut short": (lambda path: cut_short(path / "lam" / "c" / "0"), "run.zarr"),
}  # fmt: skip


def assert_left_alone(path, theirs, kind, call):
    """The call refuses a store that was changed so, and no byte of it changes."""
    path.parent.mkdir()
    shutil.copytree(theirs[0], path)
    change, match = NOT_OURS[kind]
    change(path)
    before = digest(path.parent)
    with pytest.raises(ValueError, match=match):
        call(path)
    assert digest(path.parent) == before


@pytest.mark.parametrize("kind", list(NOT_OURS))
def test_what_is_not_a_store_of_ours_is_left_alone(path, theirs, kind):
    assert_left_alone(path, theirs, kind, lambda path: swept(path, fn=PLAIN))


@pytest.mark.parametrize("kind", [k for k in NOT_OURS if k not in ("no block", "no axes")])
def test_and_not_opened(path, theirs, kind):
    assert_left_alone(path, theirs, kind, open_store)


def test_folders_beside_it_that_look_alike_are_left_alone(path):
    theirs = [path.with_name(name) for name in ("run.zarr.backup.new", "run.zarr.1.new.old", "other.1.new")]
    for folder in theirs:
        folder.mkdir(parents=True)
    stale = path.with_name("run.zarr.1.new")
    stale.mkdir()
    swept(path)
    assert all(folder.exists() for folder in theirs) and not stale.exists()


# ---------------------------------------------------------------- packages that are not there


@pytest.mark.parametrize("package", ["zarr", "filelock"])
def test_what_is_not_installed_is_named(path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError, match=rf"a store on disk needs {package}: pip install 'jaxreg\[\w+\]'"
    ) as error:
        swept(path)
    extra = str(error.value).rpartition("[")[2].rstrip("]'")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(line.startswith(package) for line in extras[extra])
    assert not path.exists()
