"""Turn a bundled data set or a file into arrays with names.

Nothing is dropped, filled or guessed in silence: `Table.notes` says in a sentence each what was done to the
data, and what should not be done unasked is a `ValueError` of one line that says how to put it right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaxreg.cli._coding import LOSSES, code_features, code_target, to_numbers
from jaxreg.cli._files import BUNDLED, drop_row_numbers, read_bundled, read_file
from jaxreg.cli._messages import import_extra, one_line, quoted, refusal, wanted_one_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["Table", "load"]

#: A day, a day with a time, or a time.
_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d\d)"
    r"|\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{2,4})"
    r"([T ]\d{1,2}:\d\d.*)?|\d{1,2}:\d\d(:\d\d.*)?"
)


@dataclass(frozen=True, eq=False)
class Table:
    """Features, target and their names, ready for a fit: no value is missing or infinite."""

    name: str
    """Name of the bundled data set, or of the file."""
    X: np.ndarray
    """Features, (n, p) float64."""
    y: np.ndarray
    """Target, (n,): float64, which is 0.0 or 1.0 for logistic; int64 labels 0 to K−1 for multinomial."""
    features: tuple[str, ...]
    """Names of the p columns of X, all different."""
    target: str
    """Name of the target."""
    loss: str
    """squared, huber, logistic, multinomial or poisson."""
    classes: tuple[str, ...]
    """Names of the classes in the order of their labels; () for a target that is a number."""
    unit: str
    """Unit or meaning of the target where it is known, otherwise ''."""
    notes: tuple[str, ...]
    """Changes made to the data, a sentence each."""


def load(source: str, *, target: str | None = None, loss: str | None = None) -> Table:
    """Read a bundled data set (diabetes, breast_cancer, digits, wine, iris) or a .csv, .tsv or .parquet file.

    Args:
        source: A name or a path.
        target: The column to predict; a bundled data set has its own.
        loss: By default chosen by the target: two classes (text, truth values, or 0 and 1) mean logistic,
            more classes of text multinomial, other numbers squared. Classes are sorted, so that the last of
            two is class 1.

    Raises:
        ValueError: The source, the target or the values do not allow a fit.
        ImportError: pandas, pyarrow or scikit-learn is needed and not installed.

    >>> table = load("diabetes")
    >>> table.X.shape, table.target, table.loss
    ((442, 10), 'progression', 'squared')
    """
    if loss is not None and loss not in LOSSES:
        raise ValueError(f"no loss {loss!r}: {wanted_one_of(LOSSES, loss)}")
    name = source.strip().lower().replace("-", "_")
    bundled = BUNDLED.get(name)
    try:
        name, frame = (name, read_bundled(name)) if bundled else (Path(source).name, read_file(source))
    except OSError as error:
        got = f"cannot read {source!r} ({error.strerror or one_line(error)})"
        raise refusal(got, "a file you may read", "check its name and permissions") from error
    frame, dropped = drop_row_numbers(frame)
    target = _check_target(target or (bundled and bundled.target), frame, name)
    kinds = _check_values(frame, name)
    coded = code_target(frame[target], kinds[target], loss)
    features = code_features(frame.drop(columns=target), kinds)
    return Table(
        name=name,
        X=features.X,
        y=coded.y,
        features=features.names,
        target=target,
        loss=coded.loss,
        classes=coded.classes,
        unit=bundled.meaning if bundled and target == bundled.target else "",
        notes=(*dropped, *coded.notes, *features.notes),
    )


def _check_target(target: str | None, frame: pd.DataFrame, name: str) -> str:
    """Return the name of the target; ValueError where the table lacks it, or has no rows or no features."""
    rows, columns = frame.shape
    if rows < 2:
        got = f"{name!r} has {'a header but no rows' if rows == 0 else 'one row'}"
        raise refusal(got, "at least two rows", "add rows")
    if columns < 2:
        got = f"{name!r} has {'one column' if columns else 'no columns'}"
        raise refusal(got, "a target and at least one feature", "add columns")
    if target is None:
        wanted = f"one of its columns {quoted(frame.columns)}"
        raise refusal(f"no target was named for {name!r}", wanted, "give --target NAME")
    if target not in frame.columns:
        raise ValueError(f"{name!r} has no column {target!r}: {wanted_one_of(frame.columns, target)}")
    return target


def _check_values(frame: pd.DataFrame, name: str) -> dict[str, str]:
    """Return each column's kind (number, truth or text); ValueError for gaps, dates and infinities."""
    missing = frame.isna()
    if missing.any(axis=None):
        where = f"in columns {quoted(frame.columns[missing.any()])}"
        got = f"{missing.any(axis=1).sum()} of {len(frame)} rows of {name!r} miss values {where}"
        raise refusal(got, "a value in every cell", "drop these rows or columns, or fill them")
    kinds = {column: _kind(frame[column]) for column in frame}
    for unusable, what, todo in (
        ("date", "dates or times", "drop them or turn them into numbers, such as days since the first"),
        ("other", "values of no use", "drop or convert these columns"),
    ):
        if where := [column for column, kind in kinds.items() if kind == unusable]:
            got = f"{name!r} has {what} in columns {quoted(where)}"
            raise refusal(got, "numbers, text or truth values", todo)
    _check_finite(frame[[column for column, kind in kinds.items() if kind == "number"]], name)
    return kinds


def _check_finite(numbers: pd.DataFrame, name: str) -> None:
    import numpy as np

    infinite = {column: ~np.isfinite(to_numbers(numbers[column])) for column in numbers}
    where = [column for column, rows in infinite.items() if rows.any()]
    if where:
        count = sum(infinite[column] for column in where).astype(bool).sum()
        got = f"{count} of {len(numbers)} rows of {name!r} are infinite in columns {quoted(where)}"
        raise refusal(got, "finite numbers", "correct or drop these rows")


def _kind(column: pd.Series) -> str:
    """Return number, truth, text, date or other; text of which every value looks like a date is a date."""
    kind = import_extra("pandas").api.types.infer_dtype(column)
    if kind in ("string", "categorical"):
        return "date" if all(_DATE.fullmatch(str(value).strip()) for value in column.unique()) else "text"
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return "number"
    if kind == "boolean":
        return "truth"
    return "date" if kind.startswith(("date", "time", "period")) else "other"
