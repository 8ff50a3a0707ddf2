"""A zarr store that compares the checksum of every chunk that it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zarr.storage import LocalStore, WrapperStore

from jaxreg.sweeps._chunks import has_checksum
from jaxreg.sweeps._disk import Refusal

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["CheckedStore"]


class CheckedStore(WrapperStore[LocalStore]):
    """A folder whose chunks end with a checksum: reading a damaged chunk raises a `Refusal`.

    zarr's codec compares the checksum too, but its error names neither the file nor what to do.
    """

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a file of the store, or None where there is no such file."""
        data = await self._store.get(key, prototype, byte_range)
        is_chunk = key.split("/")[1:2] == ["c"] and not key.endswith("zarr.json")
        if is_chunk and data is not None and byte_range is None and not has_checksum(data.to_bytes()):
            raise Refusal(
                f"{self._store.root} is damaged, {key} is not as it was written: run the same sweep with this"
                " store, which computes these lanes again"
            )
        return data
