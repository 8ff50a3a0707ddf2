"""Folders of stores, and a record of what is written to them."""

import pytest

from jaxreg.sweeps.store import ZarrStore
from tests.sweeps.stores import finished


@pytest.fixture
def path(tmp_path):
    """Where the store goes; its folder holds nothing else."""
    return tmp_path / "stores" / "run.zarr"


@pytest.fixture
def written(monkeypatch):
    """The numbers of the boxes that are written, in turn; those of the store to compare with are not."""
    finished()
    seen, write = [], ZarrStore.write

    def noted(self, k, values):
        write(self, k, values)
        seen.append(k)

    monkeypatch.setattr(ZarrStore, "write", noted)
    return seen
