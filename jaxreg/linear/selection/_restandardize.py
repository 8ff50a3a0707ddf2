"""A problem with other sample weights or targets, standardised anew, without a copy of the features."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxreg.linear._targets import working_targets
from jaxreg.linear.design import Standardized
from jaxreg.linear.problem import Problem
from jaxreg.linear.standardization import Standardization

__all__ = ["restandardized"]


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
    columns = _standardized_columns(problem, weight)
    old = problem.standardization
    divisor = old.scale * old.target_scale
    new = Standardization(
        mean=old.mean + divisor * columns.mean,
        scale=old.scale * columns.scale / targets.scale,
        constant=old.constant | columns.constant,
        target_mean=old.target_mean + old.target_scale * targets.mean,
        target_scale=old.target_scale * targets.scale,
    )
    loss = problem.loss.in_units(targets.scale) if problem.scales_target else problem.loss
    return eqx.tree_at(
        lambda p: (p.loss, p.design, p.y, p.weight, p.offset, p.standardization),
        problem,
        (loss, columns, targets.y, weight, targets.offset, new),
    )


def _standardized_columns(problem: Problem, weight: Float[Array, " n"]) -> Standardized:
    """Return the working design, centred and scaled by the rules of `Problem` under other weights."""
    moments = problem.design.moments(weight)
    same = moments.half_range <= jnp.finfo(problem.dtype).eps * moments.max_abs
    if problem.intercept:
        mean, constant, scale_of_same = moments.mean, same, jnp.ones_like(moments.mean)
    else:
        mean, constant = jnp.zeros_like(moments.mean), moments.max_abs == 0
        scale_of_same = jnp.where(constant, 1.0, moments.max_abs)
    scale = jnp.where(problem.standardizes, jnp.where(same, scale_of_same, moments.deviation), 1.0)
    return Standardized(problem.design, mean, scale, constant)
