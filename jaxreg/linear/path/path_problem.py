"""Everything about a path that stays fixed while it is solved."""

from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Array, Float, Int

from jaxreg._compilation import on_device
from jaxreg._typing import Scalar
from jaxreg.linear.null_fit import NullFit
from jaxreg.linear.problem import Problem
from jaxreg.linear.size_classes import grid_size_class
from jaxreg.linear.solvers import Solver
from jaxreg.penalties import PenaltyGrid

__all__ = ["PathProblem"]


class PathProblem(NamedTuple):
    """A problem under the penalties of a falling grid of λ.

    Attributes:
        problem: loss and data.
        grid: working penalties of all λ.
        lambdas: the grid, from the largest to the smallest λ.
        null_fit: null fit, with the units of gaps and residuals.
        solver: solver of each λ.
        tol: largest gap (kkt residual without a conjugate) of an accepted solution.
        max_steps: steps for each λ at most.
        gram: XᵀWX, for a path on the Gram matrix of all columns.
    """

    problem: Problem
    grid: PenaltyGrid
    lambdas: Float[Array, " L"]
    null_fit: NullFit
    solver: Solver
    tol: Scalar
    max_steps: Int[Array, ""]
    gram: Float[Array, "p p"] | None = None

    def in_size_class(self) -> Self:
        """Return the path with the last λ repeated up to the size class of the grid."""
        length = self.lambdas.size
        index = np.minimum(np.arange(grid_size_class(length)), length - 1)
        take = lambda x: on_device(np.asarray(x)[index])  # noqa: E731
        grid = PenaltyGrid([take(leaf) for leaf in self.grid.carried], self.grid.shared, self.grid.structure)
        return self._replace(grid=grid, lambdas=take(self.lambdas))
