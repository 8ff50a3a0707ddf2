"""Any pure function over labelled axes, as batched lanes with a resumable store; knows nothing of penalties.

`sweep` is the door, `fitting_lanes` says how many lanes the memory of a device holds. `_program` traces and
fingerprints the function, `_blocks` cuts the grid into equal boxes, `store` keeps what is done.
"""

from jaxreg.sweeps.store import open_store
from jaxreg.sweeps.sweep import fitting_lanes, sweep

__all__ = ["fitting_lanes", "open_store", "sweep"]
