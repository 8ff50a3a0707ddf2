"""What comes in from outside becomes arrays with names.

`load` turns a bundled data set or a file into a `Table`; `split` chooses its held-out rows. Nothing is
dropped, filled or guessed in silence: what was done to the data is a sentence in `Table.notes`, and what
should not be done unasked is a `ValueError` of one line that says how to put it right.

The steps of `load`, in order: find the source and read it as a data frame, check its values, turn the
target into numbers or labels that suit the loss, turn text into columns of 0 and 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxreg.cli._files import _BUNDLED, _bundled, _check_names, _drop_row_numbers, _file
from jaxreg.cli._messages import _line, _names, _need, _wrong, nearest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["Table", "load", "nearest", "split"]

_LOSSES = ("squared", "huber", "logistic", "multinomial", "poisson")
_LABELLED = ("logistic", "multinomial")
_DATE = re.compile(  # a day, a day with a time, or a time
    r"(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d\d)"
    r"|\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{2,4})"
    r"([T ]\d{1,2}:\d\d.*)?|\d{1,2}:\d\d(:\d\d.*)?"
)


@dataclass(frozen=True, eq=False)
class Table:
    """Features, target and their names, ready for a fit: no value is missing or infinite."""

    name: str
    """The bundled data set's name, or the file's."""
    X: np.ndarray
    """Features, (n, p) float64."""
    y: np.ndarray
    """Target, (n,): float64, which is 0.0 or 1.0 for logistic; int64 labels 0 to K−1 for multinomial."""
    features: tuple[str, ...]
    """The p names of the columns of X, all different."""
    target: str
    """The target's name."""
    loss: str
    """squared, huber, logistic, multinomial or poisson."""
    classes: tuple[str, ...]
    """Names of the classes in the order of their labels; () for a target that is a number."""
    unit: str
    """Unit or meaning of the target where it is known, otherwise ''."""
    notes: tuple[str, ...]
    """What was done to the data, a sentence each."""


def load(source: str, *, target: str | None = None, loss: str | None = None) -> Table:
    """Read a bundled data set (diabetes, breast_cancer, digits, wine, iris) or a .csv, .tsv or .parquet file.

    `source` is a name or a path, `target` the column to predict (a bundled data set has its own).
    Without `loss`, two classes (text, truth values, or 0 and 1) mean logistic, more classes of text mean
    multinomial and other numbers squared. Classes are sorted, so that the last of two is class 1.
    Raises ValueError, in one line, where the source, the target or the values do not allow a fit, and
    ImportError where pandas, pyarrow or scikit-learn is needed and not installed.

    >>> table = load("diabetes")
    >>> table.X.shape, table.target, table.loss
    ((442, 10), 'progression', 'squared')
    """
    if loss is not None and loss not in _LOSSES:
        raise ValueError(f"no loss {loss!r}: {nearest(loss, _LOSSES)}")
    bundled = source.strip().lower().replace("-", "_")
    own, unit = _BUNDLED.get(bundled, (None, ""))
    try:
        name, frame = (bundled, _bundled(bundled)) if own else (Path(source).name, _file(source))
    except OSError as error:
        got = f"cannot read {source!r} ({error.strerror or _line(error)})"
        raise _wrong(got, "a file you may read", "check its name and permissions") from error
    frame, dropped = _drop_row_numbers(frame)
    target = _check_target(target or own, frame, name)
    kinds = _check(frame, name)
    y, loss, classes, labelled = _target(frame[target], kinds[target], loss)
    X, features, coded = _features(frame.drop(columns=target), kinds)
    unit = unit if target == own else ""
    return Table(name, X, y, features, target, loss, classes, unit, (*dropped, *labelled, *coded))


def split(table: Table, holdout: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the training rows and of the held-out rows, the same for the same seed.

    A fraction `holdout` of the rows, at least one unless it is 0, is held out. With a logistic or
    multinomial loss each class gives its share and keeps at least one training row, so that fewer rows are
    held out where classes are very small. Raises ValueError where `holdout` is not in [0, 1), leaves fewer
    than two training rows or finds none to take, and where `seed` is negative.

    >>> train, held = split(load("iris"), 0.2, seed=0)
    >>> len(train), len(held)
    (120, 30)
    """
    import numpy as np

    if not 0 <= holdout < 1:
        raise _wrong(f"holdout is {holdout}", "a fraction from 0 to below 1", "try 0.2")
    if seed < 0:
        raise _wrong(f"seed is {seed}", "a whole number from 0 up", "try 0")
    n = len(table.y)
    count = max(1, round(holdout * n)) if holdout > 0 else 0
    if n - count < 2:
        raise _wrong(f"holdout {holdout} leaves {n - count} of {n} rows", "at least 2", "hold out fewer")
    groups, sizes = np.zeros(n, int), np.array([n])
    if table.loss in _LABELLED:
        _, groups, sizes = np.unique(table.y, return_inverse=True, return_counts=True)
    if count and sizes.max() == 1:
        raise _wrong(f"each of the {n} classes has one row", "more to hold one out", "set holdout 0")
    rng = np.random.default_rng(seed)
    held = np.zeros(n, bool)
    for group, take in enumerate(_shares(sizes, count)):
        held[rng.permutation(np.flatnonzero(groups == group))[:take]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """How many of `count` each group gives: by size, largest remainder first, never a whole group."""
    import numpy as np

    share = count * sizes / sizes.sum()
    taken = np.minimum(np.floor(share).astype(int), sizes - 1)
    for _ in range(min(count, int((sizes - 1).sum())) - int(taken.sum())):
        taken[np.argmax(np.where(taken < sizes - 1, share - taken, -np.inf))] += 1
    return taken


# Reading: each function returns a data frame whose column names are different strings.


def _check_target(target: str | None, frame: pd.DataFrame, name: str) -> str:
    """The target's name, of a table that has rows and features."""
    rows, columns = frame.shape
    if rows < 2:
        got = f"{name!r} has {'a header but no rows' if rows == 0 else 'one row'}"
        raise _wrong(got, "at least two rows", "add rows")
    if columns < 2:
        got = f"{name!r} has {'one column' if columns else 'no columns'}"
        raise _wrong(got, "a target and at least one feature", "add columns")
    if target is None:
        wanted = f"one of its columns {_names(frame.columns)}"
        raise _wrong(f"no target was named for {name!r}", wanted, "give --target NAME")
    if target not in frame.columns:
        raise ValueError(f"{name!r} has no column {target!r}: {nearest(target, frame.columns)}")
    return target


def _check(frame: pd.DataFrame, name: str) -> dict[str, str]:
    """Each column's kind (number, truth or text), of a table without gaps, dates and infinities."""
    import numpy as np

    rows = len(frame)
    missing = frame.isna()
    if missing.any(axis=None):
        where = f"in columns {_names(frame.columns[missing.any()])}"
        got = f"{missing.any(axis=1).sum()} of {rows} rows of {name!r} miss values {where}"
        raise _wrong(got, "a value in every cell", "drop these rows or columns, or fill them")
    kinds = {column: _kind(frame[column]) for column in frame}
    for odd, what, todo in (
        ("date", "dates or times", "drop them or turn them into numbers, such as days since the first"),
        ("other", "values of no use", "drop or convert these columns"),
    ):
        where = [column for column, kind in kinds.items() if kind == odd]
        if where:
            wanted = "numbers, text or truth values"
            raise _wrong(f"{name!r} has {what} in columns {_names(where)}", wanted, todo)
    numbers = [column for column, kind in kinds.items() if kind == "number"]
    where = [column for column in numbers if not np.isfinite(_numbers(frame[column])).all()]
    if where:
        count = sum(~np.isfinite(_numbers(frame[column])) for column in where).astype(bool).sum()
        got = f"{count} of {rows} rows of {name!r} are infinite in columns {_names(where)}"
        raise _wrong(got, "finite numbers", "correct or drop these rows")
    return kinds


def _kind(column: pd.Series) -> str:
    """number, truth, text, date or other; text of which every value looks like a date is a date."""
    kind = _need("pandas").api.types.infer_dtype(column)
    if kind in ("string", "categorical"):
        return "date" if all(_DATE.fullmatch(str(value).strip()) for value in column.unique()) else "text"
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return "number"
    if kind == "boolean":
        return "truth"
    return "date" if kind.startswith(("date", "time", "period")) else "other"


# Coding: columns become numbers.


def _target(
    column: pd.Series, kind: str, loss: str | None
) -> tuple[np.ndarray, str, tuple[str, ...], list[str]]:
    """The target as the loss wants it, the loss, the names of the classes, and notes."""
    codes, levels = _levels(column)
    got, notes = f"target {column.name!r} has {len(levels)} different values", []
    if len(levels) < 2:
        got = f"target {column.name!r} is {_names(levels)} in every row"
        raise _wrong(got, "at least two values", "choose another target")
    whole = kind != "number" or all(float(level).is_integer() for level in levels)
    if loss is None:
        labelled = "logistic" if len(levels) == 2 else "multinomial"
        classes = kind != "number" or set(levels) == {0, 1}
        loss = labelled if classes else "squared"
        hint = f"; if they are classes, ask for {labelled}" if whole and len(levels) <= 10 else ""
        notes.append(f"The loss is {loss}, as {got}{'' if classes else f', all numbers{hint}'}.")
    if loss not in _LABELLED:
        return (
            _quantity(column, kind, loss),
            loss,
            (),
            notes + ["True became 1, False 0."] * (kind == "truth"),
        )
    other = "squared, for a number" if kind == "number" else "another target"
    if loss == "logistic" and len(levels) > 2:
        raise _wrong(f"{got} for loss logistic", "two", f"take multinomial or {other}")
    if (not whole and len(levels) > 20) or _too_many(len(levels), len(column)):
        got = f"{got} in {len(column)} rows for loss {loss}"
        raise _wrong(got, "a few classes of many rows", f"take {other}")
    classes = tuple(map(_label, levels))
    if loss == "multinomial":
        return codes, loss, classes, [*notes, f"Classes 0 to {len(classes) - 1} are {_names(classes)}."]
    said = f"Class 1 is {classes[1]!r}, class 0 is {classes[0]!r}."
    return codes.astype(float), loss, classes, [*notes, said]


def _quantity(column: pd.Series, kind: str, loss: str) -> np.ndarray:
    """The target of a loss that wants a number; truth values are 0 and 1."""
    if kind == "text":
        todo = f"take {'logistic' if column.nunique() == 2 else 'multinomial'}, or another target"
        got = f"target {column.name!r} is text, such as {_names(column[:1])}, for loss {loss}"
        raise _wrong(got, "numbers", todo)
    y = _numbers(column)
    if loss == "poisson" and y.min() < 0:
        got = f"target {column.name!r} is negative in {(y < 0).sum()} rows for loss poisson"
        raise _wrong(got, "counts or rates from 0 up", "correct them or take squared")
    return y


def _features(frame: pd.DataFrame, kinds: dict[str, str]) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """All columns as numbers, their names, and notes. Two levels make one column of 0 and 1, k levels k."""
    import numpy as np

    columns, names, coded, notes = [], [], [], []
    for name in frame:
        if kinds[name] == "number":
            columns.append(_numbers(frame[name]))
            names.append(name)
            continue
        codes, levels = _levels(frame[name])
        if _too_many(len(levels), len(frame)):
            raise _identifier(frame[name], len(levels))
        coded.append(name)
        for code in range(1 if len(levels) == 2 else 0, len(levels)):
            columns.append((codes == code).astype(float))
            names.append(f"{name}={_label(levels[code])}")
    _check_names(names, "the table with its text as columns of 0 and 1")
    X = np.column_stack(columns)
    if coded:
        made = X.shape[1] - frame.shape[1] + len(coded)
        notes.append(f"Text or truth values in {_names(coded)} became {made} columns of 0 and 1.")
    constant = [name for name, same in zip(names, (X[0] == X).all(axis=0), strict=True) if same]
    if constant:
        notes.append(f"The same value in every row, of no use to a fit: {_names(constant)}.")
    return X, tuple(names), notes


def _identifier(column: pd.Series, count: int) -> ValueError:
    """The error for a text column of too many values: a column of numbers gone wrong, or of identifiers."""
    text = column.astype(str)
    odd = text[_need("pandas").to_numeric(text, errors="coerce").isna()]
    got = f"text column {column.name!r} has {count} different values in {len(column)} rows"
    if len(odd) < len(column) / 2:
        return _wrong(got, "numbers", f"correct the cells that are not numbers, such as {_names(odd[:1])}")
    return _wrong(got, "a few levels with many rows each", "drop the column or group its values")


def _too_many(levels: int, rows: int) -> bool:
    return levels > 1000 or (levels > 50 and 2 * levels > rows)


def _levels(column: pd.Series) -> tuple[np.ndarray, Sequence[Any]]:
    """Each row's place among the sorted distinct values, int64, and these values."""
    codes, levels = _need("pandas").factorize(column.to_numpy(), sort=True)
    return codes.astype("int64"), levels.tolist()


def _label(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _numbers(column: pd.Series) -> np.ndarray:
    return column.to_numpy(dtype="float64")


# Words: every message is one line.
