"""Stores of processes that die or are stopped, on full disks, and wanted by two processes."""

import errno
import os
import pathlib
import resource
import signal

import filelock
import jax
import numpy as np
import pytest
import zarr

from jaxreg.sweeps import open_store
from jaxreg.sweeps._disk import locked
from jaxreg.sweeps.store import ZarrStore
from tests.members import devices
from tests.sweeps.stores import at_box, child, digest, finished, swept

# ---------------------------------------------------------------- killed


#: Where the process is killed, how many boxes are then done, on how many devices it ran and who goes on.
DEATHS = {
    "at the first box": (0, 3, 2),
    "at a box": (3, 1, 4),
    "before the mark": (3, 2, 1),
    "in a file": (4, 4, 2),
    "while it is made": (0, 1, 3),
}


@pytest.mark.slow_except("at the first box", "in a file")
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
    if where != "while it is made":
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

    monkeypatch.setattr(ZarrStore, "write", at_box(2, second))
    swept(path)
    assert len(said) == 1 and digest(path.parent) == finished()[0]


def test_a_finished_store_is_locked_too(path):
    swept(path)
    with filelock.FileLock(path.with_name("run.zarr.lock")):
        with pytest.raises(RuntimeError, match="another process works on"):
            swept(path)
        assert open_store(path).attrs["done"] == 21


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
    with locked(path):
        pass
    assert taken == [False] and not lock.exists()


# ---------------------------------------------------------------- stopped, and disks that are full


@pytest.fixture
def interrupt():
    """A real SIGINT, as Ctrl-C sends it, also where the tests run in the background and would ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("where", ["before a box", "inside a box"])
def test_stopped_by_hand(path, monkeypatch, where, interrupt):
    if where == "before a box":
        monkeypatch.setattr(ZarrStore, "write", at_box(3, interrupt))
    else:
        put, count = zarr.Array.__setitem__, []

        def stop(self, *given):
            count.append(self.basename)
            if self.basename == "w" and count.count("w") == 4:
                interrupt()
            put(self, *given)

        monkeypatch.setattr(zarr.Array, "__setitem__", stop)
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
    write, (soft, hard) = ZarrStore.write, resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(self, k, values):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000 if k == 2 else soft, hard))
        try:
            write(self, k, values)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(ZarrStore, "write", limited)
    with pytest.raises(OSError, match="no room to write to"):
        swept(path, fn=noise)
    monkeypatch.undo()
    stored = open_store(path)
    assert stored.attrs["done"] == 6 and np.isfinite(stored.large[:2]).all()
    swept(path, fn=noise)
    swept(tmp_path / "whole" / "run.zarr", fn=noise)
    assert digest(path.parent) == digest(tmp_path / "whole")


@pytest.mark.parametrize(("where", "call"), [(zarr, "create_group"), (zarr.Group, "create_array")])
def test_a_disk_that_is_full_at_the_start(path, monkeypatch, where, call):
    def full(*given, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(where, call, full)
    with pytest.raises(OSError, match="no room to write to"):
        swept(path)
    assert os.listdir(path.parent) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*run\.zarr \(.*\)"):
        swept(tmp_path / "file" / "run.zarr")
