"""Standardisation of targets: centred if there is an intercept, scaled if asked for."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from jaxreg._compilation import is_traced
from jaxreg._typing import AnyArray, DTypeLike
from jaxreg.losses import Loss

__all__ = ["WorkingTargets", "require_squares", "working_targets"]


class WorkingTargets(NamedTuple):
    """Working targets (y − mean)/scale and offset; `mean` is () or (K,), `scale` one number."""

    y: Shaped[AnyArray, "n *L"]
    offset: Float[AnyArray, "n *K"]
    mean: Float[AnyArray, "*K"]
    scale: Float[AnyArray, ""]


def working_targets(
    loss: Loss,
    y: Shaped[AnyArray, "n *L"],
    offset: Float[AnyArray, "n *K"],
    weight: Float[AnyArray, " n"],
    *,
    centre: bool,
    scale: bool,
) -> WorkingTargets:
    """Centre and scale targets of a loss with `has_unit`; return those of other losses as they are.

    Solvers work on differences of predictor and target, which lose their digits where both are far from 0.

    Args:
        loss: the loss.
        y: targets (n,) or (n, K): traced, or on the host in double precision.
        offset: offset in the shape of the predictor.
        weight: sample weights (n,) that sum to 1.
        centre: whether y and offset are centred, for which the intercept makes up.
        scale: whether y and offset are divided by the standard deviation of y.

    Raises:
        ValueError: for `scale` where targets have no unit.
    """
    if scale and not loss.has_unit:
        raise ValueError(
            f"scale_target=True needs targets with a unit, which those of {type(loss).__name__} have not:"
            " leave it out"
        )
    xp = jnp if is_traced(y, offset, weight) else np
    mean, unit = np.zeros(offset.shape[1:], offset.dtype), np.ones((), offset.dtype)
    if not loss.has_unit:
        return WorkingTargets(y, offset, mean, unit)

    def average(x: Float[AnyArray, "n *K"]) -> Float[AnyArray, "*K"]:
        return x[0] + weight @ (x - x[0])

    if centre:
        y_mean, offset_mean = average(y), average(offset)
        y, offset, mean = y - y_mean, offset - offset_mean, y_mean - offset_mean
    if scale:
        centred = y - average(y)
        largest = xp.max(xp.abs(centred))
        unit = largest * xp.sqrt(xp.mean(weight @ (centred / xp.where(largest > 0, largest, 1.0)) ** 2))
        unit = xp.where(unit > 0, unit, 1.0)
    return WorkingTargets(y / unit, offset / unit, mean, unit)


def require_squares(loss: Loss, targets: WorkingTargets, dtype: DTypeLike) -> None:
    """Raise ValueError where the squares of concrete targets leave the range of the working dtype."""
    y, offset = targets.y, targets.offset
    if not loss.has_unit or is_traced(y, offset):
        return
    limits, size = jnp.finfo(dtype), float(np.max(np.abs(y - offset)))
    # The smallest number needed is a duality gap of one rounding.
    low, high = np.sqrt(float(limits.tiny) / float(limits.eps)), np.sqrt(float(limits.max)) / 16
    if size > 0 and not low <= size <= high:
        raise ValueError(
            f"y has values of a size near {size:.1e}, whose squares {np.dtype(dtype)} cannot represent:"
            " give it another unit or take scale_target=True"
        )
