"""Losses that the command knows, by name, and the delta of Huber's loss."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxreg import losses
from jaxreg.cli._coding import LOSSES
from jaxreg.cli._messages import refusal, wanted_one_of

if TYPE_CHECKING:
    from jaxreg.cli.load import Table

__all__ = ["check_spread", "huber_delta", "loss_of", "parse_loss", "with_delta"]

#: Delta in standard deviations: 95 % of the efficiency of least squares where errors are normal.
_DELTA = 1.345
#: Factor between the spread of a target and numbers whose squares leave the range of their precision.
_SPREAD_ROOM = 1e4
#: Median of |x| for a standard normal x.
_NORMAL_MAD = 0.6745


class ParsedLoss(NamedTuple):
    """A loss from the command line: its name, and the delta of Huber's loss where one is given."""

    name: str
    delta: float | None = None


def parse_loss(text: str) -> ParsedLoss:
    """Return the loss of a name such as squared or huber:2.5.

    >>> parse_loss("huber:2.5").delta
    2.5

    Raises:
        ValueError: The name is unknown, or the number is not a positive one.
    """
    name, colon, number = text.strip().lower().partition(":")
    if name not in LOSSES:
        raise ValueError(f"no loss {text!r}: {wanted_one_of(LOSSES, name)}")
    if not colon:
        return ParsedLoss(name)
    if name != "huber":
        raise refusal(f"loss {text!r} has the number {number!r}", f"{name}, which takes none", "leave it out")
    try:
        delta = float(number)
    except ValueError:
        delta = math.nan
    if not 0 < delta < math.inf:
        wanted = "a residual above 0, in the unit of the target"
        raise refusal(f"loss {text!r} has the delta {number!r}", wanted, "try huber, which chooses one")
    return ParsedLoss(name, delta)


def loss_of(table: Table) -> losses.Loss:
    """Return the loss of a table; without a `delta`, that of Huber's loss is chosen by all rows."""
    match table.loss:
        case "multinomial":
            return losses.Multinomial(len(table.classes))
        case "huber":
            return losses.Huber(huber_delta(table.y) if table.delta is None else table.delta)
        case "logistic":
            return losses.Logistic()
        case "poisson":
            return losses.Poisson()
    return losses.SquaredError()


def check_spread(table: Table, train: np.ndarray, dtype: str) -> None:
    """Raise `ValueError` for a number to predict whose squares leave the range of a precision.

    Args:
        table: The data.
        train: Indices of the training rows.
        dtype: float64 or float32.
    """
    if table.classes:
        return
    y = table.y[train]
    spread, info = float(np.max(np.abs(y - y[0]))), np.finfo(dtype)
    low, high = math.sqrt(info.tiny) * _SPREAD_ROOM, math.sqrt(info.max) / _SPREAD_ROOM
    if spread == 0 or low <= spread <= high:
        return
    squares = f"{dtype} does not hold the squares of such numbers"
    got = f"target {table.target!r} varies by {spread:.3g}, and {squares}"
    todo = "give the target in another unit"
    if dtype == "float32":
        todo += ", or take --dtype float64"
    raise refusal(got, f"a target that varies by {low:.0e} to {high:.0e}", todo)


def with_delta(table: Table, train: np.ndarray) -> Table:
    """Choose the delta of Huber's loss by the training rows, with a note, unless one was given."""
    if table.loss != "huber" or table.delta is not None:
        return table
    delta = huber_delta(table.y[train])
    note = (
        f"The Huber loss is linear in residuals above {delta:.4g}, {_DELTA:g} robust standard deviations of"
        " the target; --loss huber:D sets another limit D."
    )
    return dataclasses.replace(table, delta=delta, notes=(*table.notes, note))


def huber_delta(y: np.ndarray) -> float:
    """Return 1.345 robust standard deviations of a target, which scale with its unit.

    The standard deviation is the median absolute deviation from the median over 0.6745 or, where more than
    half of the values are equal, √(π/2) mean absolute deviations.

    >>> round(huber_delta(np.array([1.0, 2.0, 3.0, 4.0, 500.0])), 3)
    1.994
    """
    deviation = np.abs(y - np.median(y))
    mad = float(np.median(deviation))
    scale = mad / _NORMAL_MAD if mad > 0 else math.sqrt(math.pi / 2) * float(np.mean(deviation))
    return _DELTA * scale if scale > 0 else 1.0
