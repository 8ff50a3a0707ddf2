"""Stores: contents for any names and devices, and repeated calls."""

import json
import os
import pathlib
import shutil
import sys
import warnings
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
import zarr

import jaxreg as jr
from jaxreg.sweeps import open_store
from tests.members import devices
from tests.sweeps.stores import AXES, LAMS, digest, finished, results, swept

RUNNER = sys.modules["jaxreg.sweeps._runner"]


def test_it_is_the_dataset_of_memory(path):
    memory, stored = swept(), swept(path)
    xarray.testing.assert_identical(stored, memory)
    assert {n: v.dtype for n, v in stored.variables.items()} == {
        n: v.dtype for n, v in memory.variables.items()
    }
    assert memory["zeros"].dtype == np.int64 and memory["deep/on"].dtype == bool
    assert os.listdir(path.parent) == ["run.zarr"]
    assert digest(path.parent) == finished()[0]


def test_single_precision_is_stored(path):
    """As in memory, also by a call that computes nothing."""

    def fn(lam, seed):
        w = jr.L1(lam).prox(jax.random.normal(jax.random.key(seed), (3,)), 1.0)
        return {"w": w, "product": jnp.sum(jnp.arange(12.0).reshape(4, 3) @ w), "n": jnp.sum(w > 0)}

    with jax.enable_x64(False):
        memory = swept(fn=fn)
        for _ in range(2):
            xarray.testing.assert_identical(swept(path, fn=fn), memory)
    assert memory.w.dtype == np.float32 and memory.n.dtype == np.int32 and memory.lam.dtype == np.float64


def test_results_are_read_when_they_are_used(path):
    stored = swept(path)
    assert not any(result.variable._in_memory for result in stored.data_vars.values())
    zarr.open_group(path)["w"][...] = 3.0
    assert (stored.w == 3.0).all()


@pytest.mark.parametrize("options", [{}, {"chunks": None}], ids=["as it is", "without dask"])
def test_xarray_alone_opens_it(path, options):
    swept(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xarray.open_zarr(path, **options)
        lane = data.sel(lam=LAMS[2], seed=1)
    np.testing.assert_array_equal(data.lam, LAMS)
    np.testing.assert_array_equal(lane.w, finished()[1].w[2, 1])
    assert set(data.coords) == {"lam", "seed", "lane_status"} and data.w.dims == ("lam", "seed", "w_0", "w_1")
    assert data.lane_status.attrs["flag_meanings"] == "not_run finite not_finite"


def test_axes_keep_their_order(path):
    """That of the call, not that of the alphabet."""
    fn = lambda lam, seed: {"w": lam * jnp.arange(2) + seed, "a": seed}  # noqa: E731
    call = lambda store=None: jr.sweep(fn, seed=range(3), lam=LAMS, store=store)  # noqa: E731
    for _ in range(2):
        stored = call(path)
        xarray.testing.assert_identical(stored, call())
        assert stored.w.dims[:2] == ("seed", "lam")


def test_results_keep_their_order(path):
    Both = namedtuple("Both", ["z", "a"])
    fn = lambda lam, seed: Both(lam, seed)  # noqa: E731
    assert list(swept(path, fn=fn).data_vars) == list(swept(fn=fn).data_vars) == ["z", "a"]


NAMES = [
    "a/b",
    "100%",
    "%2F",
    "κ λ",
    "a b",
    "",
    "c",
    "c/0/0",
    "__x",
    "zarr.json/x",
    "x.lock",
    "A",
    "\\",
    "a:b",
]
NAMES += ["w.npy", "..a", "-", "a" * 80, "a%2Fb", "50%", "λ/ä"]
ODD = [".", "..", "zarr.json", "x.partial", "a" * 300, "λ" * 60]


@pytest.mark.parametrize("name", ["many at once", *ODD], ids=lambda name: name[:12])
def test_any_name_of_a_result(path, name):
    names = NAMES if name == "many at once" else [name]
    fn = lambda lam, seed: {name: lam + k for k, name in enumerate(names)}  # noqa: E731
    for _ in range(2):
        stored = swept(path, fn=fn)
        xarray.testing.assert_identical(stored, swept(fn=fn))
    assert all(found.is_relative_to(path) for found in path.parent.rglob("*"))
    assert {name or "value" for name in names} == set(stored.data_vars)


@pytest.mark.parametrize("name", ["λ", "a/b", "50%", "x y"])
def test_any_name_of_an_axis(path, name):
    axes = {name: [0.1, 0.2]}
    for _ in range(2):
        stored = jr.sweep(lambda **lane: {"w": lane[name] * jnp.arange(2)}, **axes, store=path)
    xarray.testing.assert_identical(
        stored, jr.sweep(lambda **lane: {"w": lane[name] * jnp.arange(2)}, **axes)
    )
    assert stored.w.sel({name: 0.2}).values.tolist() == [0.0, 0.2]


def test_empty_results_and_single_lanes(path):
    fn = lambda lam: {"none": jnp.zeros((0, 3)), "one": lam}  # noqa: E731
    for _ in range(2):
        stored = jr.sweep(fn, lam=[0.5], store=path)
        xarray.testing.assert_identical(stored, jr.sweep(fn, lam=[0.5]))


def test_nothing_is_pickled(path):
    """Only plain numbers, with no codec that runs code; so reading a store of others is safe."""
    swept(path)
    kinds = {"bool", "uint8", "int64", "float16", "float64", "complex128"}
    for meta in path.rglob("zarr.json"):
        read = json.loads(meta.read_text())
        if read["node_type"] == "array":
            assert read["data_type"] in kinds
            assert {codec["name"] for codec in read["codecs"]} <= {"bytes", "zstd", "crc32c"}
    for file in path.rglob("*"):
        assert not (file.is_file() and file.read_bytes()[:1] == b"\x80"), file


def test_a_path_as_text_and_from_here(path, monkeypatch):
    path.parent.mkdir()
    monkeypatch.chdir(path.parent)
    swept("run.zarr")
    assert digest(path.parent) == finished()[0]
    xarray.testing.assert_identical(open_store("run.zarr"), open_store(path))


def test_the_folder_here(path, monkeypatch):
    path.mkdir(parents=True)
    monkeypatch.chdir(path)
    swept(".")
    assert pathlib.Path.cwd() == path
    assert digest(path) == {
        n.removeprefix("run.zarr/"): v for n, v in finished()[0].items() if n != "run.zarr"
    }


def test_an_empty_folder_is_filled(path):
    path.mkdir(parents=True)
    swept(path)
    assert digest(path.parent) == finished()[0]


def test_a_path_with_nothing_there(path):
    with pytest.raises(ValueError, match=r"there is no store .*run\.zarr"):
        open_store(path)
    assert not path.parent.exists()


# ---------------------------------------------------------------- the same call again


def test_again_computes_nothing(path, monkeypatch, written):
    swept(path)
    assert written == list(range(7))
    for name in ("compile_lanes", "free_bytes"):
        monkeypatch.setattr(RUNNER, name, lambda *_, name=name: pytest.fail(f"{name} was called"))
    RUNNER._COMPILED.clear()
    before = digest(path.parent)
    again = swept(path)
    assert len(written) == 7 and digest(path.parent) == before
    xarray.testing.assert_identical(again, finished()[1])


def test_the_word_on_bad_lanes_is_said_again(path):
    for _ in range(2):
        with pytest.warns(UserWarning, match="11 of 21 lanes are not finite") as caught:
            stored = jr.sweep(results, **AXES, store=path, max_lanes=4)
        assert [warning.filename for warning in caught] == [__file__] and stored.attrs["not_finite"] == 11


def test_the_size_of_a_chunk_is_kept(path, monkeypatch):
    """It depends on memory and devices, so the first run settles it."""
    monkeypatch.setattr(RUNNER, "free_bytes", lambda device: 0)
    swept(path, max_lanes=None)
    before = digest(path)
    shutil.rmtree(path / "lane_status" / "c")
    monkeypatch.undo()
    swept(path, max_lanes=None, mesh=devices(1))
    assert digest(path) == before


@pytest.mark.parametrize("count", [1, 3, 4])
def test_devices_change_no_byte(path, count):
    swept(path, mesh=devices(count))
    assert digest(path.parent) == finished()[0]


def test_devices_change_no_byte_of_boxes_that_stick_out(tmp_path):
    """Of two seeds in a grid of three."""
    memory = swept(max_lanes=2)
    stores = [tmp_path / str(count) / "run.zarr" for count in (1, 3, 4)]
    for store, count in zip(stores, (1, 3, 4), strict=True):
        xarray.testing.assert_identical(swept(store, max_lanes=2, mesh=devices(count)), memory)
    assert digest(stores[0].parent) == digest(stores[1].parent) == digest(stores[2].parent)
