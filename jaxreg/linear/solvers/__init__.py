"""Solvers: each is `init` and `step`; the loop that runs them is in `base`."""

from jaxreg.linear.solvers.base import Outcome, Solver, SolverTask, iterate
from jaxreg.linear.solvers.newton import Newton
from jaxreg.linear.solvers.proximal_gradient import ProximalGradient
from jaxreg.linear.solvers.status import Status

__all__ = ["Newton", "Outcome", "ProximalGradient", "Solver", "SolverTask", "Status", "iterate"]
