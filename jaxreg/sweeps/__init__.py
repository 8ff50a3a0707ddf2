"""Sweep any pure function over labelled axes, as batched lanes with a resumable store.

`sweep` runs the function, `fitting_lanes` returns how many lanes the memory of a device holds, `open_store`
reads results. `_program` traces and fingerprints the function, `_blocks` cuts the grid into equal boxes,
`store` keeps what is done.
"""

from jaxreg.sweeps.store import open_store
from jaxreg.sweeps.sweep import fitting_lanes, sweep

__all__ = ["fitting_lanes", "open_store", "sweep"]
