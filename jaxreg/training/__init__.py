"""Train any model with any optax chain: penalties inside optimisers, and a training run as a pure function.

`transforms` has links for chains and whole optimisers, `train` is the run.
"""

from jaxreg.training import transforms
from jaxreg.training.train import train

__all__ = ["train", "transforms"]
