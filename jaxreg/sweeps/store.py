"""Keep the results of a sweep: in memory, or in a zarr store that survives a killed process.

A store has one array per result, chunked by the boxes of lanes, a coordinate per axis, and `lane_status` (0
not run, 1 finite, 2 not finite). The status of a box is written after its results: a box that is marked is
complete. Every file is written beside its place and moved there, so that a process that dies leaves what was
stored readable. Every chunk of a marked box is a file, even where all its values are equal, and ends with its
checksum: lost and damaged chunks differ from chunks that were never written, and are computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxreg._extras import import_extra
from jaxreg.sweeps._blocks import Blocks
from jaxreg.sweeps._chunks import check_present, discard_damaged, file_name
from jaxreg.sweeps._disk import Refusal, explain_damage, explain_disk
from jaxreg.sweeps._group import FIRST_WITH_CHECKSUMS, create_group, open_group
from jaxreg.sweeps._plan import NOT_RUN, STATUS_ATTRIBUTES, Plan, count_lanes, status_of

if TYPE_CHECKING:
    import zarr
    from xarray import Dataset

__all__ = ["MemoryStore", "ZarrStore", "open_store"]


class MemoryStore:
    """Results as NumPy arrays."""

    def __init__(self, plan: Plan, blocks: Blocks) -> None:
        self.plan, self.blocks = plan, blocks
        self.status = np.zeros(plan.sizes, np.uint8)
        self.arrays = {
            name: np.zeros(plan.sizes + form.shape, form.dtype) for name, form in plan.results.items()
        }

    def missing(self) -> list[int]:
        """Return the numbers of the boxes that have not run: all of them."""
        return list(range(len(self.blocks)))

    def write(self, k: int, values: Sequence[np.ndarray]) -> None:
        """Keep the results of box k, one row per lane."""
        region = self.blocks.region(k)
        boxes = [self.blocks.inside(k, value) for value in values]
        for array, box in zip(self.arrays.values(), boxes, strict=True):
            array[region] = box
        self.status[region] = status_of(boxes, len(self.plan.sizes))

    def dataset(self) -> Dataset:
        """Return the results as a labelled `xarray.Dataset`."""
        import xarray

        data = {name: (self.plan.dims(name), array) for name, array in self.arrays.items()}
        status = (tuple(self.plan.axes), self.status, STATUS_ATTRIBUTES)
        return count_lanes(xarray.Dataset(data, {**self.plan.axes, "lane_status": status}))


class ZarrStore:
    """Results in a zarr store on disk, with `arrays` and `blocks` once it is opened or created.

    Attributes:
        damaged: Chunks that were missing or damaged when the store was opened.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan = path, plan
        self.arrays: zarr.Group
        self.blocks: Blocks | None = None
        self.damaged: list[str] = []

    def open(self) -> bool:
        """Open the store and unmark the boxes with damaged chunks; False where there is no store yet.

        Raises:
            ValueError: The folder is no store, or that of another sweep, or cannot be read.
        """
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return False
        with explain_damage(self.path):
            self.arrays, record = open_group(self.path, "r+")
            if record["format"] < FIRST_WITH_CHECKSUMS:
                raise Refusal(
                    f"{self.path} was written by an older jaxreg, without checksums: read it with"
                    " jaxreg.sweeps.open_store, and give this sweep another store"
                )
            labels = {name: self.arrays[file_name(name)][...] for name in record["axes"]}
            differences = self.plan.differences(record, labels)
            block = [int(width) for width in record["block"]]
            for name in ("lane_status", *map(file_name, record["results"])):
                self.arrays[name]  # KeyError where it is lost
        if differences:
            raise ValueError(
                f"{self.path} holds another sweep: {'; '.join(differences)}. Give this one another store, or"
                " remove that folder"
            )
        self.blocks = Blocks(self.plan.sizes, block, self.plan.slow_first)
        with explain_disk(self.path):
            for leftover in self.path.rglob("*.partial"):
                if not leftover.is_dir():
                    leftover.unlink(missing_ok=True)  # of a process that died while it wrote
            self.damaged = discard_damaged(self.path, record, lambda: self.arrays["lane_status"][...])
        return True

    def create(self, blocks: Blocks) -> None:
        """Make an empty store."""
        self.blocks = blocks
        create_group(self.path, self.plan, blocks)
        self.arrays = open_group(self.path, "r+").arrays

    def missing(self) -> list[int]:
        """Return the numbers of the boxes that are not marked as complete."""
        status = self.arrays["lane_status"][...]
        return [k for k in range(len(self.blocks)) if np.any(status[self.blocks.region(k)] == NOT_RUN)]

    def write(self, k: int, values: Sequence[np.ndarray]) -> None:
        """Write the results of box k, one row per lane, then mark it as complete."""
        region = self.blocks.region(k)
        boxes = [self.blocks.inside(k, value) for value in values]
        # A store does not hold this setting: without it zarr leaves out chunks whose values are all equal.
        zarr = import_extra("zarr", "sweeps", "a store on disk")
        with explain_disk(self.path), zarr.config.set({"array.write_empty_chunks": True}):
            for name, box in zip(self.plan.results, boxes, strict=True):
                self.arrays[file_name(name)][region] = box
            self.arrays["lane_status"][region] = status_of(boxes, len(self.plan.sizes))

    def dataset(self) -> Dataset:
        """Return the results as a labelled `xarray.Dataset`, read from disk when it is used."""
        return open_store(self.path)


def open_store(path: str | Path) -> Dataset:
    """Open the store of a sweep, finished or not.

    Args:
        path: The folder given to `jaxreg.sweep` as `store`.

    Returns:
        An `xarray.Dataset`, read from disk when it is used. Results have one dimension per axis; the
        coordinate `lane_status` is 0 for lanes that have not run, 1 for finite and 2 for non-finite lanes.
        Stores of format 1, which have no checksums, are read as they are.

    Raises:
        ValueError: The folder is no store, or of a newer format, or chunks of lanes that have run are
            missing; later, when a chunk is read whose bytes are not the bytes that were written.
    """
    xarray = import_extra("xarray", "sweeps", "jaxreg.sweeps.open_store")
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no store {path}: give the folder that jaxreg.sweep(..., store=...) wrote")
    with explain_damage(path):
        arrays, record = open_group(path, "r")
        data = xarray.open_zarr(arrays.store, chunks=None)
        data = data.rename({file_name(name): name for name in (*record["axes"], *record["results"])})
        del data.attrs["jaxreg_sweep"]
        if record["format"] >= FIRST_WITH_CHECKSUMS:
            check_present(path, record, data["lane_status"].values)
        return count_lanes(data[list(record["results"])])
