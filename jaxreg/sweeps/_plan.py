"""Describe a sweep: its axes, its results, and what makes two calls the same sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from jaxreg.sweeps._blocks import Blocks, cut
from jaxreg.sweeps._program import Form, dims_of

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = [
    "FINITE",
    "NOT_FINITE",
    "NOT_RUN",
    "STATUS_ATTRIBUTES",
    "Identity",
    "Plan",
    "StoreRecord",
    "SweepRecord",
    "count_lanes",
    "status_of",
]

#: `lane_status` of a lane that has not run.
NOT_RUN = 0
#: `lane_status` of a lane whose results are all finite.
FINITE = 1
#: `lane_status` of a lane with a result that is not finite.
NOT_FINITE = 2
STATUS_ATTRIBUTES = {
    "flag_values": [NOT_RUN, FINITE, NOT_FINITE],
    "flag_meanings": "not_run finite not_finite",
    "long_name": "whether the lane has run, and whether all its results are finite",
}


class Identity(TypedDict):
    """Facts in which two calls of the same sweep agree, besides the labels and the results."""

    #: Dtypes of the axes.
    axes: dict[str, str]
    #: Fingerprint of the function.
    computation: str
    max_lanes: int | None
    platform: str
    jax_version: str
    matmul_precision: str | None
    threefry_partitionable: bool


class SweepRecord(Identity):
    """Description of a sweep, as JSON holds it."""

    #: A list of shape and dtype for each result of a lane.
    results: dict[str, list[list[int] | str]]


class StoreRecord(SweepRecord):
    """Record of a store."""

    #: Version of the layout.
    format: int
    #: Lanes along each axis that share a chunk.
    block: list[int]


class Plan:
    """A sweep.

    Args:
        axes: Labels of each axis.
        results: Form of each result of a lane.
        identity: Facts in which two calls of the same sweep agree.
    """

    def __init__(self, axes: dict[str, np.ndarray], results: dict[str, Form], identity: Identity) -> None:
        self.axes, self.results, self.identity = axes, results, identity
        self.sizes = tuple(labels.size for labels in axes.values())
        floats = [labels.dtype.kind == "f" for labels in axes.values()]
        self.slow_first = sorted(range(len(axes)), key=lambda axis: not floats[axis])

    def dims(self, name: str) -> tuple[str, ...]:
        """Return the dimensions of a result: the axes, then its own."""
        return (*self.axes, *dims_of(name, self.results[name].shape))

    def blocks(self, limit: int) -> Blocks:
        """Cut the grid into boxes of at most `limit` lanes."""
        return cut(self.sizes, self.slow_first, limit)

    def record(self) -> SweepRecord:
        """Return the description of the sweep that a store records."""
        forms = {name: [list(form.shape), form.dtype.str] for name, form in self.results.items()}
        return {"results": forms, **self.identity}

    def differences(self, record: SweepRecord, stored_axes: dict[str, np.ndarray]) -> list[str]:
        """Say how a stored sweep differs from this one; the list is empty where both are the same."""
        if list(stored_axes) != list(self.axes):
            return [f"its axes are {', '.join(stored_axes)}, here they are {', '.join(self.axes)}"]
        own, out = self.record(), []
        for name, labels in self.axes.items():
            stored = stored_axes[name]
            same = np.array_equal(stored, labels, equal_nan=labels.dtype.kind == "f")
            if stored.dtype != labels.dtype or not same:
                out.append(f"its axis {name} is {_shorten(stored)}, here it is {_shorten(labels)}")
        if record["results"] != own["results"]:
            out.append(f"its results are {_list(record['results'])}, here they are {_list(own['results'])}")
        for key, value in self.identity.items():
            if key not in ("axes", "computation") and record.get(key) != value:
                out.append(f"its {key.replace('_', ' ')} is {record.get(key)}, here it is {value}")
        if not out and record["computation"] != self.identity["computation"]:
            out.append("its function computes something else, or closes over other data")
        return out


def status_of(boxes: Sequence[np.ndarray], axes: int) -> np.ndarray:
    """Return the status of each lane of a box, from its results over `axes` axes and their own dimensions."""
    finite = np.ones(boxes[0].shape[:axes], bool)
    for box in boxes:
        if box.dtype.kind in "fc":
            finite &= np.isfinite(box).all(axis=tuple(range(axes, box.ndim)))
    return np.where(finite, FINITE, NOT_FINITE).astype(np.uint8)


def count_lanes(data: Dataset) -> Dataset:
    """Return the `xarray.Dataset` with its numbers of lanes by status as attributes."""
    status = data["lane_status"].values
    return data.assign_attrs(
        lanes=int(status.size),
        done=int((status != NOT_RUN).sum()),
        not_finite=int((status == NOT_FINITE).sum()),
    )


def _shorten(values: np.ndarray) -> str:
    text = np.array2string(values, threshold=4, edgeitems=2, separator=", ")
    return f"{text} ({values.size} of {values.dtype})"


def _list(forms: dict[str, list[list[int] | str]]) -> str:
    return ", ".join(f"{name} {tuple(shape)} {dtype}" for name, (shape, dtype) in forms.items())
