"""Lay out a store: create the zarr group of a sweep in a temporary folder, and open it with its record."""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxreg._extras import import_extra
from jaxreg.sweeps._blocks import Blocks
from jaxreg.sweeps._chunks import check_axes, file_name
from jaxreg.sweeps._disk import Refusal, explain_disk
from jaxreg.sweeps._plan import STATUS_ATTRIBUTES, Plan, StoreRecord
from jaxreg.sweeps._program import Form, dims_of

if TYPE_CHECKING:
    import zarr

__all__ = ["FIRST_WITH_CHECKSUMS", "Group", "create_group", "open_group"]

#: Format of the stores that are written.
FORMAT = 2
#: First format whose chunks are all written and end with a checksum.
FIRST_WITH_CHECKSUMS = 2
#: Attribute of the group that holds the record of the sweep.
_RECORD = "jaxreg_sweep"


class Group(NamedTuple):
    """The zarr group of a store, and its record."""

    arrays: zarr.Group
    record: StoreRecord


def open_group(path: Path, mode: str) -> Group:
    """Open a store.

    Args:
        path: A folder that exists.
        mode: "r" or "r+".

    Raises:
        Refusal: The folder is no store, or of a newer format, or an axis is damaged.
    """
    zarr = import_extra("zarr", "sweeps", "a store on disk")
    try:
        arrays = zarr.open_group(path, mode=mode)
        record = json.loads(arrays.attrs[_RECORD])
        version = record["format"]
    except Exception as error:
        raise Refusal(
            f"{path} is there and is not the store of a sweep: give a folder that does not exist yet"
        ) from error
    if version > FORMAT:
        raise Refusal(
            f"{path} was written by a newer jaxreg (format {version}, this one reads up to {FORMAT}): upgrade"
            " jaxreg"
        )
    if version < FIRST_WITH_CHECKSUMS:
        return Group(arrays, record)
    check_axes(path, record)
    from jaxreg.sweeps._checked import CheckedStore

    local = zarr.storage.LocalStore(path, read_only=mode == "r")
    return Group(zarr.open_group(CheckedStore(local), mode=mode), record)


def create_group(path: Path, plan: Plan, blocks: Blocks) -> None:
    """Make an empty store: in a folder of its own, which is moved to its place when it is complete."""
    zarr = import_extra("zarr", "sweeps", "a store on disk")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with explain_disk(path):
        for leftover in _unfinished(path):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            record: StoreRecord = {"format": FORMAT, "block": list(blocks.block), **plan.record()}
            attributes = {_RECORD: json.dumps(record), "coordinates": "lane_status"}
            _create_arrays(zarr.create_group(temporary, attributes=attributes), plan, blocks)
            with warnings.catch_warnings():
                # zarr warns that consolidated metadata is not in its specification.
                warnings.simplefilter("ignore")
                zarr.consolidate_metadata(temporary)
            _move(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _unfinished(path: Path) -> Iterator[Path]:
    """List the folders of processes that died while they made this store."""
    name = re.compile(re.escape(path.name) + r"\.\d+\.new")
    return filter(lambda child: name.fullmatch(child.name) is not None, path.parent.iterdir())


def _move(temporary: Path, path: Path) -> None:
    """Move a complete store to its place, the metadata last where that is an empty folder already."""
    if not path.exists():
        temporary.rename(path)
        return
    # The folder stays: the process may have it as its working directory.
    for child in sorted(temporary.iterdir(), key=lambda child: child.name == "zarr.json"):
        child.rename(path / child.name)


def _create_arrays(group: zarr.Group, plan: Plan, blocks: Blocks) -> None:
    """Create the arrays of the axes with their labels, and empty arrays of the results and the status."""
    for name, labels in plan.axes.items():
        form = {"data": labels, "chunks": labels.shape, "dimension_names": [file_name(name)]}
        group.create_array(file_name(name), **form, **_chunk_settings())
    axes = tuple(map(file_name, plan.axes))
    status = {"lane_status": Form((), np.dtype(np.uint8))}
    for name, form in {**plan.results, **status}.items():
        group.create_array(
            file_name(name),
            shape=plan.sizes + form.shape,
            dtype=form.dtype,
            chunks=blocks.block + tuple(max(n, 1) for n in form.shape),
            fill_value=np.array(np.nan if form.dtype.kind in "fc" else 0, form.dtype)[()],
            dimension_names=(*axes, *dims_of(name, form.shape)),
            attributes=STATUS_ATTRIBUTES if name == "lane_status" else {},
            **_chunk_settings(),
        )


def _chunk_settings() -> dict[str, object]:
    """Return the settings of an array whose chunks are all written and end with their checksum."""
    codecs = import_extra("zarr.codecs", "sweeps", "a store on disk")
    return {
        "compressors": [codecs.ZstdCodec(), codecs.Crc32cCodec()],
        "config": {"write_empty_chunks": True},
    }
