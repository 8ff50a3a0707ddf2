"""Solvers: each is `init` and `step`; the loop that runs them is in `base`."""

from jaxreg.linear.solvers.base import Solver, Status, iterate
from jaxreg.linear.solvers.proximal_gradient import ProximalGradient

__all__ = ["ProximalGradient", "Solver", "Status", "iterate"]
