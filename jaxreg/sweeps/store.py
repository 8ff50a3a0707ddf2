"""Where the results of a sweep are kept: in memory, or in a zarr store that survives being killed.

A store has one array per result, chunked by the boxes of lanes, a coordinate per axis, and `lane_status` (0
not run, 1 finite, 2 not finite), whose box is written after the results of that box: what is marked is
complete. Every file is written beside its place and moved there, so a process that dies leaves what was
stored readable. Every chunk of a marked box is a file, also where all its values are equal, and ends with its
checksum: lost and damaged chunks are told from those that were never written, and computed again.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.sweeps._blocks import Blocks, cut
from jaxreg.sweeps._chunks import Refusal, check_axes, check_present, discard_damaged, file_name
from jaxreg.sweeps._program import dims_of

__all__ = ["Memory", "Plan", "Zarr", "locked", "open_store"]

FORMAT = 2
_FIRST_WITH_CHECKSUMS = 2
NOT_RUN, FINITE, NOT_FINITE = 0, 1, 2
_STATUS = {
    "flag_values": [NOT_RUN, FINITE, NOT_FINITE],
    "flag_meanings": "not_run finite not_finite",
    "long_name": "whether the lane has run, and whether all its results are finite",
}


class Plan:
    """What a sweep is: its axes, its results, the order of its axes from slow to fast, and its identity."""

    def __init__(
        self,
        axes: dict[str, np.ndarray],
        results: dict[str, tuple[tuple[int, ...], np.dtype]],
        identity: dict[str, Any],
    ) -> None:
        self.axes, self.results, self.identity = axes, results, identity
        self.sizes = tuple(values.size for values in axes.values())
        floats = [values.dtype.kind == "f" for values in axes.values()]
        self.slow_first = sorted(range(len(axes)), key=lambda a: not floats[a])

    def dims(self, name: str) -> tuple[str, ...]:
        """The dimensions of a result: the axes, then its own."""
        return (*self.axes, *dims_of(name, self.results[name][0]))

    def blocks(self, limit: int) -> Blocks:
        """The boxes of at most `limit` lanes."""
        return cut(self.sizes, self.slow_first, limit)


class Memory:
    """Results as NumPy arrays."""

    def __init__(self, plan: Plan, blocks: Blocks) -> None:
        self.plan, self.blocks = plan, blocks
        self.status = np.zeros(plan.sizes, np.uint8)
        self.arrays = {
            name: np.zeros(plan.sizes + shape, dtype) for name, (shape, dtype) in plan.results.items()
        }

    def missing(self) -> list[int]:
        """The boxes that have not run."""
        return list(range(len(self.blocks)))

    def write(self, k: int, values: Sequence[np.ndarray]) -> None:
        """Keep the results of box k, one row per lane."""
        region = self.blocks.region(k)
        boxes = [self.blocks.inside(k, value) for value in values]
        for array, box in zip(self.arrays.values(), boxes, strict=True):
            array[region] = box
        self.status[region] = _status_of(boxes, len(self.plan.sizes))

    def dataset(self) -> Any:
        """Everything, labelled."""
        import xarray

        data = {name: (self.plan.dims(name), array) for name, array in self.arrays.items()}
        coords = {**self.plan.axes, "lane_status": (tuple(self.plan.axes), self.status, _STATUS)}
        return _counted(xarray.Dataset(data, coords))


class Zarr:
    """Results in a zarr store on disk."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan = path, plan
        self.group: Any = None
        self.blocks: Blocks | None = None
        self.damaged: list[str] = []

    def existing(self) -> bool:
        """Open what is there; False where nothing is. ValueError where it is no store of this sweep.

        `damaged` then names the chunks that were missing or damaged; their boxes are no longer marked.
        """
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return False
        with _intact(self.path):
            self.group, kept = _ours(self.path, "r+")
            if kept["format"] < _FIRST_WITH_CHECKSUMS:
                raise Refusal(
                    f"{self.path} was written by an older jaxreg, without checksums: read it with"
                    " jaxreg.sweeps.open_store, and give this sweep another store"
                )
            differing, block = self._differing(kept), [int(width) for width in kept["block"]]
            for name in ("lane_status", *map(file_name, kept["results"])):
                self.group[name]  # KeyError where it is gone
        if differing:
            raise ValueError(
                f"{self.path} holds another sweep: {'; '.join(differing)}. Give this one another store, or"
                " remove that folder"
            )
        self.blocks = Blocks(self.plan.sizes, block, self.plan.slow_first)
        with _disk(self.path):
            for leftover in self.path.rglob("*.partial"):
                if not leftover.is_dir():
                    leftover.unlink(missing_ok=True)  # of a process that died while it wrote
            self.damaged = discard_damaged(self.path, kept, lambda: self.group["lane_status"][...])
        return True

    def create(self, blocks: Blocks) -> None:
        """An empty store, made beside its place and moved there whole."""
        zarr = _needs("zarr")
        self.blocks = blocks
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        with _disk(self.path):
            made = re.compile(re.escape(self.path.name) + r"\.\d+\.new")
            for leftover in filter(lambda child: made.fullmatch(child.name), self.path.parent.iterdir()):
                shutil.rmtree(leftover, ignore_errors=True)  # of a process that died while it made one
            try:
                group = zarr.create_group(beside, attributes=self._attributes())
                for name, values in self.plan.axes.items():
                    given = {"data": values, "chunks": values.shape, "dimension_names": [file_name(name)]}
                    group.create_array(file_name(name), **given, **_every_chunk_with_checksum())
                for name, (shape, dtype) in self.plan.results.items():
                    dims = (*map(file_name, self.plan.axes), *dims_of(name, shape))
                    self._array(group, name, shape, dtype, dims, {})
                marks = tuple(map(file_name, self.plan.axes))
                self._array(group, "lane_status", (), np.dtype(np.uint8), marks, _STATUS)
                with warnings.catch_warnings():
                    # zarr warns that a table of contents is not in its specification.
                    warnings.simplefilter("ignore")
                    zarr.consolidate_metadata(beside)
                if self.path.exists():  # an empty folder, perhaps the one that the process is in
                    for child in sorted(beside.iterdir(), key=lambda child: child.name == "zarr.json"):
                        child.rename(self.path / child.name)
                else:
                    beside.rename(self.path)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        self.group, _ = _ours(self.path, "r+")

    def missing(self) -> list[int]:
        """The boxes that are not marked as complete."""
        status = self.group["lane_status"][...]
        return [k for k in range(len(self.blocks)) if np.any(status[self.blocks.region(k)] == NOT_RUN)]

    def write(self, k: int, values: Sequence[np.ndarray]) -> None:
        """Write the results of box k, then mark it."""
        region = self.blocks.region(k)
        boxes = [self.blocks.inside(k, value) for value in values]
        # The setting is not part of a store: without it zarr leaves out chunks whose values are all equal.
        with _disk(self.path), _needs("zarr").config.set({"array.write_empty_chunks": True}):
            for name, box in zip(self.plan.results, boxes, strict=True):
                self.group[file_name(name)][region] = box
            self.group["lane_status"][region] = _status_of(boxes, len(self.plan.sizes))

    def dataset(self) -> Any:
        """Everything, labelled, read from disk when it is used."""
        return open_store(self.path)

    def _array(
        self,
        group: Any,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype,
        dims: tuple[str, ...],
        attrs: dict,
    ) -> None:
        group.create_array(
            file_name(name),
            shape=self.plan.sizes + shape,
            dtype=dtype,
            chunks=self.blocks.block + tuple(max(n, 1) for n in shape),
            fill_value=np.array(np.nan if dtype.kind in "fc" else 0, dtype)[()],
            dimension_names=dims,
            attributes=attrs,
            **_every_chunk_with_checksum(),
        )

    def _attributes(self) -> dict[str, Any]:
        kept = {
            "format": FORMAT,
            "block": list(self.blocks.block),
            "results": self._results(),
            **self.plan.identity,
        }
        return {"jaxreg_sweep": json.dumps(kept), "coordinates": "lane_status"}

    def _results(self) -> dict[str, Any]:
        return {name: [list(shape), dtype.str] for name, (shape, dtype) in self.plan.results.items()}

    def _differing(self, kept: dict[str, Any]) -> list[str]:
        """What the stored sweep has otherwise, in words; nothing where it is this one."""
        stored = list(kept["axes"])
        out = []
        if stored != list(self.plan.axes):
            return [f"its axes are {', '.join(stored)}, here they are {', '.join(self.plan.axes)}"]
        for name, values in self.plan.axes.items():
            there = self.group[file_name(name)][...]
            if there.dtype != values.dtype or not np.array_equal(
                there, values, equal_nan=values.dtype.kind == "f"
            ):
                out.append(f"its axis {name} is {_short(there)}, here it is {_short(values)}")
        if kept["results"] != self._results():
            out.append(f"its results are {_named(kept['results'])}, here they are {_named(self._results())}")
        for key, value in self.plan.identity.items():
            if key not in ("axes", "computation") and kept.get(key) != value:
                out.append(f"its {key.replace('_', ' ')} is {kept.get(key)}, here it is {value}")
        if not out and kept["computation"] != self.plan.identity["computation"]:
            out.append("its function computes something else, or closes over other data")
        return out


def open_store(path: str | Path) -> Any:
    """The `xarray.Dataset` of a sweep's store, finished or not, read from disk when it is used.

    Results have one dimension per axis; the coordinate `lane_status` is 0 for lanes that have not run, 1 for
    finite and 2 for non-finite ones. ValueError where the folder is no store of a sweep, or of a newer
    format, where chunks of lanes that have run are missing, and later, when a chunk is read whose bytes are
    not those that were written. Stores of format 1, which have no checksums, are read as they are.
    """
    xarray = _needs("xarray")
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no store {path}: give the folder that jaxreg.sweep(..., store=...) wrote")
    with _intact(path):
        group, kept = _ours(path, "r")
        data = xarray.open_zarr(group.store, chunks=None)
        data = data.rename({file_name(name): name for name in (*kept["axes"], *kept["results"])})
        del data.attrs["jaxreg_sweep"]
        if kept["format"] >= _FIRST_WITH_CHECKSUMS:
            check_present(path, kept, data["lane_status"].values)
        return _counted(data[list(kept["results"])])


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time works on a store; RuntimeError for the second."""
    filelock = _needs("filelock")
    lock = path.with_name(path.name + ".lock")
    with _disk(path):
        lock.parent.mkdir(parents=True, exist_ok=True)
        holder = filelock.FileLock(lock)
        try:
            holder.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RuntimeError(
                f"another process works on {path} (it holds {lock.name}): wait for it, or give this sweep"
                " another store"
            ) from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # while it is held, so that it is never the next holder's
        holder.release()


@contextlib.contextmanager
def _intact(path: Path) -> Iterator[None]:
    """Whatever goes wrong while a store is read, in one sentence."""
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        raise ValueError(f"{path} is damaged and cannot be read ({error}): give another folder") from error


def _ours(path: Path, mode: str) -> tuple[Any, dict[str, Any]]:
    """The zarr group of a store of ours, and what it says of its sweep."""
    zarr = _needs("zarr")
    try:
        group = zarr.open_group(path, mode=mode)
        kept = json.loads(group.attrs["jaxreg_sweep"])
        made = kept["format"]
    except Exception as error:
        raise Refusal(
            f"{path} is there and is not the store of a sweep: give a folder that does not exist yet"
        ) from error
    if made > FORMAT:
        raise Refusal(
            f"{path} was written by a newer jaxreg (format {made}, this one reads up to {FORMAT}): upgrade"
            " jaxreg"
        )
    if made < _FIRST_WITH_CHECKSUMS:
        return group, kept
    check_axes(path, kept)
    from jaxreg.sweeps._checked import CheckedStore

    return zarr.open_group(
        CheckedStore(zarr.storage.LocalStore(path, read_only=mode == "r")), mode=mode
    ), kept


def _every_chunk_with_checksum() -> dict[str, Any]:
    """The settings of an array whose chunks are all written and end with their checksum."""
    codecs = _needs("zarr.codecs")
    return {
        "compressors": [codecs.ZstdCodec(), codecs.Crc32cCodec()],
        "config": {"write_empty_chunks": True},
    }


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Failures of the disk in one sentence."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    try:
        yield
    except OSError as error:
        if error.errno in full:
            text = (
                f"no room to write to {path}: make room and call the same sweep again, what is stored stays"
            )
        else:
            text = f"cannot write to {path} ({error.strerror or error}): what is stored stays"
        raise OSError(error.errno, text) from error


def _status_of(boxes: Sequence[np.ndarray], axes: int) -> np.ndarray:
    """Per lane, whether all its results are finite."""
    fine = np.ones(boxes[0].shape[:axes], bool)
    for box in boxes:
        if box.dtype.kind in "fc":
            fine &= np.isfinite(box).all(axis=tuple(range(axes, box.ndim)))
    return np.where(fine, FINITE, NOT_FINITE).astype(np.uint8)


def _counted(data: Any) -> Any:
    status = data["lane_status"].values
    return data.assign_attrs(
        lanes=int(status.size),
        done=int((status != NOT_RUN).sum()),
        not_finite=int((status == NOT_FINITE).sum()),
    )


def _needs(package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f'a store on disk needs {package}: pip install "jaxreg[cli]"', name=package
        ) from error


def _short(values: np.ndarray) -> str:
    text = np.array2string(values, threshold=4, edgeitems=2, separator=", ")
    return f"{text} ({values.size} of {values.dtype})"


def _named(results: dict[str, Any]) -> str:
    return ", ".join(f"{name} {tuple(shape)} {dtype}" for name, (shape, dtype) in results.items())
