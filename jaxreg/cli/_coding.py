"""Turn the target of a checked table into numbers: labels for classes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from jaxreg._extras import import_extra
from jaxreg.cli._messages import quoted, refusal

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = [
    "CLASS_LOSSES",
    "LOSSES",
    "CodedTarget",
    "code_target",
    "to_numbers",
]

LOSSES = ("squared", "huber", "logistic", "multinomial", "poisson")
#: Losses of a target that is a class.
CLASS_LOSSES = ("logistic", "multinomial")
#: Different numbers up to which a note suggests that they may be classes.
_MAYBE_CLASSES = 10
#: Different whole numbers from 0 up to which a note suggests that they may be counts.
_MAYBE_COUNTS = 100
#: Fractions that may be classes: more different ones are a quantity.
_FRACTION_CLASSES = 20
#: Levels of a text column that are always accepted.
_LEVELS_ALWAYS = 50
#: Levels of a text column that are accepted where each has at least two rows on average.
_LEVELS_AT_MOST = 1000


class CodedTarget(NamedTuple):
    """A target as its loss takes it; `classes` is () for a number."""

    y: np.ndarray
    loss: str
    classes: tuple[str, ...]
    notes: list[str]


def code_target(column: pd.Series, kind: str, loss: str | None) -> CodedTarget:
    """Code the target for a loss, by default for the loss that suits its values.

    Args:
        column: The target, without gaps.
        kind: number, truth, text, date or time.
        loss: One of `LOSSES`, or None.

    Raises:
        ValueError: The values do not suit the loss.
    """
    if kind in ("date", "time") and loss not in CLASS_LOSSES:
        got = f"target {column.name!r} is a date or a time, such as {quoted(column[:1])}"
        todo = "turn it into a number, or take --loss multinomial where dates are classes"
        raise refusal(got, "a number or classes", todo)
    codes, levels = _levels(column)
    if len(levels) < 2:
        got = f"target {column.name!r} is {quoted(levels)} in every row"
        raise refusal(got, "at least two values", "choose another target")
    whole = kind != "number" or all(float(level).is_integer() for level in levels)
    notes = []
    if loss is None:
        loss, note = _default_loss(column.name, kind, levels, whole)
        notes.append(note)
    if loss not in CLASS_LOSSES:
        notes += ["True became 1, False 0."] * (kind == "truth")
        return CodedTarget(_quantity(column, kind, loss), loss, (), notes)
    _check_classes(column, kind, loss, levels, whole)
    classes = tuple(map(_label, levels))
    if loss == "multinomial":
        notes.append(f"Classes 0 to {len(classes) - 1} are {quoted(classes)}.")
        return CodedTarget(codes, loss, classes, notes)
    notes.append(f"Class 1 is {classes[1]!r}, class 0 is {classes[0]!r}.")
    return CodedTarget(codes.astype(float), loss, classes, notes)


def to_numbers(column: pd.Series) -> np.ndarray:
    """Return a column as float64."""
    return column.to_numpy(dtype="float64")


def _default_loss(name: Hashable, kind: str, levels: Sequence[Hashable], whole: bool) -> tuple[str, str]:
    """Choose the loss by the target's values; returns it and a note with the reason."""
    class_loss = "logistic" if len(levels) == 2 else "multinomial"
    reason = f"target {name!r} has {len(levels)} different values"
    if kind != "number" or set(levels) == {0, 1}:
        return class_loss, f"The loss is {class_loss}, as {reason}."
    may_be = [f"classes, ask for {class_loss}"] if whole and len(levels) <= _MAYBE_CLASSES else []
    if whole and min(levels) >= 0 and 2 < len(levels) <= _MAYBE_COUNTS:
        may_be.append("counts, ask for poisson")
    hint = f"; if they are {', if '.join(may_be)}" if may_be else ""
    return "squared", f"The loss is squared, as {reason}, all numbers{hint}."


def _check_classes(column: pd.Series, kind: str, loss: str, levels: Sequence[Hashable], whole: bool) -> None:
    """Raise `ValueError` where the target has too many values to be classes of a loss."""
    got = f"target {column.name!r} has {len(levels)} different values"
    if kind == "text":
        got = (
            f"target {column.name!r} is text of {len(levels)} different values, such as {quoted(column[:1])},"
        )
    other = "squared, for a number" if kind == "number" else "another target"
    if loss == "logistic" and len(levels) > 2:
        raise refusal(f"{got.rstrip(',')} for loss logistic", "two", f"take multinomial or {other}")
    if (not whole and len(levels) > _FRACTION_CLASSES) or _too_many(len(levels), len(column)):
        got = f"{got.rstrip(',')} in {len(column)} rows for loss {loss}"
        raise refusal(got, "a few classes of many rows", f"take {other}")


def _quantity(column: pd.Series, kind: str, loss: str) -> np.ndarray:
    """Return the target of a loss that takes a number; truth values are 0 and 1."""
    if kind == "text":
        todo = f"take {'logistic' if column.nunique() == 2 else 'multinomial'}, or another target"
        got = f"target {column.name!r} is text, such as {quoted(column[:1])}, for loss {loss}"
        raise refusal(got, "numbers", todo)
    y = to_numbers(column)
    if loss == "poisson" and y.min() < 0:
        got = f"target {column.name!r} is negative in {(y < 0).sum()} rows for loss poisson"
        raise refusal(got, "counts or rates from 0 up", "correct them or take squared")
    return y


def _too_many(levels: int, rows: int) -> bool:
    return levels > _LEVELS_AT_MOST or (levels > _LEVELS_ALWAYS and 2 * levels > rows)


def _levels(column: pd.Series) -> tuple[np.ndarray, Sequence[Hashable]]:
    """Return each row's position (int64) among the sorted distinct values, and these values."""
    codes, levels = import_extra("pandas").factorize(column.to_numpy(), sort=True)
    return codes.astype("int64"), levels.tolist()


def _label(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
