"""What a store promises where a process dies, a disk fills up, two want the same folder, or names are odd."""

import errno
import functools
import hashlib
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from collections import namedtuple

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
import zarr
from jax.sharding import Mesh

import jaxreg as jr
from jaxreg.sweeps import open_store
from jaxreg.sweeps import store as the_module
from jaxreg.sweeps._program import Program
from jaxreg.sweeps.store import Zarr

ROOT = pathlib.Path(__file__).parents[2]
SWEEP = sys.modules["jaxreg.sweeps.sweep"]
LAMS = np.geomspace(0.01, 1.0, 7)
AXES = {"lam": LAMS, "seed": range(3)}
DATA = np.linspace(-1.0, 1.0, 6).reshape(2, 3)


def results(lam, seed):
    """Elementwise and in every kind of dtype; one lane is not finite, some boxes are all 0 or NaN."""
    w = jnp.cos(seed * 2.0 + DATA) * lam
    return {
        "w": w,
        "deep": {"bias": jnp.where((lam > 0.3) & (seed == 1), jnp.inf, lam), "on": w[0] > 0.01},
        "zeros": 0 * seed,
        "never": jnp.where(lam > 0.05, lam, jnp.nan) * (1 + 1j),
        "half": lam.astype(jnp.float16),
    }


def swept(store=None, fn=results, max_lanes=4, **given):
    """The sweep of most tests: 7 boxes of one λ and 3 seeds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*lanes are not finite")
        return jr.sweep(fn, store=store, max_lanes=max_lanes, **({**AXES, **given}))


def devices(count):
    """A mesh of the first few devices."""
    return Mesh(np.array(jax.devices()[:count]), ("lanes",))


def digest(folder):
    """Everything in a folder: names, and what files hold."""
    found = {}
    for path in sorted(pathlib.Path(folder).rglob("*")):
        held = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        found[path.relative_to(folder).as_posix()] = held
    return found


@pytest.fixture
def path(tmp_path):
    """Where the store goes; its folder holds nothing else."""
    return tmp_path / "stores" / "run.zarr"


@functools.cache
def finished():
    """The bytes of a store that was never disturbed, and its dataset."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        data = swept(pathlib.Path(folder) / "run.zarr").load()
        return digest(folder), data


@pytest.fixture
def written(monkeypatch):
    """The numbers of the boxes that are written, in turn."""
    seen, write = [], Zarr.write

    def noted(self, k, values):
        write(self, k, values)
        seen.append(k)

    monkeypatch.setattr(Zarr, "write", noted)
    return seen


def at_box(number, happens):
    """`Zarr.write`, but something happens before the box of this number."""
    write = Zarr.write

    def patched(self, k, values):
        if k == number:
            happens()
        write(self, k, values)

    return patched


# ---------------------------------------------------------------- what it holds


def test_it_is_the_dataset_of_memory(path):
    memory, stored = swept(), swept(path)
    xarray.testing.assert_identical(stored, memory)
    assert {n: v.dtype for n, v in stored.variables.items()} == {
        n: v.dtype for n, v in memory.variables.items()
    }
    assert memory["zeros"].dtype == np.int64 and memory["deep/on"].dtype == bool
    assert os.listdir(path.parent) == ["run.zarr"]
    assert digest(path.parent) == finished()[0]


def test_results_are_read_when_they_are_used(path):
    stored = swept(path)
    assert not any(
        variable._in_memory for variable in stored.data_vars.values() for variable in [variable.variable]
    )
    zarr.open_group(path)["w"][...] = 3.0
    assert (stored.w == 3.0).all()


def test_xarray_alone_opens_it(path):
    swept(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xarray.open_zarr(path)
        lane = data.sel(lam=LAMS[2], seed=1)
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
NAMES += ["w.npy", "..a", "-", "a" * 80]
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
            assert {codec["name"] for codec in read["codecs"]} <= {"bytes", "zstd"}
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
        monkeypatch.setattr(SWEEP, name, lambda *_, name=name: pytest.fail(f"{name} was called"))
    SWEEP._COMPILED.clear()
    before = digest(path.parent)
    again = swept(path)
    assert len(written) == 7 and digest(path.parent) == before
    xarray.testing.assert_identical(again, finished()[1])


def test_the_word_on_bad_lanes_is_said_again(path):
    swept(path)
    with pytest.warns(UserWarning, match="11 of 21 lanes are not finite") as caught:
        jr.sweep(results, **AXES, store=path, max_lanes=4)
    assert [warning.filename for warning in caught] == [__file__]


def test_the_size_of_a_chunk_is_kept(path, monkeypatch):
    """It depends on memory and devices, so the first run settles it."""
    monkeypatch.setattr(SWEEP, "free_bytes", lambda device: 0)
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


# ---------------------------------------------------------------- killed


def child(call, seed, count):
    """A Python process that runs a function of this file, with its own hash seed and number of devices."""
    env = {"PYTHONHASHSEED": str(seed), "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
    code = f"from tests.sweeps import test_store_laws as t; t.{call}"
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | env | {"JAX_ENABLE_X64": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def dies(store, where):
    """Runs the sweep and is killed on the way: what no process can prepare for."""
    replace = pathlib.Path.replace
    if where == "at a box":
        Zarr.write = at_box(3, die)
    elif where == "before the mark":
        write = Zarr.write

        def marked(self, k, values):
            if k == 3:
                the_module._status_of = lambda *_: die()
            write(self, k, values)

        Zarr.write = marked
    elif where == "in a file":

        def half(self, target):
            if self.suffix == ".partial" and "/lane_status/c/4/" in str(target):
                self.write_bytes(self.read_bytes()[:5])
                die()
            return replace(self, target)

        pathlib.Path.replace = half
    elif where == "while it is made":
        zarr.consolidate_metadata = lambda *_: die()
    swept(store)


#: Where the process is killed, how many boxes are then done, on how many devices it ran and who goes on.
DEATHS = {
    "at a box": (3, 1, 4),
    "before the mark": (3, 2, 1),
    "in a file": (4, 4, 2),
    "while it is made": (0, 1, 3),
}


@pytest.mark.parametrize("where", list(DEATHS))
def test_killed_and_started_again(path, where, written):
    """Only what is missing runs, on other devices, and the bytes are those of a run nothing disturbed."""
    done, count, others = DEATHS[where]
    process = child(f"dies({str(path)!r}, {where!r})", done, count)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors
    left = {found.name for found in path.parent.iterdir()}
    assert "run.zarr.lock" in left and ("run.zarr" in left) == (where != "while it is made")
    if where == "in a file":
        assert list(path.rglob("*.partial"))
    if done:
        data = open_store(path)
        assert data.attrs["done"] == 3 * done
        whole = finished()[1].isel(lam=slice(done))
        assert all(data[n].isel(lam=slice(done)).identical(whole[n]) for n in whole.data_vars)
        assert (data.lane_status[done:] == 0).all() and (data.half[done + 1 :].isnull()).all()
    swept(path, mesh=devices(others))
    assert written == list(range(done, 7))
    assert digest(path.parent) == finished()[0]


def test_a_process_of_its_own_gives_the_same_bytes(path):
    """With one device and another hash seed."""
    process = child(f"swept({str(path)!r})", 12345, 1)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert digest(path.parent) == finished()[0]


def test_what_a_dead_process_left_is_cleared(path):
    swept(path)
    for folder in (path, path / "w" / "c", path / "lam"):
        (folder / "0.d41d8cd98f00b204.partial").write_bytes(b"half")
    swept(path)
    assert digest(path.parent) == finished()[0]


# ---------------------------------------------------------------- two at once


def holds(store):
    """Runs the sweep and stops at a box, with the lock held."""

    def wait():
        print("here", flush=True)
        sys.stdin.read()

    Zarr.write = at_box(2, wait)
    swept(store)


def test_the_second_process_is_refused_and_may_read(path, written):
    process = child(f"holds({str(path)!r})", 0, 1)
    try:
        assert process.stdout.readline() == "here\n", process.stderr.read()
        with pytest.raises(
            RuntimeError, match=r"another process works on .*run\.zarr.*run\.zarr\.lock.*another store"
        ):
            swept(path)
        meanwhile = open_store(path)
        assert meanwhile.attrs["done"] == 6 and not written
        np.testing.assert_array_equal(meanwhile.w[:2], finished()[1].w[:2])
    finally:
        process.kill()
        process.communicate()
    swept(path)
    assert written == [2, 3, 4, 5, 6] and digest(path.parent) == finished()[0]


def test_the_second_sweep_of_one_process_is_refused_too(path, monkeypatch):
    said = []

    def second():
        with pytest.raises(RuntimeError) as error:
            swept(path)
        said.append(str(error.value))

    monkeypatch.setattr(Zarr, "write", at_box(2, second))
    swept(path)
    assert len(said) == 1 and digest(path.parent) == finished()[0]


def test_a_lock_is_never_taken_from_its_next_holder(path, monkeypatch):
    """Its file is removed while it is held: later it may be that of another process."""
    lock, unlink, taken = path.with_name("run.zarr.lock"), os.unlink, []

    def noted(file, *given, **more):
        if pathlib.Path(file) == lock:
            try:
                filelock.FileLock(lock).acquire(timeout=0).lock.release()
                taken.append(True)
            except filelock.Timeout:
                taken.append(False)
        unlink(file, *given, **more)

    monkeypatch.setattr(os, "unlink", noted)
    with the_module.locked(path):
        pass
    assert taken == [False] and not lock.exists()


# ---------------------------------------------------------------- stopped, and disks that are full


def test_stopped_by_hand(path, monkeypatch, written):
    """A real SIGINT, as Ctrl-C sends it."""
    monkeypatch.setattr(Zarr, "write", at_box(3, lambda: signal.raise_signal(signal.SIGINT)))
    match = r"stopped with 9 of 21 lanes done, kept in .*run\.zarr: the same call goes on from there"
    with pytest.raises(KeyboardInterrupt, match=match):
        swept(path)
    monkeypatch.undo()
    assert open_store(path).attrs == {"lanes": 21, "done": 9, "not_finite": 9}
    swept(path)
    assert digest(path.parent) == finished()[0]


@pytest.mark.parametrize(
    ("number", "match"),
    [
        (
            errno.ENOSPC,
            "no room to write to .*: make room and call the same sweep again, what is stored stays",
        ),
        (errno.EDQUOT, "no room to write to"),
        (errno.EIO, r"cannot write to .*run\.zarr \(broken\): what is stored stays"),
    ],
)
@pytest.mark.parametrize("array", ["w", "deep%2Fbias", "lane_status"])
def test_a_write_that_fails(path, monkeypatch, number, match, array):
    """Wherever in a box it fails, the store can be read and the same call goes on."""
    put, count = zarr.Array.__setitem__, []

    def full(self, *given):
        count.append(self.basename)
        if count.count(array) == 4 and self.basename == array:
            raise OSError(number, "broken")
        put(self, *given)

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(OSError, match=match) as error:
        swept(path)
    assert error.value.errno == number
    monkeypatch.undo()
    assert open_store(path).attrs["done"] == 9
    swept(path)
    assert digest(path.parent) == finished()[0]


def noise(lam, seed):
    return {"small": lam, "large": jax.random.normal(jax.random.key(seed), (3000,)) * lam}


def test_a_disk_that_is_really_full(path, tmp_path, monkeypatch):
    """The kernel refuses to write more of a file than so much."""
    write, (soft, hard) = Zarr.write, resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(self, k, values):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000 if k == 2 else soft, hard))
        try:
            write(self, k, values)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(Zarr, "write", limited)
    with pytest.raises(OSError, match="no room to write to"):
        swept(path, fn=noise)
    monkeypatch.undo()
    stored = open_store(path)
    assert stored.attrs["done"] == 6 and np.isfinite(stored.large[:2]).all()
    swept(path, fn=noise)
    swept(tmp_path / "whole" / "run.zarr", fn=noise)
    assert digest(path.parent) == digest(tmp_path / "whole")


def test_a_disk_that_is_full_at_the_start(path, monkeypatch):
    def full(*given, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr.Group, "create_array", full)
    with pytest.raises(OSError, match="no room to write to"):
        swept(path)
    assert os.listdir(path.parent) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*run\.zarr \(.*\)"):
        swept(tmp_path / "file" / "run.zarr")


# ---------------------------------------------------------------- refused


def scaled(factor, of=results):
    """The same sweep with other data in it."""
    return lambda lam, seed: {n: (v * factor if n == "w" else v) for n, v in of(lam, seed).items()}


PLAIN = scaled(np.full((2, 3), 2.0))
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


def with_constant(c):
    """Functions that hold a constant at every depth."""
    total = lambda lam: jnp.sum(jnp.sin(c * lam))  # noqa: E731
    key = jax.random.key(int((c[0] - 1) * 2**52))
    return {
        "plain": total,
        "jit": jax.jit(total),
        "jit in jit": lambda lam: jax.jit(jax.jit(total))(lam),
        "scan": lambda lam: jax.lax.scan(lambda a, _: (a + total(a), None), lam, length=2)[0],
        "jit in scan": lambda lam: jax.lax.scan(jax.jit(lambda a, _: (a + total(a), None)), lam, length=2)[0],
        "while": lambda lam: jax.lax.while_loop(lambda a: total(a) < 0, lambda a: a + 1, lam),
        "cond": lambda lam: jax.lax.cond(lam > 0, jax.jit(total), lambda x: x, lam),
        "grad": lambda lam: jax.grad(total)(lam),
        "vmap": lambda lam: jax.vmap(jax.jit(total))(lam * jnp.ones(2)),
        "custom derivative": lambda lam: jax.nn.relu(total(lam)),
        "single number": lambda lam: lam * c[0],
        "key": lambda lam: lam * jax.random.normal(key),
        "axis of a sum": lambda lam: jnp.sum(lam * jnp.ones((2, 2)), axis=int(c[0] > 1)),
    }


NEAR = np.array([1.0, np.nextafter(1.0, 2.0)])


@pytest.mark.parametrize("depth", list(with_constant(NEAR)))
def test_every_constant_is_in_the_fingerprint(depth):
    """Down to its last bit."""

    def fingerprint(c):
        found = Program(with_constant(c)[depth], {"lam": np.array([0.1])}).fingerprint
        return found() if callable(found) else found

    assert fingerprint(NEAR) == fingerprint(NEAR.copy()) != fingerprint(NEAR[::-1].copy())


def prints():
    """The fingerprints of many functions."""
    table = with_constant(NEAR)
    found = [Program(fn, {"lam": np.array([0.1])}).fingerprint for fn in table.values()]
    print([f() if callable(f) else f for f in found])


def test_fingerprints_are_those_of_other_processes(capsys):
    processes = [child("prints()", seed, 1) for seed in (1, 2)]
    texts = [process.communicate(timeout=120) for process in processes]
    prints()
    assert texts[0][0] == texts[1][0] == capsys.readouterr().out, texts[0][1]


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
    "a file": (lambda path: (shutil.rmtree(path), path.write_text("mine")), "is not the store of a sweep"),
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
        "is not the store of a sweep",
    ),
    "an array": (lambda path: (shutil.rmtree(path), zarr.save_array(path, np.ones(3))), "is not the store"),
    "a newer format": (
        lambda path: edit(path, lambda kept: kept.update(format=2)),
        r"written by a newer jaxreg \(format 2, this one reads up to 1\): upgrade jaxreg",
    ),
    "no format": (lambda path: edit(path, lambda kept: kept.pop("format")), "is not the store"),
    "a format in words": (lambda path: edit(path, lambda kept: kept.update(format="new")), "run.zarr"),
    "cut short": (lambda path: cut_short(path / "zarr.json"), "is not the store"),
    "empty zarr.json": (lambda path: (path / "zarr.json").write_text(""), "is not the store"),
    "no zarr.json": (lambda path: (path / "zarr.json").unlink(), "is not the store"),
    "no block": (lambda path: edit(path, lambda kept: kept.pop("block")), "run.zarr"),
    "no axes": (lambda path: edit(path, lambda kept: kept.pop("axes")), "run.zarr"),
    "an axis cut short": (lambda path: cut_short(path / "lam" / "c" / "0"), "run.zarr"),
    "a mark cut short": (lambda path: cut_short(path / "lane_status" / "c" / "1" / "0"), "run.zarr"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(NOT_OURS))
def test_what_is_not_a_store_of_ours_is_left_alone(path, theirs, kind):
    path.parent.mkdir()
    shutil.copytree(theirs[0], path)
    change, match = NOT_OURS[kind]
    change(path)
    before = digest(path.parent)
    with pytest.raises(ValueError, match=match):
        swept(path, fn=PLAIN)
    assert digest(path.parent) == before


@pytest.mark.parametrize("kind", [k for k in NOT_OURS if k not in ("no block", "no axes")])
def test_and_not_opened(path, theirs, kind):
    path.parent.mkdir()
    shutil.copytree(theirs[0], path)
    change, match = NOT_OURS[kind]
    change(path)
    with pytest.raises(ValueError, match=match):
        open_store(path)


@pytest.mark.parametrize("package", ["zarr", "filelock"])
def test_what_is_not_installed_is_named(path, monkeypatch, package):
    import tomllib

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError, match=rf'a store on disk needs {package}: pip install "jaxreg\[\w+\]"'
    ) as error:
        swept(path)
    extra = str(error.value).rpartition("[")[2].rstrip(']"')
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(line.startswith(package) for line in extras[extra])
