"""A sweep's store: the same numbers as in memory, the same bytes after a death, others' files untouched."""

import errno
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
import zarr
from filelock import FileLock
from jax.sharding import Mesh

import jaxreg as jr
from jaxreg.sweeps import _program, store

LAMS, SEEDS = np.geomspace(0.01, 1.0, 5), range(3)
X = jnp.arange(12.0).reshape(4, 3)

PROGRAM = """
import os, signal, sys
import jax, jax.numpy as jnp, numpy as np
import jaxreg as jr
from jaxreg.sweeps import store
X = jnp.arange(12.0).reshape(4, 3)

def fn(lam, seed):
    w = jax.random.normal(jax.random.key(seed), (3,))
    return {"w": jr.L1(lam).prox(w, 1.0), "net/b": jnp.sum(X @ w)}

path, end, at = sys.argv[1:]
count = 0
real = store.Zarr.write
def write(self, k, values):
    global count
    count += 1
    if end == "before" and count == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "between" and count == int(at):
        store._status_of = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    real(self, k, values)
store.Zarr.write = write
jr.sweep(fn, lam=np.geomspace(0.01, 1.0, 5), seed=range(3), store=path, max_lanes=3)
print(count)
"""


def fn(lam, seed):
    w = jax.random.normal(jax.random.key(seed), (3,))
    return {"w": jr.L1(lam).prox(w, 1.0), "net/b": jnp.sum(X @ w)}


def sweep(path=None, function=fn, lam=LAMS, **more):
    return jr.sweep(function, lam=lam, seed=SEEDS, store=path, **{"max_lanes": 3, **more})


def run(path, end="never", at=0, **environment):
    """The same sweep in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), end, str(at)],
        env={**os.environ, "XLA_FLAGS": "", "JAX_ENABLE_X64": "0", **environment},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def digest(path):
    """Names and bytes of every file below a folder."""
    files = sorted(file for file in pathlib.Path(path).rglob("*") if file.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "run.zarr"


# ---------------------------------------------------------------- what is in it


def test_it_holds_what_a_sweep_in_memory_gives(path):
    found = sweep(path)
    xarray.testing.assert_identical(found.load(), sweep())
    assert sorted(file.name for file in path.parent.iterdir()) == ["run.zarr"]


def test_it_reads_from_disk_when_it_is_used(path):
    found = sweep(path)
    assert not found["w"].variable._in_memory
    zarr.open_group(path)["w"][...] = 7.0
    assert (found["w"] == 7.0).all()


def test_xarray_opens_it_without_a_word(path):
    sweep(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        there = xarray.open_zarr(path, chunks=None)
    assert there["w"].dims == ("lam", "seed", "w_0") and "lane_status" in there.coords
    np.testing.assert_array_equal(there.lam, LAMS)


def test_odd_names_come_back(path):
    def odd(lam, seed):
        return {"a/b": lam, "50%": lam, "λ": {"ä": lam}, "a%2Fb": lam}

    found = sweep(path, odd)
    assert set(found.data_vars) == {"a/b", "50%", "λ/ä", "a%2Fb"}
    xarray.testing.assert_identical(found.load(), sweep(function=odd))


def test_nothing_is_pickled(path):
    sweep(path)
    assert all(array.dtype.kind in "biufc" for _, array in zarr.open_group(path).arrays())
    assert not any(file.read_bytes().startswith(b"\x80") for file in path.rglob("*") if file.is_file())


def test_lanes_that_are_not_finite_are_counted_again(path):
    function = lambda lam, seed: jnp.where(seed == 1, jnp.inf, lam)  # noqa: E731
    for _ in range(2):
        with pytest.warns(UserWarning, match="5 of 15 lanes are not finite"):
            assert sweep(path, function).attrs["not_finite"] == 5


# ---------------------------------------------------------------- again, and after a death


def test_the_same_call_again_computes_nothing(path):
    sweep(path)
    before = digest(path)
    kept = []
    real = store.Zarr.write
    try:
        store.Zarr.write = lambda self, k, values: kept.append(k)
        sweep(path)
    finally:
        store.Zarr.write = real
    assert not kept and digest(path) == before


@pytest.mark.parametrize("end, at", [("before", 1), ("before", 3), ("between", 2)])
def test_a_killed_sweep_goes_on_to_the_same_bytes(path, tmp_path, end, at):
    whole = tmp_path / "whole.zarr"
    assert run(whole).stdout.strip() == "5"
    killed = run(path, end, at)
    assert killed.returncode == -signal.SIGKILL
    assert jr.sweeps.open_store(path).attrs["done"] == 3 * (at - 1)
    (path / "w" / "x.partial").write_bytes(b"half")
    again = run(path, PYTHONHASHSEED="7")
    assert again.stdout.strip() == str(5 - (at - 1)), again.stderr
    assert digest(path) == digest(whole)
    assert not [file.name for file in path.parent.iterdir() if file.name.startswith("run.zarr.")]


def test_devices_do_not_change_the_bytes(path, tmp_path):
    meshes = [Mesh(np.array(jax.devices()[:n]), ("d",)) for n in (1, 4, 3)]
    for k, mesh in enumerate(meshes):
        sweep(tmp_path / f"{k}.zarr", mesh=mesh, max_lanes=2)
    assert digest(tmp_path / "0.zarr") == digest(tmp_path / "1.zarr") == digest(tmp_path / "2.zarr")


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_what_was_done_stays_and_the_rest_follows(path, failure, monkeypatch):
    real, count = zarr.Array.__setitem__, []

    def write(self, *args):
        count.append(self.name)
        if count.count("/w") == 3:
            raise failure
        real(self, *args)

    monkeypatch.setattr(zarr.Array, "__setitem__", write)
    said = "6 of 15 lanes done, kept in" if isinstance(failure, KeyboardInterrupt) else "no room to write"
    with pytest.raises(type(failure), match=said):
        sweep(path)
    monkeypatch.undo()
    assert jr.sweeps.open_store(path).attrs["done"] == 6
    xarray.testing.assert_identical(sweep(path).load(), sweep())


def test_a_disk_that_is_full_from_the_start_leaves_nothing(path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(zarr, "create_group", refuse)
    with pytest.raises(OSError, match="no room to write"):
        sweep(path)
    assert list(path.parent.iterdir()) == []


# ---------------------------------------------------------------- what is refused


def other(lam, seed):
    return {"w": jr.L1(lam).prox(jax.random.normal(jax.random.key(seed), (3,)), 2.0), "net/b": 0.0 * lam}


OTHERS = {
    "its axis lam is": dict(lam=LAMS * 2),
    "its axes are lam, seed, here they are lam, seed, fold": dict(
        fold=[0], function=lambda lam, seed, fold: lam
    ),
    "its results are": dict(function=lambda lam, seed: {"w": lam}),
    "computes something else": dict(function=other),
    "its max lanes is 3, here it is 4": dict(max_lanes=4),
}


@pytest.mark.parametrize("said", OTHERS)
def test_another_sweep_is_refused_with_what_differs(path, said):
    sweep(path)
    before = digest(path)
    with pytest.raises(ValueError, match=said):
        sweep(path, **OTHERS[said])
    assert digest(path) == before


def test_other_data_and_other_precision_are_refused(path, monkeypatch):
    sweep(path)
    monkeypatch.setattr(sys.modules[__name__], "X", X.at[0, 0].add(1e-9))
    with pytest.raises(ValueError, match="closes over other data"):
        sweep(path)
    monkeypatch.undo()
    with jax.default_matmul_precision("highest"), pytest.raises(ValueError, match="matmul precision"):
        sweep(path)


@pytest.mark.parametrize("nested", ["plain", "jit", "scan"])
def test_the_fingerprint_sees_every_constant(nested):
    def made(constant):
        inner = lambda x: jnp.sum(constant * x)  # noqa: E731
        if nested == "jit":
            return jax.jit(inner)
        if nested == "scan":
            return lambda x: jax.lax.scan(lambda c, _: (c + inner(x), None), 0.0, length=2)[0]
        return inner

    prints = [
        _program.Program(made(np.array([1.0, last])), {"x": np.array([1.0])}).fingerprint
        for last in (2.0, 2.0, 3.0)
    ]
    assert prints[0] == prints[1] != prints[2]


def damage(path):
    (path / "zarr.json").write_text("{")


def newer(path):
    meta = json.loads((path / "zarr.json").read_text())
    kept = json.loads(meta["attributes"]["jaxreg_sweep"])
    meta["attributes"]["jaxreg_sweep"] = json.dumps({**kept, "format": 99})
    (path / "zarr.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("change, said", [(damage, "is not the store"), (newer, "newer jaxreg .format 99")])
def test_a_store_that_cannot_be_read_is_left_alone(path, change, said):
    sweep(path)
    change(path)
    before = digest(path)
    for call in (lambda: sweep(path), lambda: jr.sweeps.open_store(path)):
        with pytest.raises(ValueError, match=said):
            call()
    assert digest(path) == before


@pytest.mark.parametrize("kind", ["file", "folder", "group"])
def test_what_is_not_ours_is_left_alone(tmp_path, kind):
    path = tmp_path / "theirs"
    if kind == "file":
        path.write_text("data")
    elif kind == "folder":
        path.mkdir()
        (path / "thesis.txt").write_text("data")
    else:
        zarr.create_group(path).create_array("w", shape=(3,), dtype="f4")
    before = digest(tmp_path)
    with pytest.raises(ValueError, match="is there and is not the store of a sweep"):
        sweep(path)
    assert digest(tmp_path) == before


def test_an_empty_folder_will_do(path):
    path.mkdir(parents=True)
    assert sweep(path).attrs["done"] == 15


def test_folders_beside_it_that_look_alike_are_left_alone(path):
    theirs = [path.with_name(name) for name in ("run.zarr.backup.new", "run.zarr.1.new.old", "other.1.new")]
    for folder in theirs:
        folder.mkdir(parents=True)
    stale = path.with_name("run.zarr.1.new")
    stale.mkdir()
    sweep(path)
    assert all(folder.exists() for folder in theirs) and not stale.exists()


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no store"):
        jr.sweeps.open_store(tmp_path / "nothing")


def test_two_at_once_are_refused_and_reading_goes_on(path):
    sweep(path)
    lock = path.with_name(path.name + ".lock")
    with FileLock(lock):
        second = run(path)
        assert second.returncode == 1 and "another process works on" in second.stderr.splitlines()[-1]
        assert jr.sweeps.open_store(path).attrs["done"] == 15


def test_without_zarr_the_error_gives_the_line(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "filelock", None)
    with pytest.raises(ImportError, match='pip install "jaxreg'):
        sweep(path)
    assert not path.exists()
