"""A problem whose samples are counted several times or left out."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreg._compilation import jit_at_level
from jaxreg.linear.problem import Problem
from jaxreg.linear.selection._restandardize import restandardized

__all__ = ["reweighted"]


@jit_at_level(0)
def reweighted(problem: Problem, multiplicity: Float[Array, " n"]) -> Problem:
    """Return the problem in which each sample counts `multiplicity` times, standardised under these weights.

    The features are not copied, and all resamples of a problem have one shape: they share compiled programs.
    """
    weight = problem.weight * multiplicity
    return restandardized(problem, weight / jnp.sum(weight), problem.y)
