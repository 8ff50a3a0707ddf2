"""Find the chunks of a store on disk, and which of them are missing or not as they were written.

A chunk is a file whose last four bytes are the CRC32C of the bytes before, as zarr's codec `crc32c` writes
them. Checking a chunk reads its bytes and decodes nothing.
"""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from jaxreg.sweeps._disk import Refusal
from jaxreg.sweeps._plan import StoreRecord

__all__ = ["check_axes", "check_present", "discard_damaged", "file_name", "has_checksum"]

_CHECKSUM_BYTES = 4
#: Characters of an array's name up to which its folder has that name; file systems allow 255 bytes.
_NAME_LENGTH = 200


def file_name(name: str) -> str:
    """Return the name of an array in a store, where any text becomes the name of one folder."""
    plain = quote(name, safe="").replace(".", "%2E")
    if len(plain) <= _NAME_LENGTH:
        return plain
    return f"{plain[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def has_checksum(data: bytes) -> bool:
    """Return whether data end with the CRC32C of the bytes before."""
    import google_crc32c

    expected = google_crc32c.value(data[:-_CHECKSUM_BYTES])
    return len(data) >= _CHECKSUM_BYTES and data[-_CHECKSUM_BYTES:] == expected.to_bytes(4, "little")


def check_axes(path: Path, record: StoreRecord) -> None:
    """Raise a `Refusal` where the values of an axis are missing or damaged."""
    for name in record["axes"]:
        if not _is_intact(_chunk(path, file_name(name), (0,))):
            raise Refusal(f"{path} is damaged, its axis {name} cannot be read: give another folder")


def check_present(path: Path, record: StoreRecord, status: np.ndarray) -> None:
    """Raise a `Refusal` where a chunk of lanes that have run is missing."""
    complete = _complete_boxes(status, record["block"])
    chunks = [chunk for place in complete for chunk in _result_chunks(path, record, place)]
    if lost := [chunk.relative_to(path).as_posix() for chunk in chunks if not chunk.is_file()]:
        raise Refusal(
            f"{path} is damaged, {len(lost)} of its {len(chunks)} chunks are missing, such as {lost[0]}: run"
            " the same sweep with this store, which computes these lanes again, or read what is left with"
            " xarray.open_zarr"
        )


def discard_damaged(path: Path, record: StoreRecord, read_status: Callable[[], np.ndarray]) -> list[str]:
    """Unmark the boxes with a missing or damaged chunk, and remove the damaged chunks.

    The mark goes first, so that a process that dies in between leaves no marked box without its chunks.

    Args:
        path: The folder of the store.
        record: The record of the store.
        read_status: Reads `lane_status`; called after its damaged chunks are removed.

    Returns:
        The chunks that were missing or damaged, relative to the store.
    """
    damaged = []
    for mark in (path / "lane_status" / "c").rglob("*"):
        if mark.is_file() and not _is_intact(mark):
            damaged.append(mark)
            mark.unlink()
    for place in _complete_boxes(read_status(), record["block"]):
        if lost := [chunk for chunk in _result_chunks(path, record, place) if not _is_intact(chunk)]:
            damaged += lost
            _chunk(path, "lane_status", place).unlink()
            for chunk in lost:
                chunk.unlink(missing_ok=True)
    return [chunk.relative_to(path).as_posix() for chunk in damaged]


def _chunk(path: Path, array: str, place: Sequence[int], trailing: int = 0) -> Path:
    """Return the file of a chunk; a result is never divided along its own, trailing dimensions."""
    return path.joinpath(array, "c", *map(str, place), *["0"] * trailing)


def _result_chunks(path: Path, record: StoreRecord, place: Sequence[int]) -> list[Path]:
    """Return the chunks of all results at one position; an array without values has none."""
    shapes = {file_name(name): shape for name, (shape, _) in record["results"].items() if 0 not in shape}
    return [_chunk(path, name, place, len(shape)) for name, shape in shapes.items()]


def _is_intact(chunk: Path) -> bool:
    return chunk.is_file() and has_checksum(chunk.read_bytes())


def _complete_boxes(status: np.ndarray, block: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the positions of the boxes whose lanes have all run (status other than 0)."""
    counts = (range(-(-size // width)) for size, width in zip(status.shape, block, strict=True))
    box = lambda place: tuple(slice(at * w, (at + 1) * w) for at, w in zip(place, block, strict=True))  # noqa: E731
    return [place for place in itertools.product(*counts) if status[box(place)].all()]
