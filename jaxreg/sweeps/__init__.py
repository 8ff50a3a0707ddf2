"""Any pure function over labelled axes, as batched lanes with a resumable store; knows nothing of penalties.

`sweep` is the door; `_program` traces and fingerprints the function, `_blocks` cuts the grid into equal
boxes, `store` keeps what is done.
"""

from jaxreg.sweeps.store import open_store
from jaxreg.sweeps.sweep import sweep

__all__ = ["open_store", "sweep"]
