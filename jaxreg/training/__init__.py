"""Any model, any optax chain: penalties inside optimisers, and one training run as a pure function.

`transforms` holds the links and ready optimisers, `train` the run.
"""

from jaxreg.training import transforms
from jaxreg.training.train import train

__all__ = ["train", "transforms"]
