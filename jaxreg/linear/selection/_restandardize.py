"""A problem with other sample weights or targets, standardised anew, without a copy of the features."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxreg._compilation import jit_at_level
from jaxreg.linear._targets import working_targets
from jaxreg.linear.design import Standardized
from jaxreg.linear.problem import Problem
from jaxreg.linear.standardization import column_scaling

__all__ = ["restandardized", "reweighted"]


def restandardized(problem: Problem, weight: Float[Array, " n"], y: Shaped[Array, "n *L"]) -> Problem:
    """Return a problem with other weights and targets, centred and scaled under these as if built from them.

    Centring and scaling are affine, so that those of the new weights are composed with those of the problem.

    Args:
        problem: the problem.
        weight: sample weights (n,) ≥ 0 that sum to 1.
        y: targets (n,) or (n, K) in working coordinates.
    """
    targets = working_targets(
        problem.loss, y, problem.offset, weight, centre=problem.intercept, scale=problem.scales_target
    )
    columns = column_scaling(
        problem.design, weight, intercept=problem.intercept, standardize=problem.standardizes
    )
    standardization = problem.standardization.followed_by(columns, targets.mean, targets.scale)
    loss = problem.loss.in_units(targets.scale) if problem.scales_target else problem.loss
    return eqx.tree_at(
        lambda p: (p.loss, p.design, p.y, p.weight, p.offset, p.standardization),
        problem,
        (loss, Standardized(problem.design, *columns), targets.y, weight, targets.offset, standardization),
    )


@jit_at_level(0)
def reweighted(problem: Problem, multiplicity: Float[Array, " n"]) -> Problem:
    """Return the problem in which each sample counts `multiplicity` times, standardised under these weights.

    The features are not copied, and all resamples of a problem have one shape: they share compiled programs.
    """
    weight = problem.weight * multiplicity
    return restandardized(problem, weight / jnp.sum(weight), problem.y)
